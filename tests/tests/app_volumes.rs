//! The client of App Volumes Managers against the stand-in: it finds everything, changes nothing, and reports every failure.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

#[path = "app_volumes/failures.rs"]
mod failures;
#[path = "app_volumes/guard.rs"]
mod guard;
#[path = "app_volumes/lists.rs"]
mod lists;
#[path = "app_volumes/scale.rs"]
mod scale;
#[path = "app_volumes/support.rs"]
mod support;
