//! The wire: the frames of the control and block subsystems, as `docs/protocol.md` gives them, and what is done to a
//! block before it is sent.
//!
//! Both sides are hostile input to each other: a frame's length is bounded before anything is allocated for it.

pub mod block;
pub mod control;
pub mod frame;
pub mod rule;

#[cfg(test)]
mod document;

/// The version of both subsystems' protocol.
pub const PROTOCOL: u32 = 1;
/// The control subsystem's name.
pub const CONTROL_SUBSYSTEM: &str = "stackferry-control";
/// The block subsystem's name.
pub const BLOCK_SUBSYSTEM: &str = "stackferry-blocks";
