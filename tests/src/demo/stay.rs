//! The lab that stays up: the service runs its rounds, and now and then something new appears on the datastores.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::listed::{number, text};
use super::print::{print, step};
use super::stage::{DemoStage, LOCAL, REMOTE};
use crate::disk::{DiskContent, DiskSpec, Sidecar, TestDisk};
use crate::error::LabError;
use crate::lab::{is_stopped, wait_for};
use crate::site::SitePlan;

/// How often the service scans.
const EVERY: &str = "2s";
/// How often something changes on the datastores.
const CHANGE: Duration = Duration::from_secs(10);
/// How often the lab polls what is protected.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Builds a small site, lets the service protect it, and changes it now and then until the lab is stopped.
///
/// # Errors
/// What went wrong.
pub fn stay(program: &Path, keep: Option<&Path>) -> Result<(), LabError> {
    step("a small App Volumes site that changes");
    let mut stage = DemoStage::build(program, keep, &SitePlan::small())?;
    stage.lab.config.set("schedule.every", EVERY);
    let config = stage.lab.write_config()?;
    let mut service = stage.lab.spawn(&["run"])?;
    print(format_args!(
        "  the service scans every {EVERY}; see for yourself: stackferry --config {} volumes",
        config.display()
    ));
    print("  every 10 s an AppStack appears or a writable changes; Ctrl-C ends it");

    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let began = Instant::now();
    let mut next_change = Instant::now() + CHANGE;
    let mut changes = 0;
    let result = loop {
        if is_stopped() {
            break Ok(());
        }
        if service.has_ended()? {
            break Err(LabError::Wrong(format!("the service has ended: {}", service.stderr())));
        }
        if Instant::now() >= next_change {
            next_change += CHANGE;
            changes += 1;
            print(format_args!("{:>6.1} s  {}", began.elapsed().as_secs_f64(), change(&mut stage, changes)?));
        }
        let volumes = stage.lab.run_json(&["volumes"])?;
        for volume in volumes.as_array().into_iter().flatten() {
            print_changes(volume, &mut seen, began);
        }
        let until = Instant::now() + POLL_INTERVAL;
        match wait_for("the next poll", POLL_INTERVAL * 2, || Ok(Instant::now() >= until)) {
            Ok(()) | Err(LabError::Stopped) => {}
            Err(error) => break Err(error),
        }
    };
    crate::lab::resume();
    service.terminate(Duration::from_secs(60))?.expect_code(0)?;
    stage.endpoint.terminate()?.expect_code(0)?;
    print(format_args!("\nended; {} volumes were protected", seen.len()));
    stage.print_folder(keep);
    result
}

/// Prints a volume with more versions than before.
fn print_changes(volume: &Value, seen: &mut BTreeMap<String, u64>, began: Instant) {
    let (id, versions) = (text(volume, "id"), number(volume, "versions"));
    let before = seen.get(id).copied().unwrap_or(0);
    if versions > before {
        print(format_args!(
            "{:>6.1} s  protected: {id}, version {} ({versions} in all)",
            began.elapsed().as_secs_f64(),
            text(volume, "last_version")
        ));
        seen.insert(id.to_owned(), versions);
    }
}

/// Changes something, and says what.
fn change(stage: &mut DemoStage, number: u64) -> Result<String, LabError> {
    if number.is_multiple_of(2) {
        let (kind, stem) = ("writable", "CORP!5C!mkeller");
        if let Some(disk) = stage.site.disk_mut(LOCAL, kind, stem) {
            disk.overwrite(number, 8 << 20, 256 << 10)?;
        }
        return Ok(format!("changed:   {kind}/{stem} on {LOCAL}"));
    }
    let stem = format!("App{number:03}");
    let datastore = if number % 4 == 1 { REMOTE } else { LOCAL };
    let folder = stage.lab.folder(datastore, "cloudvolumes/apps")?;
    let spec = DiskSpec::new(&stem, 256 << 20, 1000 + number).content(DiskContent::Plain { bytes: 4 << 20 });
    TestDisk::build(&folder, spec.sidecar(Sidecar::Metadata))?;
    Ok(format!("new:       appstack/{stem} on {datastore}"))
}
