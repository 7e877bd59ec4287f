//! Drops privileges once they are used: the user, and capabilities (capabilities(7)).
//!
//! Both are attributes of a thread, and threads inherit them. The daemon therefore drops them on
//! the first thread before it starts others.

use std::fs;
use std::io;
use std::str::FromStr;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, geteuid, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, capabilities, remove_capability_from_bounding_set,
    set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::system::needs::{Capability, Needs};
use crate::system::sandbox::{self, Sandbox, SandboxError};

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    name: String,
    uid: u32,
    gid: u32,
}

/// Users to replace root with, in order of preference: the package's user, then `nobody`, who owns
/// no files, by name or by number.
const UNPRIVILEGED: [&str; 3] = ["pktvisor", "nobody", "65534:65534"];

impl User {
    /// Returns an unprivileged user to run as when the options name none.
    ///
    /// Returns `None` unless the process is root and may change its user and group.
    pub(crate) fn instead_of_root() -> Option<Self> {
        let may = capabilities(None).ok()?.permitted;
        let can_change = may.contains(CapabilitySet::SETUID | CapabilitySet::SETGID);
        (geteuid().is_root() && can_change)
            .then(|| UNPRIVILEGED.iter().find_map(|name| name.parse().ok()))
            .flatten()
    }
}

/// Parses a user: a name from `/etc/passwd`, or numeric `UID` or `UID:GID`. The group of
/// `UID` alone is that of its user in `/etc/passwd`, or the same number if there is none.
impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.to_owned();
        if let Some((user, group)) = text.split_once(':')
            && let (Ok(uid), Ok(gid)) = (user.parse(), group.parse())
        {
            return Ok(Self { name, uid, gid });
        }
        // A container may have no users.
        let alone = text.parse().ok();
        let users = match fs::read_to_string("/etc/passwd") {
            Err(error) if alone.is_none() => {
                return Err(format!("cannot read /etc/passwd: {error}"));
            }
            users => users.unwrap_or_default(),
        };
        let ids = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<&str>>())
            .find(|fields| fields.first() == Some(&text) || fields.get(2) == Some(&text))
            .and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)));
        let (uid, gid) = ids
            .or(alone.map(|id| (id, id)))
            .ok_or_else(|| "no such user in /etc/passwd".to_owned())?;
        Ok(Self { name, uid, gid })
    }
}

/// Makes the permitted capabilities effective.
///
/// File capabilities set with `setcap …=p` take effect only on request. With `=p` the program
/// also starts where it may not have all of them.
pub(crate) fn raise() {
    let raised = capabilities(None).and_then(|sets| {
        let effective = sets.permitted;
        set_capabilities(None, CapabilitySets { effective, ..sets })
    });
    if let Err(error) = raised {
        tracing::debug!("cannot raise capabilities: {error}");
    }
}

/// Raises the soft limit of open files to the hard limit: each hook of an interface takes a
/// descriptor.
pub(crate) fn raise_limits() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        tracing::debug!("cannot raise the limit of open files: {error}");
    }
}

/// Rights that the process has left.
#[derive(Clone, Debug)]
pub struct Rights {
    /// The user it switched to; `None` if it kept its user.
    pub user: Option<String>,
    /// The capabilities it kept.
    pub capabilities: Vec<&'static str>,
    /// The state of the sandbox.
    pub sandbox: Sandbox,
}

/// Switches to `user` and keeps only the needed capabilities, also for programs that the process
/// might execute. Enters the sandbox if `sandboxed` is true.
///
/// # Errors
/// [`RightsError`] if the kernel refuses a step. Rights that were dropped before stay dropped.
pub(crate) fn give_up(
    user: Option<&User>,
    needs: &Needs,
    sandboxed: bool,
) -> Result<Rights, RightsError> {
    let wanted: CapabilitySet = needs.capabilities.iter().map(|needed| needed.set).collect();
    let effective = capabilities(None).map_err(io::Error::from)?.effective;
    if effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().iter() {
            // A capability that this kernel does not know is in no set.
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    if let Some(User { uid, gid, .. }) = user {
        let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
        // Without this flag the kernel drops the capabilities together with the user.
        set_keep_capabilities(true).map_err(io::Error::from)?;
        set_thread_groups(&[gid]).map_err(io::Error::from)?;
        set_thread_res_gid(gid, gid, gid).map_err(io::Error::from)?;
        set_thread_res_uid(uid, uid, uid).map_err(io::Error::from)?;
    }
    let kept = capabilities(None).map_err(io::Error::from)?.permitted & wanted;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })
        .map_err(io::Error::from)?;
    set_no_new_privs(true).map_err(io::Error::from)?;
    // The memory holds secrets: other processes of the user must not read it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io::Error::from)?;
    let who = user.map_or("the same user", |user| user.name.as_str());
    let capabilities = needs.capabilities.iter().filter(|needed| kept.contains(needed.set));
    let why: Vec<String> = capabilities
        .clone()
        .map(|Capability { name, used_by, .. }| format!("with {name} for {used_by}"))
        .collect();
    let why = if why.is_empty() { "without capabilities".to_owned() } else { why.join(", ") };
    let sandbox = if sandboxed { sandbox::enter(needs)? } else { sandbox::OFF };
    let Sandbox { landlock, seccomp } = sandbox;
    tracing::info!("running as {who} {why}; Landlock: {landlock}, seccomp: {seccomp}");
    let capabilities = capabilities.map(|needed| needed.name).collect();
    Ok(Rights { user: user.map(|user| user.name.clone()), capabilities, sandbox })
}

/// Reasons why privileges cannot be dropped.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// A system call failed.
    #[error("cannot drop privileges: {0}")]
    System(#[from] io::Error),
    /// The sandbox cannot be set up.
    #[error("cannot enter the sandbox: {0}; run without it with --no-sandbox")]
    Sandbox(#[from] SandboxError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_becomes_unprivileged_user() {
        let instead = User::instead_of_root();
        assert!(instead.is_none_or(|user| user.uid != 0 && user.gid != 0));
    }

    #[test]
    fn parses_user_names_and_numbers() {
        let user = |name: &str, uid, gid| Ok(User { name: name.into(), uid, gid });
        assert_eq!("root".parse::<User>(), user("root", 0, 0));
        assert_eq!("7".parse::<User>(), user("7", 7, 7));
        // Debian's user `sync`.
        assert_eq!("4".parse::<User>(), user("4", 4, 65534));
        assert_eq!("4000000000".parse::<User>(), user("4000000000", 4_000_000_000, 4_000_000_000));
        assert_eq!("7:8".parse::<User>(), user("7:8", 7, 8));
        assert!("no-such-user".parse::<User>().is_err());
        assert!("root:0".parse::<User>().is_err());
        assert!("".parse::<User>().is_err());
    }
}
