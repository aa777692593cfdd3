//! The transfer crate with real parts: files, sockets, an endpoint in this process, OpenSSH's programs, hostile peers.

#![allow(clippy::disallowed_methods)]

mod copying;
mod faults;
mod support;
