//! What a demonstration prints, for a person.

use std::fmt;

/// Prints a line.
pub(super) fn print(line: impl fmt::Display) {
    use std::io::Write;
    // A reader that went away is no reason to stop halfway.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints the title of a step.
pub(super) fn step(title: impl fmt::Display) {
    print(format_args!("\n== {title}"));
}

/// Bytes as a person reads them.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}
