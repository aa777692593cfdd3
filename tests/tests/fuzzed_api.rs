//! The API under requests that nobody would think of: made from its own description, and made by hand against the wire.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

#[path = "fuzzed_api/generated.rs"]
mod generated;
#[path = "fuzzed_api/place.rs"]
mod place;
#[path = "fuzzed_api/raw.rs"]
mod raw;
