//! The wire format: the frames of the control, block and write subsystems, as documented in `docs/protocol.md`, and the
//! compression of blocks.
//!
//! Each side treats the other as hostile: a frame's length is bounded before anything is allocated for it.

pub mod block;
pub mod compression;
pub mod control;
pub mod frame;
pub mod upload;

/// The version of the subsystems' protocol.
pub const PROTOCOL: u32 = 1;
/// The control subsystem's name.
pub const CONTROL_SUBSYSTEM: &str = "stackferry-control";
/// The subsystem that writes a new file.
pub const WRITE_SUBSYSTEM: &str = "stackferry-write";
/// The feature of an endpoint that has it.
pub const WRITE_FEATURE: &str = "write";
/// The block subsystem's name.
pub const BLOCK_SUBSYSTEM: &str = "stackferry-blocks";
