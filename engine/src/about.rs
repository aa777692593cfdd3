//! What this program is: its version, and what it was built from.

/// The program and its version, as it writes itself into manifests.
pub const PROGRAM: &str = concat!("stackferry ", env!("CARGO_PKG_VERSION"));
/// The revision that the program was built from, as 12 hexadecimal digits; `unknown` where the build could not find it.
pub const REVISION: &str = env!("BUILT_FROM_REVISION");
/// The version of the compiler that built it; `unknown` where the build could not find it.
pub const RUSTC: &str = env!("BUILT_BY_RUSTC");
/// What `--version` prints after the name, on one line, as scripts read it; `-V` ends with the version.
pub const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (revision ",
    env!("BUILT_FROM_REVISION"),
    ", rustc ",
    env!("BUILT_BY_RUSTC"),
    ")"
);
