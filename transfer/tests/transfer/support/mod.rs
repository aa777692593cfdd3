//! What the tests share: files and sinks, an endpoint in this process, raw SSH clients, OpenSSH's programs.

pub(crate) mod double;
#[path = "../../support/files.rs"]
pub(crate) mod files;
pub(crate) mod openssh;
pub(crate) mod place;
#[path = "../../support/proxy.rs"]
pub(crate) mod proxy;
pub(crate) mod raw;
#[path = "../../support/sink.rs"]
pub(crate) mod sink;
#[path = "../../support/time.rs"]
mod time;
#[path = "../../support/version.rs"]
pub(crate) mod version;

#[allow(unused_imports, reason = "not every program that has this module waits")]
pub(crate) use time::{Deadline, wait_until};
