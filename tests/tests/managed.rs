//! The program beside App Volumes Managers: what they tell decides what is copied and when, and nothing is done to them that
//! nobody asked for.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

#[path = "managed/attached.rs"]
mod attached;
#[path = "managed/changes.rs"]
mod changes;
#[path = "managed/content.rs"]
mod content;
#[path = "managed/everything.rs"]
mod everything;
#[path = "managed/scale.rs"]
mod scale;
#[path = "managed/support.rs"]
mod support;
#[path = "managed/troubles.rs"]
mod troubles;
