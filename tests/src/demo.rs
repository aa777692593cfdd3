//! The demonstration: a site is built, protected and restored by real processes, and every step is judged.
//!
//! What it prints is for a person; whether it succeeded is told by the exit code too.

use std::fmt;
use std::path::Path;

use serde_json::Value;

mod chaos;
mod long;
mod look;
mod manager;
mod once;
mod soak;
mod stay;

pub use chaos::chaos;
pub use long::long;
pub use once::once;
pub use soak::soak;
pub use stay::stay;

use crate::error::LabError;
use crate::lab::{Endpoint, Lab};
use crate::site::{Location, Site, SitePlan, Volume};

/// The datastore that is mounted here.
const LOCAL: &str = "nfs01";
/// The datastore behind the endpoint.
const REMOTE: &str = "nfs02";

/// What all demonstrations begin with.
struct Stage {
    // Before the lab, so that its process ends before the lab's folder goes.
    endpoint: Endpoint,
    site: Site,
    lab: Lab,
}

impl Stage {
    /// Builds a site whose first datastore is mounted here, and whose second is served by an endpoint.
    fn build(program: &Path, keep: Option<&Path>, plan: &SitePlan) -> Result<Self, LabError> {
        let mut lab = match keep {
            Some(folder) => Lab::keep(program, folder)?,
            None => Lab::new(program)?,
        };
        let site = Site::build(&lab.path("site"), plan)?;
        let endpoint = lab.serve(&[REMOTE])?;
        lab.add_local(LOCAL)?;
        lab.add_endpoint(REMOTE, &endpoint)?;
        Ok(Self { endpoint, site, lab })
    }

    fn say_where(&self, keep: Option<&Path>) {
        if keep.is_some() {
            say(format_args!("everything is kept in {}", self.lab.root().display()));
        }
    }
}

/// Prints a line.
fn say(line: impl fmt::Display) {
    use std::io::Write;
    // A reader that went away is no reason to stop halfway.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints the title of a step.
fn step(title: impl fmt::Display) {
    say(format_args!("\n== {title}"));
}

/// Fails with a reason unless a condition holds.
fn expect(holds: bool, why: impl FnOnce() -> String) -> Result<(), LabError> {
    if holds { Ok(()) } else { Err(LabError::Wrong(why())) }
}

/// Bytes as a person reads them.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether a listed volume is said to lie at a location.
fn lies_at(listed: &Value, location: &Location) -> bool {
    list(listed, "locations")
        .iter()
        .any(|place| text(place, "datastore") == location.datastore && text(place, "path") == location.path)
}

/// The id under which a volume of the site is listed.
fn id_of(listed: &[Value], volume: &Volume) -> Result<String, LabError> {
    let found = listed.iter().find(|one| volume.locations.iter().all(|location| lies_at(one, location)));
    let found = found.ok_or_else(|| LabError::Wrong(format!("{}/{} is not listed", volume.kind, volume.stem)))?;
    Ok(text(found, "id").to_owned())
}

/// The volume of the site with a disk on this datastore.
fn volume_on<'a>(
    site: &'a Site,
    kind: &str,
    stem: &str,
    datastore: &str,
) -> Result<(&'a Volume, &'a Location), LabError> {
    let found = site.find(kind, stem).find_map(|volume| {
        let location = volume.locations.iter().find(|location| location.datastore == datastore)?;
        Some((volume, location))
    });
    found.ok_or_else(|| LabError::Wrong(format!("the site has no {kind}/{stem} on {datastore}")))
}
