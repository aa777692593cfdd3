//! What commands print on stdout: one type for each answer, with the contract's JSON and a table for people.
//!
//! JSON only grows: keys are added, never changed or removed, and a key that has nothing to tell is `null`. Sizes are
//! bytes and times RFC 3339 in UTC there. Tables show sizes as people read them, times in the local zone, and no text
//! from outside with its control characters. Nothing here asks the catalog or the vault for anything.

mod admin;
mod copy;
mod grant;
mod job;
mod notify;
mod prune;
mod table;
mod token;
mod verify;
mod version;
mod volume;

use std::io::{self, Write};

use serde::Serialize;

pub use admin::{AuditVerifyView, AuditView, BrokenRecord, CheckItem, CheckView, PathProblem, PinView, RebuildView};
pub use copy::{CopyView, RunItem, RunOutcome, RunProblem, RunView};
pub use grant::GrantView;
pub use job::{CancelView, ClockView, JobErrorView, JobView, JobsView, PausedView, PausesView};
pub use notify::{NotifyItem, NotifyView};
pub use prune::{HeldItem, PruneItem, PruneView};
pub use table::{Style, escape, size};
pub use token::{NewTokenView, TokenView, TokensView};
pub use verify::{DamageView, RestoreView, VerifyView};
pub use version::{VersionView, VersionsView};
pub use volume::{DiscoverItem, DiscoverView, LocationView, OtherView, ProtectedView, VolumeView, VolumesView};

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
pub(crate) fn seconds(took: std::time::Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}
