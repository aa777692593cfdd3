//! Faults of responses.

use std::time::Duration;

/// How a response is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AvmFault {
    /// HTTP 500, with the text of a real one.
    ServerError,
    /// HTTP 403, as for a user without the right.
    Denied,
    /// HTTP 401, as newer managers say that a session ended.
    Unauthorized,
    /// An error, and beside it an empty list: the manager's own vCenter is unreachable.
    ErrorBesideNothing,
    /// The right answer, sent as gzip although the client did not request it.
    Gzip,
    /// The right answer after a byte order mark.
    ByteOrderMark,
    /// HTTP 404.
    NotFound,
    /// The page of a portal, with HTTP 200.
    WebPage,
    /// A redirect to a login page.
    Redirect,
    /// The right answer, without its second half.
    Truncated,
    /// The right answer, this much later.
    Slow(Duration),
    /// The right head and the first bytes of the body, and then the connection is closed.
    Cut,
    /// An answer of so many bytes.
    Huge(usize),
}
