//! The transfer crate with real parts: files, sockets, an endpoint in this process, OpenSSH's programs, hostile peers.

#![allow(clippy::disallowed_methods)]

mod clients;
mod copying;
mod credentials;
mod faults;
mod hostile;
mod network;
mod support;
