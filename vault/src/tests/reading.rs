use super::*;
use crate::{Damage, RestoreReport};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

fn check(version: &Version) -> Vec<Damage> {
    version.verify(threads(), &mut |_| {}, &Cancel::default()).unwrap()
}

fn restore(version: &Version, to: &Path, overwrite: bool) -> Result<RestoreReport, VaultError> {
    version.restore(to, overwrite, &mut |_| {}, &Cancel::default())
}

/// Writes into a committed file, as a failing disk would.
fn spoil(path: &Path, at: u64, bytes: &[u8]) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

fn one(extent: &[u8]) -> (Bench, VersionId, Version) {
    let bench = bench();
    let id = put(&bench.vault, 1, 1, extent).unwrap();
    let version = bench.vault.version(&volume(), &id).unwrap();
    (bench, id, version)
}

#[test]
fn a_version_is_restored_as_it_was() {
    let disk = disk(1);
    let (bench, id, version) = one(&disk);
    let to = bench.path.parent().unwrap().join("restored/here");
    let mut reported = Vec::new();
    let report = version.restore(&to, false, &mut |bytes| reported.push(bytes), &Cancel::default()).unwrap();
    assert_eq!((report.files, report.bytes), (2, version.manifest().logical_bytes()));
    assert!(reported.is_sorted() && *reported.last().unwrap() == report.bytes);
    assert_eq!(names(&to), [EXTENT, DESCRIPTOR]);
    assert!(std::fs::read(to.join(EXTENT)).unwrap() == disk);
    let (back, source) =
        (std::fs::metadata(to.join(EXTENT)).unwrap(), std::fs::metadata(bench.version_path(&id, EXTENT)).unwrap());
    assert!(back.blocks() * 512 <= source.blocks() * 512 * 101 / 100 + (64 << 10));
    assert!(back.blocks() * 512 < disk.len() as u64 * 3 / 4, "holes stay holes");
    assert_eq!((back.mtime(), back.mtime_nsec()), (1_767_323_045, 123_456_789));
    assert_eq!((source.mtime(), source.mtime_nsec()), (1_767_323_045, 123_456_789));
}

#[test]
fn nothing_is_overwritten_unless_told_to() {
    let (bench, _, version) = one(&disk(1));
    let to = bench.path.parent().unwrap().join("restored");
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join(DESCRIPTOR), b"mine").unwrap();
    assert!(matches!(restore(&version, &to, false), Err(VaultError::Exists { .. })));
    assert_eq!(
        (names(&to), std::fs::read(to.join(DESCRIPTOR)).unwrap()),
        (vec![DESCRIPTOR.to_owned()], b"mine".into())
    );
    restore(&version, &to, true).unwrap();
    assert_eq!(names(&to), [EXTENT, DESCRIPTOR]);
    assert_ne!(std::fs::read(to.join(DESCRIPTOR)).unwrap(), b"mine");
    // A folder in the way is not overwritten in any case.
    let to = bench.path.parent().unwrap().join("other");
    std::fs::create_dir_all(to.join(EXTENT)).unwrap();
    assert!(matches!(restore(&version, &to, true), Err(VaultError::Exists { .. })));
}

#[test]
fn every_kind_of_damage_is_found() {
    let disk = disk(1);
    let cases: [(u64, &[u8], Option<u64>); 4] = [
        (5, b"\0", Some(0)),
        (BLOCK_BYTES + 70_000, b"x", Some(1)),
        (3 * BLOCK_BYTES + 4999, b"\0", Some(3)),
        (disk.len() as u64, b"longer", None),
    ];
    for (at, bytes, block) in cases {
        let (bench, id, version) = one(&disk);
        spoil(&bench.version_path(&id, EXTENT), at, bytes);
        let damage = check(&version);
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert_eq!((damage[0].file.as_str(), damage[0].block), (EXTENT, block));
        let to = bench.path.parent().unwrap().join("restored");
        let error = restore(&version, &to, false).unwrap_err();
        let VaultError::Damaged { damage, .. } = &error else { panic!("{error}") };
        assert_eq!((damage.file.as_str(), damage.block), (EXTENT, block));
        assert!(!to.exists() || names(&to).is_empty(), "no file with any name is left");
    }
    let (bench, id, version) = one(&disk);
    std::fs::write(bench.version_path(&id, "more"), b"x").unwrap();
    std::fs::remove_file(bench.version_path(&id, DESCRIPTOR)).unwrap();
    std::fs::remove_file(bench.version_path(&id, EXTENT)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", bench.version_path(&id, EXTENT)).unwrap();
    let found: Vec<_> = check(&version).into_iter().map(|damage| (damage.file, damage.block)).collect();
    assert_eq!(found, [("more".into(), None), (DESCRIPTOR.into(), None), (EXTENT.to_owned(), None)]);
    assert!(version.open(DESCRIPTOR).unwrap_err().is_damaged());
    assert!(version.open("none").unwrap_err().is_not_found());
}

#[test]
fn a_hole_where_data_should_be_is_damage() {
    let disk = disk(1);
    let (bench, id, version) = one(&disk);
    let path = bench.version_path(&id, EXTENT);
    std::fs::remove_file(&path).unwrap();
    std::fs::File::create_new(&path).unwrap().set_len(disk.len() as u64).unwrap();
    let blocks: Vec<_> = check(&version).into_iter().map(|damage| damage.block.unwrap()).collect();
    assert_eq!(blocks, [0, 2, 3]);
}

#[test]
fn zeros_that_are_stored_are_no_damage() {
    let disk = disk(1);
    let (bench, id, version) = one(&disk);
    spoil(&bench.version_path(&id, EXTENT), BLOCK_BYTES, &vec![0; usize::try_from(BLOCK_BYTES).unwrap()]);
    assert_eq!(check(&version), []);
    let to = bench.path.parent().unwrap().join("restored");
    restore(&version, &to, false).unwrap();
    assert!(std::fs::read(to.join(EXTENT)).unwrap() == disk);
}

#[test]
fn cancelled_work_ends_and_leaves_nothing() {
    let (bench, _, version) = one(&disk(1));
    let cancel = Cancel::default();
    cancel.cancel();
    assert!(version.verify(threads(), &mut |_| {}, &cancel).unwrap_err().is_cancelled());
    let to = bench.path.parent().unwrap().join("restored");
    let cancel = Cancel::default();
    let error = version.restore(&to, false, &mut |_| cancel.cancel(), &cancel).unwrap_err();
    assert!(error.is_cancelled());
    assert!(names(&to).is_empty());
}

#[test]
fn what_a_killed_restore_left_is_removed_by_the_next() {
    let (bench, _, version) = one(&disk(1));
    let to = bench.path.parent().unwrap().join("restored");
    std::fs::create_dir(&to).unwrap();
    let (left, held, foreign) = (
        ".stackferry-restore-0123456789abcdef-0-x",
        ".stackferry-restore-0123456789abcdef-1-x",
        ".stackferry-restore-notes",
    );
    for name in [left, held, foreign] {
        std::fs::write(to.join(name), b"x").unwrap();
    }
    let file = std::fs::File::open(to.join(held)).unwrap();
    file.lock().unwrap();
    restore(&version, &to, false).unwrap();
    assert_eq!(names(&to), [held, foreign, EXTENT, DESCRIPTOR]);
}

#[test]
fn long_names_and_empty_files_are_restored_too() {
    let bench = bench();
    bench.vault.ensure_volume(&spec(&volume(), 1)).unwrap();
    let mut incoming = bench.vault.begin(&incoming_spec(&volume(), 1), now()).unwrap();
    let long = "ä".repeat(127);
    let parts: [(&str, &[u8]); 3] = [("empty", b""), (&long, b"x"), ("zeros", &[0; 9])];
    for (name, bytes) in parts {
        fill(&incoming.file(&FileName::new(name).unwrap(), bytes.len() as u64).unwrap(), bytes);
    }
    let id = incoming.allocate(now(), None).unwrap();
    incoming.commit(&manifest(&volume(), &id, 1, &parts), &mut || Ok(())).unwrap();
    let version = bench.vault.version(&volume(), &id).unwrap();
    assert_eq!(check(&version), []);
    let to = bench.path.parent().unwrap().join("restored");
    restore(&version, &to, false).unwrap();
    for (name, bytes) in parts {
        assert_eq!(std::fs::read(to.join(name)).unwrap(), bytes);
    }
}
