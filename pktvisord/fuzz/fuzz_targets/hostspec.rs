//! Fuzz target `hostspec`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pktvisor_fuzz::hostspec::run(data));
