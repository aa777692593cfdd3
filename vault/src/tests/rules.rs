use jiff::SignedDuration;

use super::*;
use crate::{DeleteRequest, MAX_AGE, Marks, Pin, VolumeRecord};

fn good(vault: &Vault) -> Vec<(u64, bool)> {
    vault.versions(&volume()).unwrap().iter().map(|entry| (entry.id.seq(), entry.is_good())).collect()
}

/// Writes into a committed file.
fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn the_last_version_that_can_be_read_stays() {
    type Harm = fn(&Path);
    // What was done to the newest version, and whether reading it is what tells.
    let harms: [(&str, Harm); 11] = [
        ("the extent is missing", |dir| std::fs::remove_file(dir.join(EXTENT)).unwrap()),
        ("the descriptor is missing", |dir| std::fs::remove_file(dir.join(DESCRIPTOR)).unwrap()),
        ("the extent is cut", |dir| cut(&dir.join(EXTENT), 1 << 20)),
        ("the extent is too long", |dir| cut(&dir.join(EXTENT), 4 << 20)),
        ("the descriptor has other bytes", |dir| overwrite(&dir.join(DESCRIPTOR), 3, b"X")),
        ("the extent is a hole of its length", |dir| {
            let (path, long) = (dir.join(EXTENT), disk(1).len() as u64);
            let time = path.metadata().unwrap().modified().unwrap();
            cut(&path, 0);
            cut(&path, long);
            std::fs::File::open(&path).unwrap().set_modified(time).unwrap();
        }),
        ("the extent has other bytes", |dir| overwrite(&dir.join(EXTENT), 2_500_000, b"other bytes")),
        ("the extent is a folder", |dir| {
            std::fs::remove_file(dir.join(EXTENT)).unwrap();
            std::fs::create_dir(dir.join(EXTENT)).unwrap();
        }),
        ("the extent is a link", |dir| {
            std::fs::rename(dir.join(EXTENT), dir.join("moved")).unwrap();
            std::os::unix::fs::symlink("moved", dir.join(EXTENT)).unwrap();
        }),
        ("the manifest is missing", |dir| std::fs::remove_file(dir.join("manifest.json")).unwrap()),
        ("the manifest has other bytes", |dir| overwrite(&dir.join("manifest.json"), 100, b"\x01")),
    ];
    for (what, harm) in harms {
        let bench = bench();
        let vault = &bench.vault;
        let (one, two) = (put(vault, 1, 1, &disk(1)).unwrap(), put(vault, 2, 1, &disk(2)).unwrap());
        harm(bench.version_path(&two, EXTENT).parent().unwrap());
        let none = std::collections::BTreeSet::new();
        let versions = [one.clone()];
        let request = DeleteRequest { versions: &versions, damaged: &none, now: now() };
        let outcome = vault.delete_versions(&volume(), request, &Cancel::default()).unwrap();
        assert!(outcome.versions.is_empty(), "{what}: {outcome:?}");
        let [found] = &outcome.found[..] else { panic!("{what}: {outcome:?}") };
        assert!(found.version == two && !found.damage.is_empty(), "{what}: {outcome:?}");
        assert!(vault.volume(&volume()).unwrap().damaged.contains_key(&two), "{what}: it is marked");
        assert!(matches!(vault.delete(&volume(), &one, now()), Err(VaultError::LastGood { .. })), "{what}");
        assert_whole(&vault.version(&volume(), &one).unwrap(), &disk(1));
        // The damaged one may go, since the other one can be read.
        vault.delete(&volume(), &two, now()).unwrap();
    }
}

fn cut(path: &Path, bytes: u64) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

#[test]
fn a_doubt_is_settled_by_reading_back_once() {
    let bench = bench();
    let vault = &bench.vault;
    let versions: Vec<_> = (1..=3u8).map(|at| put(vault, at.into(), 1, &disk(at)).unwrap()).collect();
    let path = bench.version_path(&versions[2], EXTENT);
    let time = path.metadata().unwrap().modified().unwrap();
    // As after a copy of the vault that kept no times.
    std::fs::File::open(&path).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    let none = std::collections::BTreeSet::new();
    let request = DeleteRequest { versions: &versions[..2], damaged: &none, now: now() };
    let outcome = vault.delete_versions(&volume(), request, &Cancel::default()).unwrap();
    assert!(outcome.found.is_empty() && outcome.versions.iter().all(|(_, result)| result.is_ok()), "{outcome:?}");
    assert_eq!(good(vault), [(3, true)]);
    assert_eq!(path.metadata().unwrap().modified().unwrap(), time, "the next one finds no doubt");
}

#[test]
fn the_last_good_version_of_each_generation_stays() {
    let bench = bench();
    let vault = &bench.vault;
    let delete = |version: &VersionId| vault.delete(&volume(), version, now());
    let (one, two) = (put(vault, 1, 1, &disk(1)).unwrap(), put(vault, 2, 1, &disk(2)).unwrap());
    let next = put(vault, 3, 2, &disk(3)).unwrap();
    assert!(matches!(delete(&next), Err(VaultError::LastGood { generation: Generation(2), .. })));
    vault.mark_damaged(&volume(), &two, "block 3", now()).unwrap();
    assert!(matches!(delete(&one), Err(VaultError::LastGood { generation: Generation(1), .. })));
    vault.clear_damage(&volume(), &two).unwrap();
    delete(&one).unwrap();
    assert!(delete(&one).unwrap_err().is_not_found());
    assert!(matches!(delete(&two), Err(error) if error.is_protected()));
    // A mark that is wrong lets none go, and is taken off.
    vault.mark_damaged(&volume(), &two, "block 3", now()).unwrap();
    assert!(matches!(delete(&two), Err(error) if error.is_protected()));
    assert_eq!(good(vault), [(2, true), (3, true)]);
    // One that is damaged can't be read, and may go.
    vault.mark_damaged(&volume(), &two, "block 3", now()).unwrap();
    overwrite(&bench.version_path(&two, EXTENT), 10, b"other bytes");
    delete(&two).unwrap();
    assert_eq!(good(vault), [(3, true)]);
    assert!(names(&bench.path.join("trash")).is_empty());
    assert!(vault.volume(&volume()).unwrap().damaged.is_empty());
}

#[test]
fn a_number_is_never_given_twice() {
    let mut bench = bench();
    put(&bench.vault, 1, 1, &disk(1)).unwrap();
    let two = put(&bench.vault, 2, 1, &disk(2)).unwrap();
    bench.vault.delete(&volume(), &two, now()).unwrap();
    bench.reopen();
    assert_eq!(put(&bench.vault, 3, 1, &disk(3)).unwrap().seq(), 3);
    let mut never = bench.vault.begin(&incoming_spec(&volume(), 4), now()).unwrap();
    assert_eq!(never.allocate(now(), None).unwrap().seq(), 4);
    never.discard().unwrap();
    assert_eq!(put(&bench.vault, 5, 1, &disk(3)).unwrap().seq(), 5);
}

#[test]
fn pins_and_locks_hold() {
    let mut bench = bench();
    put(&bench.vault, 1, 1, &disk(1)).unwrap();
    let two = put(&bench.vault, 2, 1, &disk(2)).unwrap();
    bench.vault.pin(&volume(), &two, "before the upgrade", now()).unwrap();
    bench.reopen();
    let vault = &bench.vault;
    assert!(matches!(vault.delete(&volume(), &two, now()), Err(VaultError::Pinned { .. })));
    assert_eq!(vault.versions(&volume()).unwrap()[1].pin.as_ref().unwrap().note, "before the upgrade");
    vault.unpin(&volume(), &two).unwrap();
    vault.unpin(&volume(), &two).unwrap();
    let until = now() + MAX_AGE;
    vault.lock_until(&volume(), &two, until).unwrap();
    vault.lock_until(&volume(), &two, now()).unwrap();
    assert_eq!(vault.versions(&volume()).unwrap()[1].locked_until, Some(until), "a lock only gets longer");
    assert!(matches!(vault.delete(&volume(), &two, now()), Err(VaultError::Locked { .. })));
    vault.delete(&volume(), &two, until).unwrap();
    assert!(vault.volume(&volume()).unwrap().locks.is_empty());
    let none: VersionId = "20260101T000000Z-9".parse().unwrap();
    assert!(vault.pin(&volume(), &none, "", now()).unwrap_err().is_not_found());
    assert!(vault.pin(&"image/none".parse().unwrap(), &none, "", now()).unwrap_err().is_not_found());
}

#[test]
fn a_version_is_locked_from_its_first_moment() {
    let bench = bench();
    let vault = &bench.vault;
    put(vault, 1, 1, &disk(1)).unwrap();
    let mut incoming = vault.begin(&incoming_spec(&volume(), 2), now()).unwrap();
    write(&incoming, &disk(2)).unwrap();
    let version = incoming.allocate(now(), Some(now() + MAX_AGE)).unwrap();
    incoming.commit(&manifest(&volume(), &version, 1, &files(&disk(2))), &mut || Ok(())).unwrap();
    assert!(matches!(vault.delete(&volume(), &version, now()), Err(VaultError::Locked { .. })));
}

#[test]
fn who_reads_a_version_keeps_it() {
    let bench = bench();
    let vault = &bench.vault;
    let one = put(vault, 1, 1, &disk(1)).unwrap();
    put(vault, 2, 1, &disk(2)).unwrap();
    let version = vault.version(&volume(), &one).unwrap();
    let file = version.open(EXTENT).unwrap();
    let again = vault.version(&volume(), &one).unwrap();
    let busy = || vault.delete(&volume(), &one, now()).unwrap_err().is_busy();
    assert!(busy());
    drop((version, again));
    assert!(busy(), "an open file holds it too");
    drop(file);
    vault.delete(&volume(), &one, now()).unwrap();
    assert!(matches!(vault.version(&volume(), &one), Err(VaultError::NoVersion { .. })));
}

#[test]
fn a_volume_is_known_by_what_was_first_told_of_it() {
    let bench = bench();
    let vault = &bench.vault;
    let mut seen = spec(&volume(), 1);
    seen.generation.guid = None;
    let first = vault.ensure_volume(&seen).unwrap();
    assert_eq!((first.next_seq, first.generations.len()), (1, 1));
    assert_eq!(vault.ensure_volume(&seen).unwrap(), first);
    seen.generation.guid = Some("g1".into());
    seen.location.datastore = "nfs02".into();
    let learned = vault.ensure_volume(&seen).unwrap();
    assert_eq!((learned.locations.len(), learned.generations[0].guid.as_deref()), (2, Some("g1")));
    assert_eq!(vault.ensure_volume(&spec(&volume(), 2)).unwrap().generations.len(), 2);
    let mut other = seen.clone();
    other.generation.guid = Some("g2".into());
    assert!(matches!(vault.ensure_volume(&other), Err(VaultError::Conflict { .. })));
    let mut other = seen.clone();
    other.stem = FileName::stem("office").unwrap();
    assert!(matches!(vault.ensure_volume(&other), Err(VaultError::Conflict { .. })));
    assert_eq!(vault.volumes().unwrap().volumes, [vault.volume(&volume()).unwrap()]);
}

#[test]
fn what_cannot_be_read_is_told_and_not_hidden() {
    let bench = bench();
    let vault = &bench.vault;
    let version = put(vault, 1, 1, &disk(1)).unwrap();
    let other: VolumeId = "writable/CORP!5C!jdoe".parse().unwrap();
    put_as(vault, &other, 2, 1, &disk(2)).unwrap();
    let home = bench.path.join("volumes");
    std::fs::create_dir_all(home.join("appstack/Empty")).unwrap();
    std::fs::create_dir_all(home.join("appstack/Strange/20260101T000000Z-1")).unwrap();
    std::fs::create_dir(home.join("disks")).unwrap();
    std::fs::write(home.join("appstack/Office/notes.txt"), b"x").unwrap();
    std::fs::write(home.join("appstack/file"), b"x").unwrap();
    let path = home.join("writable/CORP!5C!jdoe/volume.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"next_seq\": 2", "\"next_seq\": 1")).unwrap();
    let found = vault.volumes().unwrap();
    let known: Vec<_> = found.volumes.iter().map(|volume| (volume.id.to_string(), volume.rebuilt.is_some())).collect();
    assert_eq!(known, [("appstack/Office".to_owned(), false), ("writable/CORP!5C!jdoe".to_owned(), true)]);
    let mut problems: Vec<_> = found
        .problems
        .iter()
        .map(|problem| problem.path.strip_prefix(&home).unwrap().to_str().unwrap().to_owned())
        .collect();
    problems.sort();
    let expected = ["appstack/Office/notes.txt", "appstack/Strange", "appstack/file", "disks", "writable/CORP!5C!jdoe"];
    assert_eq!(problems, expected);
    assert_eq!(vault.versions(&other).unwrap().len(), 1);
    let strange: VolumeId = "appstack/Strange".parse().unwrap();
    assert!(vault.versions(&strange).unwrap_err().is_not_found());
    assert!(vault.outline(&strange).unwrap_err().is_damaged());

    // A damaged manifest is listed with why, and no longer opened.
    let path = bench.version_path(&version, "manifest.json");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let entries = vault.versions(&volume()).unwrap();
    assert!(!entries[0].is_good() && entries[0].problem().unwrap().contains("digest does not match"));
    assert!(vault.version(&volume(), &version).unwrap_err().is_damaged());
    // Its disk may be whole: it stays until another version can be read.
    assert!(vault.delete(&volume(), &version, now()).unwrap_err().is_protected());
    put(vault, 2, 1, &disk(2)).unwrap();
    vault.delete(&volume(), &version, now()).unwrap();
}

#[test]
fn a_version_in_the_wrong_place_is_not_believed() {
    let bench = bench();
    let vault = &bench.vault;
    let one = put(vault, 1, 1, &disk(1)).unwrap();
    let home = bench.path.join("volumes/appstack/Office");
    std::fs::rename(home.join(one.to_string()), home.join("20260101T000000Z-7")).unwrap();
    let moved: VersionId = "20260101T000000Z-7".parse().unwrap();
    assert!(vault.version(&volume(), &moved).unwrap_err().is_damaged());
    assert_eq!(put(vault, 2, 1, &disk(1)).unwrap().seq(), 8, "its number counts all the same");
}

#[test]
fn what_does_not_agree_is_not_committed() {
    let bench = bench();
    let vault = &bench.vault;
    vault.ensure_volume(&spec(&volume(), 1)).unwrap();
    let extent = disk(1);
    type Change = Box<dyn Fn(&mut Manifest)>;
    let changes: Vec<Change> = vec![
        Box::new(|manifest| manifest.version = VersionId::new(now(), 99)),
        Box::new(|manifest| manifest.volume = "appstack/Other".parse().unwrap()),
        Box::new(|manifest| manifest.generation = Generation(9)),
        Box::new(|manifest| manifest.stem = FileName::stem("Other").unwrap()),
        Box::new(|manifest| drop(manifest.files.pop())),
        Box::new(|manifest| manifest.files.push(record("more", b"x"))),
        Box::new(|manifest| manifest.files[1] = record(EXTENT, b"shorter")),
        Box::new(|manifest| manifest.files[1].blake3 = Digest::of(b"other")),
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut incoming = vault.begin(&incoming_spec(&volume(), at as u64), now()).unwrap();
        write(&incoming, &extent).unwrap();
        let version = incoming.allocate(now(), None).unwrap();
        let mut manifest = manifest(&volume(), &version, 1, &files(&extent));
        change(&mut manifest);
        let error = incoming.commit(&manifest, &mut || Ok(())).unwrap_err();
        assert!(matches!(error, VaultError::Incomplete { .. }) || error.is_damaged(), "{at}: {error}");
    }
    let mut incoming = vault.begin(&incoming_spec(&volume(), 100), now()).unwrap();
    write(&incoming, &extent).unwrap();
    let open = incoming.file(&FileName::new(EXTENT).unwrap(), extent.len() as u64).unwrap();
    assert!(incoming.file(&FileName::new(EXTENT).unwrap(), extent.len() as u64).unwrap_err().is_busy());
    let version = incoming.allocate(now(), None).unwrap();
    let whole = manifest(&volume(), &version, 1, &files(&extent));
    assert!(incoming.commit(&whole, &mut || Ok(())).unwrap_err().is_busy(), "a file is open for writing");
    drop(open);
    assert!(vault.versions(&volume()).unwrap().is_empty());
}

#[test]
fn who_lost_the_lease_does_not_commit() {
    let bench = bench();
    let vault = &bench.vault;
    vault.ensure_volume(&spec(&volume(), 1)).unwrap();
    let mut incoming = vault.begin(&incoming_spec(&volume(), 1), now()).unwrap();
    write(&incoming, &disk(1)).unwrap();
    let version = incoming.allocate(now(), None).unwrap();
    let manifest = manifest(&volume(), &version, 1, &files(&disk(1)));
    let error = incoming.commit(&manifest, &mut || Err("fence 8 is newer than 7".into())).unwrap_err();
    assert!(matches!(&error, VaultError::Fenced { .. }), "{error}");
    assert!(vault.versions(&volume()).unwrap().is_empty());
    assert!(vault.resumable(&volume(), &fingerprint(), now()).unwrap().is_some(), "the bytes are not lost");
}

#[test]
fn errors_read_well() {
    let (volume, version) = (volume(), VersionId::new(at("2026-11-22T04:15:00Z"), 3));
    let damage = crate::Damage { file: EXTENT.into(), block: Some(7), why: "its digest does not match".into() };
    let errors = [
        VaultError::Damaged { volume: volume.clone(), version: version.clone(), damage: Box::new(damage) },
        VaultError::LastGood { volume: volume.clone(), version, generation: Generation(1) },
        VaultError::NoSpace { path: "/srv".into(), needed: 9, free: 5, reserve: 2 },
        VaultError::system("write", Path::new("/srv/x"), rustix::io::Errno::ROFS),
        VaultError::system("write", Path::new("/srv/x"), rustix::io::Errno::NOSPC),
        VaultError::system("write", Path::new("/srv/x"), rustix::io::Errno::FBIG),
        VaultError::NotAVault { path: "/srv".into() },
        VaultError::NotAFolder { path: "/srv/x".into() },
    ];
    let texts: Vec<String> = errors.iter().map(|error| format!("{error}\n  {}", error.hint().unwrap_or("-"))).collect();
    insta::assert_snapshot!(texts.join("\n"), @r"
    appstack/Office@20261122T041500Z-3 is damaged: Office-flat.vmdk, block 7: its digest does not match
      use another version; the file system or the disk below it may be failing
    appstack/Office@20261122T041500Z-3 is the last good version of generation 1
      copy the volume once more first; the last good version of a generation is never deleted
    9 bytes are needed at /srv, 5 are free, of which 2 are kept in reserve
      free some space, prune versions, or lower `reserve` in [vault]
    user id 0 may not write /srv/x
      the file system is mounted read-only
    can't write /srv/x
      free some space, or prune versions
    can't write /srv/x
      its file system can't hold files so long (FAT ends at 4 GiB, ext4 with blocks of 1 KiB at 4 TiB, ext4 at 16 TiB), or the process may not write them: name a place on another file system, and see `ulimit -f` or LimitFSIZE=
    /srv holds other files and is no vault
      give an empty folder, or the folder that holds stackferry-vault.json
    /srv/x is no folder
      name a folder; one that is missing is made
    ");
}

#[test]
fn a_lost_record_is_made_anew_from_the_manifests() {
    let record = |bench: &Bench| bench.path.join("volumes/appstack/Office/volume.json");
    type Loss = (&'static str, fn(&Path));
    let losses: [Loss; 4] = [
        ("missing", |path| std::fs::remove_file(path).unwrap()),
        ("{}", |path| std::fs::write(path, "{}").unwrap()),
        ("empty", |path| std::fs::write(path, "").unwrap()),
        ("cut", |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() - 9]).unwrap();
        }),
    ];
    for (what, lose) in losses {
        let bench = bench();
        let versions: Vec<VersionId> =
            (1..4).map(|number| put(&bench.vault, number, 1 + u32::from(number > 2), &disk(1)).unwrap()).collect();
        let before = bench.vault.volume(&volume()).unwrap();
        lose(&record(&bench));
        // Reading works at once, and writes nothing.
        let reader = Vault::open_read_only(&bench.path, None).unwrap();
        let read = reader.volume(&volume()).unwrap();
        assert!(read.rebuilt.is_some(), "{what}");
        let same = |record: &VolumeRecord| {
            let numbers: Vec<_> = record.generations.iter().map(|known| (known.number, known.guid.clone())).collect();
            (record.id.clone(), record.stem.clone(), numbers, record.locations.clone(), record.next_seq)
        };
        assert_eq!(same(&read), same(&before), "{what}");
        assert_whole(&reader.version(&volume(), &versions[2]).unwrap(), &disk(1));
        assert_eq!(reader.volumes().unwrap().problems.len(), 1, "{what}");
        assert!(matches!(reader.restore_marks(&volume(), &Marks::default()), Err(VaultError::ReadOnly { .. })));
        assert_eq!(record(&bench).exists(), what != "missing", "{what}");

        // Nothing is deleted before pins and locks are restored, whoever writes the record first.
        let refused = bench.vault.delete(&volume(), &versions[0], now()).unwrap_err();
        assert!(refused.is_damaged(), "{what}: {refused}");
        bench.vault.ensure_volume(&spec(&volume(), 2)).unwrap();
        assert!(bench.vault.delete(&volume(), &versions[0], now()).is_err(), "{what}");
        assert!(bench.vault.outline(&volume()).unwrap().unwrap().record.rebuilt.is_some(), "{what}");
        let never = VersionId::new(now(), 77);
        let pin = Pin { note: "kept".into(), at: now() };
        let marks = Marks {
            pins: [(versions[0].clone(), pin.clone()), (never, pin)].into(),
            locks: [(versions[1].clone(), now() + MAX_AGE)].into(),
            ..Marks::default()
        };
        assert!(bench.vault.restore_marks(&volume(), &marks).unwrap().is_some(), "{what}");
        assert_eq!(bench.vault.restore_marks(&volume(), &marks).unwrap(), None, "{what}");
        let after = bench.vault.volume(&volume()).unwrap();
        assert_eq!((same(&after), after.rebuilt.as_ref()), (same(&before), None), "{what}");
        assert_eq!((after.pins.len(), after.locks.len()), (1, 1), "{what}");
        assert!(matches!(bench.vault.delete(&volume(), &versions[0], now()), Err(VaultError::Pinned { .. })), "{what}");
        assert_eq!(bench.vault.volumes().unwrap().problems, [], "{what}");
        assert_eq!(record(&bench).with_extension("json.damaged").exists(), what != "missing", "{what}");
        assert_eq!(put(&bench.vault, 9, 2, &disk(2)).unwrap().seq(), 4, "{what}");
    }
}

#[test]
fn a_folder_of_another_volume_is_not_taken_over() {
    let bench = bench();
    let other: VolumeId = "appstack/Visio".parse().unwrap();
    put(&bench.vault, 1, 1, &disk(1)).unwrap();
    let (from, to) = (bench.path.join("volumes/appstack/Office"), bench.path.join("volumes/appstack/Visio"));
    std::fs::rename(from, to).unwrap();
    for error in [
        bench.vault.outline(&other).map(drop).unwrap_err(),
        bench.vault.ensure_volume(&spec(&other, 1)).map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, VaultError::RecordDamaged { .. }), "{error}");
    }
}

#[test]
fn numbers_go_on_after_those_that_are_known_elsewhere() {
    let bench = bench();
    bench.vault.ensure_volume(&spec(&volume(), 1)).unwrap();
    let mut incoming = bench.vault.begin(&incoming_spec(&volume(), 1), now()).unwrap();
    incoming.start_numbers_at(7);
    assert_eq!(incoming.allocate(now(), None).unwrap().seq(), 7);
    assert_eq!(incoming.allocate(now(), None).unwrap().seq(), 8);
}

#[test]
fn a_folder_has_another_stamp_after_each_change() {
    let bench = bench();
    let one = put(&bench.vault, 1, 1, &disk(1)).unwrap();
    put(&bench.vault, 2, 1, &disk(2)).unwrap();
    let stamp = || bench.vault.stamps().unwrap().volumes.remove(&volume());
    let changes: [(&str, &dyn Fn()); 4] = [
        ("a pin", &|| bench.vault.pin(&volume(), &one, "kept", now()).unwrap()),
        ("a version more", &|| drop(put(&bench.vault, 3, 1, &disk(3)).unwrap())),
        ("a version less", &|| {
            std::fs::rename(bench.version_path(&one, ""), bench.path.join("trash/lost")).unwrap();
        }),
        ("all gone", &|| std::fs::remove_dir_all(bench.path.join("volumes/appstack/Office")).unwrap()),
    ];
    for (what, change) in changes {
        let before = stamp().unwrap();
        assert!(!before.is_settled(now()), "{what}: it may be changed in the same moment");
        assert!(before.is_settled(now() + SignedDuration::from_secs(60)));
        // The kernel's clock is coarse, and a change in the same tick has the same stamp: that is why a young one is not relied on.
        let probe = bench.path.join("trash/probe");
        let tick = || {
            std::fs::write(&probe, "x").unwrap();
            std::fs::metadata(&probe).unwrap().modified().unwrap()
        };
        let began = tick();
        while tick() == began {
            std::thread::yield_now();
        }
        change();
        assert_ne!(stamp(), Some(before), "{what}");
    }
    std::fs::remove_file(bench.path.join("stackferry-vault.json")).unwrap();
    assert!(matches!(bench.vault.stamps(), Err(VaultError::Missing { .. })));
}
