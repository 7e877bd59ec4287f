//! What the TARGET of the command line is.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::file::{CaptureReader, FileOptions, ReadError};
use super::interface::Interface;
use super::netlink::Requests;

/// What is to be summarized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A capture file, or a pipe that one comes from.
    File(PathBuf),
    /// A capture on standard input.
    Stdin,
    /// The traffic of these interfaces.
    Interfaces(Vec<String>),
    /// The traffic of all interfaces.
    Any,
    /// The traffic of the interface, named second, that has this address.
    Address(IpAddr, String),
}

/// A target that is nothing there is.
#[derive(Debug, thiserror::Error)]
#[error("{target}: {}", reasons.join("; "))]
pub struct TargetError {
    /// The target as it was named.
    pub target: String,
    /// What it was taken for, and why it is not that.
    pub reasons: Vec<String>,
}

/// Finds out what `target` is, by what there is of that name: standard input (`-`), a file that
/// holds a capture, all interfaces (`any`), an address of this host, interfaces of this host,
/// separated by commas.
pub fn resolve(target: &str) -> Result<Target, TargetError> {
    if target == "-" {
        return Ok(Target::Stdin);
    }
    let mut reasons = Vec::new();
    // A file that is no capture is most likely what was meant: what this host has besides is not told.
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
            reasons.push(format!("the interfaces of this host cannot be listed: {error}"));
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

/// Why a name is not that of a capture.
struct NoCapture {
    /// Whether there is a file or folder of that name.
    exists: bool,
    reason: String,
}

/// An interface and its addresses.
struct Device {
    name: String,
    addresses: Vec<IpAddr>,
}

/// The interfaces of this network namespace, with their addresses.
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

/// The file at `path`, if it can hold a capture. A pipe is not looked into, because what is read
/// from it is gone.
fn capture_file(path: &Path) -> Result<PathBuf, NoCapture> {
    let refusal = |exists, reason| Err(NoCapture { exists, reason });
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() || metadata.is_dir() => {
            match CaptureReader::open(path, &FileOptions::default()) {
                Ok(_) => Ok(path.to_owned()),
                Err(ReadError { problem, .. }) => {
                    refusal(true, format!("the file of that name: {problem}"))
                }
            }
        }
        Ok(_) => Ok(path.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            refusal(false, "there is no file of that name".to_owned())
        }
        Err(error) => refusal(true, format!("the file of that name cannot be looked at: {error}")),
    }
}

/// The interface that `target` names or that has it as an address.
fn live(target: &str, devices: &[Device]) -> Result<Target, String> {
    if let Ok(address) = target.parse::<IpAddr>() {
        return devices
            .iter()
            .find(|device| device.addresses.contains(&address))
            .map(|device| Target::Address(address, device.name.clone()))
            .ok_or_else(|| {
                format!("no interface of this host has that address; they are {}", list(devices))
            });
    }
    let unknown = |name: &str| {
        let it = if name == target { "it".to_owned() } else { format!("`{name}`") };
        format!("{it} is no IP address and none of the interfaces {}", list(devices))
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

/// Interfaces with their addresses, for a message.
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
    if names.is_empty() { "(there are none)".to_owned() } else { names.join(", ") }
}
