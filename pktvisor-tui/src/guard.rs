//! Turns panics on the data of a daemon into errors of that daemon, so that the program goes on.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Returns true if a panic of this thread is caught.
pub(crate) fn is_guarded() -> bool {
    GUARDED.get()
}

/// Runs `work` and catches a panic. State that `work` changes must not be used after a panic.
///
/// # Errors
/// Returns the message of the panic.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    done.map_err(|panic| format!("cannot process its answer: {}", message(&*panic)))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_panic_into_error_and_continues() {
        assert_eq!(guarded(|| 7), Ok(7));
        let failed = guarded(|| -> u8 {
            assert!(is_guarded());
            panic!("{} is too much", 8)
        });
        assert_eq!(failed.unwrap_err(), "cannot process its answer: 8 is too much");
        assert!(!is_guarded());
        let nested = guarded(|| (guarded(|| panic!("inside")), is_guarded()));
        assert_eq!(
            nested.map(|(inside, outside): (Result<(), _>, _)| (inside.is_err(), outside)),
            Ok((true, true))
        );
    }
}
