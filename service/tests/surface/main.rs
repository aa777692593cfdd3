//! What the program shows: errors, the command line, answers, progress and log.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper that fails fails its test"
)]

mod api;
mod cli;
mod output;
mod problem;
mod progress;
