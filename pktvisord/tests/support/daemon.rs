//! A daemon in the test process that has seen some packets, for tests of the HTTP interface.

use std::sync::Arc;

use pktvisord::aggregate::host::HostSpec;
use pktvisord::aggregate::pipeline::Pipeline;
use pktvisord::aggregate::settings::Settings;
use pktvisord::decode::block::{Block, LinkType, PacketRecord};
use pktvisord::input::status::Status;
use pktvisord::serve::live::Live;
use pktvisord::store::Store;
use pktvisord::store::minutes::Retention;
use pktvisord::time::{MINUTE, Timestamp};

/// Number of buckets that the daemon keeps.
const PERIODS: usize = 5;

/// An Ethernet frame of UDP over IPv4 from 192.0.2.7 to 192.0.2.1, port 9 to 9, without payload.
pub(super) const FRAME: [u8; 42] = [
    2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2,
    7, 192, 0, 2, 1, 0, 9, 0, 9, 0, 8, 0, 0,
];

/// Returns a daemon that has seen this many packets in each minute, evenly spread, the oldest
/// minute first.
pub(super) fn live(minutes: &[u32]) -> Arc<Live> {
    live_with(minutes, false)
}

/// Does the same. `single` puts everything in one summary, as `--summary` does.
pub(super) fn live_with(minutes: &[u32], single: bool) -> Arc<Live> {
    let settings = Arc::new(Settings {
        hosts: "192.0.2.1/32".parse::<HostSpec>().unwrap().into(),
        ..Settings::default()
    });
    let store = Store::start(1, Retention { periods: PERIODS, single }).unwrap();
    let mut pipeline = Pipeline::threads(Arc::clone(&settings), &store, 1).unwrap();
    let length = FRAME.len() as u32;
    let packets = (28_000_000i64..).zip(minutes).flat_map(|(minute, &packets)| {
        (0..packets).map(move |packet| PacketRecord {
            time: Timestamp::from_minute(minute) + i64::from(packet) * MINUTE / i64::from(packets),
            offset: 0,
            captured: length,
            wire_len: length,
            link: LinkType::Ethernet,
        })
    });
    let block =
        Arc::new(Block { data: FRAME.to_vec(), packets: packets.collect(), ..Block::default() });
    pipeline.feed(&block, 0..block.packets.len());
    // The workers answer this after everything that was fed.
    pipeline.present();
    let status = Arc::new(Status::file("test".into()));
    let control = pipeline.control();
    let live = Live::new(settings, Arc::new(store), pipeline.clock(), control, status, None);
    // The workers must outlive every request.
    std::mem::forget(pipeline);
    Arc::new(live)
}
