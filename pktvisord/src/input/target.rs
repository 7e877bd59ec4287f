//! Resolves the TARGET argument.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::file::{CaptureReader, FileOptions, ReadError};
use super::interface::Interface;
use super::netlink::Requests;

/// A resolved TARGET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A capture file, or a named pipe that delivers one.
    File(PathBuf),
    /// A capture on standard input.
    Stdin,
    /// The traffic of these interfaces.
    Interfaces(Vec<String>),
    /// The traffic of all interfaces.
    Any,
    /// The traffic of the interface that has this address. The second field is its name.
    Address(IpAddr, String),
}

/// A TARGET that names nothing on this host.
#[derive(Debug, thiserror::Error)]
#[error("{target}: {}", reasons.join("; "))]
pub struct TargetError {
    /// The TARGET as given.
    pub target: String,
    /// The interpretations that were tried, and why each does not apply.
    pub reasons: Vec<String>,
}

/// Resolves TARGET in this order: standard input (`-`), a file that holds a capture, all interfaces
/// (`any`), an address of this host, names of interfaces separated by commas.
pub fn resolve(target: &str) -> Result<Target, TargetError> {
    if target == "-" {
        return Ok(Target::Stdin);
    }
    let mut reasons = Vec::new();
    // If a file of that name exists, the user most likely meant it: the error does not list
    // interfaces then.
    let mut is_file = false;
    match capture_file(Path::new(target)) {
        Ok(file) => return Ok(Target::File(file)),
        Err(NoCapture { exists, reason }) => {
            is_file |= exists;
            reasons.push(reason);
        }
    }
    if target == "any" {
        return Ok(Target::Any);
    }
    let devices = match devices() {
        Ok(devices) => devices,
        Err(error) => {
            reasons.push(format!("cannot list the interfaces of this host: {error}"));
            Vec::new()
        }
    };
    match live(target, &devices) {
        Ok(target) => Ok(target),
        Err(reason) => {
            reasons.extend((!is_file).then_some(reason));
            Err(TargetError { target: target.to_owned(), reasons })
        }
    }
}

/// Why a path is not a capture.
struct NoCapture {
    /// True if a file or folder of that name exists.
    exists: bool,
    reason: String,
}

/// An interface and its addresses.
struct Device {
    name: String,
    addresses: Vec<IpAddr>,
}

/// Lists the interfaces of this network namespace with their addresses.
fn devices() -> io::Result<Vec<Device>> {
    let requests = Requests::open()?;
    let addresses = requests.addresses()?;
    let device = |interface: Interface| Device {
        addresses: addresses
            .iter()
            .filter(|(at, _)| *at == interface.index)
            .map(|&(_, address)| address)
            .collect(),
        name: interface.name,
    };
    Ok(requests.links()?.into_iter().map(device).collect())
}

/// Returns `path` if the file can hold a capture. It does not read from a pipe, because those bytes
/// would be lost.
fn capture_file(path: &Path) -> Result<PathBuf, NoCapture> {
    let refusal = |exists, reason| Err(NoCapture { exists, reason });
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() || metadata.is_dir() => {
            match CaptureReader::open(path, &FileOptions::default()) {
                Ok(_) => Ok(path.to_owned()),
                Err(ReadError { problem, .. }) => refusal(true, problem.to_string()),
            }
        }
        Ok(_) => Ok(path.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            refusal(false, "no such file".to_owned())
        }
        Err(error) => refusal(true, format!("cannot inspect the file: {error}")),
    }
}

/// Finds the interfaces that `target` names, or the one that has it as an address.
fn live(target: &str, devices: &[Device]) -> Result<Target, String> {
    if let Ok(address) = target.parse::<IpAddr>() {
        return devices
            .iter()
            .find(|device| device.addresses.contains(&address))
            .map(|device| Target::Address(address, device.name.clone()))
            .ok_or_else(|| {
                format!("no interface of this host has this address; interfaces: {}", list(devices))
            });
    }
    let unknown = |name: &str| {
        let it = if name == target { "it".to_owned() } else { format!("`{name}`") };
        format!("{it} is neither an IP address nor an interface; interfaces: {}", list(devices))
    };
    let mut names: Vec<String> = Vec::new();
    for name in target.split(',').map(str::trim) {
        if !devices.iter().any(|device| device.name == name) {
            return Err(unknown(name));
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(Target::Interfaces(names))
}

/// Formats the interfaces with their addresses for a message.
fn list(devices: &[Device]) -> String {
    let names: Vec<_> = devices
        .iter()
        .map(|device| {
            let addresses: Vec<_> = device.addresses.iter().map(IpAddr::to_string).collect();
            if addresses.is_empty() {
                device.name.clone()
            } else {
                format!("{} ({})", device.name, addresses.join(", "))
            }
        })
        .collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
