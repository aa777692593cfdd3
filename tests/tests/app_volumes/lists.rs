//! What is found, and which requests find it.

use stackferry_discover::app_volumes::{Report, VolumeFamily};
use stackferry_tests::avm::{AvmList, AvmVersion};
use stackferry_volume::Kind;

use super::support::*;

const ALL: [AvmVersion; 3] = [AvmVersion::V2_6, AvmVersion::V2_17, AvmVersion::V4_15];

fn places(report: &Report, family: VolumeFamily, name: &str) -> Vec<String> {
    let mark = |flag: Option<bool>| flag.map_or('?', |flag| if flag { 'y' } else { 'n' });
    let places = volume(report, family, name).places.iter();
    places
        .map(|at| {
            format!(
                "[{}] {}|{} reach:{} miss:{}",
                at.datastore,
                at.folder,
                at.file,
                mark(at.reachable),
                mark(at.missing)
            )
        })
        .collect()
}

#[test]
fn every_volume_of_each_version_is_found_with_its_locations() {
    for version in ALL {
        for nested in [false, true] {
            let mut site = site(version);
            site.nested_version = nested;
            let double = stackferry_tests::avm::AppVolumesDouble::start(site).unwrap();
            let report = look(&manager(&double), 0);
            assert!(report.complete && report.problems.is_empty(), "{:?}", report.problems);
            assert_eq!(report.volumes.len(), if version.is_four() { 5 } else { 4 });
            assert_eq!((report.manager.as_str(), report.site.0.as_str(), report.observed), ("avm1", "dc1", at(0)));

            let rnd = volume(&report, VolumeFamily::AppStack, "R&D <beta>");
            assert_eq!((rnd.guid.as_deref(), rnd.kind, rnd.attached), (Some(OFFICE), Kind::Appstack, Some(true)));
            assert_eq!(rnd.revision, "capture_version=2.10.0.709;agent_version=2.10.0.709U;provision_duration=61");
            assert_eq!((rnd.status.word.as_str(), rnd.size_mib), ("enabled", Some(78)));
            let assigned = &rnd.assignments[0];
            assert_eq!((assigned.entity_type.as_str(), assigned.mount_prefix.as_deref()), ("Group", Some("VDI-")));
            assert_eq!(assigned.entity, "CN=Staff,OU=Groups,DC=corp,DC=example");
            assert_eq!(
                places(&report, VolumeFamily::AppStack, "R&D <beta>"),
                [
                    "[nfs01] cloudvolumes/apps|R!26!D.vmdk reach:y miss:n",
                    "[replica] cloudvolumes/apps|R!26!D.vmdk reach:y miss:n",
                ]
            );
            assert_eq!(
                places(&report, VolumeFamily::AppStack, "Google Chrome"),
                ["[vmfs01] cloudvolumes/apps|Google!20!Chrome.vmdk reach:y miss:y"]
            );

            let jdoe = volume(&report, VolumeFamily::Writable, r"CORP\jdoe");
            let owner = jdoe.owner.as_ref().unwrap();
            assert_eq!((owner.name.as_str(), owner.upn.as_deref()), (r"CORP\jdoe", Some("jdoe@corp.example")));
            assert_eq!((jdoe.owner_type.as_deref(), jdoe.attached), (Some("User"), Some(true)));
            assert_eq!(jdoe.guid.as_deref(), Some(JDOE));
            assert_eq!(jdoe.places[0].machine_manager.as_deref(), Some("vc1.corp.example"));
            assert_eq!(volume(&report, VolumeFamily::Writable, r"CORP\asmith").attached, Some(false));
            assert!(double.write_requests().is_empty() && double.writes().is_empty());
            assert_eq!(double.logins(), (1, 0));
        }
    }
}

#[test]
fn a_package_has_application_stage_marker_and_assignments() {
    let double = start(AvmVersion::V4_15);
    let report = look(&manager(&double), 0);
    assert_eq!(report.version, "4.15.0.687");
    let notepad = volume(&report, VolumeFamily::Package, "Notepad++");
    assert_eq!((notepad.product.as_deref(), notepad.stage.as_deref()), (Some("Notepad"), Some("Published")));
    assert_eq!((notepad.current, notepad.version.as_deref()), (Some(true), Some("1.0")));
    assert_eq!(notepad.guid.as_deref(), Some(NOTEPAD));
    assert_eq!(notepad.assignments[0].entity, "CN=J. Doe,DC=corp,DC=example");
    assert_eq!(
        places(&report, VolumeFamily::Package, "Notepad++"),
        [
            "[nfs01] appvolumes/packages|Notepad!2B!!2B!.vmdk reach:y miss:n",
            "[replica] appvolumes/packages|Notepad!2B!!2B!.vmdk reach:y miss:n",
        ]
    );
    // Numbers are unique within a list only.
    assert_eq!(report.volumes.iter().filter(|volume| volume.at.id == 1).count(), 3);
}

#[test]
fn datastores_groups_and_folders_are_listed() {
    let double = start(AvmVersion::V4_15);
    let report = look(&manager(&double), 0);
    let stores: Vec<_> = report
        .datastores
        .iter()
        .map(|store| (store.name.as_str(), store.kind.as_deref(), store.attachable, store.accessible))
        .collect();
    assert_eq!(
        stores,
        [
            ("nfs01", Some("NFS41"), Some(true), Some(true)),
            ("replica", Some("NFS"), Some(false), Some(true)),
            ("vmfs01", Some("VMFS"), Some(true), Some(true)),
        ]
    );
    let group = &report.groups[0];
    assert_eq!((group.name.as_str(), group.auto_import, group.auto_replicate), ("Apps", true, true));
    assert_eq!(group.members, ["nfs01", "replica"]);
    for (folder, kind) in [
        ("cloudvolumes/apps", Kind::Appstack),
        ("appvolumes/packages", Kind::Package),
        ("appvolumes/packages_templates", Kind::Template),
        ("appvolumes/writables", Kind::Writable),
    ] {
        assert!(report.folders.contains(&(folder.to_owned(), kind)), "{folder}");
    }
    assert!(report.folders.iter().all(|(folder, _)| !folder.contains("backup") && !folder.contains("archive")));
    let old = look(&manager(&start(AvmVersion::V2_6)), 0);
    assert_eq!(old.datastores[1].accessible, Some(false), "an absent storage is not accessible");
}

#[test]
fn appstacks_of_a_newer_manager_are_queried_if_it_has_any() {
    for (shows, asked, found) in [(Some(true), 1, 5), (Some(false), 0, 3), (None, 1, 5)] {
        let mut site = site(AvmVersion::V4_15);
        site.shows_appstacks = shows;
        let double = stackferry_tests::avm::AppVolumesDouble::start(site).unwrap();
        let report = look(&manager(&double), 0);
        assert_eq!((report.volumes.len(), report.complete), (found, true), "{shows:?}");
        assert_eq!(double.count("GET /cv_api/appstacks"), asked, "{shows:?}");
        if shows.is_none() {
            // It has no such list, and can't tell: that is no problem.
            double.fail("/cv_api/appstacks", stackferry_tests::avm::AvmFault::NotFound);
            let report = look(&manager(&double), 0);
            assert_eq!((report.volumes.len(), report.complete, report.problems.len()), (3, true, 0));
        }
    }
}

#[test]
fn a_detail_is_fetched_once_and_again_after_a_change() {
    for version in [AvmVersion::V2_17, AvmVersion::V4_15] {
        let double = start(version);
        double.change(|site| site.named(AvmList::AppStack, "Google Chrome").places[0].missing = false);
        let manager = manager(&double);
        let first = look(&manager, 0);
        let details = if version.is_four() { 5 } else { 4 };
        assert_eq!(double.details(), details, "two for each AppStack, one for a package");
        double.clear();
        assert_eq!(look(&manager, 5).volumes, first.volumes);
        assert_eq!((double.details(), double.count("GET /cv_api/storage_groups/{id}")), (0, 0));

        // Use is no change.
        double.change(|site| {
            let chrome = site.named(AvmList::AppStack, "Google Chrome");
            chrome.mounts += 3;
            chrome.assign("User", "CN=New", "");
            site.named(AvmList::Writable, r"CORP\asmith").attach("VDI-9");
        });
        let report = look(&manager, 10);
        assert_eq!(double.details(), 0);
        assert_eq!(volume(&report, VolumeFamily::Writable, r"CORP\asmith").attached, Some(true));
        assert_eq!(volume(&report, VolumeFamily::AppStack, "Google Chrome").assignments.len(), 1);

        // A change of one asks for that one only.
        double.change(|site| "disabled".clone_into(&mut site.named(AvmList::AppStack, "Google Chrome").status));
        look(&manager, 15);
        let id = first.volumes.iter().find(|volume| volume.name == "Google Chrome").unwrap().at.id;
        let asked: Vec<_> =
            double.requests().into_iter().filter(|asked| asked.is_detail()).map(|asked| asked.path).collect();
        assert_eq!(asked, [format!("/cv_api/appstacks/{id}"), format!("/cv_api/appstacks/{id}/files")]);

        // Attached or not makes a difference, and so does a datastore.
        double.clear();
        double.change(|site| site.named(AvmList::AppStack, "R&D <beta>").attached_to.clear());
        look(&manager, 20);
        assert_eq!(double.details(), 2);
        double.clear();
        double.change(|site| site.storage("vmfs01", "VMFS", true).present = false);
        let report = look(&manager, 25);
        assert_eq!(double.details(), details);
        assert_eq!(report.datastores.iter().find(|store| store.name == "vmfs01").unwrap().accessible, Some(false));

        // After an hour all is asked again.
        double.clear();
        look(&manager, 84);
        assert_eq!(double.details(), 0);
        look(&manager, 85);
        assert_eq!(double.details(), details);
    }
}

#[test]
fn a_missing_file_is_searched_again_sooner() {
    let double = start(AvmVersion::V2_17);
    let manager = manager(&double);
    look(&manager, 0);
    double.clear();
    look(&manager, 9);
    assert_eq!(double.details(), 0);
    double.change(|site| site.named(AvmList::AppStack, "Google Chrome").places[0].missing = false);
    let report = look(&manager, 10);
    assert_eq!(double.details(), 2);
    assert_eq!(volume(&report, VolumeFamily::AppStack, "Google Chrome").places[0].missing, Some(false));
}

#[test]
fn a_change_during_a_scan_shows_in_the_next_scan() {
    let double = start(AvmVersion::V4_15);
    let manager = manager(&double);
    let before = volume(&look(&manager, 0), VolumeFamily::Package, "Notepad++").revision.clone();
    double.change(|site| {
        site.remove(AvmList::AppStack, "Google Chrome");
        site.named(AvmList::AppStack, "R&D <beta>").name = "R&D".to_owned();
        site.named(AvmList::Writable, r"CORP\jdoe").detach().guid = CHROME.to_owned();
        let notepad = site.named(AvmList::Package, "Notepad++");
        notepad.captures += 1;
        "Retired".clone_into(&mut notepad.stage);
        site.package("Notepad", "Notepad++ 8.5", "nfs01", "appvolumes/packages/N85.vmdk", CHROME).provisioning = true;
        site.mark_current("Notepad++ 8.5");
        site.named(AvmList::Writable, r"CORP\asmith").busy = true;
        site.named(AvmList::Writable, r"CORP\asmith").doing = Some("Moving".to_owned());
    });
    let report = look(&manager, 1);
    assert!(report.volumes.iter().all(|volume| volume.name != "Google Chrome" && volume.name != "R&D <beta>"));
    assert_eq!(volume(&report, VolumeFamily::AppStack, "R&D").guid.as_deref(), Some(OFFICE));
    let jdoe = volume(&report, VolumeFamily::Writable, r"CORP\jdoe");
    assert_eq!((jdoe.attached, jdoe.guid.as_deref()), (Some(false), Some(CHROME)));
    let old = volume(&report, VolumeFamily::Package, "Notepad++");
    assert_eq!((old.current, old.stage.as_deref()), (Some(false), Some("Retired")));
    assert_ne!(old.revision, before);
    let new = volume(&report, VolumeFamily::Package, "Notepad++ 8.5");
    assert_eq!((new.current, new.status.provisioning), (Some(true), true));
    let status = &volume(&report, VolumeFamily::Writable, r"CORP\asmith").status;
    assert_eq!((status.busy, status.doing.as_deref()), (true, Some("Moving")));
}
