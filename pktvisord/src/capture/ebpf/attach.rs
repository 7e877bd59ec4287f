//! The hooks of an interface: which ones are tried, in what order, and what came of it.

use std::fmt;
use std::os::fd::OwnedFd;

use aya::Ebpf;
use aya::programs::links::LinkOrder;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};
use clap::ValueEnum;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

use super::refusal::Refusal;
use crate::capture::interface::{Interface, LinkLayer};

/// How packets are to be captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CaptureMode {
    /// XDP where the interface is a device with a driver that has it, else TC; libpcap where the
    /// kernel refuses both
    #[default]
    Auto,
    /// XDP for what is received, TC for what is sent
    Xdp,
    /// TCX, or clsact where the kernel has no TCX
    Tc,
    /// TCX (Linux 6.6)
    Tcx,
    /// The queueing discipline clsact
    Clsact,
    /// libpcap, without programs in the kernel
    Libpcap,
}

/// A hook in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP in the driver.
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

/// The hooks to be tried for what an interface receives, the best first.
///
/// XDP costs a virtual interface its large segments (GSO, GRO), and so most of its speed; only in
/// front of a real device it is the cheapest. Generic XDP is never tried: it sees joined segments
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

/// The hooks to be tried for what an interface sends; none on loopback, which receives all it sends.
pub fn egress_hooks(interface: &Interface, mode: CaptureMode) -> &'static [Hook] {
    match mode {
        _ if interface.loopback => &[],
        CaptureMode::Auto | CaptureMode::Tc | CaptureMode::Xdp => &[Hook::Tcx, Hook::Clsact],
        CaptureMode::Tcx => &[Hook::Tcx],
        CaptureMode::Clsact => &[Hook::Clsact],
        CaptureMode::Libpcap => &[],
    }
}

/// A program at a hook; it is gone when this is dropped, and all but clsact also when the daemon
/// dies in any way.
#[expect(dead_code, reason = "it is held for what its drop does")]
enum Link {
    Xdp(XdpLink),
    Tc(SchedClassifierLink, Option<Claim>),
}

/// The claim of a running daemon to its filter of clsact, which tells it from one that a killed
/// daemon has left behind: an abstract socket goes with its process (unix(7)).
struct Claim(#[expect(dead_code, reason = "it is held for what its drop does")] OwnedFd);

impl Claim {
    /// The claim to the filter of this name on an interface; `None` if a running daemon has it.
    fn take(interface: &Interface, filter: &str) -> Option<Self> {
        let name = format!("pktvisord/clsact/{}/{filter}", interface.index);
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).ok()?;
        let (unix, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
        let socket = socket_with(unix, kind, SocketFlags::CLOEXEC, None).ok()?;
        bind(&socket, &address).ok()?;
        Some(Self(socket))
    }
}

/// An interface with programs at its hooks.
pub struct Attached {
    /// The interface.
    pub interface: Interface,
    /// The hook of what it receives.
    pub ingress: Hook,
    /// The hook of what it sends; `None` on loopback.
    pub egress: Option<Hook>,
    /// Why better hooks are not used.
    pub refused: Vec<Refusal>,
    links: Vec<Link>,
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, ingress, egress, refused, links } = self;
        f.debug_struct("Attached")
            .field("interface", interface)
            .field("hooks", &(ingress, egress))
            .field("refused", refused)
            .field("links", &links.len())
            .finish()
    }
}

/// Attaches the programs to an interface.
///
/// # Errors
/// The last refusal, where no hook is left to try.
pub fn attach(
    programs: &mut Ebpf,
    interface: &Interface,
    mode: CaptureMode,
) -> Result<Attached, Refusal> {
    if let LinkLayer::Other(arphrd) = interface.link {
        return Err(Refusal::Other {
            what: interface.name.clone(),
            message: format!("its link layer (ARPHRD {arphrd}) is not read"),
        });
    }
    let mut refused = Vec::new();
    let mut links = Vec::new();
    let mut first = |hooks: &[Hook], egress: bool| {
        let mut last = Refusal::Other {
            what: interface.name.clone(),
            message: "no hook is to be tried".to_owned(),
        };
        for (at, &hook) in hooks.iter().enumerate() {
            match attach_one(programs, interface, hook, egress) {
                Ok(link) => {
                    links.push(link);
                    return Ok(hook);
                }
                Err(refusal) if at + 1 < hooks.len() && !refusal.is_general() => {
                    refused.push(refusal);
                }
                Err(refusal) => {
                    last = refusal;
                    break;
                }
            }
        }
        Err(last)
    };
    let ingress = first(ingress_hooks(interface, mode), false)?;
    let egress = match egress_hooks(interface, mode) {
        [] => None,
        hooks => Some(first(hooks, true)?),
    };
    Ok(Attached { interface: interface.clone(), ingress, egress, refused, links })
}

fn attach_one(
    programs: &mut Ebpf,
    interface: &Interface,
    hook: Hook,
    egress: bool,
) -> Result<Link, Refusal> {
    let side = if egress { "sent" } else { "received" };
    let what = format!("{hook} on {} for what is {side}", interface.name);
    let refuse = |error| Refusal::of_program(what.clone(), error);
    if hook == Hook::Xdp {
        // Jumbo frames need the one that reads pieces; not every driver takes it.
        return attach_xdp(programs, interface, "pktvisor_xdpf")
            .or_else(|_| attach_xdp(programs, interface, "pktvisor_xdp"))
            .map_err(refuse);
    }
    let name = match (interface.link, egress) {
        (LinkLayer::Ip, false) => "pktvisor_in_ip",
        (LinkLayer::Ip, true) => "pktvisor_out_ip",
        (_, false) => "pktvisor_in",
        (_, true) => "pktvisor_out",
    };
    let side = if egress { TcAttachType::Egress } else { TcAttachType::Ingress };
    let mut claim = None;
    let options = if hook == Hook::Tcx {
        // Before all others: what one of them takes out of the way was there before.
        TcAttachOptions::TcxOrder(LinkOrder::first())
    } else {
        // An error means that it is there already, or else the program finds that it is not.
        let _ = tc::qdisc_add_clsact(&interface.name);
        claim = Claim::take(interface, name);
        if claim.is_some() {
            // What a daemon that was killed has left behind.
            let _ = tc::qdisc_detach_program(&interface.name, side, name);
        }
        TcAttachOptions::Netlink(NlOptions { priority: 1, ..NlOptions::default() })
    };
    let link = attach_tc(programs, interface, name, side, options).map_err(refuse)?;
    Ok(Link::Tc(link, claim))
}

fn attach_xdp(
    programs: &mut Ebpf,
    interface: &Interface,
    name: &str,
) -> Result<Link, ProgramError> {
    let program: &mut Xdp = programs.program_mut(name).expect("it is in the object").try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    let id = program.attach_to_if_index(interface.index, XdpMode::Driver)?;
    program.take_link(id).map(Link::Xdp)
}

fn attach_tc(
    programs: &mut Ebpf,
    interface: &Interface,
    name: &str,
    side: TcAttachType,
    options: TcAttachOptions,
) -> Result<SchedClassifierLink, ProgramError> {
    let program: &mut SchedClassifier =
        programs.program_mut(name).expect("it is in the object").try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    let id = program.attach_with_options(&interface.name, side, options)?;
    program.take_link(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(physical: bool, link: LinkLayer, loopback: bool) -> Interface {
        Interface {
            name: "x".into(),
            index: 1,
            up: true,
            link,
            loopback,
            physical,
            guest: false,
            bridge_port: false,
            lowers: Vec::new(),
            packets: 0,
        }
    }

    #[test]
    fn the_choice_of_hooks() {
        use CaptureMode::{Auto, Clsact, Libpcap, Tc, Tcx, Xdp};
        let nic = interface(true, LinkLayer::Ethernet, false);
        let virtual_one = interface(false, LinkLayer::Ethernet, false);
        let modem = interface(true, LinkLayer::Ip, false);
        let lo = interface(false, LinkLayer::Ethernet, true);
        let all = [Hook::Xdp, Hook::Tcx, Hook::Clsact];
        for (interface, mode, ingress, egress) in [
            (&nic, Auto, &all[..], &all[1..]),
            (&virtual_one, Auto, &all[1..], &all[1..]),
            (&modem, Auto, &all[1..], &all[1..]),
            (&lo, Auto, &all[1..], &[][..]),
            (&nic, Xdp, &all[..1], &all[1..]),
            (&nic, Tc, &all[1..], &all[1..]),
            (&nic, Tcx, &all[1..2], &all[1..2]),
            (&nic, Clsact, &all[2..], &all[2..]),
            (&nic, Libpcap, &[][..], &[][..]),
        ] {
            assert_eq!(ingress_hooks(interface, mode), ingress, "{interface:?} {mode:?}");
            assert_eq!(egress_hooks(interface, mode), egress, "{interface:?} {mode:?}");
        }
    }
}
