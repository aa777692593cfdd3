//! All volumes of App Volumes are found and copied once, with their details.

use std::fs;

use stackferry_tests::avm::{AppVolumesDouble, AvmList, AvmSite, AvmVersion};
use stackferry_tests::check::same_files;
use stackferry_tests::lab::Lab;

use super::support::*;

/// Two sites with datastores, writables and even an id of one name: nothing of one is taken for the other's.
#[test]
fn two_sites_are_copied_whole_and_never_merged() {
    let mut lab = Lab::new(LAB).unwrap();
    let (group, user) = ("CN=Staff,OU=Groups,DC=corp,DC=example", "CN=J. Doe,DC=corp,DC=example");
    let office_at = "AppVolumes/apps/Office.vmdk";
    let notepad_at = "appvolumes/packages/Notepad!2B!!2B!.vmdk";

    let mut old = AvmSite::new(AvmVersion::V2_17);
    old.appstack("Office 2016", "nfs01", office_at, &guid(1)).assign("Group", group, "VDI-");
    old.writable(r"CORP\jdoe", "nfs01", JDOE_AT, &guid(2));
    let mut new = AvmSite::new(AvmVersion::V4_15);
    new.package("Notepad", "Notepad++", "nfs01", notepad_at, &guid(3)).assign("User", user, "");
    "Published".clone_into(&mut new.named(AvmList::Package, "Notepad++").stage);
    new.mark_current("Notepad++");
    new.writable(r"CORP\jdoe", "nfs01", JDOE_AT, &guid(2));

    let disks = [
        ("dc1", OFFICE, build(&lab, "dc1-nfs01", office_at, 1)),
        ("dc1", JDOE, build(&lab, "dc1-nfs01", JDOE_AT, 2)),
        ("dc2", "package/Notepad!2B!!2B!", build(&lab, "dc2-nfs01", notepad_at, 3)),
        ("dc2", JDOE, build(&lab, "dc2-nfs01", JDOE_AT, 4)),
    ];
    let doubles = [old, new].map(|site| AppVolumesDouble::start(site).unwrap());
    for (site, double) in ["dc1", "dc2"].into_iter().zip(&doubles) {
        lab.add_local_at(site, "nfs01", &format!("{site}-nfs01")).unwrap();
        lab.add_app_volumes(&format!("avm-{site}"), Some(site), double).unwrap();
    }

    let round = Round::of(&lab);
    assert_eq!((round.code, &round.answer["copied"]), (0, &4.into()), "{round:?}");
    let volumes = lab.run_json(&["volumes"]).unwrap();
    let volumes = volumes.as_array().unwrap();
    assert_eq!(volumes.len(), 4, "{volumes:?}");
    for (number, (site, id, disk)) in disks.iter().enumerate() {
        let is_it = |id_is: &str| id_is == *id || id_is.strip_prefix(id).is_some_and(|rest| rest.starts_with('@'));
        let volume = volumes
            .iter()
            .find(|volume| volume["locations"][0]["site"] == *site && is_it(volume["id"].as_str().unwrap()))
            .unwrap_or_else(|| panic!("no {id} of {site} in {volumes:?}"));
        assert_eq!((&volume["state"], &volume["versions"]), (&"ready".into(), &1.into()), "{volume}");
        assert_eq!(datastores(volume), ["nfs01"]);
        let restored = lab.restore(volume["id"].as_str().unwrap(), &format!("restored-{number}")).unwrap();
        same_files(&disk.files(), &restored).unwrap();
    }
    let office = volume(&lab, OFFICE);
    assert_eq!(
        (&office["name"], &office["guid"], &office["owner"]),
        (&"Office 2016".into(), &guid(1).into(), &().into())
    );
    assert_eq!(office["locations"][0]["path"], office_at);
    let jdoe = volume(&lab, JDOE);
    assert_eq!((&jdoe["name"], &jdoe["owner"]), (&r"CORP\jdoe".into(), &r"CORP\jdoe".into()));
    assert_eq!((&jdoe["guid"], &jdoe["attached"]), (&guid(2).into(), &false.into()));

    let kept = manifest(&lab, OFFICE)["app_volumes"].clone();
    assert_eq!(kept["manager"], "avm-dc1");
    assert_eq!(kept["assignments"], serde_json::json!([format!("Group {group} (machines VDI-…)")]), "{kept}");
    let kept = manifest(&lab, "package/Notepad!2B!!2B!")["app_volumes"].clone();
    assert_eq!((&kept["stage"], &kept["current"]), (&"Published".into(), &true.into()), "{kept}");
    assert_eq!((&kept["manager"], &kept["version"]), (&"avm-dc2".into(), &"1.0".into()), "{kept}");
    assert_eq!(kept["assignments"], serde_json::json!([format!("User {user}")]), "{kept}");
    assert_eq!(manifest(&lab, JDOE)["owner"]["upn"], "jdoe@corp.example");

    let round = Round::of(&lab);
    assert_eq!((round.code, &round.answer["unchanged"]), (0, &4.into()), "{round:?}");
    for double in &doubles {
        assert!(double.write_requests().is_empty() && double.writes().is_empty(), "{:?}", double.write_requests());
        assert_eq!(double.sessions(), 0, "a session was left at the manager");
    }
}

#[test]
fn appstacks_are_copied_once_and_missing_files_get_advice() {
    let mut lab = Lab::new(LAB).unwrap();
    let mut site = AvmSite::new(AvmVersion::V4_15);
    site.storage("vsan01", "vsan", true);
    site.appstack("Office", "vsan01", OFFICE_AT, &guid(1)).also_at("nfs02", OFFICE_AT).also_at("nfs01", OFFICE_AT);
    site.package("Zip", "Zip 1.0", "vsan01", "appvolumes/packages/Zip.vmdk", &guid(2));
    let double = AppVolumesDouble::start(site).unwrap();
    lab.add_local("nfs02").unwrap();
    lab.add_local("nfs01").unwrap();
    lab.add_app_volumes("avm1", None, &double).unwrap();
    let office = build(&lab, "nfs01", OFFICE_AT, 1);
    fs::remove_dir_all(lab.folder("nfs02", "").unwrap()).unwrap();

    // A datastore is away, so the round is not whole; what can be had is.
    let zip = "package/Zip";
    Round::of(&lab).is(3, &[(OFFICE, "copied"), (zip, "unprotectable vsan_only")]);
    let known = volume(&lab, OFFICE);
    assert_eq!((&known["state"], &known["versions"]), (&"ready".into(), &1.into()), "{known}");
    let mut places: Vec<(&str, bool)> = known["locations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|place| (place["datastore"].as_str().unwrap(), place["reachable"].as_bool().unwrap()))
        .collect();
    places.sort_unstable();
    assert_eq!(places, [("nfs01", true), ("nfs02", false), ("vsan01", false)]);
    assert_eq!(manifest(&lab, OFFICE)["location"]["datastore"], "nfs01");
    same_files(&office.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();
    let known = volume(&lab, zip);
    assert_eq!((&known["state"], &known["protectable"]), (&"unprotectable".into(), &false.into()), "{known}");
    assert!(known["remedy"].as_str().unwrap().contains("storage group"), "{known}");
    let error = lab.run_err(&["copy", zip], 1).unwrap();
    assert_eq!(error["code"], "not_protectable");
    assert!(error["hint"].as_str().unwrap().contains("storage group"), "{error}");

    // What can't be protected at all is told, but it is no failure of a round.
    lab.config.unset_all();
    lab.add_local("nfs01").unwrap();
    Round::of(&lab).is(0, &[(OFFICE, "unchanged"), (zip, "unprotectable vsan_only")]);
    // The one that can be read goes, too: then the volume waits, and its version stays.
    fs::remove_dir_all(lab.folder("nfs01", "").unwrap()).unwrap();
    Round::of(&lab).is(1, &[(OFFICE, "deferred unreachable"), (zip, "unprotectable vsan_only")]);
    assert_eq!(lab.versions(OFFICE).unwrap().len(), 1);
}
