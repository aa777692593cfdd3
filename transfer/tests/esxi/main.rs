//! The route `esxi` against the stand-in for vCenter and its hosts, which lets tickets in once and only for what they were
//! made for. Needs Go and govmomi's simulator.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]
// Ranges of data in a file are lists of ranges, of one as of several.
#![allow(clippy::single_range_in_vec_init)]

mod accounts;
mod folders;
mod support;
mod tickets;
