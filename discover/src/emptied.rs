//! A datastore that skip volumes and holds nothing at all now: that is what a mount point looks like whose file system is
//! not mounted, and an export whose content was moved away.
//!
//! An empty answer proves nothing. Only where App Volumes, too, keeps no volume there any more, they are gone.

use stackferry_volume::reason::shown;

use crate::problem::{ProblemCode, ScanProblem};
use crate::scan::Scan;
use crate::snapshot::ManagerView;
use crate::volume::KnownVolume;

/// Lets scans that found nothing where volumes were count as ones that looked at nothing.
pub fn distrust(scans: &mut [Scan], known: &[KnownVolume], managers: &[ManagerView]) {
    for scan in scans.iter_mut().filter(|scan| scan.reachable) {
        if !scan.observations.is_empty() || scan.others.count > 0 {
            continue;
        }
        let is_here = |volume: &&KnownVolume| {
            let here = |location: &stackferry_volume::Location| {
                location.site == scan.site && location.datastore == scan.datastore && scan.covers(location.folder())
            };
            !volume.is_gone && volume.locations.iter().any(here)
        };
        let count = known.iter().filter(is_here).count();
        if count == 0 || is_confirmed(scan, managers) {
            continue;
        }
        scan.complete = false;
        scan.looked_at.clear();
        let volumes = if count == 1 { "1 volume was".to_owned() } else { format!("{count} volumes were") };
        scan.problems.push(ScanProblem {
            code: ProblemCode::Emptied,
            subject: format!("[{}]", shown(&scan.datastore)),
            text: format!("it is empty, and {volumes} there before: nothing of it counts as deleted"),
            hint: "See that its file system is mounted. If its volumes were deleted on purpose, take the datastore out of \
                   the configuration; their versions are kept."
                .to_owned(),
        });
    }
}

/// Whether a manager that knows the datastore, and told all, keeps no volume there.
fn is_confirmed(scan: &Scan, managers: &[ManagerView]) -> bool {
    let reports = managers.iter().filter(|view| view.site == scan.site).filter_map(|view| view.report.as_ref().ok());
    let mut knowing = reports
        .filter(|report| report.complete && report.datastores.iter().any(|one| one.name == scan.datastore))
        .peekable();
    let keeps = |datastore: &str| datastore == scan.datastore;
    knowing.peek().is_some()
        && knowing
            .all(|report| !report.volumes.iter().flat_map(|volume| &volume.places).any(|place| keeps(&place.datastore)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stackferry_volume::{Generation, Kind, VolumeId};

    use super::*;
    use crate::cache::DescriptorCache;
    use crate::fake_folder::{FakeFolder, now};
    use crate::scan::scan;

    #[test]
    fn a_datastore_that_is_empty_at_once_is_not_believed() {
        let folder = Arc::new(FakeFolder::default());
        folder.volume("cloudvolumes/apps/Office", 1);
        let view = folder.view("nfs01", &["cloudvolumes/apps"]);
        let look = || scan(&view, &DescriptorCache::default(), now());
        let location = look().observations[0].at.location.clone();
        let volume = |is_gone| KnownVolume {
            id: "appstack/Office".parse::<VolumeId>().unwrap(),
            kind: Kind::Appstack,
            stem: stackferry_volume::FileName::new("Office").unwrap(),
            generation: Generation::FIRST,
            guid: None,
            locations: vec![location.clone()],
            content: None,
            is_gone,
        };
        let judged = |known: &[KnownVolume]| {
            let mut scans = [look()];
            distrust(&mut scans, known, &[]);
            (scans[0].complete, scans[0].covers("cloudvolumes/apps"))
        };
        assert_eq!(judged(&[volume(false)]), (true, true), "it is there");
        for file in ["Office.vmdk", "Office-flat.vmdk", "Office.vmdk.metadata"] {
            folder.remove(&format!("cloudvolumes/apps/{file}"));
        }
        assert_eq!(judged(&[volume(false)]), (false, false));
        assert_eq!(judged(&[volume(true)]), (true, true), "it was gone before");
        assert_eq!(judged(&[]), (true, true), "nothing was there");
        folder.file("cloudvolumes/apps/readme.txt", 1, b"");
        assert_eq!(judged(&[volume(false)]), (true, true), "something else is there, so it is mounted");
    }
}
