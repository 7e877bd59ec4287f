//! What the daemon does with its arguments: summarize a capture, serve one, or watch interfaces.

mod check;
pub mod fleet_key;
mod follow;
mod hooks;
mod listen;
mod load;
mod missed;
pub mod output;
pub mod progress;
mod reload;
mod service;
mod through_libpcap;
mod tunnels;
mod watch;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pktvisor_common::api::{MetricsView, Views};
use pktvisor_common::flow::FlowKey;
use pktvisor_common::loss::Loss;
use pktvisor_common::sketch::key::FleetKey;
use rustix::event::{EventfdFlags, eventfd};
use tokio::runtime::Runtime;
use tracing::{info, warn};

use self::listen::Listeners;
use self::reload::Owner;
use crate::agent::progress::Progress;
use crate::aggregate::geo::{GeoDatabases, GeoError};
use crate::aggregate::host::HostSpec;
use crate::aggregate::naming::{NameKey, Naming};
use crate::aggregate::pipeline::Pipeline;
use crate::aggregate::settings::{DnsPorts, OtherPorts, Sampling, Settings};
use crate::aggregate::shard::PARTITIONS;
use crate::cli::{Cli, Speed, exit};
use crate::config::Config;
use crate::decode::block::Block;
use crate::input::file::{CaptureReader, FileOptions, ReadError};
use crate::input::filter::FilterError;
use crate::input::kernel::refusal::Refusal;
use crate::input::libpcap::OpenError;
use crate::input::replay::Pace;
use crate::input::target::{Target, TargetError, resolve};
use crate::serve::access::AccessError;
use crate::serve::live::{Live, Source};
use crate::store::minutes::Window;
use crate::system::privileges::RightsError;
use crate::system::secret::FileError;
use crate::system::shutdown::Shutdown;
use crate::time::utc;

/// Blocks that are read ahead of the shards.
const BLOCKS: usize = 8;

/// Why the daemon ends with another exit code than 0.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// TARGET is nothing that can be watched.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// No interface is left to watch.
    #[error("there is no interface to watch; `ip link` lists them with their state")]
    NoInterface,
    /// A replay of what happens anyway.
    #[error("--replay is for capture files, and TARGET is an interface")]
    ReplayOfLive,
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
    /// The capture can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A database can't be read.
    #[error(transparent)]
    Geo(#[from] GeoError),
    /// The filter does not compile.
    #[error(transparent)]
    Filter(FilterError),
    /// A certificate, a key or tokens can't be used.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A key can't be read, or can be guessed.
    #[error(transparent)]
    Key(#[from] FileError),
    /// There is no such user.
    #[error("--user {user}: {problem}")]
    User {
        /// As it was given.
        user: String,
        /// What is wrong.
        problem: String,
    },
    /// Others could ask without showing who they are.
    #[error(
        "whoever reaches {0} could read the names and addresses that are seen here: say who may, with \
         --token-file FILE or --client-ca FILE, or say --insecure-listen"
    )]
    Unguarded(SocketAddr),
    /// The output can't be written.
    #[error("cannot write to {name}: {source}")]
    Output {
        /// The file, or standard output.
        name: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The address can't be listened on.
    #[error("cannot listen on {address}: {source}; choose another with -l HOST and -p PORT")]
    Listen {
        /// The address as it was given.
        address: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Rights can't be given up.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// The system refuses something that should work.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl AppError {
    /// The exit code that stands for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            AppError::ReplayOfLive
            | AppError::FilterInKernel
            | AppError::Filter(_)
            | AppError::Unguarded(_)
            | AppError::User { .. }
            | AppError::Access(AccessError::Incomplete(..))
            | AppError::Libpcap(OpenError::Filter { .. }) => exit::USAGE,
            AppError::Read(error) if error.is_usage() => exit::USAGE,
            AppError::Target(_)
            | AppError::Access(_)
            | AppError::Key(_)
            | AppError::Read(_)
            | AppError::Geo(_)
            | AppError::NoInterface
            | AppError::Kernel(_)
            | AppError::Libpcap(_) => exit::INPUT,
            AppError::Output { .. } | AppError::Listen { .. } => exit::OUTPUT,
            AppError::System { .. } | AppError::Rights(_) => exit::FAILURE,
        }
    }
}

/// Runs the daemon. Returns the exit code where nothing went wrong.
///
/// # Errors
/// [`AppError`], to be reported by the caller.
pub fn run(config: &Arc<Config>) -> Result<u8, AppError> {
    let cli = &config.cli;
    if cli.print_config {
        return print(&config.print());
    }
    if cli.check_config {
        return print(&reload::check_all(config)?);
    }
    if cli.replay.is_some() {
        reload::ignore_for_now();
    }
    let target = resolve(&cli.target)?;
    let databases = reload::databases(cli)?;
    let (name, path) = match target {
        Target::File(path) => (path.display().to_string(), Some(path)),
        Target::Stdin => ("-".to_owned(), None),
        live => {
            if cli.replay.is_some() {
                return Err(AppError::ReplayOfLive);
            }
            return watch::watch(config, &live, databases);
        }
    };
    let settings = settings(cli, cli.hosts.clone().unwrap_or_default(), databases, FlowKey::FIXED)?;
    let run = Run::new(config, settings)?;
    let options = FileOptions {
        filter: cli.filter.clone(),
        strict: cli.strict,
        interrupt: Some(run.shutdown.flag()),
    };
    let opened = match &path {
        Some(path) => CaptureReader::open(path, &options),
        None => CaptureReader::stdin(&options),
    };
    let reader = match opened {
        Err(_) if run.shutdown.asked() => return Ok(exit::INTERRUPTED),
        opened => opened?,
    };
    if cli.hosts.is_none() {
        info!("no -H HOSTSPEC: the direction of all packets is unknown");
    }
    let source = Arc::new(Source::file(name));
    match cli.replay {
        None => run.summarize(reader, &source),
        Some(speed) => run.replay(reader, speed, source),
    }
}

fn settings(
    cli: &Cli,
    hosts: HostSpec,
    databases: GeoDatabases,
    flow_key: FlowKey,
) -> Result<Arc<Settings>, AppError> {
    Ok(Arc::new(Settings {
        hosts: hosts.into(),
        ports: DnsPorts::new(cli.dns_ports()).into(),
        other_ports: OtherPorts::default(),
        databases: databases.into(),
        timeout: cli.dns_timeout(),
        naming: naming(cli)?,
        sampling: Sampling::new(cli.max_deep_sample),
        tunnels: cli.tunnels,
        flow_key,
    }))
}

/// How names and addresses are kept.
fn naming(cli: &Cli) -> Result<Naming, AppError> {
    Ok(Naming {
        fleet: match &cli.fleet_key {
            Some(path) => fleet_key::read(path)?,
            None => FleetKey::of_seed(cli.sketch_seed),
        },
        public_suffix: cli.public_suffix,
        mask: cli.mask_ip,
        names: cli.hash_names.as_deref().map(NameKey::read).transpose()?,
    })
}

/// Threads for what takes a while: two answers, a look whether all lanes live, a reload. Each has
/// memory of its own from the allocator, which a summary fills to some MiB.
const BLOCKING: usize = 4;

/// Threads of the async runtime.
const RUNTIME: usize = 2;
/// File descriptors that the runtime and its signals take, and some for connections.
const DESCRIPTORS: usize = 16;
/// What is said where there are too few of either.
const NO_ROOM: &str =
    "too few file descriptors or threads are left to start; raise `ulimit -n` and `ulimit -u`";

/// Makes sure that the async runtime can start: it panics where it gets no thread or no socket.
fn room() -> io::Result<()> {
    let descriptor = |_| eventfd(0, EventfdFlags::CLOEXEC);
    let _descriptors = (0..DESCRIPTORS).map(descriptor).collect::<rustix::io::Result<Vec<_>>>()?;
    let waiting = Arc::new(AtomicBool::new(true));
    let threads = (0..RUNTIME + BLOCKING).map(|_| {
        let waiting = Arc::clone(&waiting);
        std::thread::Builder::new().spawn(move || {
            while waiting.load(Ordering::Relaxed) {
                std::thread::park();
            }
        })
    });
    let threads: Vec<io::Result<_>> = threads.collect();
    waiting.store(false, Ordering::Relaxed);
    let mut result = Ok(());
    for thread in threads {
        match thread {
            Ok(thread) => {
                thread.thread().unpark();
                // It cannot panic.
                let _ = thread.join();
            }
            Err(error) => result = Err(error),
        }
    }
    result
}

/// What a run of the daemon has, whatever it is asked for.
struct Run<'a> {
    config: &'a Arc<Config>,
    cli: &'a Cli,
    settings: Arc<Settings>,
    runtime: Runtime,
    shutdown: Shutdown,
}

fn system(what: &'static str) -> impl Fn(io::Error) -> AppError {
    move |source| AppError::System { what, source }
}

impl<'a> Run<'a> {
    fn new(config: &'a Arc<Config>, settings: Arc<Settings>) -> Result<Self, AppError> {
        room().map_err(system(NO_ROOM))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RUNTIME)
            .max_blocking_threads(BLOCKING)
            .enable_all()
            .build()
            .map_err(system("cannot start the async runtime"))?;
        let shutdown = {
            let _guard = runtime.enter();
            Shutdown::listen().map_err(system("cannot listen for signals"))?
        };
        Ok(Self { config, cli: &config.cli, settings, runtime, shutdown })
    }

    fn workers(&self) -> usize {
        self.cli.workers().min(PARTITIONS)
    }

    fn window(&self) -> Arc<Window> {
        self.window_of(self.workers())
    }

    fn window_of(&self, lanes: usize) -> Arc<Window> {
        Arc::new(Window::new(lanes, self.cli.periods as usize, self.cli.summary))
    }

    fn pipeline(&self, window: &Arc<Window>, threads: bool) -> Result<Pipeline, AppError> {
        let settings = Arc::clone(&self.settings);
        if !threads {
            return Ok(Pipeline::inline(settings, Arc::clone(window)));
        }
        Pipeline::threads(settings, window, self.workers()).map_err(system("cannot start a thread"))
    }

    /// Reads all of a capture and prints its summary.
    fn summarize(&self, mut reader: CaptureReader, source: &Source) -> Result<u8, AppError> {
        let shutdown = &self.shutdown;
        let window = self.window();
        let mut pipeline = self.pipeline(&window, self.workers() > 1)?;
        let progress = Progress::start(reader.progress().total, self.cli.quiet);
        let mut feed = |pipeline: &mut Pipeline, block: &Arc<Block>, reader: &CaptureReader| {
            pipeline.feed(block, 0..block.packets.len());
            progress.set(reader.progress().bytes_read, pipeline.packets());
            !shutdown.asked()
        };
        let read = read_all(&mut reader, &mut pipeline, &mut feed);
        progress.finish();
        pipeline.end_input();
        let live = pipeline.present().live;
        drop(pipeline);
        if !shutdown.asked() {
            self.report_input(&reader, &window);
        }
        source.set_timeless(reader.lacks_times());
        let view = source.complete(window.merged(&live, self.cli.periods.into()).view());
        self.print(view)?;
        // A pipe that was cut by the interrupt is neither cut short nor at its end.
        if !shutdown.asked() {
            return read.map(|_| exit::OK).map_err(AppError::from);
        }
        warn!("interrupted: this is what was read so far");
        Ok(exit::INTERRUPTED)
    }

    /// Warns of what the summary does not cover.
    fn report_input(&self, reader: &CaptureReader, window: &Window) {
        for warning in reader.warnings() {
            warn!("{}: {warning}", self.cli.target);
        }
        if let Some(truncation) = reader.truncation().filter(|_| !self.cli.strict) {
            warn!("{}: {truncation}; summarized up to there", self.cli.target);
        }
        if let Some(left_out) = window.left_out() {
            warn!(
                "only the last {} minutes are summarized: left out is the time from {} to {}; \
                 --summary sums up everything, --periods N keeps more minutes",
                self.cli.periods,
                utc(left_out.start),
                utc(left_out.end),
            );
        }
        if self.cli.filter.is_some() {
            info!("the filter left out {} packets", reader.filtered_out());
        }
    }

    fn print(&self, view: MetricsView) -> Result<(), AppError> {
        let key =
            if self.cli.summary { "summary".to_owned() } else { format!("{}m", self.cli.periods) };
        let views = Views::from([(key, view)]);
        let to_stdout = self.cli.output == Path::new("-");
        output::write(&views, self.cli).map_err(|source| AppError::Output {
            name: if to_stdout {
                "standard output".into()
            } else {
                self.cli.output.display().to_string()
            },
            source,
        })
    }

    /// Serves a capture as if it were happening now.
    fn replay(
        &self,
        mut reader: CaptureReader,
        speed: Speed,
        source: Arc<Source>,
    ) -> Result<u8, AppError> {
        let listeners = Listeners::bind(self.cli)?;
        let window = self.window();
        let mut pipeline = self.pipeline(&window, true)?;
        let live = Arc::new(Live::new(
            Arc::clone(&self.settings),
            Arc::clone(&window),
            pipeline.clock(),
            pipeline.control().unwrap_or_default(),
            source,
        ));
        let http = listeners.options();
        let servers = listeners.serve(&live, &self.shutdown, &self.runtime)?;
        reload::listen(self, pipeline.control().unwrap_or_default(), Owner::File, http)?;
        let mut pace = Pace::new(speed);
        let mut feed = |pipeline: &mut Pipeline, block: &Arc<Block>, reader: &CaptureReader| {
            live.source().set_timeless(reader.lacks_times());
            pace.feed(pipeline, block, &self.shutdown)
        };
        let read = read_all(&mut reader, &mut pipeline, &mut feed);
        pipeline.end_input();
        live.finish();
        self.report_input(&reader, &window);
        match read {
            Ok(true) => info!("the capture has ended; serving it until Ctrl-C"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!("{error}; serving what was read until Ctrl-C");
            }
        }
        servers.wait(&self.runtime);
        Ok(exit::OK)
    }
}

/// Prints what was asked for instead of a run.
fn print(text: &str) -> Result<u8, AppError> {
    let written = io::stdout().write_all(text.as_bytes());
    let name = || "standard output".to_owned();
    written.map_err(|source| AppError::Output { name: name(), source })?;
    Ok(exit::OK)
}

/// Feeds all blocks of a capture. Returns false where `feed` asked for the end.
fn read_all(
    reader: &mut CaptureReader,
    pipeline: &mut Pipeline,
    feed: &mut dyn FnMut(&mut Pipeline, &Arc<Block>, &CaptureReader) -> bool,
) -> Result<bool, ReadError> {
    let mut blocks: Vec<Arc<Block>> = Vec::new();
    loop {
        let free = blocks.iter_mut().position(|block| Arc::get_mut(block).is_some());
        let mut block = free.map(|at| blocks.swap_remove(at)).unwrap_or_default();
        let Some(exclusive) = Arc::get_mut(&mut block) else { unreachable!("nobody else has it") };
        let more = reader.next_block(exclusive);
        pipeline.count_unread(reader.take_unread());
        if !matches!(more, Ok(true)) {
            let drops = reader.drops();
            pipeline.lose(Loss::IfDrops, drops.interface);
            pipeline.lose(Loss::KernelDrops, drops.system);
            return more.map(|_| true);
        }
        if !feed(pipeline, &block, reader) {
            return Ok(false);
        }
        if blocks.len() < BLOCKS {
            blocks.push(block);
        }
    }
}
