//! How long a host may take for its answers.

use std::time::Duration;

use crate::ssh::LOGIN_TIMEOUT;

/// How long an endpoint or a host may take, beyond being reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To answer a request: a folder of many thousand files on a slow disk takes a while.
    pub answer: Duration,
    /// To send the next whole frame of a file, of at most a block: one that answers keepalives but takes longer has a hung
    /// disk.
    pub stall: Duration,
    /// For the greeting and key exchange, and for the login, each.
    pub login: Duration,
}

impl Default for Timeouts {
    /// 30, 120 and 60 seconds.
    fn default() -> Self {
        Self { answer: Duration::from_secs(30), stall: Duration::from_secs(120), login: LOGIN_TIMEOUT }
    }
}
