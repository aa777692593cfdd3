use std::collections::BTreeSet;

use super::*;
use crate::check::{allocated_bytes, same_bytes};
use crate::disk::mount_and_digest;
use crate::tools::{available, have};

fn small() -> (tempfile::TempDir, TestSite) {
    let folder = tempfile::tempdir().unwrap();
    let site = TestSite::build(&folder.path().join("site"), &SitePlan::small()).unwrap();
    (folder, site)
}

fn all_files(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

#[test]
fn every_file_of_the_site_is_accounted_for() {
    let (_folder, site) = small();
    let mut expected = BTreeSet::new();
    for volume in &site.volumes {
        for location in &volume.locations {
            let folder = Path::new(location.datastore).join(Path::new(&location.path).parent().unwrap());
            expected.extend(location.files.iter().map(|name| folder.join(name).to_str().unwrap().to_owned()));
        }
    }
    expected.extend(site.strays.iter().map(|stray| format!("{}/{}", stray.datastore, stray.path)));
    expected.remove("nfs01/cloudvolumes/apps/Old.vmdk.lck");
    assert_eq!(all_files(&site.root), expected);
}

#[test]
fn replicas_are_equal_and_same_named_volumes_differ() {
    let (_folder, site) = small();
    let office: Vec<_> = site.find("appstack", "Office").collect();
    let [one, two] = office[0].locations.as_slice() else { panic!("Office is not on two datastores") };
    assert_eq!((office.len(), one.datastore, two.datastore), (1, "nfs01", "nfs02"));
    for (a, b) in one.disk.as_ref().unwrap().files().iter().zip(two.disk.as_ref().unwrap().files()) {
        assert!(a != &b && same_bytes(a, &b).unwrap());
    }
    let namesakes: Vec<_> = site.find("writable", "CORP!5C!jdoe").filter(|v| v.expect.protectable()).collect();
    let extents: Vec<_> =
        namesakes.iter().map(|v| v.locations[0].disk.as_ref().unwrap().extents()[0].clone()).collect();
    assert_eq!(extents.len(), 2);
    assert!(!same_bytes(&extents[0], &extents[1]).unwrap());
}

#[test]
fn the_small_site_is_small_and_reproducible() {
    let (_one, a) = small();
    let (_two, b) = small();
    let files = all_files(&a.root);
    assert_eq!(files, all_files(&b.root));
    for file in &files {
        assert!(same_bytes(&a.root.join(file), &b.root.join(file)).unwrap(), "{file}");
    }
    let taken: u64 = files.iter().map(|file| allocated_bytes(&a.root.join(file)).unwrap()).sum();
    assert!((20 << 20..100 << 20).contains(&taken), "{taken}");
    assert!(TestSite::build(&a.root, &SitePlan::small()).is_err(), "a site was overwritten");
}

#[test]
fn the_summary_lists_every_volume_and_every_reason() {
    let (_folder, mut site) = small();
    let lock = site.lock("nfs01", "writable", "CORP!5C!asmith").unwrap();
    assert!(lock.exists());
    let text = site.to_string();
    for volume in &site.volumes {
        let name = format!("{}/{} ", volume.kind, volume.stem);
        let store = volume.locations[0].datastore;
        let mut lines = text.lines().filter(|line| line.starts_with(&name) && line.contains(store));
        assert!(lines.any(|line| line.contains(volume.note)), "{name}");
    }
    for code in ["bad_descriptor", "unsupported_disk", "vsan_only", "missing", "app_volumes_backup", "later: locked"] {
        assert!(text.contains(code), "{text}");
    }
    assert!(site.find("writable", "CORP!5C!asmith").all(|volume| volume.expect == Expect::LOCKED));
    assert!(site.lock("nfs02", "writable", "nobody").is_err());
}

#[test]
fn a_site_has_the_requested_number_of_users() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = DiskSize { bytes: 2 << 20, data: 64 << 10 };
    let plan = SitePlan { office: tiny, application: tiny, writable: tiny, more_writables: 50, ..SitePlan::small() };
    let mut site = TestSite::build(folder.path(), &plan).unwrap();
    assert_eq!(site.volumes.iter().filter(|volume| volume.stem.starts_with("CORP!5C!user")).count(), 50);
    site.disk_mut("nfs01", "writable", "CORP!5C!user00049").unwrap().overwrite(1, 0, 512).unwrap();
}

#[test]
fn with_tools_the_office_disk_has_a_real_file_system() {
    if !have(available().makes_ntfs() && available().mounts_ntfs(), "mkntfs, ntfs-3g or /dev/fuse").unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let office = DiskSize { bytes: 1 << 30, data: 20 << 20 };
    let site = TestSite::build(folder.path(), &SitePlan { office, tools: true, ..SitePlan::small() }).unwrap();
    let volume = site.find("appstack", "Office").next().unwrap();
    let digests: Vec<_> =
        volume.locations.iter().map(|location| mount_and_digest(&site.file(location)).unwrap()).collect();
    assert!(digests[0].len() >= 8);
    assert!(digests[0] == digests[1]);
}
