//! Whether a failure is worth another attempt.

/// Whether an operation that failed may succeed when it is repeated unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not before somebody changes something.
    Permanent,
    /// It may: the network, a restart, a busy server, a file that just changed.
    Transient,
    /// It will, once others have finished.
    Busy,
}
