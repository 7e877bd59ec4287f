//! What the REST interface answers from: the live buckets and the closed minutes.
//!
//! The live buckets are copied by the workers at most once a second, as a copy that is summed up here,
//! so that no reader holds the packet path up.

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
use crate::system::privileges::Rights;
use crate::time::{SECOND, minute_of};

/// How old an answer can be.
const FRESH: Duration = Duration::from_secs(1);
/// Times the workers are asked again when some have closed a minute that others have not yet.
const RETRIES: usize = 5;
/// Packets of the live minute from which on it is said that most have an unknown direction.
const LEAST_PACKETS: u64 = 100;
/// Seconds of a minute, as a divisor of durations.
const MINUTE_SECONDS: f64 = 60.0;

/// Why there is no bucket or window of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// It is within the range, but so much time has not passed yet.
    #[error("not there yet: {available} of the periods are available so far")]
    NotYet {
        /// Buckets there are now, the live one included.
        available: u64,
    },
    /// There is never one.
    #[error("out of range: {periods} periods are kept")]
    OutOfRange {
        /// Buckets kept.
        periods: u64,
    },
    /// Its byte form would not merge: the terms that stand in it are those of now.
    #[error("DNS went by other ports then, so it can be merged with nothing")]
    OtherPorts,
}

/// What answers are made from.
pub struct Live {
    settings: Arc<Settings>,
    store: Arc<Store>,
    clock: Arc<Clock>,
    control: WorkerControl,
    status: Arc<Status>,
    /// What the daemon may still do; of a capture file all that its user may.
    rights: Option<Rights>,
    started: SystemTime,
    /// Whether all who sum up answered when that was last looked at.
    alive: AtomicBool,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    present: Option<(Instant, Arc<Present>)>,
    views: HashMap<u64, Arc<api::MetricsView>>,
}

impl Live {
    /// Answers from these workers and their closed minutes.
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
            started: SystemTime::now(),
            alive: AtomicBool::new(true),
            cache: Mutex::default(),
        }
    }

    /// Buckets kept, the live one included.
    pub fn periods(&self) -> u64 {
        if self.store.retention().single { 1 } else { self.store.retention().periods as u64 }
    }

    /// The state of the input.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Whether packets are taken in.
    pub fn ready(&self) -> bool {
        self.status.is_watching() && self.has_packets()
    }

    /// Whether there is a bucket.
    fn has_packets(&self) -> bool {
        self.clock.now() != 0 || self.status.is_finished()
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

    /// When what is answered now was taken from the workers; none where it is to be taken anew.
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
        // What was closed before these were copied is to be there with them.
        self.store.settle();
        merge_live(buckets, now, &mut self.settings.geo())
    }

    fn check(&self, n: u64, most: u64) -> Result<(), PeriodError> {
        if n > most {
            return Err(PeriodError::OutOfRange { periods: self.periods() });
        }
        Ok(())
    }

    /// Buckets there are now: none before the first packet.
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

    /// Bucket `n`: 0 is the live one.
    ///
    /// # Errors
    /// [`PeriodError`] where there is none.
    pub fn bucket(&self, n: u64) -> Result<Arc<api::MetricsView>, PeriodError> {
        self.with_cache(|_, present| self.summary(n, present).map(|summary| self.view(&summary)))
    }

    /// The newest `n` buckets merged.
    ///
    /// # Errors
    /// [`PeriodError`] where there are not so many.
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
        // Many minutes take a while: nobody else waits for them.
        let view = self.view(&self.store.merged(&present.live, n));
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.present.as_ref().is_some_and(|(_, now)| Arc::ptr_eq(now, &present)) {
            cache.views.insert(n, Arc::clone(&view));
        }
        Ok(view)
    }

    /// Whether all who sum up answer now. Waits for one who does not, for as long as that takes.
    pub fn answers(&self) -> bool {
        self.control.answer()
    }

    /// Notes whether all who sum up answered. Returns whether that is news.
    pub fn set_alive(&self, alive: bool) -> bool {
        self.alive.swap(alive, Ordering::Relaxed) != alive
    }

    /// Whether all who sum up answered when that was last looked at.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// What was counted since the start.
    pub fn cumulative(&self) -> Cumulative {
        self.present().cumulative.clone()
    }

    /// The last closed bucket, or all of a single summary; none before the first one has closed.
    pub fn last_closed(&self) -> Option<Arc<Summary>> {
        if self.store.retention().single {
            return self.with_cache(|_, present| self.summary(0, present)).ok();
        }
        self.store.closed(1)
    }

    /// The summary of bucket `n`, if it is closed and so changes no more.
    pub fn closed(&self, n: u64) -> Option<Arc<Summary>> {
        if self.store.retention().single { None } else { self.store.closed(n) }
    }

    /// The byte form of bucket `n`.
    ///
    /// # Errors
    /// [`PeriodError`] where there is none.
    pub fn state(&self, n: u64) -> Result<Vec<u8>, PeriodError> {
        let terms = self.settings.terms();
        let summary = self.with_cache(|_, present| self.summary(n, present))?;
        // The last to be looked at: what changes from here on has not been counted.
        if self.settings.other_ports.cover(minute_of(summary.start)) {
            return Err(PeriodError::OtherPorts);
        }
        Ok(state::encode(&summary, &terms, self.settings.anonymizer.fleet.into()))
    }

    /// The daemon's own state.
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
                security: self.rights.as_ref().map(security),
            },
            dns: api::AppDns {
                xact: api::AppXact { open: self.present().live.dns.xact.unpaired.open },
            },
        }
    }

    /// Says how HOST is named, where most packets have an unknown direction.
    fn advice(&self) -> Option<String> {
        let mut packets = self.present().live.totals.packets;
        // At the start of a minute the one before it tells.
        if packets.total() < LEAST_PACKETS
            && let Some(closed) = self.store.closed(1)
        {
            packets = closed.totals.packets;
        }
        let (total, unknown) = (packets.total(), packets[Direction::Unknown]);
        (total >= LEAST_PACKETS && unknown > total - unknown).then(|| {
            let percent = unknown as f64 / total as f64 * 100.0;
            format!(
                "{percent:.0} % of the packets have an unknown direction: name the networks of this \
                 side with -H HOSTSPEC, such as -H 192.0.2.0/24"
            )
        })
    }

    /// Packets and bytes of the last full second of packet time.
    pub fn rates(&self) -> api::Rates {
        let live = Arc::clone(&self.present().live);
        let second = live.end.div_euclid(SECOND) - 1;
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

/// What this process costs; 0 where the system does not tell (proc_pid_status(5)).
///
/// In kilobytes, not in pages: how large those are a process that has become another user may not
/// read before Linux 6.4.
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
