//! Fuzz target `pcapng_read`.

#![no_main]

libfuzzer_sys::fuzz_target!(
    init: {
        // As Rust's own start of a program does, which libFuzzer's `main` goes without: a pipe
        // that libpcap no longer reads is an error of a write.
        // SAFETY: no handler of this process is replaced, and no other thread runs yet.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    },
    |data: &[u8]| pktvisor_fuzz::capture::run(data)
);
