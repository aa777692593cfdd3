//! What each word of each system counts for.

use stackferry_volume::SiteName;
use stackferry_vsphere::{Datastore, Host, HostMount, Lockdown, Moid, UnreadableMachine};

use super::*;

fn moid(kind: &str, value: &str) -> Moid {
    Moid { kind: kind.to_owned(), value: value.to_owned() }
}

fn location() -> Location {
    Location {
        site: SiteName("dc1".to_owned()),
        datastore: "nfs01".to_owned(),
        path: "cloudvolumes/writable/a.vmdk".to_owned(),
    }
}

fn host(id: &str, connected: bool) -> Host {
    Host {
        id: moid("HostSystem", id),
        name: id.to_owned(),
        addresses: Vec::new(),
        connected,
        powered_on: true,
        maintenance: false,
        lockdown: Lockdown::Disabled,
    }
}

/// A vSphere with two hosts, of which the first mounts the datastore.
fn inventory(unreadable: &[(&str, Option<&str>)]) -> VsphereInventory {
    let mount =
        |host: &str| HostMount { host: moid("HostSystem", host), path: None, accessible: true, read_write: true };
    let datastore = Datastore {
        id: moid("Datastore", "1"),
        name: "nfs01".to_owned(),
        kind: "NFS".to_owned(),
        url: String::new(),
        capacity: 0,
        free: 0,
        accessible: true,
        maintenance: None,
        mounts: vec![mount("esx1")],
        browser: moid("HostDatastoreBrowser", "1"),
        datacenter: None,
    };
    let machine = |(name, host): &(&str, Option<&str>)| UnreadableMachine {
        vm: moid("VirtualMachine", name),
        name: (*name).to_owned(),
        host: host.map(|host| moid("HostSystem", host)),
        why: "it is inaccessible".to_owned(),
    };
    VsphereInventory {
        datastores: vec![datastore],
        hosts: vec![host("esx1", true), host("esx2", true), host("esx3", false)],
        attached: Vec::new(),
        unreadable: unreadable.iter().map(machine).collect(),
    }
}

fn unknown(word: &AttachmentReport) -> Option<&str> {
    match word {
        AttachmentReport::Unknown { why, remedy } => {
            assert!(!remedy.is_empty());
            Some(why)
        }
        _ => None,
    }
}

#[test]
fn a_vsphere_says_detached_only_if_it_knows_every_machine() {
    let word = |unreadable: &[(&str, Option<&str>)]| inventory(unreadable).word("vc1", &location(), None);
    assert_eq!(word(&[]), AttachmentReport::Detached);
    assert_eq!(word(&[("VDI-1", Some("esx2"))]), AttachmentReport::Detached, "its host does not mount the datastore");
    for machines in [
        &[("VDI-1", Some("esx1"))][..],
        &[("VDI-1", None)],
        &[("VDI-1", Some("esx3"))],
        &[("VDI-1", Some("esx-of-nobody"))],
        &[("VDI-0", Some("esx2")), ("VDI-1", Some("esx1"))],
    ] {
        let word = word(machines);
        let why = unknown(&word).unwrap_or_else(|| panic!("{machines:?}: {word:?}"));
        assert!(why.contains("VDI-1") && why.contains("vc1") && why.contains("inaccessible"), "{why}");
    }
    let many = word(&[("a", None), ("b", None), ("c", None)]);
    assert!(unknown(&many).unwrap().contains("machine a (it is inaccessible), and 2 more"), "{many:?}");
}

#[test]
fn a_vsphere_says_nothing_of_a_datastore_that_it_does_not_know() {
    let mut elsewhere = location();
    elsewhere.datastore = "nfs1".to_owned();
    let word = inventory(&[]).word("vc1", &elsewhere, None);
    assert!(unknown(&word).unwrap().contains("knows no datastore nfs1 (the nearest name is nfs01)"), "{word:?}");
}

#[test]
fn where_words_contradict_each_other_attached_wins() {
    let word = |text: &str| match text {
        "attached" => AttachmentReport::Attached("machine VDI-1 has it".to_owned()),
        "detached" => AttachmentReport::Detached,
        why => AttachmentReport::unknown(why.to_owned(), "Repair it."),
    };
    for (words, expected) in [
        (&[][..], None),
        (&["detached"], Some(false)),
        (&["attached", "detached"], Some(true)),
        (&["detached", "x", "attached"], Some(true)),
        (&["x", "detached"], Some(false)),
        (&["x", "y"], None),
    ] {
        let attachment = Attachment::of(words.iter().map(|text| word(text)));
        assert_eq!(attachment.is_attached(), expected, "{words:?}");
        match (words, &attachment) {
            ([], Attachment::NotTold) => {}
            (["x", "y"], Attachment::Unknown { why, remedy }) => {
                assert_eq!((why.as_str(), remedy.as_str()), ("x; y", "Repair it."));
            }
            (words, other) => assert!(!words.is_empty() && expected.is_some(), "{words:?}: {other:?}"),
        }
    }
}

#[test]
fn who_is_away_or_lists_no_such_volume_says_nothing() {
    for (word, expected) in [
        (AttachmentReport::of_absent("vSphere vc1", "it can't be reached"), "vSphere vc1: it can't be reached"),
        (AttachmentReport::of_manager("avm1", None, true), "App Volumes Manager avm1 lists no volume at this place"),
        (AttachmentReport::of_manager("avm1", None, false), "App Volumes Manager avm1 gave no complete list"),
    ] {
        assert_eq!(unknown(&word), Some(expected));
    }
}
