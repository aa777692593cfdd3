//! The route `ssh` against a real OpenSSH server that knows nothing of us but a line in a user's `authorized_keys`.
//! And hostile hosts in this process. Needs `/usr/sbin/sshd`, and root, since that server logs users in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]
// Ranges of data in a file are lists of ranges, of one as of several.
#![allow(clippy::single_range_in_vec_init)]

mod copying;
mod host_keys;
mod hostile;
mod listing;
mod refusals;
mod restoring;
mod rights;
mod support;
