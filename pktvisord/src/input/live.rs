//! Interfaces as an input: through programs in the kernel, or through libpcap where these can't be had.

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

/// How long interfaces are opened before anything is served; the rest follows in the background. Loading
/// programs takes more than a second on a slow machine, and an answer is due two seconds after the start.
const AT_ONCE: Duration = Duration::from_millis(250);

/// Why interfaces are not watched.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// No interface is left to watch.
    #[error("there is no interface to watch; `ip link` lists them with their state")]
    NoInterface,
    /// A filter for programs in the kernel.
    #[error(
        "a filter (-b) cannot be run by programs in the kernel yet; leave --capture out, or say \
         `--capture libpcap`"
    )]
    FilterInKernel,
    /// The kernel does not take the programs.
    #[error("{0}; `--capture auto` would take what comes next: XDP, TC, libpcap")]
    Kernel(Refusal),
    /// libpcap can't capture.
    #[error(transparent)]
    Libpcap(#[from] OpenError),
    /// The system refuses something that should work.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// How interfaces are captured from.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// How packets are captured by programs in the kernel, if at all.
    pub kernel: KernelOptions,
    /// The filter, in libpcap's language.
    pub filter: Option<String>,
    /// Bytes of all capture buffers of libpcap.
    pub capture_memory: u64,
    /// The number of workers with libpcap.
    pub workers: usize,
}

impl LiveOptions {
    /// Makes sure that the filter goes with the mode of capture.
    ///
    /// # Errors
    /// [`LiveError::FilterInKernel`].
    pub fn check(&self) -> Result<(), LiveError> {
        match (self.kernel.mode, &self.filter) {
            (CaptureMode::Auto | CaptureMode::Libpcap, _) | (_, None) => Ok(()),
            (_, Some(_)) => Err(LiveError::FilterInKernel),
        }
    }
}

/// The interfaces of a target, found and not captured from yet.
pub struct Interfaces {
    scope: Scope,
    changes: Arc<Changes>,
    listed: Vec<Interface>,
    wanted: Vec<(Interface, Selected)>,
}

impl Interfaces {
    /// Finds the interfaces of a target, where these are HOST besides their own addresses.
    ///
    /// # Errors
    /// Where there are none, or the system does not tell.
    pub fn find(target: &Target, hosts: HostSpec) -> Result<Self, LiveError> {
        let system = |what| move |source| LiveError::System { what, source };
        let scope = Scope::of(target, hosts);
        let changes =
            Changes::listen().map_err(system("cannot listen for changes of interfaces"))?;
        let listed = interface::list().map_err(system("cannot list the interfaces"))?;
        let wanted = scope.wanted(&listed);
        if scope.is_any() {
            for (interface, verdict) in interface::select(&listed) {
                if let Err(reason) = verdict {
                    info!("{} is not watched: {reason}", interface.name);
                }
            }
        }
        if wanted.is_empty() {
            return Err(LiveError::NoInterface);
        }
        Ok(Self { scope, changes: Arc::new(changes), listed, wanted })
    }

    /// Returns what is HOST.
    pub fn hosts(&mut self) -> HostSpec {
        let watched = self.wanted.iter().map(|(one, _)| one.index).collect();
        let hosts = self.scope.hosts(&watched, &self.listed);
        if hosts.is_empty() {
            info!("no addresses and no -H HOSTSPEC: what is received is in, what is sent is out");
        }
        hosts
    }

    /// Returns the name of a tunnel among them whose outer packets another one of them sees.
    pub fn watched_tunnel(&self) -> Option<&str> {
        watched_tunnel(&self.wanted)
    }

    /// Opens them, of `any` as far as that is done at once.
    ///
    /// # Errors
    /// [`LiveError`] where that does not work in any way that the options allow.
    pub fn open(
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
            (CaptureMode::Auto, Some(_)) => {
                Some("a filter (-b) is run by libpcap's capture".to_owned())
            }
            (mode, _) => match open() {
                Ok(input) => return Ok(Box::new(input)),
                Err(refusal) if mode == CaptureMode::Auto => Some(refusal.to_string()),
                Err(refusal) => return Err(LiveError::Kernel(refusal)),
            },
        };
        if let Some(reason) = &fallback {
            warn!("capture goes through libpcap: {reason}");
        }
        let options = LibpcapOptions { filter, memory: capture_memory, workers, fallback };
        Ok(Box::new(LibpcapInput::open(options, scope, changes, &listed, AT_ONCE)?))
    }
}
