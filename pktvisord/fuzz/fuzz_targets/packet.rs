//! Fuzz target `packet`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pktvisor_fuzz::packet::run(data));
