//! The kernel programs, and the maps that they share with the daemon.

use std::sync::Arc;

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, MapData, MapError, PerCpuArray, RingBuf};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use log::Log;
use pktvisor_common::abi::{
    CONFIG_WORDS, COUNTER_WORDS, Counters, HOST_RANGES, HostMode, ProbeConfig, RINGS, RangeV4,
    RangeV6, seen_place,
};
use pktvisor_common::flow::FlowKey;
use pktvisor_common::packet::tunnel::MAX_TUNNELS;
use pktvisor_common::sampling::Rate;

use super::OBJECT;
use super::refusal::Refusal;
use crate::aggregate::host::HostSpec;
use crate::aggregate::settings::{DnsPorts, Tunnels};

/// Names of the ring maps.
const RING_NAMES: [&str; RINGS] = ["RING_0", "RING_1", "RING_2", "RING_3"];
/// Smallest size of a ring: one page.
const LEAST_RING: u32 = 4096;

/// The loaded programs and their maps.
pub struct Probe {
    ebpf: Ebpf,
    config: Array<MapData, [u64; CONFIG_WORDS]>,
    counters: Arc<CounterMap>,
    seen: Array<MapData, u32>,
    hosts_v4: LpmTrie<MapData, [u8; 4], u8>,
    hosts_v6: LpmTrie<MapData, [u8; 16], u8>,
    rings: usize,
    /// Log of the programs, if they were built with it (`cargo xtask build-ebpf --log`).
    log: Option<EbpfLogger<&'static dyn Log>>,
}

/// A ring that the programs fill.
pub type Ring = RingBuf<MapData>;

/// Settings of the programs.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// HOST.
    pub hosts: &'a HostSpec,
    /// DNS ports.
    pub ports: &'a DnsPorts,
    /// Sampling rate of packets on DNS ports.
    pub dns: Rate,
    /// Sampling rate of other packets.
    pub rest: Rate,
    /// The packet that counts of an IP tunnel: the outer or the inner one.
    pub tunnels: Tunnels,
    /// Key of the flow hash.
    pub flow_key: FlowKey,
}

impl Probe {
    /// Loads the programs with `rings` rings, which must be 1, 2 or 4. Each has `ring_size` bytes,
    /// a power of two and at least a page.
    ///
    /// # Errors
    /// [`Refusal`] if the kernel does not accept them.
    pub fn load(rings: usize, ring_size: u32) -> Result<Self, Refusal> {
        if !super::is_built_in() {
            return Err(Refusal::NotBuiltIn);
        }
        let mut loader = EbpfLoader::new();
        for (at, name) in RING_NAMES.into_iter().enumerate() {
            loader.map_max_entries(name, if at < rings { ring_size } else { LEAST_RING });
        }
        let mut ebpf = loader.load(OBJECT).map_err(Refusal::of_load)?;
        // Without `--log` there is no map for it.
        let log = EbpfLogger::init(&mut ebpf).ok();
        Ok(Self {
            config: map(&mut ebpf, "CONFIG")?,
            counters: Arc::new(CounterMap(map(&mut ebpf, "COUNTERS")?)),
            seen: map(&mut ebpf, "SEEN")?,
            hosts_v4: map(&mut ebpf, "HOSTS_V4")?,
            hosts_v6: map(&mut ebpf, "HOSTS_V6")?,
            ebpf,
            rings,
            log,
        })
    }

    /// Returns the rings. They can be taken only once.
    ///
    /// # Errors
    /// [`Refusal`] if a ring cannot be mapped.
    pub fn take_rings(&mut self) -> Result<Vec<Ring>, Refusal> {
        RING_NAMES[..self.rings].iter().map(|name| map(&mut self.ebpf, name)).collect()
    }

    /// Returns the programs, for attaching or testing.
    pub fn programs(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Forwards the messages that the programs have logged since the last call.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Writes new settings, which the programs use from now on.
    ///
    /// # Errors
    /// [`MapError`] if a map cannot be written, or has no room for all ranges of HOST.
    pub fn configure(&mut self, terms: &Terms<'_>) -> Result<(), MapError> {
        let hosts_v4: Vec<RangeV4> = terms.hosts.ranges_v4().collect();
        let hosts_v6: Vec<RangeV6> = terms.hosts.ranges_v6().collect();
        let fit = hosts_v4.len() <= HOST_RANGES && hosts_v6.len() <= HOST_RANGES;
        let mode = match fit {
            _ if terms.hosts.is_empty() => HostMode::Hook,
            true => HostMode::Ranges,
            false => HostMode::Tries,
        };
        if matches!(mode, HostMode::Tries) {
            self.fill_tries(&hosts_v4, &hosts_v6)?;
        }
        let config = ProbeConfig {
            dns: terms.dns,
            rest: terms.rest,
            flow_key: terms.flow_key,
            host_mode: mode as u32,
            ring_mask: self.rings as u32 - 1,
            ranges_v4: hosts_v4.len().min(HOST_RANGES) as u32,
            ranges_v6: hosts_v6.len().min(HOST_RANGES) as u32,
            tunnels: match terms.tunnels {
                Tunnels::Outer => 0,
                Tunnels::Inner => MAX_TUNNELS as u32,
            },
            padding: 0,
            hosts_v4: std::array::from_fn(|at| hosts_v4.get(at).copied().unwrap_or_default()),
            hosts_v6: std::array::from_fn(|at| hosts_v6.get(at).copied().unwrap_or_default()),
            dns_ports: *terms.ports.bits(),
        };
        self.config.set(0, config.words(), 0)
    }

    /// Makes the tries hold exactly these ranges.
    fn fill_tries(&mut self, v4: &[RangeV4], v6: &[RangeV6]) -> Result<(), MapError> {
        let length = |mask: &[u8]| mask.iter().map(|byte| byte.count_ones()).sum();
        let v4: Vec<_> = v4.iter().map(|r| Key::new(length(&r.mask), r.address)).collect();
        let v6: Vec<_> = v6.iter().map(|r| Key::new(length(&r.mask), r.address)).collect();
        fill(&mut self.hosts_v4, &v4)?;
        fill(&mut self.hosts_v6, &v6)
    }

    /// Returns true if a packet has reached the hook on this side of an interface since the last
    /// call.
    ///
    /// # Errors
    /// [`MapError`] if the map cannot be read or written.
    pub fn take_seen(&mut self, interface: u32, egress: bool) -> Result<bool, MapError> {
        let place = seen_place(interface, egress);
        let seen = self.seen.get(&place, 0)? != 0;
        if seen {
            self.seen.set(place, 0, 0)?;
        }
        Ok(seen)
    }

    /// Returns the counters of the programs.
    pub fn counters(&self) -> Arc<CounterMap> {
        Arc::clone(&self.counters)
    }
}

/// The counters of the programs.
pub struct CounterMap(PerCpuArray<MapData, [u64; COUNTER_WORDS]>);

impl CounterMap {
    /// Returns the counts since the programs were loaded, summed over all processors.
    ///
    /// # Errors
    /// [`MapError`] if the map cannot be read.
    pub fn read(&self) -> Result<Counters, MapError> {
        let mut sums = [0u64; COUNTER_WORDS];
        for words in self.0.get(&0, 0)?.iter() {
            sums.iter_mut().zip(words).for_each(|(sum, word)| *sum += word);
        }
        Ok(Counters::from_words(&sums))
    }
}

fn map<M>(ebpf: &mut Ebpf, name: &str) -> Result<M, Refusal>
where
    M: TryFrom<aya::maps::Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or_else(|| Refusal::Object(format!("missing map {name}")))?;
    M::try_from(map).map_err(|error| Refusal::Object(format!("map {name}: {error}")))
}

fn fill<K: aya::Pod + PartialEq>(
    trie: &mut LpmTrie<MapData, K, u8>,
    keys: &[Key<K>],
) -> Result<(), MapError> {
    let same = |a: &Key<K>, b: &Key<K>| a.prefix_len() == b.prefix_len() && a.data() == b.data();
    let there: Vec<Key<K>> = trie.keys().collect::<Result<_, _>>()?;
    for key in keys {
        trie.insert(key, 1, 0)?;
    }
    for key in there.iter().filter(|key| !keys.iter().any(|other| same(key, other))) {
        trie.remove(key)?;
    }
    Ok(())
}
