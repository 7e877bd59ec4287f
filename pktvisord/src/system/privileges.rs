//! Giving up rights once they are used: the user, and capabilities (capabilities(7)).
//!
//! Both belong to a thread, and threads inherit them. So this is done on the first thread before it
//! starts others.

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
pub struct User {
    name: String,
    uid: u32,
    gid: u32,
}

/// Who root becomes: the user of the package, or the one that no files belong to.
const UNPRIVILEGED: [&str; 3] = ["pktvisor", "nobody", "65534:65534"];

impl User {
    /// Whom to become where nobody was named: an unprivileged user, where this is root that may become
    /// another one.
    pub fn instead_of_root() -> Option<Self> {
        let may = capabilities(None).ok()?.permitted;
        let can_change = may.contains(CapabilitySet::SETUID | CapabilitySet::SETGID);
        (geteuid().is_root() && can_change)
            .then(|| UNPRIVILEGED.iter().find_map(|name| name.parse().ok()))
            .flatten()
    }
}

/// A user by name, as `/etc/passwd` has it, or numbers: `UID` or `UID:GID`.
impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.to_owned();
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        if let (Ok(uid), Ok(gid)) = (user.parse(), group.parse()) {
            return Ok(Self { name, uid, gid });
        }
        let users = fs::read_to_string("/etc/passwd")
            .map_err(|error| format!("/etc/passwd cannot be read: {error}"))?;
        users
            .lines()
            .map(|line| line.split(':').collect::<Vec<&str>>())
            .find(|fields| fields.first() == Some(&text))
            .and_then(|fields| {
                let number = |at: usize| fields.get(at)?.parse().ok();
                Some(Self { name, uid: number(2)?, gid: number(3)? })
            })
            .ok_or_else(|| "there is no such user in /etc/passwd".to_owned())
    }
}

/// Makes use of the capabilities that a file gave it to have (`setcap …=p`), which take effect only
/// where a program asks for them: so it starts too where it may not have all of them.
pub fn raise() {
    let raised = capabilities(None).and_then(|sets| {
        let effective = sets.permitted;
        set_capabilities(None, CapabilitySets { effective, ..sets })
    });
    if let Err(error) = raised {
        tracing::debug!("capabilities cannot be raised: {error}");
    }
}

/// Raises the limit of open files as far as it may be: each hook of an interface is one.
pub fn raise_limits() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        tracing::debug!("the limit of open files cannot be raised: {error}");
    }
}

/// What this process may still do.
#[derive(Clone, Debug)]
pub struct Rights {
    /// The user that it has become.
    pub user: Option<String>,
    /// Capabilities that are left.
    pub capabilities: Vec<&'static str>,
    /// How far it is shut in.
    pub sandbox: Sandbox,
}

/// Becomes `user` and keeps the capabilities that are needed and no others, also across programs that
/// it might start. Shuts itself in, unless told not to.
///
/// # Errors
/// Where the system refuses; what was given up before stays so.
pub fn give_up(user: Option<&User>, needs: &Needs, sandboxed: bool) -> Result<Rights, RightsError> {
    let wanted: CapabilitySet = needs.capabilities.iter().map(|needed| needed.set).collect();
    let effective = capabilities(None).map_err(io::Error::from)?.effective;
    if effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().iter() {
            // One that this kernel does not know is in no set.
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    if let Some(User { uid, gid, .. }) = user {
        let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
        // Otherwise those that are kept would go with the user.
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
    // No other process of the user reads its memory: secrets are in it.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(io::Error::from)?;
    let who = user.map_or("the same user", |user| user.name.as_str());
    let capabilities = needs.capabilities.iter().filter(|needed| kept.contains(needed.set));
    let why: Vec<String> = capabilities
        .clone()
        .map(|Capability { name, used_by, .. }| format!("with {name}, which {used_by} needs"))
        .collect();
    let why = if why.is_empty() { "without capabilities".to_owned() } else { why.join(", ") };
    let sandbox = if sandboxed { sandbox::enter(needs)? } else { sandbox::OFF };
    let Sandbox { landlock, seccomp } = sandbox;
    tracing::info!("running as {who} {why}; Landlock: {landlock}, seccomp: {seccomp}");
    let capabilities = capabilities.map(|needed| needed.name).collect();
    Ok(Rights { user: user.map(|user| user.name.clone()), capabilities, sandbox })
}

/// Why rights can't be given up.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// The system refuses.
    #[error("cannot give up rights: {0}")]
    System(#[from] io::Error),
    /// There is no sandbox.
    #[error("cannot give up rights: {0}; --no-sandbox does without")]
    Sandbox(#[from] SandboxError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_becomes_somebody_else() {
        let instead = User::instead_of_root();
        assert!(instead.is_none_or(|user| user.uid != 0 && user.gid != 0));
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let user = |name: &str, uid, gid| Ok(User { name: name.into(), uid, gid });
        assert_eq!("root".parse::<User>(), user("root", 0, 0));
        assert_eq!("7".parse::<User>(), user("7", 7, 7));
        assert_eq!("7:8".parse::<User>(), user("7:8", 7, 8));
        assert!("no-such-user".parse::<User>().is_err());
        assert!("root:0".parse::<User>().is_err());
        assert!("".parse::<User>().is_err());
    }
}
