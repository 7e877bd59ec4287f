//! What the daemon does with its arguments: summarize a capture, or serve one.

use std::io;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::sync::Arc;

use pktvisor_common::api::{MetricsView, Views};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tracing::{info, warn};

use crate::capture::Block;
use crate::capture::file::{CaptureReader, FileOptions, ReadError};
use crate::capture::target::{Target, TargetError, resolve};
use crate::cli::{Cli, Speed, exit};
use crate::geo::{GeoDatabases, GeoError};
use crate::http;
use crate::live::{Live, Source};
use crate::output;
use crate::pipeline::Pipeline;
use crate::progress::Progress;
use crate::replay::Pace;
use crate::settings::{DnsPorts, Sampling, Settings};
use crate::shard::PARTITIONS;
use crate::shutdown::Shutdown;
use crate::summary::bucket::Naming;
use crate::time::utc;
use crate::window::Window;

/// Blocks that are read ahead of the shards.
const BLOCKS: usize = 8;

/// Why the daemon ends with another exit code than 0.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// TARGET is nothing that can be watched.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Live capture was asked for.
    #[error(
        "{0}: live capture is not built in yet; this version summarizes capture files (such as \
         `tcpdump -w FILE` writes) and captures on standard input (`tcpdump -w - | pktvisord -`)"
    )]
    Live(String),
    /// The capture can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A database can't be read.
    #[error(transparent)]
    Geo(#[from] GeoError),
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
            AppError::Live(_) => exit::USAGE,
            AppError::Read(error) if error.is_usage() => exit::USAGE,
            AppError::Target(_) | AppError::Read(_) | AppError::Geo(_) => exit::INPUT,
            AppError::Output { .. } | AppError::Listen { .. } => exit::OUTPUT,
            AppError::System { .. } => exit::FAILURE,
        }
    }
}

/// Runs the daemon. Returns the exit code where nothing went wrong.
///
/// # Errors
/// [`AppError`], to be reported by the caller.
pub fn run(cli: &Cli) -> Result<u8, AppError> {
    let (name, path) = match resolve(&cli.target)? {
        Target::File(path) => (path.display().to_string(), Some(path)),
        Target::Stdin => ("-".to_owned(), None),
        Target::Interface(name) => return Err(AppError::Live(format!("interface {name}"))),
        Target::Any => return Err(AppError::Live("any".into())),
        Target::Address(address, interface) => {
            return Err(AppError::Live(format!("{address} on interface {interface}")));
        }
    };
    let databases = GeoDatabases::open(cli.geo_city.as_deref(), cli.geo_asn.as_deref())?;
    let system = |what| move |source| AppError::System { what, source };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(system("cannot start the async runtime"))?;
    let shutdown = {
        let _guard = runtime.enter();
        Shutdown::listen().map_err(system("cannot listen for signals"))?
    };
    let options = FileOptions {
        filter: cli.filter.clone(),
        strict: cli.strict,
        interrupt: Some(shutdown.flag()),
    };
    let opened = match &path {
        Some(path) => CaptureReader::open(path, &options),
        None => CaptureReader::stdin(&options),
    };
    let reader = match opened {
        Err(_) if shutdown.asked() => return Ok(exit::INTERRUPTED),
        opened => opened?,
    };
    let settings = Settings {
        hosts: cli.hosts.clone().unwrap_or_default(),
        ports: DnsPorts::new(cli.dns_ports()),
        timeout: cli.dns_timeout(),
        naming: Naming { seed: cli.sketch_seed, public_suffix: cli.public_suffix },
        sampling: Sampling::new(cli.max_deep_sample),
    };
    if cli.hosts.is_none() {
        info!("no -H HOSTSPEC: the direction of all packets is unknown");
    }
    let run = Run {
        cli,
        settings: Arc::new(settings),
        databases: Arc::new(databases),
        source: Source { kind: "file", interfaces: vec![name] },
        workers: cli.workers().min(PARTITIONS),
    };
    match cli.replay {
        None => run.summarize(reader, &shutdown),
        Some(speed) => run.replay(reader, speed, &shutdown, &runtime),
    }
}

struct Run<'a> {
    cli: &'a Cli,
    settings: Arc<Settings>,
    databases: Arc<GeoDatabases>,
    source: Source,
    workers: usize,
}

impl Run<'_> {
    fn window(&self) -> Arc<Window> {
        Arc::new(Window::new(self.workers, self.cli.periods as usize, self.cli.summary))
    }

    fn pipeline(&self, window: &Arc<Window>, threads: bool) -> Result<Pipeline, AppError> {
        let (settings, databases) = (Arc::clone(&self.settings), Arc::clone(&self.databases));
        if !threads {
            return Ok(Pipeline::inline(settings, databases, Arc::clone(window)));
        }
        Pipeline::threads(settings, databases, window, self.workers)
            .map_err(|source| AppError::System { what: "cannot start a thread", source })
    }

    /// Reads all of a capture and prints its summary.
    fn summarize(&self, mut reader: CaptureReader, shutdown: &Shutdown) -> Result<u8, AppError> {
        let window = self.window();
        let mut pipeline = self.pipeline(&window, self.workers > 1)?;
        let progress = Progress::start(reader.progress().total, self.cli.quiet);
        let mut feed = |pipeline: &mut Pipeline, block: &Arc<Block>, reader: &CaptureReader| {
            pipeline.feed(block, 0..block.packets.len());
            progress.set(reader.progress().bytes_read, pipeline.packets());
            !shutdown.asked()
        };
        let read = read_all(&mut reader, &mut pipeline, &mut feed);
        progress.finish();
        pipeline.end_input();
        let live = pipeline.live();
        drop(pipeline);
        if !shutdown.asked() {
            self.report_input(&reader, &window);
        }
        let view = self.source.complete(window.merged(&live, self.cli.periods.into()).view());
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
        shutdown: &Shutdown,
        runtime: &Runtime,
    ) -> Result<u8, AppError> {
        let address = format!("{}:{}", self.cli.listen, self.cli.port);
        let listener = runtime
            .block_on(self.listen())
            .map_err(|source| AppError::Listen { address: address.clone(), source })?;
        let window = self.window();
        let mut pipeline = self.pipeline(&window, true)?;
        let live = Arc::new(Live::new(
            Arc::clone(&self.settings),
            Arc::clone(&self.databases),
            Arc::clone(&window),
            pipeline.clock(),
            pipeline.snapshots().unwrap_or_default(),
            self.source.clone(),
        ));
        for address in listener.iter().filter_map(|listener| listener.local_addr().ok()) {
            info!("serving on http://{address}, see http://{address}/docs");
        }
        let servers: Vec<_> = listener
            .into_iter()
            .map(|listener| {
                let served = http::serve(listener, Arc::clone(&live), shutdown.clone().wait());
                runtime.spawn(served)
            })
            .collect();
        let mut pace = Pace::new(speed);
        let mut feed = |pipeline: &mut Pipeline, block: &Arc<Block>, _: &CaptureReader| {
            pace.feed(pipeline, block, shutdown)
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
        runtime.block_on(async {
            for server in servers {
                match server.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => warn!("a server ended: {error}"),
                    Err(error) => warn!("a server ended: {error}"),
                }
            }
        });
        Ok(exit::OK)
    }

    /// Listens on all addresses of the name given, so that `localhost` answers on IPv4 and IPv6.
    async fn listen(&self) -> io::Result<Vec<TcpListener>> {
        let mut listeners = Vec::new();
        let mut refused = None;
        let mut port = self.cli.port;
        for mut address in (self.cli.listen.as_str(), port).to_socket_addrs()? {
            // Port 0 is chosen by the first address and shared by the others.
            address.set_port(port);
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    port = listener.local_addr()?.port();
                    listeners.push(listener);
                }
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            // A host without IPv6 still has its IPv4 loopback.
            Some(error) if listeners.is_empty() || error.kind() == io::ErrorKind::AddrInUse => {
                Err(error)
            }
            _ => Ok(listeners),
        }
    }
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
        if !reader.next_block(exclusive)? {
            return Ok(true);
        }
        if !feed(pipeline, &block, reader) {
            return Ok(false);
        }
        if blocks.len() < BLOCKS {
            blocks.push(block);
        }
    }
}
