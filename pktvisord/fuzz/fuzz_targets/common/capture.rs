libfuzzer_sys::fuzz_target!(
    init: {
        // As Rust's own `main` does, which libFuzzer replaces: a pipe closed early is an error and
        // not the end of the process.
        // SAFETY: it runs before any other thread, and ignoring a signal runs no code later.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    },
    |data: &[u8]| pktvisor_fuzz::capture::run(data)
);

/// Options of the leak sanitizer. It does not work here: the thread that feeds libpcap is not
/// waited for, and what it holds at its start and end counts as leaked.
// SAFETY: the sanitizer declares this symbol weak, with this signature, for programs to define.
#[unsafe(no_mangle)]
extern "C" fn __lsan_default_options() -> *const libc::c_char {
    c"detect_leaks=0".as_ptr()
}
