//! Work on what a daemon says: a panic there is that daemon's error, and does not end the program.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread is caught.
pub(crate) fn is_guarded() -> bool {
    GUARDED.get()
}

/// Does some work. What it changes is not to be used after a panic.
///
/// # Errors
/// What it panicked with.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    done.map_err(|panic| format!("what it says cannot be worked on: {}", message(&*panic)))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_others_go_on() {
        assert_eq!(guarded(|| 7), Ok(7));
        let failed = guarded(|| -> u8 {
            assert!(is_guarded());
            panic!("{} is too much", 8)
        });
        assert_eq!(failed.unwrap_err(), "what it says cannot be worked on: 8 is too much");
        assert!(!is_guarded());
        let nested = guarded(|| (guarded(|| panic!("inside")), is_guarded()));
        assert_eq!(
            nested.map(|(inside, outside): (Result<(), _>, _)| (inside.is_err(), outside)),
            Ok((true, true))
        );
    }
}
