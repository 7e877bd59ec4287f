//! Access to `tshark`, a dissector that shares no code with this project.

use std::process::Command;

use super::tool::has_tool;

/// Returns these fields of each frame, in this order. `options` are further arguments of `tshark`.
pub fn fields(file: &str, options: &[&str], fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r", file, "-T", "fields", "-E", "separator=/t", "-E", "occurrence=a"]);
    command.args(options);
    command.args(fields.iter().flat_map(|field| ["-e", field]));
    let output = command.output().expect("tshark starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// Returns true if `tshark` is installed. In CI it must be.
pub fn is_there() -> bool {
    has_tool("tshark", "tshark")
}
