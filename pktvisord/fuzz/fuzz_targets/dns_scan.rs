//! Fuzz target `dns_scan`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pktvisor_fuzz::dns_scan::run(data));
