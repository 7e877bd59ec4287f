//! Programs that a test needs.

use std::process::Command;

/// Says, past the capture of a test's output, that a test checks nothing and why.
pub fn skipped(reason: &str) {
    use std::io::Write;
    // Without standard error there is nobody to tell.
    drop(writeln!(std::io::stderr(), "\nskipped: {reason}"));
}

/// Whether a program of a Debian package is there; in continuous integration it has to be.
pub fn has_tool(program: &str, package: &str) -> bool {
    let found = Command::new(program).arg("--version").output();
    if let Err(error) = &found {
        let reason = format!("{program}, of the Debian package {package}: {error}");
        let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!in_ci, "needed is {reason}");
        skipped(&reason);
    }
    found.is_ok()
}
