//! The `stackferry` program.
fn main() {}
