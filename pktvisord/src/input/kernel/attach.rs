//! Attaches programs to an interface: the hooks to try, their order, and the result.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use aya::Ebpf;
use aya::programs::{Program, ProgramError, SchedClassifier, Xdp};
use clap::ValueEnum;

use super::clsact::{self, State};
use super::links::{self, Link};
use super::refusal::Refusal;
use crate::input::interface::{Interface, LinkLayer};
use crate::input::netlink::Requests;

/// How packets are to be captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CaptureMode {
    /// XDP if the interface is a device whose driver supports it, otherwise TC; libpcap if the
    /// kernel refuses both
    #[default]
    Auto,
    /// XDP for received packets, TC for sent packets
    Xdp,
    /// TCX, or clsact if the kernel does not support TCX
    Tc,
    /// TCX (Linux 6.6 or newer)
    Tcx,
    /// The clsact queueing discipline
    Clsact,
    /// libpcap, without eBPF
    Libpcap,
}

/// The TC programs.
const CLASSIFIERS: [&str; 4] = ["pktvisor_in", "pktvisor_out", "pktvisor_in_ip", "pktvisor_out_ip"];

/// A hook in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP in driver mode.
    Xdp,
    /// TCX.
    Tcx,
    /// The queueing discipline clsact.
    Clsact,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::Xdp => "xdp",
            Hook::Tcx => "tcx",
            Hook::Clsact => "clsact",
        })
    }
}

/// Returns the hooks to try for received packets, the best first.
///
/// XDP costs a virtual interface its large segments (GSO, GRO), and so most of its speed. It is
/// cheapest only in front of a real device. Generic XDP is never tried: it sees joined segments
/// without their number.
pub fn ingress_hooks(interface: &Interface, mode: CaptureMode) -> &'static [Hook] {
    let ethernet = interface.link == LinkLayer::Ethernet;
    match mode {
        CaptureMode::Auto if interface.physical && ethernet => {
            &[Hook::Xdp, Hook::Tcx, Hook::Clsact]
        }
        CaptureMode::Auto | CaptureMode::Tc => &[Hook::Tcx, Hook::Clsact],
        CaptureMode::Xdp => &[Hook::Xdp],
        CaptureMode::Tcx => &[Hook::Tcx],
        CaptureMode::Clsact => &[Hook::Clsact],
        CaptureMode::Libpcap => &[],
    }
}

/// Returns the hooks to try for sent packets, the best first.
pub fn egress_hooks(mode: CaptureMode) -> &'static [Hook] {
    match mode {
        CaptureMode::Auto | CaptureMode::Tc | CaptureMode::Xdp => &[Hook::Tcx, Hook::Clsact],
        CaptureMode::Tcx => &[Hook::Tcx],
        CaptureMode::Clsact => &[Hook::Clsact],
        CaptureMode::Libpcap => &[],
    }
}

/// An attachment; dropping it detaches the program.
#[derive(Debug)]
enum At {
    /// A link, which also ends with the process.
    Link(Link),
    /// A filter of clsact.
    Filter(clsact::Attached),
}

/// A program attached to one side of an interface.
#[derive(Debug)]
pub struct Attached {
    /// The kind of hook.
    pub hook: Hook,
    /// Why the kernel refused better hooks.
    pub refused: Vec<Refusal>,
    at: At,
}

impl Attached {
    /// Returns whether the program is still at its hook, and whether another one is in front if
    /// that can be told. Without `requests` only links are checked, which need none.
    pub fn state(&self, index: u32, requests: Option<&Requests>) -> State {
        match (&self.at, requests) {
            (At::Link(link), _) if link.is_attached(index) => State::First,
            (At::Link(_), _) => State::Gone,
            // A filter that cannot be listed counts as unchanged.
            (At::Filter(filter), Some(requests)) => filter.state(requests).unwrap_or(State::First),
            (At::Filter(_), None) => State::First,
        }
    }

    /// Removes a filter. A link stays: the end of the process closes it.
    pub fn leave(self) {
        if let At::Link(link) = self.at {
            std::mem::forget(link);
        }
    }
}

/// Loads all programs that a mode may attach, while the daemon has the rights to. If the kernel
/// refuses one, it refuses it again when the program is attached, with the reason.
pub fn load_all(programs: &mut Ebpf, mode: CaptureMode) {
    let by_xdp = matches!(mode, CaptureMode::Auto | CaptureMode::Xdp);
    let wanted = |name: &str| CLASSIFIERS.contains(&name) || by_xdp && name == "pktvisor_xdpf";
    // The kernel takes some hundred milliseconds to verify a program, so they load in parallel.
    std::thread::scope(|scope| {
        for (_, program) in programs.programs_mut().filter(|(name, _)| wanted(name)) {
            // If no thread can be started, the program is loaded below.
            let _ = std::thread::Builder::new().spawn_scoped(scope, move || match program {
                Program::SchedClassifier(program) => program.load(),
                Program::Xdp(program) => program.load(),
                _ => Ok(()),
            });
        }
    });
    for name in CLASSIFIERS {
        let _ = classifier(programs, name);
    }
    if by_xdp {
        let _ = xdp(programs, "pktvisor_xdpf")
            .map(|_| ())
            .or_else(|_| xdp(programs, "pktvisor_xdp").map(|_| ()));
    }
}

/// Attaches a program to one side of an interface, at the best hook that accepts it.
///
/// # Errors
/// The last [`Refusal`], if no hook is left to try.
pub fn attach(
    programs: &mut Ebpf,
    interface: &Interface,
    mode: CaptureMode,
    egress: bool,
) -> Result<Attached, Refusal> {
    let what = interface.name.clone();
    if let LinkLayer::Other(arphrd) = interface.link {
        let message = format!("its link layer (ARPHRD {arphrd}) is not supported");
        return Err(Refusal::Other { what, message });
    }
    let hooks = match egress {
        true => egress_hooks(mode),
        false => ingress_hooks(interface, mode),
    };
    let mut refused = Vec::new();
    for (at, &hook) in hooks.iter().enumerate() {
        match attach_one(programs, interface, hook, egress) {
            Ok(at) => return Ok(Attached { hook, refused, at }),
            Err(refusal) if at + 1 < hooks.len() && !refusal.is_general() => refused.push(refusal),
            Err(refusal) => return Err(refusal),
        }
    }
    Err(Refusal::Other { what, message: "no hook to try".to_owned() })
}

fn attach_one(
    programs: &mut Ebpf,
    interface: &Interface,
    hook: Hook,
    egress: bool,
) -> Result<At, Refusal> {
    let side = if egress { "sent" } else { "received" };
    let what = || format!("{hook} on {} for {side} packets", interface.name);
    let refuse = |error| Refusal::of_program(what(), error);
    let system = |error| Refusal::of_system(what(), error);
    let index = interface.index;
    let name = match (interface.link, egress) {
        (LinkLayer::Ip, false) => "pktvisor_in_ip",
        (LinkLayer::Ip, true) => "pktvisor_out_ip",
        (_, false) => "pktvisor_in",
        (_, true) => "pktvisor_out",
    };
    match hook {
        Hook::Xdp => {
            // `pktvisor_xdpf` reads packets in fragments, as jumbo frames need. Not every driver
            // supports that.
            let mut last = None;
            for name in ["pktvisor_xdpf", "pktvisor_xdp"] {
                let created = match xdp(programs, name) {
                    Ok(program) => Link::create(program, index, links::At::Xdp).map_err(system),
                    Err(error) => Err(refuse(error)),
                };
                match created {
                    Ok(link) => return Ok(At::Link(link)),
                    Err(refusal) => last = Some(refusal),
                }
            }
            Err(last.unwrap_or_else(|| system(std::io::Error::other("no program"))))
        }
        Hook::Tcx => {
            let program = classifier(programs, name).map_err(refuse)?;
            let descriptor = program.fd().map_err(refuse)?.as_fd();
            Link::create(descriptor, index, links::At::Tcx { egress }).map(At::Link).map_err(system)
        }
        Hook::Clsact => {
            let mut loaded = |name| classifier(programs, name).and_then(|one| one.info());
            let all: Vec<u32> =
                CLASSIFIERS.into_iter().filter_map(|name| Some(loaded(name).ok()?.id())).collect();
            let program = classifier(programs, name).map_err(refuse)?;
            let info = program.info().map_err(refuse)?;
            let descriptor = program.fd().map_err(refuse)?.as_fd();
            let (id, tag) = (info.id(), info.tag().to_be_bytes());
            let program = clsact::Program { descriptor, name, id, tag };
            clsact::Attached::add(index, egress, program, &all).map(At::Filter).map_err(system)
        }
    }
}

fn xdp<'a>(programs: &'a mut Ebpf, name: &str) -> Result<BorrowedFd<'a>, ProgramError> {
    let program: &mut Xdp = programs.program_mut(name).expect("it is in the object").try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    Ok(program.fd()?.as_fd())
}

fn classifier<'a>(
    programs: &'a mut Ebpf,
    name: &str,
) -> Result<&'a mut SchedClassifier, ProgramError> {
    let program: &mut SchedClassifier =
        programs.program_mut(name).expect("it is in the object").try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_by_mode() {
        use CaptureMode::{Auto, Clsact, Libpcap, Tc, Tcx, Xdp};
        let nic = Interface { physical: true, ..Interface::default() };
        let virtual_one = Interface::default();
        let modem = Interface { link: LinkLayer::Ip, ..nic.clone() };
        let all = [Hook::Xdp, Hook::Tcx, Hook::Clsact];
        for (interface, mode, ingress, egress) in [
            (&nic, Auto, &all[..], &all[1..]),
            (&virtual_one, Auto, &all[1..], &all[1..]),
            (&modem, Auto, &all[1..], &all[1..]),
            (&nic, Xdp, &all[..1], &all[1..]),
            (&nic, Tc, &all[1..], &all[1..]),
            (&nic, Tcx, &all[1..2], &all[1..2]),
            (&nic, Clsact, &all[2..], &all[2..]),
            (&nic, Libpcap, &[][..], &[][..]),
        ] {
            assert_eq!(ingress_hooks(interface, mode), ingress, "{interface:?} {mode:?}");
            assert_eq!(egress_hooks(mode), egress, "{interface:?} {mode:?}");
        }
    }
}
