//! What the demonstration reads from output and vault, to judge and to show it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::listed::{expect, id_of, lies_at, list, number, text};
use super::print::{print, size};
use crate::error::{IoContext, LabError};
use crate::expect::Expect;
use crate::site::TestSite;

/// Shows what `discover` lists, and holds it against what the site was built to be.
pub(super) fn judge_inventory(site: &TestSite, listed: &[Value]) -> Result<(), LabError> {
    for volume in &site.volumes {
        let name = format!("{}/{}", volume.kind, volume.stem);
        let found: Vec<&Value> =
            listed.iter().filter(|one| volume.locations.iter().all(|place| lies_at(one, place))).collect();
        let [found] = found.as_slice() else {
            return Err(LabError::Wrong(format!("{name} ({}) is listed {} times", volume.note, found.len())));
        };
        let reason = found.get("reason").map_or("", |reason| text(reason, "code"));
        let protectable = found.get("protectable").and_then(Value::as_bool) == Some(true);
        let as_expected = protectable == volume.expect.protectable() && volume.expect.reason().unwrap_or("") == reason;
        expect(as_expected, || {
            format!("{name} ({}) should be {}, and is listed as {found}", volume.note, volume.expect)
        })?;
        expect(text(found, "kind") == volume.kind || !protectable, || format!("{name} is listed as {found}"))?;
    }
    expect(listed.len() == site.volumes.len(), || {
        let known: Vec<String> = site.volumes.iter().filter_map(|volume| id_of(listed, volume).ok()).collect();
        let others: Vec<&str> =
            listed.iter().map(|one| text(one, "id")).filter(|id| !known.iter().any(|known| known == id)).collect();
        format!("{} volumes are listed that are none: {}", others.len(), others.join(", "))
    })
}

/// Shows the volumes that can be copied, then those that can't, with why and what to do.
pub(super) fn show_inventory(listed: &[Value]) {
    let wide = listed.iter().map(|one| text(one, "id").chars().count()).max().unwrap_or(0);
    let can = |one: &&Value| one.get("protectable").and_then(Value::as_bool) == Some(true);
    for one in listed.iter().filter(can) {
        let places: Vec<String> = list(one, "locations")
            .iter()
            .map(|place| format!("[{}] {}", text(place, "datastore"), text(place, "path")))
            .collect();
        let bytes = size(number(one, "size_bytes"));
        print(format_args!("  {:wide$}  {bytes:>9}  {}", text(one, "id"), places.join("  =  ")));
    }
    let cannot: Vec<&Value> = listed.iter().filter(|one| !can(one)).collect();
    print(format_args!("  can't be protected, and why:"));
    for one in cannot {
        let reason = one.get("reason").unwrap_or(&Value::Null);
        print(format_args!("  {:wide$}  {}: {}", text(one, "id"), text(reason, "code"), text(reason, "text")));
        let remedy = text(one, "remedy");
        if !remedy.is_empty() {
            print(format_args!("  {:wide$}  -> {remedy}", ""));
        }
    }
}

/// What was copied by one route.
#[derive(Debug, Default)]
struct Sum {
    volumes: u64,
    credentials: u64,
    bytes: BTreeMap<&'static str, u64>,
    seconds: f64,
}

const COUNTED: [&str; 5] = ["logical", "read", "zero", "wire", "stored"];

/// The manifests of all versions in a vault.
pub(super) fn manifests(vault: &Path) -> Result<Vec<Value>, LabError> {
    let mut found = Vec::new();
    let mut folders = vec![(vault.join("volumes"), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).at("list", &folder)? {
            let path = entry.at("list", &folder)?.path();
            if !path.is_dir() {
                continue;
            }
            if depth < 2 {
                folders.push((path, depth + 1));
                continue;
            }
            let path = path.join("manifest.json");
            let text = fs::read(&path).at("read", &path)?;
            let json = serde_json::from_slice(&text);
            found.push(json.map_err(|error| LabError::Content { path, why: error.to_string() })?);
        }
    }
    Ok(found)
}

/// Shows what was copied by each route, from the manifests that are not in `before`.
pub(super) fn show_copies(manifests: &[Value]) {
    let mut routes: BTreeMap<&str, Sum> = BTreeMap::new();
    for manifest in manifests {
        let sum = routes.entry(text(manifest, "route")).or_default();
        sum.volumes += 1;
        sum.credentials += number(manifest, "credentials");
        let bytes = manifest.get("bytes").unwrap_or(&Value::Null);
        for key in COUNTED {
            *sum.bytes.entry(key).or_default() += number(bytes, key);
        }
        let time = |key: &str| text(manifest, key).parse::<jiff::Timestamp>().unwrap_or_default();
        sum.seconds += time("ended").duration_since(time("started")).as_secs_f64();
    }
    print(format_args!(
        "  {:10}{:>8}{:>12}{:>11}{:>11}{:>11}{:>11}{:>11}{:>9}",
        "route", "volumes", "credentials", "size", "read", "zero", "wire", "stored", "seconds"
    ));
    for (route, sum) in routes {
        let bytes = |key: &str| size(sum.bytes.get(key).copied().unwrap_or_default());
        print(format_args!(
            "  {route:10}{:>8}{:>12}{:>11}{:>11}{:>11}{:>11}{:>11}{:>9.2}",
            sum.volumes,
            sum.credentials,
            bytes("logical"),
            bytes("read"),
            bytes("zero"),
            bytes("wire"),
            bytes("stored"),
            sum.seconds
        ));
    }
}

/// How many volumes of a site can be copied now.
pub(super) fn copyable(site: &TestSite) -> u64 {
    site.volumes.iter().filter(|volume| volume.expect == Expect::Protectable).count() as u64
}
