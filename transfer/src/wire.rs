//! The wire: the frames of the control, block and write subsystems, as `docs/protocol.md` gives them, and what is done to a
//! block before it is sent.
//!
//! Both sides are hostile input to each other: a frame's length is bounded before anything is allocated for it.

pub mod block;
pub mod control;
pub mod frame;
pub mod place;
pub mod rule;

#[cfg(test)]
mod document;

/// The version of both subsystems' protocol.
pub const PROTOCOL: u32 = 1;
/// The control subsystem's name.
pub const CONTROL_SUBSYSTEM: &str = "stackferry-control";
/// The subsystem by which a new file is written.
pub const WRITE_SUBSYSTEM: &str = "stackferry-write";
/// The feature of an endpoint that has it.
pub const WRITE_FEATURE: &str = "write";
/// The block subsystem's name.
pub const BLOCK_SUBSYSTEM: &str = "stackferry-blocks";
