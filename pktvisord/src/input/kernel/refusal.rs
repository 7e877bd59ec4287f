//! Explains why the kernel refuses a program, with a remedy.

use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use aya::sys::SyscallError;
use rustix::thread::{CapabilitySet, capabilities};

/// Reasons why kernel programs cannot capture.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The daemon was built without the programs.
    #[error(
        "this pktvisord was built without kernel programs; run `cargo xtask build-ebpf` and build \
         it again"
    )]
    NotBuiltIn,
    /// The object file lacks what the daemon expects.
    #[error("the kernel programs do not match this daemon: {0}")]
    Object(String),
    /// The process lacks privileges.
    #[error("{what}: not permitted; {missing}")]
    Rights {
        /// The operation that failed.
        what: String,
        /// The missing capabilities and a remedy.
        missing: String,
    },
    /// The kernel does not support the operation or refuses it.
    #[error("{what}: {hint} ({source})")]
    Kernel {
        /// The operation that failed.
        what: String,
        /// The likely cause.
        hint: &'static str,
        /// The error of the kernel.
        source: io::Error,
    },
    /// The kernel's verifier rejects the program.
    #[error("{what}: the kernel's verifier rejects the program: {log}")]
    Verifier {
        /// The operation that failed.
        what: String,
        /// The last lines of its log.
        log: String,
    },
    /// Any other error.
    #[error("{what}: {message}")]
    Other {
        /// The operation that failed.
        what: String,
        /// The error.
        message: String,
    },
}

impl Refusal {
    /// Converts an error of loading the object.
    pub fn of_load(error: EbpfError) -> Self {
        let what = "loading the kernel programs".to_owned();
        match error {
            EbpfError::MapError(MapError::CreateError { io_error, name, .. }) => {
                Self::of_system(format!("creating the map {name}"), io_error)
            }
            EbpfError::MapError(MapError::SyscallError(SyscallError { io_error, .. })) => {
                Self::of_system(what, io_error)
            }
            other => Self::Other { what, message: chain(&other) },
        }
    }

    /// Converts an error of loading or attaching a program.
    pub fn of_program(what: impl Into<String>, error: ProgramError) -> Self {
        let what = what.into();
        match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                let log = verifier_log.to_string();
                let rights = effective();
                // Without CAP_PERFMON the verifier allows less, and reports that as a fault of an
                // instruction.
                let perfmon = CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN;
                if !rights.is_empty() && !rights.intersects(perfmon) {
                    return Self::Rights { what, missing: missing_rights(rights) };
                }
                if log.trim().is_empty() || io_error.raw_os_error() == Some(EPERM) {
                    return Self::of_system(what, io_error);
                }
                let lines: Vec<&str> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(4)..].join("; ");
                Self::Verifier { what, log: last }
            }
            ProgramError::SyscallError(SyscallError { io_error, .. }) => {
                Self::of_system(what, io_error)
            }
            other => Self::Other { what, message: chain(&other) },
        }
    }

    /// Converts an error of reading or writing a map.
    pub fn of_map(what: &str, error: MapError) -> Self {
        match error {
            MapError::SyscallError(SyscallError { io_error, .. }) => {
                Self::of_system(what.to_owned(), io_error)
            }
            other => Self::Other { what: what.to_owned(), message: chain(&other) },
        }
    }

    /// Converts a system error.
    pub fn of_system(what: String, source: io::Error) -> Self {
        let hint = match source.raw_os_error() {
            Some(EPERM | EACCES) => {
                return Self::Rights { what, missing: missing_rights(effective()) };
            }
            Some(EBUSY | EEXIST) => "another program is already attached",
            Some(EOPNOTSUPP) => "not supported by the driver of the interface",
            Some(ERANGE) => "the MTU of the interface is too large",
            Some(EINVAL) => "not supported by this kernel",
            Some(ENOMEM) => "out of memory; before Linux 5.11, raise the limit of locked memory",
            Some(ENODEV) => "the interface is gone",
            _ => "refused by the kernel",
        };
        Self::Kernel { what, hint, source }
    }

    /// Returns true if the kernel would refuse the same on any interface.
    pub fn is_general(&self) -> bool {
        matches!(self, Self::NotBuiltIn | Self::Object(_) | Self::Rights { .. })
    }
}

/// Returns the effective capabilities of this thread.
fn effective() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}

/// Names the capabilities that loading and attaching programs lack, with a remedy.
fn missing_rights(effective: CapabilitySet) -> String {
    let needed = [
        (CapabilitySet::BPF, "BPF"),
        (CapabilitySet::NET_ADMIN, "NET_ADMIN"),
        (CapabilitySet::PERFMON, "PERFMON"),
    ];
    // CAP_SYS_ADMIN includes the capabilities that were split off from it in Linux 5.8.
    let all = effective.contains(CapabilitySet::SYS_ADMIN);
    let missing: Vec<&str> = needed
        .into_iter()
        .filter(|&(one, _)| {
            let stands_for = all && one != CapabilitySet::NET_ADMIN;
            !stands_for && !effective.contains(one)
        })
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        return "the capabilities are present, so a security module, a seccomp filter or the container \
                denies bpf(2)"
            .to_owned();
    }
    let each = |before: &str, between: &str| {
        let names = missing.iter().map(|name| format!("{before}{name}"));
        names.collect::<Vec<_>>().join(between)
    };
    let verb = if missing.len() == 1 { "capability" } else { "capabilities" };
    format!(
        "missing {verb}: {} (before Linux 5.8: CAP_SYS_ADMIN); run as root, grant them with `setcap \
         cap_bpf,cap_net_admin,cap_perfmon=p`, or start the container with `{}`",
        each("CAP_", ", "),
        each("--cap-add ", " ")
    )
}

// errno values of Linux on all architectures with BPF; MIPS and SPARC differ in some.
const EPERM: i32 = 1;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ERANGE: i32 = 34;
const EOPNOTSUPP: i32 = 95;

/// Formats an error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_missing_capabilities() {
        let (bpf, net) = (CapabilitySet::BPF, CapabilitySet::NET_ADMIN);
        let perfmon = CapabilitySet::PERFMON;
        for (effective, expected) in [
            (CapabilitySet::empty(), "missing capabilities: CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON ("),
            (bpf | net, "missing capability: CAP_PERFMON ("),
            (bpf | perfmon, "missing capability: CAP_NET_ADMIN ("),
            (CapabilitySet::SYS_ADMIN | net, "the capabilities are present"),
            (CapabilitySet::all(), "the capabilities are present"),
        ] {
            let said = missing_rights(effective);
            assert!(said.starts_with(expected), "{said}");
        }
        assert!(missing_rights(bpf | net).ends_with("`--cap-add PERFMON`"));
    }
}
