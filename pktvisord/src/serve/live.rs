//! The data that the HTTP interface answers from: live buckets and closed minutes.
//!
//! The workers copy their live buckets at most once a second, and the copies are merged here. So a
//! reader does not hold up the packet path.

mod past;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pktvisor_common::api;
use pktvisor_common::direction::{Direction, PerDirection};
use pktvisor_common::summary::cumulative::Cumulative;
use pktvisor_common::summary::rates::Second;
use pktvisor_common::summary::{Summary, state};
use rustix::time::{ClockId, clock_gettime};

use crate::aggregate::bucket::Bucket;
use crate::aggregate::pipeline::{Clock, Present, merge_live};
use crate::aggregate::settings::Settings;
use crate::aggregate::workers::WorkerControl;
use crate::input::status::{Status, Watching};
use crate::store::Store;
use crate::store::feed::{Closed, PolicyName};
use crate::store::history::SharedHistory;
use crate::system::privileges::Rights;
use crate::time::{Timestamp, wall_clock};

/// Maximum age of a snapshot.
const FRESH: Duration = Duration::from_secs(1);
/// Number of times to ask the workers again if only some have closed a minute.
const RETRIES: usize = 5;
/// Minimum number of packets for the advice about unknown directions.
const LEAST_PACKETS: u64 = 100;
/// Seconds in a minute, as a divisor of durations.
const MINUTE_SECONDS: f64 = 60.0;

/// Reason why a bucket or window is not available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// The number is in range, but the daemon has not run long enough.
    #[error("not available yet: {available} periods are available")]
    NotYet {
        /// Number of buckets now, the live one included.
        available: u64,
    },
    /// The number is never available.
    #[error("out of range: {periods} periods are kept")]
    OutOfRange {
        /// Number of buckets kept.
        periods: u64,
    },
    /// The bucket was counted with other DNS ports than the current ones, which its byte form would
    /// state.
    #[error("not mergeable: counted with other DNS ports than the current ones")]
    OtherPorts,
}

/// Source of all answers.
pub struct Live {
    settings: Arc<Settings>,
    store: Arc<Store>,
    clock: Arc<Clock>,
    control: WorkerControl,
    status: Arc<Status>,
    /// Remaining rights of the daemon. `None` for a capture file, which keeps the rights of its
    /// user.
    rights: Option<Rights>,
    /// The history on disk, if the options name a folder for it.
    history: Option<Arc<SharedHistory>>,
    started: SystemTime,
    /// True if every worker answered the last liveness check.
    alive: AtomicBool,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    present: Option<(Instant, Arc<Present>)>,
    views: HashMap<u64, Arc<api::MetricsView>>,
}

impl Live {
    /// Creates the source of answers from the state of these workers and their closed minutes.
    pub fn new(
        settings: Arc<Settings>,
        store: Arc<Store>,
        clock: Arc<Clock>,
        control: WorkerControl,
        status: Arc<Status>,
        rights: Option<Rights>,
    ) -> Self {
        Self {
            settings,
            store,
            clock,
            control,
            status,
            rights,
            history: None,
            started: SystemTime::now(),
            alive: AtomicBool::new(true),
            cache: Mutex::default(),
        }
    }

    /// Answers from a history too.
    pub(crate) fn with_history(mut self, history: Option<Arc<SharedHistory>>) -> Self {
        self.history = history;
        self
    }

    /// Returns the number of buckets kept, the live one included.
    pub fn periods(&self) -> u64 {
        if self.store.retention().single { 1 } else { self.store.retention().periods as u64 }
    }

    /// Returns the state of the input.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Returns true if the daemon reads a file, or watches every selected interface and receives its packets.
    pub fn ready(&self) -> bool {
        self.status.is_watching() && self.has_packets()
    }

    /// Returns true if there is a bucket.
    fn has_packets(&self) -> bool {
        self.clock.now() != Timestamp::EPOCH || self.status.is_finished()
    }

    fn with_cache<T>(&self, read: impl FnOnce(&mut Cache, &Arc<Present>) -> T) -> T {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let present = match &cache.present {
            Some((at, present)) if at.elapsed() < FRESH => Arc::clone(present),
            _ => {
                let present = Arc::new(self.snapshot());
                *cache = Cache {
                    present: Some((Instant::now(), Arc::clone(&present))),
                    ..Cache::default()
                };
                present
            }
        };
        read(&mut cache, &present)
    }

    /// Returns the time of the current snapshot, or `None` if the next answer needs a new one.
    pub fn taken(&self) -> Option<Instant> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.present.as_ref().map(|(at, _)| *at).filter(|at| at.elapsed() < FRESH)
    }

    fn present(&self) -> Arc<Present> {
        self.with_cache(|_, present| Arc::clone(present))
    }

    fn snapshot(&self) -> Present {
        let now = self.clock.now();
        let mut buckets = self.control.take(now);
        for _ in 0..RETRIES {
            let mut minutes = buckets.iter().map(Bucket::minute);
            let first = minutes.next();
            if minutes.all(|minute| Some(minute) == first) {
                break;
            }
            buckets = self.control.take(now);
        }
        // All minutes closed before the copies were made must be in the store.
        self.store.settle();
        merge_live(buckets, now, &mut self.settings.geo())
    }

    fn check(&self, n: u64, most: u64) -> Result<(), PeriodError> {
        if n > most {
            return Err(PeriodError::OutOfRange { periods: self.periods() });
        }
        Ok(())
    }

    /// Returns the number of buckets available now: 0 before the first packet.
    fn available(&self) -> u64 {
        if self.has_packets() { self.store.available() } else { 0 }
    }

    fn summary(&self, n: u64, present: &Present) -> Result<Arc<Summary>, PeriodError> {
        self.check(n, self.periods() - 1)?;
        let available = self.available();
        if n >= available {
            return Err(PeriodError::NotYet { available });
        }
        if n == 0 {
            return Ok(match self.store.retention().single {
                true => Arc::new(self.store.merged(&present.live, 1)),
                false => Arc::clone(&present.live),
            });
        }
        self.store.closed(n).ok_or(PeriodError::NotYet { available })
    }

    fn view(&self, summary: &Summary) -> Arc<api::MetricsView> {
        Arc::new(self.status.complete(summary.view()))
    }

    /// Returns the view of bucket `n`, where 0 is the live one.
    ///
    /// # Errors
    /// [`PeriodError`] if there is no such bucket.
    pub fn bucket(&self, n: u64) -> Result<Arc<api::MetricsView>, PeriodError> {
        self.with_cache(|_, present| self.summary(n, present).map(|summary| self.view(&summary)))
    }

    /// Returns the view of the newest `n` buckets merged.
    ///
    /// # Errors
    /// [`PeriodError`] if there are fewer buckets.
    pub fn window(&self, n: u64) -> Result<Arc<api::MetricsView>, PeriodError> {
        self.check(n, self.periods())?;
        if n == 0 {
            return Err(PeriodError::OutOfRange { periods: self.periods() });
        }
        let (present, known) = self.with_cache(|cache, present| {
            (Arc::clone(present), cache.views.get(&n).map(Arc::clone))
        });
        let available = self.available();
        if n > available {
            return Err(PeriodError::NotYet { available });
        }
        if let Some(view) = known {
            return Ok(view);
        }
        // Merging many minutes is slow, so it runs without the lock on the cache.
        let view = self.view(&self.store.merged(&present.live, n));
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.present.as_ref().is_some_and(|(_, now)| Arc::ptr_eq(now, &present)) {
            cache.views.insert(n, Arc::clone(&view));
        }
        Ok(view)
    }

    /// Returns true if every worker answers now. Waits at most 5 s for the answers.
    pub fn answers(&self) -> bool {
        self.control.answer()
    }

    /// Stores the result of a liveness check. Returns true if it has changed.
    pub fn set_alive(&self, alive: bool) -> bool {
        self.alive.swap(alive, Ordering::Relaxed) != alive
    }

    /// Returns true if every worker answered the last liveness check.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Returns the counts since the start.
    pub fn cumulative(&self) -> Cumulative {
        self.present().cumulative.clone()
    }

    /// Returns the last closed bucket, or with `--summary` the single summary. `None` before the
    /// first bucket has closed.
    pub fn last_closed(&self) -> Option<Arc<Summary>> {
        if self.store.retention().single {
            return self.with_cache(|_, present| self.summary(0, present)).ok();
        }
        self.store.closed(1)
    }

    /// Returns the minute that has not ended, up to the present; `None` without packets.
    pub(crate) fn unended(&self) -> Option<Closed> {
        let Present { live, cumulative } = self.snapshot();
        let policy = PolicyName::DEFAULT;
        let has_packets = self.has_packets();
        has_packets.then(|| Closed { policy, summary: live, cumulative: Arc::new(cumulative) })
    }

    /// Returns the summary of bucket `n` if it is closed, so that it no longer changes.
    pub fn closed(&self, n: u64) -> Option<Arc<Summary>> {
        if self.store.retention().single { None } else { self.store.closed(n) }
    }

    /// Returns the byte form of bucket `n`.
    ///
    /// # Errors
    /// [`PeriodError`] if there is no such bucket, or if it was counted with other DNS ports.
    pub fn state(&self, n: u64) -> Result<Vec<u8>, PeriodError> {
        let terms = self.settings.terms();
        let summary = self.with_cache(|_, present| self.summary(n, present))?;
        // Checked last: packets of ports that change after this are not in the summary.
        if self.settings.other_ports.cover(summary.start.minute()) {
            return Err(PeriodError::OtherPorts);
        }
        Ok(state::encode(&summary, &terms, self.settings.anonymizer.fleet.into()))
    }

    /// Returns the current second of packet time, or the wall clock before the first packet.
    pub(crate) fn now(&self) -> i64 {
        match self.has_packets() {
            true => self.clock.now().second(),
            false => wall_clock().second(),
        }
    }

    /// Returns the daemon's own state.
    pub fn app(&self) -> api::AppMetrics {
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let up_time = self.started.elapsed().unwrap_or_default();
        let (dns_pct, rest_pct) = self.settings.sampling.percents();
        let Watching { watched, pending, faults } = self.status.watching();
        api::AppMetrics {
            app: api::App {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                periods: self.store.retention().periods as u64,
                deep_sample_rate_pct: u64::from(self.settings.sampling.percent()),
                single_summary: self.store.retention().single,
                up_time_min: (up_time.as_secs_f64() / MINUTE_SECONDS * 100.0).round() / 100.0,
                started_ts: started.as_secs() as i64,
                capture: api::CaptureInfo {
                    source: self.status.kind.name().to_owned(),
                    interfaces: self.status.names(),
                    watched,
                    fallback: self.status.fallback.clone(),
                    pending,
                    faults,
                    advice: self.advice(),
                    sampling: api::SamplingRates { dns_pct, rest_pct },
                    finished: self.status.is_finished(),
                },
                fleet_key: Some(api::FleetKey {
                    fingerprint: format!("{:016x}", self.settings.anonymizer.fleet.fingerprint()),
                    public: self.settings.anonymizer.fleet.is_public(),
                }),
                process: process(),
                history: self.history.as_deref().map(past::history_state),
                security: self.rights.as_ref().map(security),
            },
            dns: api::AppDns {
                xact: api::AppXact { open: self.present().live.dns.xact.unpaired.open },
            },
        }
    }

    /// Returns advice to set HOST if most packets have an unknown direction.
    fn advice(&self) -> Option<String> {
        let mut packets = self.present().live.totals.packets;
        // At the start of a minute, judge by the minute before.
        if packets.total() < LEAST_PACKETS
            && let Some(closed) = self.store.closed(1)
        {
            packets = closed.totals.packets;
        }
        let (total, unknown) = (packets.total(), packets[Direction::Unknown]);
        (total >= LEAST_PACKETS && unknown > total - unknown).then(|| {
            let percent = unknown as f64 / total as f64 * 100.0;
            format!(
                "{percent:.0} % of packets have an unknown direction: name the local networks with \
                 -H HOSTSPEC, such as -H 192.0.2.0/24"
            )
        })
    }

    /// Returns packets and bytes of the last full second of packet time.
    pub fn rates(&self) -> api::Rates {
        let live = Arc::clone(&self.present().live);
        let second = live.end.second() - 1;
        let mut counts = live.rates.second(second);
        if counts == Second::default()
            && let Some(closed) = self.store.closed(1)
        {
            counts = closed.rates.second(second);
        }
        let rates = |counts: PerDirection<u64>| api::RatesInOut {
            inbound: counts[Direction::In],
            outbound: counts[Direction::Out],
            total: counts.total(),
        };
        api::Rates {
            packets: rates(counts.packets),
            bytes: rates(counts.bytes),
            dns: api::DnsRate { total: counts.dns },
        }
    }
}

fn security(rights: &Rights) -> api::Security {
    api::Security {
        user: rights.user.clone(),
        capabilities: rights.capabilities.iter().map(|&name| name.to_owned()).collect(),
        landlock: rights.sandbox.landlock.to_owned(),
        seccomp: rights.sandbox.seccomp.to_owned(),
    }
}

/// Returns the resources that this process uses; 0 if the system does not report them
/// (proc_pid_status(5)).
///
/// Reads kilobytes instead of pages: before Linux 6.4, a process that has changed its user may not
/// read the page size.
fn process() -> api::Process {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    api::Process {
        cpu_seconds: time.tv_sec as f64 + (time.tv_nsec / 1_000_000) as f64 / 1_000.0,
        resident_bytes: kilobytes.unwrap_or(0).saturating_mul(1024),
    }
}
