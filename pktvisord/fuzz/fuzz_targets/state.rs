//! Fuzz target `state`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pktvisor_fuzz::state::run(data));
