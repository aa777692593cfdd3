//! The program with App Volumes Managers: their answers decide what is copied and when, and it changes nothing there without an
//! order.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

#[path = "managed/attached.rs"]
mod attached;
#[path = "managed/changes.rs"]
mod changes;
#[path = "managed/content.rs"]
mod content;
#[path = "managed/failures.rs"]
mod failures;
#[path = "managed/scale.rs"]
mod scale;
#[path = "managed/support.rs"]
mod support;
#[path = "managed/two_sites.rs"]
mod two_sites;
