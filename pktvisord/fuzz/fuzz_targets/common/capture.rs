libfuzzer_sys::fuzz_target!(
    init: {
        // As in Rust's own `main`, which libFuzzer replaces: a closed pipe gives an error instead
        // of ending the process.
        // SAFETY: it runs before any other thread exists, and ignoring a signal runs no code later.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    },
    |data: &[u8]| pktvisor_fuzz::capture::run(data)
);

/// Options of the leak sanitizer, which does not work here: the thread that feeds libpcap is not
/// joined, so the memory that it holds at its start and end counts as leaked.
// SAFETY: the sanitizer declares this symbol weak, with this signature, for programs to define.
#[unsafe(no_mangle)]
extern "C" fn __lsan_default_options() -> *const libc::c_char {
    c"detect_leaks=0".as_ptr()
}
