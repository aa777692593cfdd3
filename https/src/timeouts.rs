//! How long the client waits.

use std::time::Duration;

/// The timeout for establishing a connection, TLS included.
pub const CONNECT: Duration = Duration::from_secs(10);
/// How long a response may pause. A dead peer is noticed within this time.
pub const IDLE: Duration = Duration::from_secs(30);
/// How long an idle connection is kept. Shorter than the servers' own 60 s or more, so that a server seldom closes one
/// that is about to be reused.
pub(crate) const KEEP_IDLE: Duration = Duration::from_secs(20);
