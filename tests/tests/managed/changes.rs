//! New, deleted, moved and recreated volumes show as such within one round, and no version is deleted because of them.

use std::fs;
use std::path::PathBuf;

use stackferry_tests::avm::{AppVolumesDouble, AvmList, AvmSite, AvmVersion};
use stackferry_tests::check::{copy_sparse, same_files};
use stackferry_tests::disk::TestDisk;
use stackferry_tests::lab::Lab;

use super::support::*;

/// Keeps a disk's files as they are now; gives the copies.
fn keep(lab: &Lab, disk: &TestDisk, name: &str) -> Vec<PathBuf> {
    let folder = lab.path(name);
    fs::create_dir(&folder).unwrap();
    let copy = |file: PathBuf| {
        let to = folder.join(file.file_name().unwrap());
        copy_sparse(&file, &to).unwrap();
        to
    };
    disk.files().into_iter().map(copy).collect()
}

#[test]
fn the_next_round_reports_every_change() {
    let mut lab = Lab::new(LAB).unwrap();
    let app = |name: &str| format!("cloudvolumes/apps/{name}.vmdk");
    let mut site = AvmSite::new(AvmVersion::V4_15);
    let names = ["Both", "FileOnly", "Keep", "RowOnly"];
    for (number, name) in (1..).zip(names) {
        site.appstack(name, "nfs01", &app(name), &guid(number));
    }
    site.package("Chrome", "Chrome 1", "nfs01", "appvolumes/packages/Chrome1.vmdk", &guid(5));
    site.writable(r"CORP\jdoe", "nfs01", JDOE_AT, &guid(6));
    site.storage("nfs02", "NFS41", true);
    let double = AppVolumesDouble::start(site).unwrap();
    lab.add_local("nfs01").unwrap();
    lab.add_local("nfs02").unwrap();
    lab.add_app_volumes("avm1", None, &double).unwrap();
    let [both, file_only, _, row_only] = names.map(|name| build(&lab, "nfs01", &app(name), name.len() as u64));
    build(&lab, "nfs01", "appvolumes/packages/Chrome1.vmdk", 5);
    let jdoe = build(&lab, "nfs01", JDOE_AT, 6);
    lab.folder("nfs02", "cloudvolumes/writable").unwrap();
    let before = ["appstack/Both", "appstack/FileOnly", "appstack/Keep", "appstack/RowOnly", "package/Chrome1", JDOE];
    Round::of(&lab).is(0, &before.map(|id| (id, "copied")));
    let kept = [keep(&lab, &both, "both"), keep(&lab, &file_only, "file-only")];

    double.change(|site| {
        site.appstack("New", "nfs01", &app("New"), &guid(7));
        site.package("Chrome", "Chrome 2", "nfs01", "appvolumes/packages/Chrome2.vmdk", &guid(8));
        site.mark_current("Chrome 2");
        site.remove(AvmList::AppStack, "Both");
        site.remove(AvmList::AppStack, "RowOnly");
        "nfs02".clone_into(&mut site.named(AvmList::Writable, r"CORP\jdoe").places[0].datastore);
    });
    build(&lab, "nfs01", &app("New"), 7);
    build(&lab, "nfs01", "appvolumes/packages/Chrome2.vmdk", 8);
    let moved = jdoe.replicate(&lab.folder("nfs02", "cloudvolumes/writable").unwrap()).unwrap();
    [&both, &file_only, &jdoe].into_iter().for_each(delete);

    let after = [
        ("appstack/FileOnly", "deferred missing"),
        ("appstack/Keep", "unchanged"),
        ("appstack/New", "copied"),
        ("appstack/RowOnly", "unchanged conflict"),
        ("package/Chrome1", "unchanged"),
        ("package/Chrome2", "copied"),
        (JDOE, "unchanged"),
    ];
    let round = Round::of(&lab);
    round.is(3, &after);
    assert!(round.reason("appstack/FileOnly").contains("there is no such file"), "{}", round.answer);
    assert!(round.reason("appstack/RowOnly").contains("does not know it"), "{}", round.answer);
    assert_eq!(volume(&lab, "appstack/Both")["state"], "gone");
    let row_left = volume(&lab, "appstack/RowOnly");
    assert_eq!((&row_left["state"], &row_left["protectable"]), (&"conflict".into(), &true.into()));
    assert_eq!(manifest(&lab, "package/Chrome2")["app_volumes"]["current"], true);
    let known = volume(&lab, JDOE);
    assert_eq!((datastores(&known), &known["generation"]), (vec!["nfs02"], &1.into()), "{known}");
    assert_eq!(known["guid"], guid(6));

    // Again and again: nothing is copied twice, nothing is deleted.
    for _ in 0..2 {
        let again = after.map(|(id, what)| (id, if what == "copied" { "unchanged" } else { what }));
        Round::of(&lab).is(3, &again);
    }
    for id in before {
        assert_eq!(lab.versions(id).unwrap().len(), 1, "{id}");
    }
    same_files(&kept[0], &lab.restore("appstack/Both", "restored-both").unwrap()).unwrap();
    same_files(&kept[1], &lab.restore("appstack/FileOnly", "restored-file").unwrap()).unwrap();
    same_files(&row_only.files(), &lab.restore("appstack/RowOnly", "restored-row").unwrap()).unwrap();
    same_files(&moved.files(), &lab.restore(JDOE, "restored-moved").unwrap()).unwrap();
    assert!(double.write_requests().is_empty());
}

#[test]
fn a_recreated_writable_starts_a_generation_and_keeps_the_old() {
    let mut site = AvmSite::new(AvmVersion::V2_17);
    site.writable(r"CORP\jdoe", "nfs01", JDOE_AT, &guid(1));
    let (_endpoint, lab, double) = place("local", site);
    let first = build(&lab, "nfs01", JDOE_AT, 1);
    Round::of(&lab).is(0, &[(JDOE, "copied")]);
    let old = keep(&lab, &first, "old");
    let old_version = volume(&lab, JDOE)["last_version"].as_str().unwrap().to_owned();

    delete(&first);
    double.change(|site| {
        site.remove(AvmList::Writable, r"CORP\jdoe");
        site.writable(r"CORP\jdoe", "nfs01", JDOE_AT, &guid(2));
    });
    let second = build(&lab, "nfs01", JDOE_AT, 2);
    Round::of(&lab).is(0, &[(JDOE, "copied")]);
    let known = volume(&lab, JDOE);
    assert_eq!((&known["generation"], &known["guid"]), (&2.into(), &guid(2).into()), "{known}");
    assert_eq!(known["versions"], 2);
    same_files(&second.files(), &lab.restore(JDOE, "restored-new").unwrap()).unwrap();
    same_files(&old, &lab.restore(&format!("{JDOE}@{old_version}"), "restored-old").unwrap()).unwrap();

    Round::of(&lab).is(0, &[(JDOE, "unchanged")]);
}

#[test]
fn a_volume_keeps_its_id_when_its_file_appears_or_goes() {
    let mut site = AvmSite::new(AvmVersion::V4_15);
    site.storage("vsan01", "vsan", true);
    let (zip, tar) = ("package/Zip", "package/Tar");
    site.package("Zip", "Zip 1", "nfs01", "appvolumes/packages/Zip.vmdk", &guid(1));
    site.package("Tar", "Tar 1", "vsan01", "appvolumes/packages/Tar.vmdk", &guid(2));
    let (_endpoint, lab, double) = place("local", site);
    build(&lab, "nfs01", OFFICE_AT, 3);
    double.change(|site| drop(site.appstack("Office", "nfs01", OFFICE_AT, &guid(3)).name.clone()));
    let expected = [(OFFICE, "copied"), (tar, "unprotectable vsan_only"), (zip, "deferred missing")];
    Round::of(&lab).is(3, &expected);
    let known = volume(&lab, tar);
    assert_eq!((datastores(&known), &known["locations"][0]["type"]), (vec!["vsan01"], &"vsan".into()), "{known}");
    assert_eq!(known["locations"][0]["reachable"], false);
    assert_eq!(volume(&lab, zip)["locations"][0]["reachable"], false, "there is nothing to read yet");

    build(&lab, "nfs01", "appvolumes/packages/Zip.vmdk", 1);
    double.change(|site| site.remove(AvmList::Package, "Tar 1"));
    Round::of(&lab).is(0, &[(OFFICE, "unchanged"), (zip, "copied")]);
    let known = volume(&lab, tar);
    assert_eq!((&known["state"], &known["locations"]), (&"gone".into(), &serde_json::json!([])), "{known}");
    // A manager that is silent, or that has no volume at all to tell of, takes nothing from what is kept.
    drop(double);
    Round::of(&lab).is(3, &[(OFFICE, "unchanged"), (zip, "unchanged")]);
    assert_eq!(volume(&lab, zip)["versions"], 1);
}
