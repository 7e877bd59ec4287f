//! Fuzz target `defrag`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pktvisor_fuzz::defrag::run(data));
