//! Cost of the kernel programs per packet: `cargo bench -p pktvisord --bench kernel`, as root.
//!
//! `BPF_PROG_TEST_RUN` repeats a program and reports the time. An empty program gives the cost of
//! the test run itself. A reader drains the rings meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use etherparse::PacketBuilder;
use pktvisor_common::flow::FlowKey;
use pktvisor_common::sampling::Rate;
use pktvisord::aggregate::host::HostSpec;
use pktvisord::aggregate::settings::{DEFAULT_DNS_PORTS, DnsPorts, Tunnels};
use pktvisord::input::kernel::probe::{Probe, Ring, Terms};

const REPEATS: u32 = 200_000;
const RUNS: usize = 9;
const RING_SIZE: u32 = 8 << 20;

/// Returns the median of several runs, in nanoseconds per packet.
fn nanoseconds(probe: &mut Probe, name: &str, packet: &[u8]) -> u128 {
    let mut took: Vec<u128> = (0..RUNS)
        .map(|_| {
            let options =
                TestRunOptions { data_in: Some(packet), repeat: REPEATS, ..Default::default() };
            let program = probe.programs().program_mut(name).expect("it is in the object");
            let result = if name.contains("xdp") {
                <&mut Xdp>::try_from(program).expect("XDP").test_run(options)
            } else {
                <&mut SchedClassifier>::try_from(program).expect("TC").test_run(options)
            };
            result.expect("it runs").duration.as_nanos()
        })
        .collect();
    took.sort_unstable();
    took[RUNS / 2]
}

fn drain(rings: &mut [Ring], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for ring in &mut *rings {
            while ring.next().is_some() {}
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn main() {
    let mut probe = match Probe::load(1, RING_SIZE) {
        Ok(probe) => probe,
        Err(refusal) => return println!("skipped: {refusal}"),
    };
    for name in ["pktvisor_xdp", "pktvisor_xdp0"] {
        let program = probe.programs().program_mut(name).expect("it is in the object");
        <&mut Xdp>::try_from(program).expect("XDP").load().expect("the kernel takes it");
    }
    for name in ["pktvisor_in", "pktvisor_in0"] {
        let program = probe.programs().program_mut(name).expect("it is in the object");
        <&mut SchedClassifier>::try_from(program).expect("TC").load().expect("the kernel takes it");
    }
    let mut rings = probe.take_rings().expect("rings");
    let ports = DnsPorts::new(&DEFAULT_DNS_PORTS);
    let v4 =
        || PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([192, 0, 2, 1], [198, 51, 100, 7], 64);
    let mut tcp = Vec::new();
    v4().tcp(443, 5000, 1, 1000).write(&mut tcp, &[0; 100]).expect("memory");
    let mut dns = Vec::new();
    v4().udp(53, 5000).write(&mut dns, &[0; 100]).expect("memory");
    let one = "192.0.2.1/32,2001:db8::1/128".to_owned();
    let eight: Vec<String> = (1..=7).map(|at| format!("203.0.113.{at}/32")).collect();
    let many: Vec<String> = (0..100).map(|at| format!("203.0.113.{at}/32")).collect();
    let with = |others: &[String]| format!("{},{one}", others.join(","));
    let cases = [
        ("not sampled, HOST unknown", String::new(), 0, &tcp),
        ("not sampled, HOST of one address", one.clone(), 0, &tcp),
        ("not sampled, HOST the last of 8 ranges", with(&eight), 0, &tcp),
        ("not sampled, HOST of 101 ranges", with(&many), 0, &tcp),
        ("headers sampled", one.clone(), 100, &tcp),
        ("DNS of 100 bytes sampled", one.clone(), 100, &dns),
    ];
    let stop = AtomicBool::new(false);
    println!("| nanoseconds above an empty program | XDP | TC |\n|---|---:|---:|");
    std::thread::scope(|scope| {
        scope.spawn(|| drain(&mut rings, &stop));
        for (what, hosts, percent, packet) in cases {
            let hosts = if hosts.is_empty() {
                HostSpec::default()
            } else {
                hosts.parse().expect("networks")
            };
            let rate = Rate::of(percent, 100);
            let terms = Terms {
                hosts: &hosts,
                ports: &ports,
                dns: rate,
                rest: rate,
                tunnels: Tunnels::Outer,
                flow_key: FlowKey::FIXED,
            };
            probe.configure(&terms).expect("maps take it");
            let mut above = |name: &str, empty: &str| {
                let empty = nanoseconds(&mut probe, empty, packet);
                nanoseconds(&mut probe, name, packet) as i128 - empty as i128
            };
            let xdp = above("pktvisor_xdp", "pktvisor_xdp0");
            let tc = above("pktvisor_in", "pktvisor_in0");
            println!("| {what} | {xdp} | {tc} |");
        }
        stop.store(true, Ordering::Relaxed);
    });
    let lost: u64 = probe.counters().read().expect("counters").lost.as_flattened().iter().sum();
    println!("\n{lost} records lost");
}
