//! A site with a little of everything, and a client for it.

use std::future::Future;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use stackferry_config::{AppVolumes, Secret};
use stackferry_discover::app_volumes::{ManagedVolume, Manager, Report, RequestTimeouts, VolumeFamily};
use stackferry_tests::avm::{AppVolumesDouble, AvmSite, AvmVersion};
use stackferry_volume::SiteName;

pub(crate) const OFFICE: &str = "9b1b40b0-e2f8-4fe6-b743-c55be9c2e001";
pub(crate) const CHROME: &str = "9b1b40b0-e2f8-4fe6-b743-c55be9c2e002";
pub(crate) const NOTEPAD: &str = "9b1b40b0-e2f8-4fe6-b743-c55be9c2e003";
pub(crate) const JDOE: &str = "9b1b40b0-e2f8-4fe6-b743-c55be9c2e004";
pub(crate) const ASMITH: &str = "9b1b40b0-e2f8-4fe6-b743-c55be9c2e005";

/// Every list has something in it.
pub(crate) fn site(version: AvmVersion) -> AvmSite {
    let mut site = AvmSite::new(version);
    site.storage("nfs01", "NFS41", true);
    site.storage("vmfs01", "VMFS", true);
    site.storage("replica", "NFS", false).present = version != AvmVersion::V2_6;
    site.group("Apps", &["nfs01", "replica"], true, true);
    site.appstack("R&D <beta>", "nfs01", "cloudvolumes/apps/R!26!D.vmdk", OFFICE)
        .also_at("replica", "cloudvolumes/apps/R!26!D.vmdk")
        .assign("Group", "CN=Staff,OU=Groups,DC=corp,DC=example", "VDI-")
        .attach(r"CORP\VDI-7$");
    site.appstack("Google Chrome", "vmfs01", "cloudvolumes/apps/Google!20!Chrome.vmdk", CHROME).places[0].missing =
        true;
    if version.is_four() {
        site.package("Notepad", "Notepad++", "nfs01", "appvolumes/packages/Notepad!2B!!2B!.vmdk", NOTEPAD)
            .also_at("replica", "appvolumes/packages/Notepad!2B!!2B!.vmdk")
            .assign("User", "CN=J. Doe,DC=corp,DC=example", "");
        "Published".clone_into(&mut site.named(stackferry_tests::avm::AvmList::Package, "Notepad++").stage);
        site.mark_current("Notepad++");
    }
    let folder = if version.is_four() { "appvolumes/writables" } else { "cloudvolumes/writable" };
    site.writable(r"CORP\jdoe", "vmfs01", &format!("{folder}/CORP!5C!jdoe.vmdk"), JDOE).attach(r"CORP\VDI-7$");
    site.writable(r"CORP\asmith", "vmfs01", &format!("{folder}/CORP!5C!asmith.vmdk"), ASMITH);
    site
}

pub(crate) fn start(version: AvmVersion) -> AppVolumesDouble {
    AppVolumesDouble::start(site(version)).unwrap()
}

/// The entry of a configuration.
pub(crate) fn entry(double: &AppVolumesDouble, trust: serde_json::Value) -> AppVolumes {
    let mut entry = serde_json::json!({
        "name": "avm1", "url": double.url(), "username": r"CORP\svc-stackferry", "password": { "env": "NOT_ASKED_FOR" },
    });
    entry.as_object_mut().unwrap().extend(trust.as_object().unwrap().clone());
    serde_json::from_value(entry).unwrap()
}

pub(crate) fn manager_with(double: &AppVolumesDouble, password: &str, limits: RequestTimeouts) -> Manager {
    let entry = entry(double, serde_json::json!({ "fingerprint": double.fingerprint() }));
    Manager::new(&entry, SiteName("dc1".to_owned()), Secret::new(password.to_owned()), limits).unwrap()
}

pub(crate) fn manager(double: &AppVolumesDouble) -> Manager {
    let limits = RequestTimeouts { request: Duration::from_secs(30), scan: Duration::from_secs(60) };
    manager_with(double, "right", limits)
}

/// Some minutes after the beginning of the test's own time.
pub(crate) fn at(minutes: i64) -> Timestamp {
    "2026-11-22T08:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) fn look(manager: &Manager, minutes: i64) -> Report {
    run_look(manager, minutes).unwrap()
}

pub(crate) fn run_look(
    manager: &Manager,
    minutes: i64,
) -> Result<Report, stackferry_discover::app_volumes::ManagerError> {
    run(manager.look(at(minutes)))
}

pub(crate) fn volume<'a>(report: &'a Report, family: VolumeFamily, name: &str) -> &'a ManagedVolume {
    let mut all = report.volumes.iter();
    let found = all.find(|volume| volume.at.family == family && volume.name == name);
    found.unwrap_or_else(|| panic!("{name} is not in {:#?}", report.volumes))
}
