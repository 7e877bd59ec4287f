//! System calls that the sandbox allows once the daemon captures. Landlock and capabilities decide
//! which files they can reach.

use std::process;

use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use crate::system::needs::Needs;

/// Calls that are always allowed, grouped by purpose. They are named because numbers differ by
/// architecture.
pub(super) const ALLOWED: &[i64] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads and process exit.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_prctl,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    // Signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Time.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    // Open descriptors.
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_eventfd2,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    // Files: options, databases, certificates, interfaces.
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_readlinkat,
    libc::SYS_statx,
    // Sockets: HTTP, netlink, libpcap, the service manager.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    // Properties of the process and the host.
    libc::SYS_capget,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_getuid,
    libc::SYS_prlimit64,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    // BPF maps, and attaching loaded programs to an interface that comes back.
    libc::SYS_bpf,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
];

/// Further calls that are allowed if the daemon writes files.
pub(super) const WRITES: &[i64] = &[
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_pwrite64,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// Further calls that are allowed if the daemon connects to other hosts.
pub(super) const CONNECTS: &[i64] = &[libc::SYS_connect];

/// Flags of clone(2) that create namespaces.
const NAMESPACES: u64 = (libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS) as u64;
/// Mask of the socket type without its flags.
const SOCKET_TYPE: u64 = 0xf;

/// Returns the calls that are allowed only with certain arguments, with the rules for these.
pub(super) fn allowed_with(needs: &Needs) -> Result<Vec<(i64, Vec<SeccompRule>)>, BackendError> {
    let is =
        |at, value| SeccompCondition::new(at, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value);
    let without = |at, bits| {
        SeccompCondition::new(at, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bits), 0)
    };
    let of_type = |value: i32| {
        let among = SeccompCmpOp::MaskedEq(SOCKET_TYPE);
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, among, value as u64)
    };
    let netlink = |protocol: i32| {
        let family = is(0, libc::AF_NETLINK as u64)?;
        SeccompRule::new(vec![family, of_type(libc::SOCK_RAW)?, is(2, protocol as u64)?])
    };
    // Lists interfaces and reports their changes.
    let mut sockets = vec![netlink(libc::NETLINK_ROUTE)?];
    if needs.packet_sockets {
        // libpcap needs these to open an interface that comes back.
        sockets.push(netlink(libc::NETLINK_GENERIC)?);
        let family = || is(0, libc::AF_PACKET as u64);
        sockets.push(SeccompRule::new(vec![family()?, of_type(libc::SOCK_RAW)?])?);
        sockets.push(SeccompRule::new(vec![family()?, of_type(libc::SOCK_DGRAM)?])?);
    }
    if !needs.connects.is_empty() {
        for family in [libc::AF_INET, libc::AF_INET6] {
            // MPTCP stays denied: Landlock does not restrict it as TCP.
            for protocol in [0, libc::IPPROTO_TCP] {
                let stream = of_type(libc::SOCK_STREAM)?;
                let rule = vec![is(0, family as u64)?, stream, is(2, protocol as u64)?];
                sockets.push(SeccompRule::new(rule)?);
            }
        }
    }
    let no_code = || -> Result<_, BackendError> {
        Ok(vec![SeccompRule::new(vec![without(2, libc::PROT_EXEC as u64)?])?])
    };
    Ok(vec![
        // Threads.
        (libc::SYS_clone, vec![SeccompRule::new(vec![without(0, NAMESPACES)?])?]),
        (libc::SYS_tgkill, vec![SeccompRule::new(vec![is(0, process::id().into())?])?]),
        // Memory that is not executable.
        (libc::SYS_mmap, no_code()?),
        (libc::SYS_mprotect, no_code()?),
        (libc::SYS_socket, sockets),
    ])
}
