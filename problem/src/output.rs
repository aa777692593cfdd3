//! How answers of commands are printed: as tables for people, as JSON for scripts.
//!
//! Sizes are bytes and times RFC 3339 in UTC in JSON. Tables show sizes as people read them, times in the local zone, and
//! no text from outside with its control characters.

mod table;

use std::io::{self, Write};

use serde::Serialize;

pub use table::{Grid, Side, Style, escape, fields, none, or_none, size, yes};

/// How answers are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Table,
    /// For scripts: one line of JSON.
    Json,
}

impl clap::ValueEnum for OutputFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[OutputFormat::Table, OutputFormat::Json]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(match self {
            OutputFormat::Table => "table",
            OutputFormat::Json => "json",
        }))
    }
}

/// An answer of a command.
pub trait View: Serialize {
    /// The answer for a person: lines, each ended.
    fn table(&self, style: &Style) -> String;
}

/// Prints an answer, times in the local zone.
///
/// # Errors
/// Those of `out`.
pub fn print<V: View + ?Sized>(view: &V, format: OutputFormat, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    print_styled(view, format, &Style::local(), out)
}

/// Prints an answer in a style.
///
/// # Errors
/// Those of `out`.
pub fn print_styled<V: View + ?Sized>(
    view: &V,
    format: OutputFormat,
    style: &Style,
    out: &mut (impl Write + ?Sized),
) -> io::Result<()> {
    match format {
        OutputFormat::Table => out.write_all(view.table(style).as_bytes())?,
        OutputFormat::Json => {
            serde_json::to_writer(&mut *out, view)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()
}

/// A duration as JSON tells it: seconds, to the millisecond.
#[must_use]
pub fn seconds(took: std::time::Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}
