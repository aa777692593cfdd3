//! The part of a demonstration that has an App Volumes Manager: its answers decide what is copied, and when.

use std::path::Path;

use serde_json::Value;

use super::listed::{expect, list, text};
use super::print::{print, step};
use crate::avm::{AppVolumesDouble, AvmList, AvmSite, AvmVersion};
use crate::check::same_files;
use crate::disk::{DiskContent, DiskSpec, Sidecar, TestDisk};
use crate::error::LabError;
use crate::lab::Lab;

const DATASTORE: &str = "nfs01";
const OFFICE: &str = "appstack/Office";
const ZIP: &str = "package/Zip";
const JDOE: &str = "writable/CORP!5C!jdoe";
const USER: &str = r"CORP\jdoe";
const MIB: u64 = 1 << 20;

/// A site with a manager of 4.x: an AppStack, a package that lies on vSAN only, and a writable whose user is logged on.
///
/// # Errors
/// What went wrong.
pub(super) fn manager(program: &Path) -> Result<(), LabError> {
    step("beside an App Volumes Manager: stackferry run --once");
    let mut lab = Lab::new(program)?;
    let build = |folder: &str, stem: &str, seed: u64| {
        let spec = DiskSpec::new(stem, 256 * MIB, seed).content(DiskContent::Plain { bytes: 4 * MIB });
        TestDisk::build(&lab.folder(DATASTORE, folder)?, spec.sidecar(Sidecar::Metadata))
    };
    // A folder of its own, which nobody configured: the manager reports it.
    build("AppVolumes/apps", "Office", 1)?;
    let disk = build("appvolumes/writables", "CORP!5C!jdoe", 2)?;
    let mut site = AvmSite::new(AvmVersion::V4_15);
    let office = "AppVolumes/apps/Office.vmdk";
    site.storage("vsan01", "vsan", true);
    site.appstack("Office", "vsan01", office, "9b1b40b0-e2f8-4fe6-b743-c55be9c2e001").also_at(DATASTORE, office);
    site.package("Zip", "Zip", "vsan01", "appvolumes/packages/Zip.vmdk", "9b1b40b0-e2f8-4fe6-b743-c55be9c2e002");
    let path = "appvolumes/writables/CORP!5C!jdoe.vmdk";
    site.writable(USER, DATASTORE, path, "9b1b40b0-e2f8-4fe6-b743-c55be9c2e003").attach("VDI-042");
    let double = AppVolumesDouble::start(site)?;
    lab.add_local(DATASTORE)?;
    lab.add_app_volumes("avm1", None, &double)?;

    round(&lab, 3, &[(OFFICE, "copied"), (ZIP, "unprotectable"), (JDOE, "deferred")])?;
    print(format_args!("  {USER} logs off"));
    double.change(|site| {
        site.named(AvmList::Writable, USER).detach();
    });
    round(&lab, 0, &[(OFFICE, "unchanged"), (ZIP, "unprotectable"), (JDOE, "copied")])?;
    same_files(&disk.files(), &lab.restore(JDOE, "restored")?)?;
    let writing = double.write_requests();
    expect(writing.is_empty(), || format!("something was changed at the manager: {writing:?}"))?;
    print("  the manager was read, and nothing was changed there");
    Ok(())
}

/// One round, shown and judged: its exit code, and what became of each volume.
fn round(lab: &Lab, code: i32, expected: &[(&str, &str)]) -> Result<(), LabError> {
    let answer = lab.run(&["run", "--once"])?.expect_code(code)?.json()?;
    let volumes = list(&answer, "volumes");
    for one in volumes {
        let why = one.get("reason").map_or("", |reason| text(reason, "text"));
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        print(format_args!("  {}  {}{why}", text(one, "volume"), text(one, "outcome")));
    }
    let found: Vec<(&str, &str)> =
        volumes.iter().map(|one: &Value| (text(one, "volume"), text(one, "outcome"))).collect();
    expect(found == expected, || format!("{expected:?} was expected: {answer}"))
}
