use stackferry_volume::{SiteName, Unprotectable};

use super::*;
use crate::app_volumes::{ManagedLocation, ManagedVolume, Status, VolumeFamily, VolumeRef};

fn place() -> ManagedLocation {
    ManagedLocation {
        datastore: "nfs01".to_owned(),
        folder: "cloudvolumes/writable".to_owned(),
        file: "CORP!5C!jdoe.vmdk".to_owned(),
        reachable: Some(true),
        missing: Some(false),
        machine_manager: None,
    }
}

fn volume(kind: Kind, status: Status) -> ManagedVolume {
    ManagedVolume {
        at: VolumeRef { family: VolumeFamily::Writable, id: 7 },
        kind,
        name: "CORP\\jdoe".to_owned(),
        guid: None,
        status,
        attached: Some(false),
        attached_word: None,
        attached_to: None,
        owner: None,
        owner_type: None,
        product: None,
        places: vec![place()],
        size_mib: None,
        version: None,
        stage: None,
        current: None,
        assignments: Vec::new(),
        revision: String::new(),
    }
}

fn volume_of(kind: Kind) -> ManagedVolume {
    volume(kind, word("enabled"))
}

fn location() -> Location {
    Location {
        site: SiteName("dc1".to_owned()),
        datastore: "nfs01".to_owned(),
        path: "cloudvolumes/writable/CORP!5C!jdoe.vmdk".to_owned(),
    }
}

fn word(word: &str) -> Status {
    Status { word: word.to_owned(), ..Status::default() }
}

fn verdict(kind: Kind, status: Status, attachment: Attachment, folder: Option<&SkipReason>) -> Option<SkipReason> {
    let (location, place, volume) = (location(), place(), volume(kind, status));
    let managed = Some(ManagedCopy { manager: "avm1", volume: &volume, place: &place });
    may_copy(&CopyFacts { kind, location: &location, folder, managed, attachment, maintenance: None })
}

#[test]
fn every_word_of_app_volumes_has_its_reason() {
    let busy = Status { busy: true, ..word("enabled") };
    let doing = |doing: &str| Status { doing: Some(doing.to_owned()), ..word("enabled") };
    let table = [
        (word("enabled"), None),
        (word("disabled"), None),
        (word("legacy"), None),
        // The files are there for us, whatever the manager's own view of its vCenter is.
        (word("unreachable"), None),
        (word("a word of a later version"), None),
        (word("provisioning"), Some(ReasonCode::Provisioning)),
        (word("unprovisioned"), Some(ReasonCode::Provisioning)),
        (word("creating"), Some(ReasonCode::Provisioning)),
        (word("reserved"), Some(ReasonCode::Provisioning)),
        (word("failed"), Some(ReasonCode::Provisioning)),
        (word("canceled"), Some(ReasonCode::Provisioning)),
        (word("orphaned"), Some(ReasonCode::Orphaned)),
        (Status { provisioning: true, ..word("enabled") }, Some(ReasonCode::Provisioning)),
        (Status { deleting: true, ..word("enabled") }, Some(ReasonCode::Deleting)),
        (doing("Moving"), Some(ReasonCode::Moving)),
        (doing("Expanding"), Some(ReasonCode::Busy)),
        (busy, Some(ReasonCode::Busy)),
    ];
    for (status, expected) in table {
        for kind in [Kind::Appstack, Kind::Package, Kind::Writable] {
            let skip = verdict(kind, status.clone(), Attachment::Detached, None);
            assert_eq!(skip.as_ref().map(|skip| skip.reason.code), expected, "{status:?}");
            if let Some(skip) = skip {
                assert_eq!(skip.state, VolumeState::Deferred);
                assert!(skip.remedy.is_some(), "{status:?} says what to do");
                assert!(skip.reason.text.contains("avm1"), "{status:?} says who told");
            }
        }
    }
}

#[test]
fn only_disks_that_are_written_to_wait_for_their_detach() {
    let attached = || Attachment::Attached("machine VDI-042 has it".to_owned());
    let away = || Attachment::Unknown {
        why: "vSphere vc1: it can't be reached".to_owned(),
        remedy: "Make it answer.".to_owned(),
    };
    let code = |kind, attachment| verdict(kind, word("enabled"), attachment, None).map(|skip| skip.reason.code);
    for kind in [Kind::Appstack, Kind::Package] {
        assert_eq!(code(kind, attached()), None, "{kind} is read-only");
        assert_eq!(code(kind, away()), None);
    }
    for kind in [Kind::Writable, Kind::Template, Kind::Image] {
        assert_eq!(code(kind, attached()), Some(ReasonCode::Attached), "{kind}");
        assert_eq!(code(kind, Attachment::NotTold), None, "a folder does not tell");
    }
    assert_eq!(code(Kind::Writable, away()), Some(ReasonCode::AttachmentUnknown));
    let skip = verdict(Kind::Writable, word("enabled"), attached(), None).unwrap();
    assert!(skip.reason.text.contains("VDI-042"), "{}", skip.reason.text);
}

#[test]
fn what_only_a_person_can_change_is_told_first() {
    let broken = SkipReason::from(Unprotectable::new(ReasonCode::UnsupportedDisk, "a delta disk"));
    let skip = verdict(Kind::Writable, word("creating"), Attachment::Attached(String::new()), Some(&broken)).unwrap();
    assert_eq!(skip, broken);
    let locked = SkipReason::deferred(ReasonCode::Locked, "a lock");
    let code =
        |attachment| verdict(Kind::Writable, word("enabled"), attachment, Some(&locked)).map(|skip| skip.reason.code);
    assert_eq!(
        code(Attachment::Attached(String::new())),
        Some(ReasonCode::Attached),
        "who has it says more than a lock"
    );
    assert_eq!(code(Attachment::Detached), Some(ReasonCode::Locked));
}

#[test]
fn a_datastore_in_maintenance_is_left_alone() {
    let location = location();
    let facts = CopyFacts {
        kind: Kind::Package,
        location: &location,
        folder: None,
        managed: None,
        attachment: Attachment::NotTold,
        maintenance: Some("enteringMaintenance"),
    };
    assert_eq!(may_copy(&facts).map(|skip| skip.reason.code), Some(ReasonCode::Unreachable));
}

#[test]
fn what_is_not_seen_says_why_and_what_to_do() {
    let (location, mut place) = (location(), place());
    let volume = volume(Kind::Writable, word("enabled"));
    place.missing = Some(true);
    let gone = ManagedCopy { manager: "avm1", volume: &volume, place: &place };
    let skip = not_seen(&gone, &location, &UnseenReason::NotThere);
    assert_eq!((skip.state, skip.reason.code), (VolumeState::Deferred, ReasonCode::Missing));
    let skip = not_seen(&gone, &location, &UnseenReason::Objects("vsan"));
    assert_eq!((skip.state, skip.reason.code), (VolumeState::Unprotectable, ReasonCode::VsanOnly));
    assert!(skip.remedy.unwrap().contains("move it"), "a writable has no replicas");
    let package = volume_of(Kind::Package);
    let replicated = ManagedCopy { manager: "avm1", volume: &package, place: &place };
    let skip = not_seen(&replicated, &location, &UnseenReason::Objects("vsan"));
    assert!(skip.remedy.unwrap().contains("not attachable"));
    for unseen in [UnseenReason::NotConfigured, UnseenReason::Unreachable, UnseenReason::NotLookedAt] {
        let skip = not_seen(&gone, &location, &unseen);
        assert_eq!((skip.state, skip.reason.code), (VolumeState::Deferred, ReasonCode::Unreachable), "{unseen:?}");
        assert!(skip.remedy.is_some(), "{unseen:?}");
    }
}

#[test]
fn a_lock_holds_what_is_written_to_and_nothing_else() {
    let locked = SkipReason::deferred(ReasonCode::Locked, "x-flat.vmdk is locked by an ESXi host");
    for (kind, is_held) in [
        (Kind::Appstack, false),
        (Kind::Package, false),
        (Kind::Writable, true),
        (Kind::Template, true),
        (Kind::Image, true),
    ] {
        let skip = verdict(kind, word("enabled"), Attachment::Detached, Some(&locked));
        assert_eq!(skip.is_some(), is_held, "{kind}");
    }
}
