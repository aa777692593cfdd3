use stackferry_volume::{Location, SiteName, VersionId};

use super::*;
use crate::fake_folder::{at, now};

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn place(datastore: &str) -> VolumeLocation {
    let file = |name: &str, bytes| FileStamp { name: name.to_owned(), bytes, mtime: at("2026-11-20T12:00:00Z") };
    VolumeLocation {
        location: Location {
            site: SiteName("dc1".to_owned()),
            datastore: datastore.to_owned(),
            path: "cloudvolumes/apps/Office.vmdk".to_owned(),
        },
        datastore_type: None,
        reachable: true,
        seen: true,
        files: Vec::new(),
        fingerprint: Fingerprint::new(vec![file("Office.vmdk", 300), file("Office-flat.vmdk", 4096)], Some("1".into())),
        settled: true,
        quiet: true,
        observed: now(),
        descriptor: None,
        skip: None,
    }
}

fn baseline(place: &VolumeLocation) -> Baseline {
    Baseline {
        location: place.location.clone(),
        fingerprint: place.fingerprint.clone(),
        version: VersionId::new(Timestamp::UNIX_EPOCH, 1),
        settled: place.settled,
    }
}

#[test]
fn a_volume_is_due_once_and_then_when_it_changed() {
    let own = place("nfs01");
    let check = |baselines: &[Baseline], versions| due(&own, baselines, versions, None, None, now());
    assert_eq!(check(&[], false), Due::Never);
    assert_eq!(check(&[baseline(&own)], false), Due::Never);
    assert_eq!(check(&[baseline(&own)], true), Due::No);
    let mut old = baseline(&own);
    old.fingerprint.cid = Some("0".to_owned());
    assert_eq!(check(&[old], true), Due::Changed { what: "its content id was 0 and is 1".to_owned() });
}

#[test]
fn a_reading_that_was_too_early_is_repeated() {
    let own = place("nfs01");
    let early = Baseline { settled: false, ..baseline(&own) };
    assert!(matches!(due(&own, std::slice::from_ref(&early), true, None, None, now()), Due::Changed { .. }));
    let late = Baseline { settled: true, ..early };
    assert_eq!(due(&own, &[late], true, None, None, now()), Due::No);
}

#[test]
fn a_further_location_is_read_once() {
    let (first, second) = (place("nfs01"), place("nfs02"));
    let check = |baselines: &[Baseline]| due(&second, baselines, true, None, None, now());
    let never = Due::Changed { what: "it was never read at [nfs02] cloudvolumes/apps/Office.vmdk".to_owned() };
    assert_eq!(check(&[baseline(&first)]), never, "equal stamps elsewhere prove nothing");
    assert_eq!(check(&[baseline(&first), baseline(&second)]), Due::No);
    let mut before = baseline(&second);
    before.fingerprint.files[0].mtime = at("2026-11-19T12:00:00Z");
    assert!(matches!(check(&[baseline(&first), before]), Due::Changed { .. }));
}

#[test]
fn a_writable_is_overdue_after_its_age() {
    let own = place("nfs01");
    let check = |age, last: Option<&str>| due(&own, &[baseline(&own)], true, age, last.map(at), now());
    assert_eq!(check(Some(DAY), Some("2026-11-21T04:15:00.1Z")), Due::No);
    let last = "2026-11-21T04:15:00Z";
    assert_eq!(check(Some(DAY), Some(last)), Due::Overdue { since: Some(at(last)) });
    assert_eq!(check(Some(DAY), None), Due::Overdue { since: None });
    assert!(matches!(check(Some(DAY), Some("2027-01-01T00:00:00Z")), Due::Overdue { .. }), "a clock that was wrong");
    assert_eq!(check(None, Some(last)), Due::No);
}

#[test]
fn a_clock_set_back_makes_nothing_due_and_postpones_little() {
    let own = place("nfs01");
    let baselines = [baseline(&own)];
    let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    let day = Some(SignedDuration::from_hours(24));
    let after = |hours| due(&own, &baselines, true, day, Some(now + SignedDuration::from_hours(hours)), now);
    assert_eq!(after(1), Due::No);
    assert_eq!(after(23), Due::No);
    assert!(matches!(after(24), Due::Overdue { .. }), "such a stamp is of a clock that was wrong");
}

#[test]
fn every_difference_is_told() {
    let base = place("nfs01").fingerprint;
    let with = |change: &dyn Fn(&mut Fingerprint)| {
        let mut now = base.clone();
        change(&mut now);
        difference(&base, &now).unwrap()
    };
    assert_eq!(difference(&base, &base), None);
    let texts = [
        with(&|now| now.files[0].bytes = 5),
        with(&|now| now.files[0].mtime = at("2026-11-22T04:00:00Z")),
        with(&|now| now.files[0].name = "Office_1-flat.vmdk".to_owned()),
        with(&|now| drop(now.files.pop())),
        with(&|now| now.cid = None),
    ];
    insta::assert_snapshot!("differences", texts.join("\n"));
}

#[test]
fn a_file_without_a_time_is_read_in_every_round() {
    let mut own = place("nfs01");
    own.fingerprint.files[1].mtime = stackferry_volume::UNKNOWN_MTIME;
    for settled in [true, false] {
        let baseline = Baseline { settled, ..baseline(&own) };
        let Due::Changed { what } = due(&own, &[baseline], true, None, Some(now()), now()) else {
            panic!("it was called unchanged")
        };
        assert!(what.contains("Office.vmdk has no time of last change"), "{what}");
    }
}
