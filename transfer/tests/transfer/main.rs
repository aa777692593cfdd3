//! The transfer crate with real parts: files, sockets, an endpoint in this process, OpenSSH's programs, hostile peers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]
// Ranges of data in a file are lists of ranges, of one as of several.
#![allow(clippy::single_range_in_vec_init)]

mod clients;
mod copying;
mod credentials;
mod faults;
mod hostile;
mod network;
mod restoring;
mod support;
