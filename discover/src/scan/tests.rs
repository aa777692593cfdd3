use std::sync::Arc;

use jiff::SignedDuration;
use stackferry_volume::{EntryKind, Kind, SiteName, VolumeState};

use stackferry_volume::FileName;

use super::*;
use crate::fake_folder::{FakeFault, FakeFolder, at, now};
use crate::volume::SkipReason;

const APPS: &str = "cloudvolumes/apps";

fn look(folder: &Arc<FakeFolder>, folders: &[&str]) -> Scan {
    scan(&folder.view("nfs01", folders), &DescriptorCache::default(), now())
}

/// The scan as lines: `kind path [files] = state: reason`, problems, and what may be missing.
fn lines(scan: &Scan) -> String {
    let mut lines: Vec<String> = scan
        .observations
        .iter()
        .map(|seen| {
            let files: Vec<String> =
                seen.at.files.iter().map(|file| format!("{:?} {}", file.role, file.name)).collect();
            let skip = match &seen.at.skip {
                None => "ready".to_owned(),
                Some(SkipReason { state, reason, remedy }) => {
                    format!("{state} {}: {}\n    -> {}", reason.code, reason.text, remedy.as_deref().unwrap_or("-"))
                }
            };
            format!("{} {} [{}] = {skip}", seen.kind, seen.at.location, files.join(", "))
        })
        .collect();
    for problem in &scan.problems {
        lines.push(format!("! {}: {}\n    -> {}", problem.subject, problem.text, problem.hint));
    }
    lines.push(format!("reachable {}, complete {}", scan.reachable, scan.complete));
    lines.join("\n")
}

fn only(scan: &Scan) -> Option<(VolumeState, String)> {
    let skip = scan.observations.first()?.at.skip.as_ref()?;
    Some((skip.state, skip.reason.code.to_string()))
}

#[test]
fn a_datastore_with_everything_is_read_as_it_is() {
    let folder = Arc::new(FakeFolder::default());
    folder.volume("cloudvolumes/apps/Office", 1);
    folder.volume("cloudvolumes/writable/CORP!5C!jdoe", 2);
    folder.volume("cloudvolumes/app_templates/template", 3);
    folder.volume("appvolumes/packages/sub/Zip!20!Tool", 4);
    folder.volume("appvolumes/writables_backup/CORP!5C!jdoe", 2);
    folder.file("cloudvolumes/apps/Lost-flat.vmdk", 9, b"");
    folder.file("cloudvolumes/apps/Garbage.vmdk", 9, b"not at all");
    folder.file("cloudvolumes/apps/Bad\tname.vmdk", 9, b"");
    folder.file("cloudvolumes/apps/Big.vmdk", 1 << 40, b"KDMV");
    folder.file("cloudvolumes/apps/manifest.vmdk", 1, b"");
    folder.file("cloudvolumes/apps/manifest.json", 1, b"");
    let vsan = b"# Disk DescriptorFile\nversion=1\nCID=1\ncreateType=\"vmfs\"\nRW 8 VMFS \"vsan://1\"\n";
    folder.file("cloudvolumes/apps/Pointer.vmdk", 80, vsan);
    folder.volume("cloudvolumes/apps/Short", 5);
    folder.change("cloudvolumes/apps/Short-flat.vmdk", |flat| flat.bytes = 4095);
    folder.volume("cloudvolumes/apps/NoFlat", 6);
    folder.remove("cloudvolumes/apps/NoFlat-flat.vmdk");
    let scan = look(&folder, &[]);
    insta::assert_snapshot!("everything", lines(&scan));
    let stems: Vec<Option<&str>> =
        scan.observations.iter().map(|seen| seen.stem.as_ref().map(FileName::as_str)).collect();
    assert_eq!(stems.iter().filter(|stem| stem.is_none()).count(), 1, "only the bad name has no stem");
    assert_eq!(scan.observations.iter().filter(|seen| seen.is_backup).count(), 1);
    assert!(!scan.observations.iter().any(|seen| seen.at.location.path.chars().any(char::is_control)));
    assert!(!folder.reads().iter().any(|path| path.contains("writables_backup")), "a backup is not opened");
}

#[test]
fn what_cant_be_looked_at_is_never_taken_for_gone() {
    let made = || {
        let folder = Arc::new(FakeFolder::default());
        folder.volume("cloudvolumes/apps/Office", 1);
        folder.volume("cloudvolumes/apps/sub/Zip", 2);
        folder
    };
    let folder = made();
    let scan = look(&folder, &[APPS, "appvolumes/packages"]);
    assert!(scan.complete && scan.covers(APPS) && scan.covers("appvolumes/packages"), "a missing folder is empty");
    assert!(!scan.covers("elsewhere"));

    let cases = [
        ("cloudvolumes/apps/sub", FakeFault::Denied),
        ("cloudvolumes/apps/sub", FakeFault::Io),
        ("cloudvolumes/apps", FakeFault::TooMany),
        ("cloudvolumes/apps", FakeFault::Unreachable),
        ("cloudvolumes/apps/sub", FakeFault::Unreachable),
        ("cloudvolumes/apps/Office.vmdk", FakeFault::Unreachable),
        ("cloudvolumes/apps", FakeFault::Vanished),
    ];
    let mut texts = Vec::new();
    for (path, fault) in cases {
        let folder = made();
        folder.fail(path, fault);
        let scan = look(&folder, &[APPS]);
        assert!(!scan.complete && !scan.covers("cloudvolumes/apps/sub"), "{path} {fault:?}");
        texts.push(format!("== {path} {fault:?}\n{}", lines(&scan)));
    }
    insta::assert_snapshot!("failures", texts.join("\n"));
}

#[test]
fn a_descriptor_that_cant_be_read_defers_its_volume_only() {
    for (fault, code) in
        [(FakeFault::Denied, "unreachable"), (FakeFault::Io, "unreachable"), (FakeFault::Vanished, "missing")]
    {
        let folder = Arc::new(FakeFolder::default());
        folder.volume("cloudvolumes/apps/Office", 1);
        folder.volume("cloudvolumes/apps/Zip", 2);
        folder.fail("cloudvolumes/apps/Office.vmdk", fault);
        let scan = look(&folder, &[APPS]);
        assert_eq!(only(&scan), Some((VolumeState::Deferred, code.to_owned())));
        assert_eq!(scan.observations[1].at.skip, None);
        assert_eq!(scan.observations[0].at.files.len(), 3, "its files are known by their names");
    }
}

#[test]
fn depth_and_number_are_bounded() {
    let folder = Arc::new(FakeFolder::default());
    folder.volume("a/1/2/3/4/Deep", 1);
    folder.volume("a/1/2/3/4/5/Deeper", 2);
    folder.volume("a/.hidden/Dot", 3);
    let scan = look(&folder, &["a"]);
    assert_eq!(scan.observations.len(), 1);
    assert!(!scan.complete && !scan.covers("a/1/2/3/4/5") && scan.covers("a/1/2/3/4"));
    insta::assert_snapshot!("deep", lines(&scan));
    let named = look(&folder, &["a", "a/1/2/3/4/5"]);
    assert_eq!(named.observations.len(), 2);
    assert!(named.complete);
}

#[test]
fn a_flood_of_files_or_of_text_drowns_only_what_it_is_in() {
    let folder = Arc::new(FakeFolder::default());
    folder.volume("b/Office", 1);
    for number in 0..=MAX_ENTRIES {
        folder.file(&format!("a/{number}"), 1, b"");
    }
    let scan = look(&folder, &["a", "b"]);
    assert_eq!(scan.observations.len(), 1);
    assert!(!scan.complete && !scan.covers("a") && scan.covers("b"));

    let folder = Arc::new(FakeFolder::default());
    let text = "# Disk DescriptorFile\nversion=1\nCID=1\ncreateType=\"vmfs\"\nRW 8 ZERO\n#";
    let text = format!("{text}{}", "x".repeat((64 << 10) - text.len()));
    let most = MAX_DESCRIPTOR_BYTES / text.len();
    for number in 0..most + 2 {
        folder.file(&format!("a/{number:04}.vmdk"), 64 << 10, text.as_bytes());
    }
    let scan = look(&folder, &["a"]);
    assert_eq!(scan.observations.iter().filter(|seen| seen.at.skip.is_none()).count(), most);
    assert_eq!(scan.fresh_descriptors.len(), most, "the rest is not skip in memory");
    let skip = scan.observations.last().unwrap().at.skip.clone().unwrap();
    assert_eq!(skip.reason.text, "the descriptors of this datastore are longer than 67108864 bytes in all");
}

#[test]
fn nested_folders_are_scanned_once_and_keep_their_kinds() {
    let folder = Arc::new(FakeFolder::default());
    folder.volume("x/Office", 1);
    folder.volume("x/y/Zip", 2);
    let mut view = folder.view("nfs01", &["x", "x/y", "x"]);
    view.folders[1].kind = Some(Kind::Package);
    let scan = scan(&view, &DescriptorCache::default(), now());
    let kinds: Vec<Kind> = scan.observations.iter().map(|seen| seen.kind).collect();
    assert_eq!(kinds, [Kind::Image, Kind::Package]);
    assert_eq!(scan.observations[0].at.location.site, SiteName("dc1".to_owned()));
}

#[test]
fn only_changed_descriptors_are_read_again() {
    let folder = Arc::new(FakeFolder::default());
    folder.volume("cloudvolumes/apps/Office", 1);
    folder.volume("cloudvolumes/apps/Zip", 2);
    for flat in ["cloudvolumes/apps/Office-flat.vmdk", "cloudvolumes/apps/Zip-flat.vmdk"] {
        folder.change(flat, |flat| flat.bytes = 1 << 20);
    }
    let view = folder.view("nfs01", &[APPS]);
    let mut cache = DescriptorCache::default();
    let mut round = |at: &str| {
        let scan = scan(&view, &cache, at.parse().unwrap());
        cache.absorb(&scan);
        (folder.reads(), scan.observations.len(), cache.len())
    };
    let all = ["cloudvolumes/apps/Office.vmdk".to_owned(), "cloudvolumes/apps/Zip.vmdk".to_owned()];
    assert_eq!(round("2026-11-22T04:15:00Z"), (all.to_vec(), 2, 2));
    assert_eq!(round("2026-11-22T04:20:00Z"), (vec![], 2, 2));
    folder.change(&all[1], |zip| zip.mtime = at("2026-11-22T04:24:59Z"));
    assert_eq!(round("2026-11-22T04:25:00Z"), (vec![all[1].clone()], 2, 2));
    assert_eq!(round("2026-11-22T04:30:00Z"), (vec![all[1].clone()], 2, 2), "it was too young to be trusted");
    assert_eq!(round("2026-11-22T04:35:00Z"), (vec![], 2, 2));
    folder.change(&all[0], |office| office.bytes += 1);
    folder.remove("cloudvolumes/apps/Zip.vmdk");
    folder.remove("cloudvolumes/apps/Zip-flat.vmdk");
    assert_eq!(round("2026-11-22T04:40:00Z"), (vec![all[0].clone()], 1, 1));
}

#[test]
fn a_lock_defers_its_volume() {
    let folder = Arc::new(FakeFolder::default());
    folder.volume("cloudvolumes/apps/Office", 1);
    folder.volume("cloudvolumes/apps/Zip", 2);
    // The double numbers its files from 100; Office's extent is the second.
    let lock = |name: &str| {
        let path = format!("cloudvolumes/apps/{name}");
        folder.file(&path, 84, b"");
        folder.change(&path, |lock| lock.mtime = now());
    };
    lock(".lck-6500000000000000");
    let scan = look(&folder, &[APPS]);
    assert_eq!(only(&scan), Some((VolumeState::Deferred, "locked".to_owned())));
    assert_eq!(scan.observations[1].at.skip, None);
    lock(".lck-ffff000000000000");
    let scan = look(&folder, &[APPS]);
    assert!(scan.observations.iter().all(|seen| seen.at.skip.as_ref().unwrap().reason.code.as_str() == "locked"));
}

#[test]
fn folders_in_other_capitals_are_looked_through() {
    let folder = Arc::new(FakeFolder::default());
    folder.volume("CloudVolumes/Apps/Office", 1);
    folder.volume("cloudvolumes/apps/Zip", 2);
    folder.volume("AppVolumes/Writables/sub/jdoe", 3);
    let scan = look(&folder, &[]);
    let kinds: Vec<(Kind, &str)> =
        scan.observations.iter().map(|seen| (seen.kind, seen.at.location.path.as_str())).collect();
    let expected = [
        (Kind::Writable, "AppVolumes/Writables/sub/jdoe.vmdk"),
        (Kind::Appstack, "CloudVolumes/Apps/Office.vmdk"),
        (Kind::Appstack, "cloudvolumes/apps/Zip.vmdk"),
    ];
    assert_eq!(kinds, expected);
    assert!(scan.complete && scan.covers("CloudVolumes/Apps") && scan.covers("cloudvolumes/apps"));
    folder.fail("AppVolumes", FakeFault::Denied);
    assert!(look(&folder, &[]).complete, "who may not list the folder above may list the one that is named");
    folder.fail("CloudVolumes/Apps", FakeFault::Denied);
    let scan = look(&folder, &[]);
    assert!(!scan.complete && scan.problems.iter().any(|problem| problem.code.hides_volumes()));
}

#[test]
fn a_file_that_cant_be_looked_at_defers_its_volume_and_is_named() {
    let folder = Arc::new(FakeFolder::default());
    folder.volume("cloudvolumes/apps/Office", 1);
    folder.volume("cloudvolumes/apps/Good", 2);
    let broken = |path: &str| {
        folder.change(path, |entry| entry.kind = EntryKind::Unreadable);
        folder.fail(path, FakeFault::Io);
        let scan = look(&folder, &[APPS]);
        folder.change(path, |entry| entry.kind = EntryKind::File);
        folder.heal(path);
        scan
    };
    for file in ["Office-flat.vmdk", "Office.vmdk"] {
        let scan = broken(&format!("{APPS}/{file}"));
        let skip: Vec<_> = scan.observations.iter().map(|seen| seen.at.skip.clone()).collect();
        assert!(scan.reachable && skip[0].is_none(), "the other one is not affected");
        let skip = skip[1].clone().unwrap();
        assert_eq!((skip.state, skip.reason.code.as_str()), (VolumeState::Deferred, "unreachable"));
        assert!(skip.reason.text.contains("on fire"), "{}", skip.reason.text);
    }
    let scan = broken("cloudvolumes/apps/Office.vmdk.metadata");
    assert!(scan.observations.iter().all(|seen| seen.at.skip.is_none()));
    folder.file("cloudvolumes/apps/more", 1, b"");
    let scan = broken("cloudvolumes/apps/more");
    assert!(!scan.complete && !scan.covers("cloudvolumes/apps/more"), "it may be a folder with volumes");
}

#[test]
fn a_young_file_is_left_alone() {
    let folder = Arc::new(FakeFolder::default());
    folder.volume("cloudvolumes/apps/Office", 1);
    let mut view = folder.view("nfs01", &[APPS]);
    view.settle = SignedDuration::from_mins(1);
    let skip = |mtime: &str| {
        folder.change("cloudvolumes/apps/Office-flat.vmdk", |flat| flat.mtime = at(mtime));
        let scan = scan(&view, &DescriptorCache::default(), now());
        scan.observations[0].at.skip.clone().map(|skip| skip.reason.text)
    };
    assert_eq!(skip("2026-11-22T04:14:00Z"), None);
    assert_eq!(
        skip("2026-11-22T04:14:01Z").unwrap(),
        "Office-flat.vmdk was changed at 2026-11-22T04:14:01Z; it is left alone until nothing has changed for 1m"
    );
    assert!(skip("2026-11-22T04:16:00Z").is_some(), "the file server's clock may be ahead");
    assert_eq!(skip("2036-11-22T04:16:00Z"), None, "a wrong stamp must not keep it from being copied for ever");
}
