//! Runs a program and reads its resource usage from the kernel.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Limit of a program's processor time in seconds: some need hours for a flood.
const CPU_LIMIT: u32 = 60;

/// Cost of a program's run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    /// User and system processor time in seconds.
    pub cpu: f64,
    /// Elapsed time in seconds.
    pub wall: f64,
    /// Peak resident memory in MiB. Linux starts counting while the child is still a copy of this
    /// process, so the figure is never less than this process's own peak.
    pub peak: f64,
}

/// Runs `program`, discards its standard output, and returns its cost. Standard error goes to a
/// file beside `capture`; any exit status but success is an error with that text.
pub(super) fn measure(program: &Path, arguments: &[OsString], capture: &Path) -> Result<Cost> {
    let said = capture.with_extension("stderr");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(File::create(&said)?);
    limit(&mut command, CPU_LIMIT);
    let start = Instant::now();
    let (status, usage) =
        run(&mut command).with_context(|| format!("cannot run {}", program.display()))?;
    let wall = start.elapsed().as_secs_f64();
    if status.signal() == Some(libc::SIGXCPU) {
        bail!("stopped after {CPU_LIMIT} s of CPU time");
    }
    if !status.success() {
        let said = fs::read(&said)?;
        let said = String::from_utf8_lossy(&said);
        bail!("{status}: {}", said.trim());
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(Cost {
        cpu: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        wall,
        // Linux reports KiB.
        peak: usage.ru_maxrss as f64 / 1024.0,
    })
}

/// Makes the kernel stop `command` after `seconds` of processor time.
fn limit(command: &mut Command, seconds: u32) {
    let limit = libc::rlimit { rlim_cur: seconds.into(), rlim_max: libc::RLIM_INFINITY };
    let set = move || {
        // SAFETY: the pointer is to an initialized `rlimit` that outlives the call.
        match unsafe { libc::setrlimit(libc::RLIMIT_CPU, &raw const limit) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec only async-signal-safe functions are allowed. `setrlimit` is
    // one, and the closure allocates nothing.
    unsafe { command.pre_exec(set) };
}

/// Runs `command` to its end. Returns its exit status and resource usage.
fn run(command: &mut Command) -> io::Result<(ExitStatus, libc::rusage)> {
    let child = command.spawn()?;
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to writable memory of the right type that outlives the call.
        let waited =
            unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, usage.as_mut_ptr()) };
        if waited != -1 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: `rusage` consists of integers, for which zero is valid, and `wait4` has filled it in.
    Ok((ExitStatus::from_raw(status), unsafe { usage.assume_init() }))
}

/// Returns the median of each figure separately. `costs` must not be empty.
pub(super) fn median(costs: &[Cost]) -> Cost {
    let of = |figure: fn(&Cost) -> f64| {
        let mut figures: Vec<_> = costs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        f64::midpoint(figures[(figures.len() - 1) / 2], figures[figures.len() / 2])
    };
    Cost { cpu: of(|cost| cost.cpu), wall: of(|cost| cost.wall), peak: of(|cost| cost.peak) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_treats_each_figure_separately() {
        let cost = |cpu, wall| Cost { cpu, wall, peak: 1.0 };
        let three = [cost(1.0, 9.0), cost(5.0, 2.0), cost(3.0, 4.0)];
        assert_eq!(median(&three), cost(3.0, 4.0));
        assert_eq!(median(&three[..2]), cost(3.0, 5.5));
    }

    #[test]
    fn reports_standard_error_of_failed_program() {
        let dir = tempfile::tempdir().unwrap();
        let shell = |script: &str| {
            let arguments = ["-c".into(), script.into()];
            measure(Path::new("/bin/sh"), &arguments, &dir.path().join("x.pcap"))
        };
        let error = shell("echo no such option >&2; exit 2").unwrap_err().to_string();
        assert_eq!(error, "exit status: 2: no such option");
        let error = shell("kill -XCPU $$").unwrap_err().to_string();
        assert_eq!(error, "stopped after 60 s of CPU time");
        let cost = shell("true").unwrap();
        assert!(cost.peak > 0.1 && cost.wall > 0.0);
    }
}
