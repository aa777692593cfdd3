//! The running service: what it does by itself, what it tells by HTTP, and how it ends.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper that fails fails its test"
)]

mod api;
mod ask;
mod bench;
mod console;
mod content;
mod direct;
mod endpoint;
mod failures;
mod history;
mod limits;
mod metrics;
mod notify;
mod orders;
mod package;
mod program;
mod prune;
mod queue;
mod reconcile;
mod rounds;
mod tend;
mod truth;
