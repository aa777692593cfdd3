//! Where a crash may happen: every call that changes what a crash leaves behind passes through [`step`] first.
//!
//! Outside of the tests it is nothing. In a test it records what is done in which order, and can fail at the nth step
//! and at all after it, as if the machine had stopped there.

#[cfg(not(test))]
pub(crate) fn step(_: &'static str, _: &std::path::Path) -> Result<(), crate::VaultError> {
    Ok(())
}

#[cfg(test)]
pub(crate) use hook::{Trace, step};

#[cfg(test)]
mod hook {
    use std::cell::RefCell;
    use std::path::Path;

    use crate::VaultError;

    #[derive(Default)]
    struct State {
        on: bool,
        left: Option<usize>,
        refused: Option<&'static str>,
        seen: Vec<String>,
    }

    thread_local! {
        static STATE: RefCell<State> = RefCell::default();
    }

    /// Steps of this thread are recorded while it exists.
    pub(crate) struct Trace;

    impl Trace {
        /// Lets `left` steps happen and no more; none: all.
        pub(crate) fn start(left: Option<usize>) -> Self {
            STATE.with_borrow_mut(|state| *state = State { on: true, left, ..State::default() });
            Self
        }

        /// Refuses one operation each time, as a file system does that can't do it.
        pub(crate) fn refusing(op: &'static str) -> Self {
            STATE.with_borrow_mut(|state| *state = State { on: true, refused: Some(op), ..State::default() });
            Self
        }

        /// `<operation> <last part of the path>` of each step that happened.
        pub(crate) fn seen(&self) -> Vec<String> {
            STATE.with_borrow(|state| state.seen.clone())
        }
    }

    impl Drop for Trace {
        fn drop(&mut self) {
            STATE.with_borrow_mut(|state| *state = State::default());
        }
    }

    pub(crate) fn step(op: &'static str, path: &Path) -> Result<(), VaultError> {
        STATE.with_borrow_mut(|state| {
            if !state.on {
                return Ok(());
            }
            if state.refused == Some(op) {
                let source = std::io::Error::from(rustix::io::Errno::PERM);
                return Err(VaultError::Io { op, path: path.to_owned(), source });
            }
            if let Some(left) = &mut state.left {
                if *left == 0 {
                    let source = std::io::Error::other("the machine stopped");
                    return Err(VaultError::Io { op, path: path.to_owned(), source });
                }
                *left -= 1;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            state.seen.push(format!("{op} {name}"));
            Ok(())
        })
    }
}
