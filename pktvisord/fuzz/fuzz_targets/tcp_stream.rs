//! Fuzz target `tcp_stream`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pktvisor_fuzz::tcp_stream::run(data));
