//! What the tests share: files and sinks as in the other tests, a stock SSH server, and a hostile one.

pub(crate) mod double;
#[path = "../../support/files.rs"]
pub(crate) mod files;
pub(crate) mod host;
pub(crate) mod openssh;
#[path = "../../support/proxy.rs"]
pub(crate) mod proxy;
#[allow(dead_code, reason = "the other tests use more of it")]
#[path = "../../support/sink.rs"]
pub(crate) mod sink;
#[path = "../../support/time.rs"]
mod time;
#[path = "../../support/version.rs"]
pub(crate) mod version;
pub(crate) mod wire;

#[allow(unused_imports, reason = "not every program that has this module waits")]
pub(crate) use time::{Deadline, wait_until};
