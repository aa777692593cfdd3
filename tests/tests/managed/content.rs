//! The content of an AppStack decides whether it changed, not its location; a change without a new version in App Volumes
//! is an incident.

use std::fs::{self, File, FileTimes};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use stackferry_tests::avm::{AppVolumesDouble, AvmList, AvmSite, AvmVersion};
use stackferry_tests::check::same_files;
use stackferry_tests::disk::TestDisk;
use stackferry_tests::lab::Lab;

use super::support::*;

/// Gives a disk another content id and other times, as a replication by a tool that copies disks does.
fn restamp(disk: &TestDisk, cid: &str) {
    let text = fs::read_to_string(disk.path()).unwrap();
    let line = text.lines().find(|line| line.starts_with("CID=")).unwrap();
    fs::write(disk.path(), text.replace(line, &format!("CID={cid}"))).unwrap();
    let times = FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(1800));
    for file in disk.files() {
        File::options().write(true).open(file).unwrap().set_times(times).unwrap();
    }
}

#[test]
fn a_replica_with_other_timestamps_is_not_an_unexpected_change() {
    let mut lab = Lab::new(LAB).unwrap();
    let mut site = AvmSite::new(AvmVersion::V2_17);
    site.appstack("Office", "nfs01", OFFICE_AT, &guid(1)).also_at("nfs02", OFFICE_AT);
    let double = AppVolumesDouble::start(site).unwrap();
    lab.add_local("nfs01").unwrap();
    lab.add_local("nfs02").unwrap();
    lab.add_app_volumes("avm1", None, &double).unwrap();
    let office = build(&lab, "nfs01", OFFICE_AT, 1);
    let replica = office.replicate(&lab.folder("nfs02", "cloudvolumes/apps").unwrap()).unwrap();
    restamp(&replica, "0badcafe");
    Round::of(&lab).is(0, &[(OFFICE, "copied")]);
    assert_eq!(manifest(&lab, OFFICE)["location"]["datastore"], "nfs01");

    // The first place is away, and the replica was stamped anew: it is read, and it is the same.
    fs::rename(lab.folder("nfs01", "").unwrap(), lab.path("away")).unwrap();
    restamp(&replica, "0badf00d");
    Round::of(&lab).is(3, &[(OFFICE, "unchanged")]);
    let copy = lab.run_json(&["copy", OFFICE, "--if-changed"]).unwrap();
    assert_eq!(copy["outcome"], "unchanged");
    assert!(copy["bytes"]["read"].as_u64().unwrap() >= DATA, "it was read: {copy}");
    assert_eq!(lab.versions(OFFICE).unwrap().len(), 1);
    // Who wants a copy gets one, and it is no incident.
    lab.run_json(&["copy", OFFICE]).unwrap();
    let versions = lab.versions(OFFICE).unwrap();
    assert_eq!((versions.len(), &versions[0]["incident"]), (2, &().into()), "{versions:?}");
    same_files(&replica.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();

    // Both are there again: one volume, in order.
    fs::rename(lab.path("away"), lab.path("site").join("nfs01")).unwrap();
    Round::of(&lab).is(0, &[(OFFICE, "unchanged")]);
    let known = volume(&lab, OFFICE);
    assert_eq!((&known["state"], datastores(&known)), (&"ready".into(), vec!["nfs01", "nfs02"]));
}

/// What the service tells Prometheus.
fn metrics(lab: &Lab) -> String {
    let mut service = lab.spawn(&["run"]).unwrap();
    let address = service.wait_line("its address", LIMIT, |line| {
        let from = line.find("127.0.0.1:")?;
        let rest: String = line[from..].chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
        rest.parse::<SocketAddr>().ok()
    });
    let mut stream = TcpStream::connect(address.unwrap()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    service.terminate(LIMIT).unwrap().expect_code(0).unwrap();
    text
}

#[test]
fn only_an_appstack_changed_without_an_update_is_an_incident() {
    let mut site = AvmSite::new(AvmVersion::V2_17);
    site.appstack("Office", "nfs01", OFFICE_AT, &guid(1));
    let (_endpoint, lab, double) = place("local", site);
    let mut office = build(&lab, "nfs01", OFFICE_AT, 1);
    Round::of(&lab).is(0, &[(OFFICE, "copied")]);

    // Mounted by many, which changes nothing.
    double.change(|site| {
        site.named(AvmList::AppStack, "Office").attach("VDI-1").attach("VDI-2");
    });
    Round::of(&lab).is(0, &[(OFFICE, "unchanged")]);

    office.overwrite(9, 4 * MIB, MIB).unwrap();
    let round = Round::of(&lab);
    assert_eq!(&round.all()[0].1[..6], "copied", "{round:?}");
    assert!(round.stderr.contains("incident"), "{}", round.stderr);
    let versions = lab.versions(OFFICE).unwrap();
    let why = versions[0]["incident"].as_str().unwrap_or_default();
    assert!(why.contains("avm1") && versions[1]["incident"].is_null(), "{versions:?}");
    let known = volume(&lab, OFFICE);
    assert_eq!((&known["state"], &known["reason"]["code"]), (&"incident".into(), &"incident".into()), "{known}");
    assert!(!known["remedy"].as_str().unwrap().is_empty());
    let audit = lab.run_json(&["audit", "show"]).unwrap();
    let found = audit.as_array().unwrap().iter().filter(|one| one["action"] == "incident_found").count();
    assert_eq!(found, 1, "{audit}");
    same_files(&office.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();

    assert!(metrics(&lab).contains("stackferry_volumes{kind=\"appstack\",state=\"incident\"} 1\n"));

    // It stands until a new version of the disk is made.
    let round = Round::of(&lab);
    round.is(0, &[(OFFICE, "unchanged incident")]);
    // Whoever has it copied once more has not ended it.
    lab.run_json(&["copy", OFFICE]).unwrap();
    let again = lab.versions(OFFICE).unwrap();
    assert!(again.len() == 3 && again[0]["incident"].is_string(), "{again:?}");
    double.change(|site| site.named(AvmList::AppStack, "Office").captures += 1);
    office.overwrite(10, 8 * MIB, MIB).unwrap();
    assert_eq!(&Round::of(&lab).all()[0].1[..6], "copied");
    assert!(lab.versions(OFFICE).unwrap()[0]["incident"].is_null());
    Round::of(&lab).is(0, &[(OFFICE, "unchanged")]);
    assert_eq!(volume(&lab, OFFICE)["state"], "ready");
}
