use super::*;
use crate::{Reserve, VaultId};
use std::os::unix::fs::MetadataExt;

fn open(path: &Path, expect: Option<VaultId>, allow_create: bool) -> Result<Vault, VaultError> {
    Vault::open(path, &VaultOptions { expect, allow_create, ..options() })
}

#[test]
fn an_empty_folder_becomes_a_vault_only_if_none_is_known() {
    let home = tempfile::tempdir().unwrap();
    let known: VaultId = "6f1f3a52-2b38-4e0e-a3d5-0d6a5fbc0a11".parse().unwrap();
    let (empty, missing) = (home.path().join("empty"), home.path().join("a/b/missing"));
    std::fs::create_dir(&empty).unwrap();
    for path in [&empty, &missing] {
        for create in [false, true] {
            let error = open(path, Some(known), create).unwrap_err();
            assert!(matches!(&error, VaultError::Missing { expected, .. } if *expected == known), "{error}");
            assert!(error.hint().unwrap().contains("mounted"));
        }
        assert!(matches!(open(path, None, false), Err(VaultError::NoVault { .. })));
        assert!(matches!(Vault::open_read_only(path, None), Err(VaultError::NoVault { .. })));
        assert!(matches!(Vault::open_read_only(path, Some(known)), Err(VaultError::Missing { .. })));
    }
    assert!(!missing.exists() && names(&empty).is_empty(), "a refusal makes nothing");
    // A file system that was just made is empty too.
    std::fs::create_dir(empty.join("lost+found")).unwrap();
    for path in [&empty, &missing] {
        let vault = open(path, None, true).unwrap();
        assert_eq!(open(path, Some(vault.id()), false).unwrap().id(), vault.id());
        assert_eq!(open(path, None, true).unwrap().id(), vault.id(), "a vault that is not known is adopted");
        assert_eq!(Vault::open_read_only(path, Some(vault.id())).unwrap().id(), vault.id());
        assert!(matches!(open(path, Some(known), true), Err(VaultError::OtherVault { .. })));
    }
    assert_eq!(names(&missing), ["incoming", "stackferry-vault.json", "trash", "volumes"]);
}

#[test]
fn what_is_no_vault_is_refused_and_stays_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("holiday.jpg"), b"x").unwrap();
    assert!(matches!(open(home.path(), None, true), Err(VaultError::NotAVault { .. })));
    assert_eq!(names(home.path()), ["holiday.jpg"]);

    let bench = bench();
    put(&bench.vault, 1, 1, &disk(1)).unwrap();
    let marker = bench.path.join("stackferry-vault.json");
    let text = std::fs::read_to_string(&marker).unwrap();
    std::fs::write(&marker, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    assert!(matches!(open(&bench.path, None, true), Err(VaultError::NewerFormat { found: 2, known: 1, .. })));
    std::fs::write(&marker, &text[..20]).unwrap();
    assert!(matches!(open(&bench.path, None, true), Err(VaultError::RecordDamaged { .. })));
    std::fs::remove_file(&marker).unwrap();
    let id = bench.vault.id();
    for expect in [None, Some(id)] {
        assert!(matches!(open(&bench.path, expect, true), Err(VaultError::NotAVault { .. })));
    }
}

#[test]
fn a_vault_for_reading_changes_nothing() {
    let bench = bench();
    let version = put(&bench.vault, 1, 1, &disk(1)).unwrap();
    let reader = Vault::open_read_only(&bench.path, None).unwrap();
    assert_whole(&reader.version(&volume(), &version).unwrap(), &disk(1));
    assert_eq!(reader.volumes().unwrap().volumes.len(), 1);
    assert_eq!(reader.versions(&volume()).unwrap().len(), 1);
    let refused: Vec<VaultError> = vec![
        reader.begin(&incoming_spec(&volume(), 2), now()).unwrap_err(),
        reader.resumable(&volume(), &fingerprint(), now()).unwrap_err(),
        reader.ensure_volume(&spec(&volume(), 1)).unwrap_err(),
        reader.pin(&volume(), &version, "", now()).unwrap_err(),
        reader.delete(&volume(), &version, now()).unwrap_err(),
        reader.sweep(now()).unwrap_err(),
    ];
    assert!(refused.iter().all(|error| matches!(error, VaultError::ReadOnly { .. })), "{refused:?}");
}

#[test]
fn only_the_owner_reads_it_or_the_group_too() {
    let home = tempfile::tempdir().unwrap();
    for (group, folder, file, kept) in [(None, 0o700, 0o600, 0o400), (Some("1".to_owned()), 0o750, 0o640, 0o440)] {
        let path = home.path().join(format!("{folder:o}"));
        let vault = Vault::open(&path, &VaultOptions { group: group.clone(), ..options() }).unwrap();
        let version = put(&vault, 1, 1, &disk(1)).unwrap();
        let home = path.join("volumes/appstack/Office");
        let version = home.join(version.to_string());
        let check = |path: &Path, mode: u32| {
            let found = std::fs::metadata(path).unwrap();
            assert_eq!(found.mode() & 0o7777, mode, "{}", path.display());
            assert!(group.is_none() || found.gid() == 1, "{}", path.display());
        };
        check(&path.join("stackferry-vault.json"), file);
        check(&path.join("incoming"), folder);
        for part in [&path, &path.join("volumes"), &path.join("volumes/appstack"), &home, &version] {
            check(part, folder);
        }
        check(&home.join("volume.json"), file);
        for name in [EXTENT, DESCRIPTOR, "manifest.json"] {
            check(&version.join(name), kept);
        }
    }
    let error = Vault::open(home.path(), &VaultOptions { group: Some("no such group".into()), ..options() });
    assert!(matches!(error, Err(VaultError::NoGroup { .. })));
}

#[test]
fn space_is_checked_against_the_reserve() {
    let home = tempfile::tempdir().unwrap();
    let with = |reserve| Vault::open(&home.path().join("vault"), &VaultOptions { reserve, ..options() }).unwrap();
    let vault = with(Reserve::Bytes(0));
    let space = vault.space().unwrap();
    assert!(space.total > space.free && space.free > 0);
    vault.check_space(1).unwrap();
    let error = vault.check_space(u64::MAX).unwrap_err();
    assert!(error.is_no_space() && error.hint().is_some());
    assert!(with(Reserve::Bytes(u64::MAX)).check_space(0).unwrap_err().is_no_space());
    assert!(with(Reserve::Percent(100)).check_space(0).unwrap_err().is_no_space());
    assert_eq!(Reserve::Percent(5).of(1010), 50);
    assert_eq!(Reserve::Percent(200).of(u64::MAX), u64::MAX);
}

#[test]
fn two_that_make_it_at_once_make_one() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("vault");
    std::fs::create_dir(&path).unwrap();
    let ids: Vec<VaultId> = std::thread::scope(|scope| {
        let opened: Vec<_> = (0..8).map(|_| scope.spawn(|| Vault::open(&path, &options()).unwrap().id())).collect();
        opened.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
}
