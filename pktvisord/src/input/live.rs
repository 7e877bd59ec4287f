//! Live capture from interfaces: by kernel programs, or through libpcap if those are not available.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::Input;
use super::interface::scope::Scope;
use super::interface::tunnels::watched_tunnel;
use super::interface::{self, Interface, Selected};
use super::kernel::attach::CaptureMode;
use super::kernel::refusal::Refusal;
use super::kernel::{KernelInput, KernelOptions};
use super::libpcap::capture::OpenError;
use super::libpcap::{LibpcapInput, LibpcapOptions};
use super::netlink::changes::Changes;
use super::target::Target;
use crate::aggregate::host::HostSpec;
use crate::aggregate::settings::Settings;

/// Time spent opening interfaces before the daemon serves; the rest follow in the background.
/// Loading programs takes more than a second on a slow machine, and the daemon must answer within
/// two seconds of its start.
const AT_ONCE: Duration = Duration::from_millis(250);

/// Reasons why interfaces are not watched.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// No interface to watch.
    #[error("no interface to watch; list the interfaces and their state with `ip link`")]
    NoInterface,
    /// A filter together with a capture mode that needs kernel programs.
    #[error(
        "eBPF capture does not support a filter (-b) yet; omit --capture, or use `--capture libpcap`"
    )]
    FilterInKernel,
    /// The kernel refuses the programs.
    #[error("{0}; `--capture auto` falls back in this order: XDP, TC, libpcap")]
    Kernel(Refusal),
    /// libpcap cannot capture.
    #[error(transparent)]
    Libpcap(#[from] OpenError),
    /// The system refuses an operation that should succeed.
    #[error("{what}: {source}")]
    System {
        /// The operation that failed.
        what: &'static str,
        /// The system error.
        source: io::Error,
    },
}

/// Options of live capture.
#[derive(Clone, Debug)]
pub(crate) struct LiveOptions {
    /// Options of the kernel programs, with the capture mode.
    pub kernel: KernelOptions,
    /// The filter expression in libpcap's language.
    pub filter: Option<String>,
    /// Total size of libpcap's capture buffers, in bytes.
    pub capture_memory: u64,
    /// Number of workers with libpcap.
    pub workers: usize,
}

impl LiveOptions {
    /// Checks that the capture mode supports the filter.
    ///
    /// # Errors
    /// [`LiveError::FilterInKernel`] if it does not.
    pub(crate) fn check(&self) -> Result<(), LiveError> {
        match (self.kernel.mode, &self.filter) {
            (CaptureMode::Auto | CaptureMode::Libpcap, _) | (_, None) => Ok(()),
            (_, Some(_)) => Err(LiveError::FilterInKernel),
        }
    }
}

/// The interfaces of a target before capture starts.
pub(crate) struct Interfaces {
    scope: Scope,
    changes: Arc<Changes>,
    listed: Vec<Interface>,
    wanted: Vec<(Interface, Selected)>,
}

impl Interfaces {
    /// Finds the interfaces of a target. `hosts` are addresses of HOST in addition to their own.
    ///
    /// # Errors
    /// [`LiveError`] if there are none or they cannot be listed.
    pub(crate) fn find(target: &Target, hosts: HostSpec) -> Result<Self, LiveError> {
        let system = |what| move |source| LiveError::System { what, source };
        let scope = Scope::of(target, hosts);
        let changes =
            Changes::listen().map_err(system("cannot listen for changes of interfaces"))?;
        let listed = interface::list().map_err(system("cannot list the interfaces"))?;
        let wanted = scope.wanted(&listed);
        if scope.is_any() {
            for (interface, verdict) in interface::select(&listed) {
                if let Err(reason) = verdict {
                    info!("not watching {}: {reason}", interface.name);
                }
            }
        }
        if wanted.is_empty() {
            return Err(LiveError::NoInterface);
        }
        Ok(Self { scope, changes: Arc::new(changes), listed, wanted })
    }

    /// Returns the addresses that are HOST.
    pub(crate) fn hosts(&mut self) -> HostSpec {
        let watched = self.wanted.iter().map(|(one, _)| one.index).collect();
        let hosts = self.scope.hosts(&watched, &self.listed);
        if hosts.is_empty() {
            info!(
                "no addresses of HOST: counting received packets as in and sent packets as out; name \
                 addresses with -H HOSTSPEC"
            );
        }
        hosts
    }

    /// Returns the name of a wanted tunnel whose outer packets pass another wanted interface, if
    /// there is one.
    pub(crate) fn watched_tunnel(&self) -> Option<&str> {
        watched_tunnel(&self.wanted)
    }

    /// Opens the interfaces. With `any`, those that are not open after `AT_ONCE` follow in the
    /// background.
    ///
    /// # Errors
    /// [`LiveError`] if no capture method that the options allow works.
    pub(crate) fn open(
        self,
        options: LiveOptions,
        settings: &Settings,
    ) -> Result<Box<dyn Input>, LiveError> {
        options.check()?;
        let Self { scope, changes, listed, .. } = self;
        let LiveOptions { kernel, filter, capture_memory, workers } = options;
        let open = || {
            let (scope, changes) = (scope.clone(), Arc::clone(&changes));
            KernelInput::open(kernel, scope, changes, settings, &listed, AT_ONCE)
        };
        let fallback = match (kernel.mode, &filter) {
            (CaptureMode::Libpcap, _) => None,
            (CaptureMode::Auto, Some(_)) => Some("a filter (-b) requires libpcap".to_owned()),
            (mode, _) => match open() {
                Ok(input) => return Ok(Box::new(input)),
                Err(refusal) if mode == CaptureMode::Auto => Some(refusal.to_string()),
                Err(refusal) => return Err(LiveError::Kernel(refusal)),
            },
        };
        if let Some(reason) = &fallback {
            warn!("capturing with libpcap instead of eBPF: {reason}");
        }
        let options = LibpcapOptions { filter, memory: capture_memory, workers, fallback };
        Ok(Box::new(LibpcapInput::open(options, scope, changes, &listed, AT_ONCE)?))
    }
}
