//! Programs that tests need.

use std::process::Command;

/// Reports that a test is skipped, and why. Bypasses the capture of test output.
pub(crate) fn skipped(reason: &str) {
    use std::io::Write;
    // Without standard error the message is lost.
    drop(writeln!(std::io::stderr(), "\nskipped: {reason}"));
}

/// Returns true if a program of a Debian package is installed. In CI it must be.
pub(crate) fn has_tool(program: &str, package: &str) -> bool {
    let found = Command::new(program).arg("--version").output();
    if let Err(error) = &found {
        let reason = format!("{program}, of the Debian package {package}: {error}");
        let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!in_ci, "needed is {reason}");
        skipped(&reason);
    }
    found.is_ok()
}
