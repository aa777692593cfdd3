//! Looking at folders through vSphere.

use serde_json::json;
use stackferry_transfer::esxi::HostAccess;
use stackferry_volume::{EntryKind, Folder, FolderError};

use crate::support::{Deadline, SHARED, Site, USER};

fn browses(site: &Site) -> u64 {
    let calls = site.obey(json!({ "do": "calls" }))["calls"].clone();
    ["SearchDatastore_Task", "SearchDatastoreSubFolders_Task"].iter().filter_map(|name| calls[*name].as_u64()).sum()
}

#[test]
fn a_scan_of_many_volumes_is_one_search() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = Site::start() else { return };
    let top = site.shared("cloudvolumes/writable");
    for number in 0..200 {
        let folder = top.join(format!("user {number}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("disk.vmdk"), b"# Disk DescriptorFile\n").unwrap();
    }
    let folder = site.client().folder();
    let found = folder.list("cloudvolumes/writable").unwrap();
    assert_eq!(found.len(), 200);
    for entry in &found {
        assert_eq!(entry.kind, EntryKind::Folder);
        let below = folder.list(&format!("cloudvolumes/writable/{}", entry.name)).unwrap();
        assert_eq!((below[0].name.as_str(), below[0].bytes), ("disk.vmdk", 22));
        assert_eq!(below[0].mtime.subsec_nanosecond(), 0);
    }
    assert_eq!(browses(&site), 1);
    assert!(matches!(folder.list("cloudvolumes/writable/nobody"), Err(FolderError::NotFound { .. })));
    assert_eq!(browses(&site), 1);
    // The requested folder itself is read again.
    std::fs::remove_dir_all(top.join("user 7")).unwrap();
    assert_eq!(folder.list("cloudvolumes/writable").unwrap().len(), 199);
}

#[test]
fn files_are_listed_and_read() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = Site::start() else { return };
    let text = "# Disk DescriptorFile\n".repeat(10);
    std::fs::write(site.shared("cloudvolumes/apps/Büro #1 100%.vmdk"), &text).unwrap();
    std::fs::write(site.shared("cloudvolumes/apps/empty.metadata"), "").unwrap();
    std::fs::write(site.shared("cloudvolumes/apps/large"), vec![7; 100_000]).unwrap();
    let client = site.client();
    let folder = client.folder();
    let seen = folder.stat("cloudvolumes/apps/Büro #1 100%.vmdk").unwrap().unwrap();
    assert_eq!((seen.bytes, seen.kind), (text.len() as u64, EntryKind::File));
    assert_eq!(folder.stat("cloudvolumes/apps").unwrap().unwrap().kind, EntryKind::Folder);
    assert_eq!(folder.stat("cloudvolumes/apps/nothing").unwrap(), None);
    assert_eq!(folder.stat("nowhere/nothing").unwrap(), None);
    assert!(matches!(folder.list("nowhere"), Err(FolderError::NotFound { .. })));
    assert!(matches!(folder.list("../etc"), Err(FolderError::Refused { .. })));
    assert!(folder.list("").unwrap().iter().any(|entry| entry.name == "cloudvolumes"));

    assert_eq!(folder.read("cloudvolumes/apps/Büro #1 100%.vmdk", 1 << 20).unwrap(), text.as_bytes());
    assert_eq!(folder.read("cloudvolumes/apps/Büro #1 100%.vmdk", 5).unwrap(), b"# Dis");
    assert_eq!(folder.read("cloudvolumes/apps/empty.metadata", 100).unwrap(), b"");
    assert_eq!(folder.read("cloudvolumes/apps/large", usize::MAX).unwrap().len(), 64 << 10);
    assert!(matches!(folder.read("cloudvolumes/apps/nothing", 9), Err(FolderError::NotFound { .. })));
    let accesses = site.accesses();
    assert!(accesses.iter().all(|access| access["auth"] == "session" && access["host"] == ""), "{accesses:?}");

    assert!(folder.read("cloudvolumes/apps", 9).is_err(), "a folder is no file");

    // A session that ended is no reason to fail.
    site.obey(json!({ "do": "expire_sessions" }));
    assert_eq!(folder.read("cloudvolumes/apps/large", 3).unwrap(), [7; 3]);
    // What vCenter can't give, a host may.
    site.obey(json!({ "do": "trouble", "trouble": {
        "host": "vcenter", "datastore": SHARED, "path": "cloudvolumes/apps/large", "status": 500,
    } }));
    assert_eq!(folder.read("cloudvolumes/apps/large", 3).unwrap(), [7; 3]);
    assert_eq!(site.accesses().last().unwrap()["auth"], "ticket");
}

#[test]
fn vsan_folders_go_by_their_friendly_names() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = Site::start() else { return };
    std::fs::write(site.path("vsan/cloudvolumes/apps/a.vmdk"), b"vsan://").unwrap();
    let folder = site.client_of("vsan 01", HostAccess::Ticket).folder();
    let root = folder.list("").unwrap();
    assert_eq!(root.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["cloudvolumes"]);
    assert_eq!(folder.list("cloudvolumes/apps").unwrap()[0].name, "a.vmdk");
    assert_eq!(folder.stat("cloudvolumes/apps/a.vmdk").unwrap().unwrap().bytes, 7);
    assert_eq!(folder.read("cloudvolumes/apps/a.vmdk", 100).unwrap(), b"vsan://");
    assert!(matches!(folder.list("appvolumes"), Err(FolderError::NotFound { .. })));
}

#[test]
fn a_missing_datastore_is_reported_with_existing_ones() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = Site::start() else { return };
    let why = |name: &str| match site.client_of(name, HostAccess::Ticket).folder().list("cloudvolumes") {
        Err(FolderError::Unreachable { datastore, why }) => {
            assert_eq!(datastore, name);
            why
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        why("vmfs-01"),
        "vSphere vc1 knows no datastore of that name. Most similar first: vmfs 01, vsan 01, local2"
    );
    // One that got another name meanwhile.
    let folder = site.client().folder();
    folder.list("cloudvolumes").unwrap();
    site.obey(json!({ "do": "rename_datastore", "datastore": SHARED, "name": "gold" }));
    assert!(matches!(folder.list("cloudvolumes"), Err(FolderError::Unreachable { .. })));
    let error = folder.list("cloudvolumes").unwrap_err().to_string();
    assert!(error.contains("gold"), "{error}");
    site.obey(json!({ "do": "accessible", "datastore": "local2", "on": false }));
    assert!(why("local2").contains("no host can access it"));
    site.obey(json!({ "do": "revoke", "user": USER, "privilege": "Datastore.Browse" }));
    assert!(why("vsan 01").contains("Datastore.Browse"));
}
