//! Live capture: interfaces in, HTTP out, until the end is asked for.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pktvisor_common::abi::RINGS;
use pktvisor_common::api;
use tracing::{info, warn};

use super::serve::Listeners;
use super::{AppError, Run, system};
use crate::capture::ebpf::attach::{Attached, CaptureMode, attach};
use crate::capture::ebpf::drain::{Drain, DrainStatus};
use crate::capture::ebpf::probe::{Probe, Terms};
use crate::capture::ebpf::refusal::Refusal;
use crate::capture::interface::{self, Interface};
use crate::capture::libpcap::{Captured, LiveCapture};
use crate::capture::target::Target;
use crate::cli::{Cli, exit};
use crate::geo::GeoDatabases;
use crate::host::HostSpec;
use crate::lane::{Lane, Share};
use crate::live::{Live, Source};
use crate::pipeline::Clock;
use crate::time::SECOND;
use crate::workers::Workers;

/// How long packets can lie in the kernel before libpcap hands them over.
const LIBPCAP_LAG: i64 = SECOND * 3 / 10;
/// Blocks between the threads that capture and the one that feeds.
const BLOCKS: usize = 8;
/// How long to wait for packets before time passes without them.
const TICK: Duration = Duration::from_millis(50);

/// What is to be watched.
pub(super) struct Selected {
    interfaces: Vec<Interface>,
    /// Interfaces that come later are watched too.
    any: bool,
}

impl Selected {
    /// The interfaces of a live target.
    pub(super) fn of(target: &Target) -> Result<Self, AppError> {
        let listed = interface::list().map_err(system("cannot list the interfaces"))?;
        let named = |names: &[String]| {
            let found = |name: &String| listed.iter().find(|i| i.name == *name).cloned();
            names.iter().filter_map(found).collect()
        };
        let (interfaces, any) = match target {
            Target::Interfaces(names) => (named(names), false),
            Target::Address(_, name) => (named(std::slice::from_ref(name)), false),
            _ => (any_of(&listed), true),
        };
        match interfaces.is_empty() {
            true => Err(AppError::NoInterface),
            false => Ok(Self { interfaces, any }),
        }
    }

    /// What is HOST: the addresses of the interfaces, and those given besides.
    fn hosts(&self, cli: &Cli) -> HostSpec {
        let mut hosts = cli.hosts.clone().unwrap_or_default();
        let watched = |name: &str| self.interfaces.iter().any(|i| i.name == name);
        match interface::addresses(watched) {
            Ok(addresses) => addresses.into_iter().for_each(|address| hosts.insert(address)),
            Err(error) => warn!("the addresses of the interfaces cannot be listed: {error}"),
        }
        if hosts.is_empty() {
            info!("no addresses and no -H HOSTSPEC: what is received is in, what is sent is out");
        }
        hosts
    }
}

/// Those that `any` watches; what is left out is said.
fn any_of(listed: &[Interface]) -> Vec<Interface> {
    let mut watched = Vec::new();
    for (interface, verdict) in interface::select(listed) {
        match verdict {
            Ok(()) => watched.push(interface.clone()),
            Err(reason) => info!("{} is not watched: {reason}", interface.name),
        }
    }
    watched
}

/// Programs in the kernel, at their hooks.
struct Programs {
    probe: Probe,
    attached: Vec<Attached>,
}

impl Programs {
    fn load(cli: &Cli, selected: &Selected) -> Result<Self, Refusal> {
        let mut probe = Probe::load(rings(cli.workers()), cli.ring_size())?;
        let mut attached = Vec::new();
        for interface in &selected.interfaces {
            match attach(probe.programs(), interface, cli.capture) {
                Ok(one) => attached.push(one),
                // One of many need not have what the others have.
                Err(refusal) if selected.any && !refusal.is_general() => {
                    warn!("{} is not watched: {refusal}", interface.name);
                }
                Err(refusal) => return Err(refusal),
            }
        }
        if attached.is_empty() {
            return Err(Refusal::Other {
                what: "any".to_owned(),
                message: "no interface could be watched".to_owned(),
            });
        }
        Ok(Self { probe, attached })
    }
}

/// Rings for so many workers: a power of two.
fn rings(workers: usize) -> usize {
    1 << workers.min(RINGS).ilog2()
}

/// Watches interfaces until the end is asked for.
pub(super) fn watch(cli: &Cli, target: &Target, databases: GeoDatabases) -> Result<u8, AppError> {
    let selected = Selected::of(target)?;
    let (programs, fallback) = match (cli.capture, &cli.filter) {
        (CaptureMode::Libpcap, _) => (None, None),
        (CaptureMode::Auto, Some(_)) => {
            (None, Some("a filter (-b) is run by libpcap's capture".to_owned()))
        }
        (_, Some(_)) => return Err(AppError::FilterInKernel),
        (mode, None) => match Programs::load(cli, &selected) {
            Ok(programs) => (Some(programs), None),
            Err(refusal) if mode == CaptureMode::Auto => (None, Some(refusal.to_string())),
            Err(refusal) => return Err(AppError::Kernel(refusal)),
        },
    };
    if let Some(reason) = &fallback {
        warn!("capture goes through libpcap: {reason}");
    }
    let hosts = selected.hosts(cli);
    let run = Run::new(cli, hosts, databases)?;
    match programs {
        Some(programs) => from_kernel(&run, programs),
        None => from_libpcap(&run, &selected, fallback),
    }
}

fn from_kernel(run: &Run<'_>, programs: Programs) -> Result<u8, AppError> {
    let Programs { mut probe, attached } = programs;
    let rate = run.settings.sampling.rate();
    let terms =
        Terms { hosts: &run.settings.hosts, ports: &run.settings.ports, dns: rate, rest: rate };
    let of_map = |error| AppError::Kernel(Refusal::of_map("configuring the programs", error));
    probe.configure(&terms).map_err(of_map)?;
    let rings = probe.take_rings().map_err(AppError::Kernel)?;
    let listeners = Listeners::bind(run.cli, &run.runtime)?;
    let of = rings.len();
    let window = run.window_of(of);
    let clock: Arc<Clock> = Arc::default();
    let mut statuses = Vec::new();
    let drains = rings.into_iter().enumerate().map(|(at, ring)| {
        let status: Arc<DrainStatus> = Arc::default();
        statuses.push(Arc::clone(&status));
        let lane = Lane::of_spread_packets(
            Arc::clone(&run.settings),
            Arc::clone(&run.databases),
            Arc::clone(&window),
            Share { lane: at, of },
        );
        let counting = (at == 0).then(|| (probe.counters(), Arc::clone(&clock)));
        Drain { lane, ring, counting, status }
    });
    let drains: Vec<Drain> = drains.collect();
    let workers = Workers::start_with(drains, |drain, work, lanes| drain.run(&work, &lanes))
        .map_err(system("cannot start a thread"))?;
    let source = Arc::new(Source::interfaces("ebpf", None, statuses));
    source.watch(attached.iter().map(describe).collect());
    for one in &attached {
        announce(one);
    }
    let live = Arc::new(Live::new(
        Arc::clone(&run.settings),
        Arc::clone(&run.databases),
        window,
        clock,
        workers.snapshots(),
        source,
    ));
    let servers = listeners.serve(&live, &run.shutdown, &run.runtime);
    servers.wait(&run.runtime);
    // The programs go first, so that nothing is counted any more that nobody takes in.
    drop(attached);
    drop(workers);
    Ok(exit::OK)
}

fn describe(attached: &Attached) -> api::Watched {
    api::Watched {
        name: attached.interface.name.clone(),
        ingress: Some(attached.ingress.to_string()),
        egress: attached.egress.map(|hook| hook.to_string()),
        refused: attached.refused.iter().map(|(hook, why)| format!("{hook}: {why}")).collect(),
    }
}

fn announce(attached: &Attached) {
    let name = &attached.interface.name;
    for (hook, refusal) in &attached.refused {
        info!("{name}: {hook} is not used: {refusal}");
    }
    let ingress = attached.ingress;
    if let Some(egress) = attached.egress {
        info!("watching {name}: {ingress} in, {egress} out");
    } else {
        info!("watching {name}: {ingress} in, which sees all that is sent too");
    }
}

fn from_libpcap(
    run: &Run<'_>,
    selected: &Selected,
    fallback: Option<String>,
) -> Result<u8, AppError> {
    let mut captures = Vec::new();
    for interface in &selected.interfaces {
        match LiveCapture::open(&interface.name, run.cli.filter.as_deref()) {
            Ok(capture) => captures.push((interface.name.clone(), capture)),
            Err(error) if selected.any => warn!("{} is not watched: {error}", interface.name),
            Err(error) => return Err(AppError::Libpcap(error)),
        }
    }
    if captures.is_empty() {
        return Err(AppError::NoInterface);
    }
    let listeners = Listeners::bind(run.cli, &run.runtime)?;
    let window = run.window();
    let mut pipeline = run.pipeline(&window, true)?;
    let source = Arc::new(Source::interfaces("libpcap", fallback, Vec::new()));
    let watched = |(name, _): &(String, LiveCapture)| api::Watched {
        name: name.clone(),
        ..api::Watched::default()
    };
    source.watch(captures.iter().map(watched).collect());
    let live = Arc::new(Live::new(
        Arc::clone(&run.settings),
        Arc::clone(&run.databases),
        window,
        pipeline.clock(),
        pipeline.snapshots().unwrap_or_default(),
        source,
    ));
    let (sender, captured) = sync_channel(BLOCKS);
    let threads: Vec<_> = captures
        .into_iter()
        .map(|(name, capture)| {
            info!("watching {name} through libpcap");
            capture.start(sender.clone(), run.shutdown.flag())
        })
        .collect::<Result<_, _>>()
        .map_err(system("cannot start a thread"))?;
    drop(sender);
    pipeline.advance(wall_clock());
    let servers = listeners.serve(&live, &run.shutdown, &run.runtime);
    while !run.shutdown.asked() {
        match captured.recv_timeout(TICK) {
            Ok(Captured::Block(block)) => pipeline.feed(&block, 0..block.packets.len()),
            Ok(Captured::Lost { kernel, interface }) => {
                pipeline.lose("kernel_drops", kernel);
                pipeline.lose("if_drops", interface);
            }
            Ok(Captured::Ended { interface, message }) => {
                warn!("{interface} is no longer watched: {message}");
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
        }
        pipeline.advance(wall_clock() - LIBPCAP_LAG);
    }
    drop(captured);
    for thread in threads {
        // If it panicked, that was reported where it happened.
        let _ = thread.join();
    }
    servers.wait(&run.runtime);
    Ok(exit::OK)
}

/// Nanoseconds of unix time.
fn wall_clock() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}
