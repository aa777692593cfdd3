//! One minute of kills, full disks and failing calls, from a fixed seed. `tests/run --chaos MINUTES` does the same for
//! longer and from another seed.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use stackferry_tests::demo;

#[test]
fn one_minute_of_chaos_breaks_no_guarantee() {
    demo::chaos(Path::new(env!("CARGO_BIN_EXE_stackferry-lab")), None, 1, 1).unwrap();
}
