//! The API under unusual requests: generated from its own description, and written by hand byte by byte.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

#[path = "fuzzed_api/generated.rs"]
mod generated;
#[path = "fuzzed_api/raw.rs"]
mod raw;
#[path = "fuzzed_api/setup.rs"]
mod setup;
