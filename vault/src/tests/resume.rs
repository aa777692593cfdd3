use super::*;
use crate::MAX_AGE;
use std::os::unix::fs::FileExt;

fn begun(bench: &Bench, transfer: u64) -> Incoming {
    bench.vault.ensure_volume(&spec(&volume(), 1)).unwrap();
    bench.vault.begin(&incoming_spec(&volume(), transfer), now()).unwrap()
}

fn extent() -> FileName {
    FileName::new(EXTENT).unwrap()
}

fn block(bytes: &[u8], at: u64) -> &[u8] {
    let start = usize::try_from(BlockIndex(at).offset()).unwrap();
    &bytes[start..start + BlockIndex(at).len_in(bytes.len() as u64)]
}

#[test]
fn an_interrupted_copy_goes_on_where_it_was() {
    let mut bench = bench();
    let disk = disk(1);
    let incoming = begun(&bench, 1);
    let file = incoming.file(&extent(), disk.len() as u64).unwrap();
    file.write_at(0, block(&disk, 0)).unwrap();
    file.checkpoint(&states(&disk)[..2]).unwrap();
    // Written, and not recorded: it is not there any more when the copy goes on.
    file.write_at(BlockIndex(2).offset(), block(&disk, 2)).unwrap();
    let vault = bench.vault.clone();
    let resumable = || vault.resumable(&volume(), &fingerprint(), now()).unwrap();
    assert!(resumable().is_none(), "it is being written");
    drop(incoming);
    assert!(resumable().is_none(), "an open file holds it too");
    drop(file);
    bench.reopen();
    assert!(vault.resumable(&volume(), &Digest::of(b"other"), now()).unwrap().is_none());
    assert!(vault.resumable(&"appstack/Other".parse().unwrap(), &fingerprint(), now()).unwrap().is_none());

    let mut incoming = resumable().unwrap();
    assert!(incoming.is_resumed() && incoming.transfer() == TransferId::new(1));
    let file = incoming.file(&extent(), disk.len() as u64).unwrap();
    let recorded = file.recorded().unwrap();
    let found: Vec<_> = (0..4).map(|at| recorded.get(BlockIndex(at))).collect();
    assert_eq!(found, [states(&disk)[0].1, BlockState::Zero, BlockState::Unknown, BlockState::Unknown]);
    assert_eq!(file.next_data(BLOCK_BYTES).unwrap(), None, "what is not recorded is a hole again");
    let mut first = vec![0; block(&disk, 0).len()];
    file.read_at(0, &mut first).unwrap();
    assert_eq!(recorded.get(BlockIndex(0)), BlockState::Data(Digest::of(&first)));
    for at in [2, 3] {
        file.write_at(BlockIndex(at).offset(), block(&disk, at)).unwrap();
    }
    file.checkpoint(&states(&disk)[2..]).unwrap();
    drop(file);
    let descriptor = files(&disk)[0];
    fill(&incoming.file(&FileName::new(DESCRIPTOR).unwrap(), descriptor.1.len() as u64).unwrap(), descriptor.1);
    let version = incoming.allocate(now(), None).unwrap();
    incoming.commit(&manifest(&volume(), &version, 1, &files(&disk)), &mut || Ok(())).unwrap();
    assert_whole(&vault.version(&volume(), &version).unwrap(), &disk);
    assert!(names(&bench.path.join("incoming")).is_empty());
}

#[test]
fn changed_bytes_do_not_agree_with_what_was_recorded() {
    let bench = bench();
    let disk = disk(1);
    let incoming = begun(&bench, 1);
    let file = incoming.file(&extent(), disk.len() as u64).unwrap();
    fill(&file, &disk);
    let path = file.path().to_owned();
    drop((incoming, file));
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"!", 5).unwrap();
    let incoming = bench.vault.resumable(&volume(), &fingerprint(), now()).unwrap().unwrap();
    let file = incoming.file(&extent(), disk.len() as u64).unwrap();
    let mut first = vec![0; block(&disk, 0).len()];
    file.read_at(0, &mut first).unwrap();
    assert_ne!(file.recorded().unwrap().get(BlockIndex(0)), BlockState::Data(Digest::of(&first)));
}

#[test]
fn a_file_of_another_length_is_begun_anew() {
    let bench = bench();
    let incoming = begun(&bench, 1);
    write(&incoming, &disk(1)).unwrap();
    let file = incoming.file(&extent(), 5).unwrap();
    assert_eq!(file.recorded().unwrap().first_unknown(), Some(BlockIndex(0)));
    assert_eq!(file.next_data(0).unwrap(), None);
    drop(file);
    let error = incoming.file(&FileName::new("manifest.json").unwrap(), 5).unwrap_err();
    assert!(matches!(error, VaultError::Incomplete { .. }));
    assert!(matches!(incoming.file(&extent(), u64::MAX), Err(VaultError::Incomplete { .. })));
}

#[test]
fn the_newest_young_one_is_found_and_the_old_ones_are_swept() {
    let bench = bench();
    let vault = &bench.vault;
    drop(begun(&bench, 1));
    drop(vault.begin(&incoming_spec(&volume(), 2), now()).unwrap());
    assert!(vault.begin(&incoming_spec(&volume(), 2), now()).unwrap_err().is_busy(), "the id is taken");
    let found = vault.resumable(&volume(), &fingerprint(), now()).unwrap().unwrap();
    assert_eq!(found.transfer(), TransferId::new(2));
    let second = vault.resumable(&volume(), &fingerprint(), now()).unwrap().unwrap();
    assert_eq!(second.transfer(), TransferId::new(1), "the newest is taken");
    drop(second);

    let later = now() + MAX_AGE;
    assert!(vault.resumable(&volume(), &fingerprint(), later).unwrap().is_none());
    assert!(vault.resumable(&volume(), &fingerprint(), now() - MAX_AGE - MAX_AGE).unwrap().is_none());
    std::fs::create_dir_all(bench.path.join("incoming/0000000000000003/files")).unwrap();
    std::fs::write(bench.path.join("incoming/stray"), b"x").unwrap();
    std::fs::create_dir_all(bench.path.join("trash/old/files")).unwrap();
    let swept = vault.sweep(now()).unwrap();
    assert_eq!((swept.transfers.len(), swept.problems.len()), (2, 0), "{swept:?}");
    assert_eq!(names(&bench.path.join("incoming")), ["0000000000000001", "0000000000000002"]);
    let swept = vault.sweep(later).unwrap();
    assert_eq!(swept.transfers, ["0000000000000001"], "the other one is held");
    drop(found);
    assert_eq!(vault.sweep(later).unwrap().transfers, ["0000000000000002"]);
    assert!(names(&bench.path.join("incoming")).is_empty() && names(&bench.path.join("trash")).is_empty());
}

#[test]
fn read_back_sees_what_the_disk_holds() {
    let bench = bench();
    let disk = disk(1);
    let mut incoming = begun(&bench, 1);
    write(&incoming, &disk).unwrap();
    let version = incoming.allocate(now(), None).unwrap();
    let mut manifest = manifest(&volume(), &version, 1, &files(&disk));
    let read = |manifest: &Manifest| incoming.read_back(manifest, threads(), &mut |_| {}, &Cancel::default()).unwrap();
    assert_eq!(read(&manifest), []);
    manifest.files[1].blocks.set(BlockIndex(2), BlockState::Zero);
    let damage = read(&manifest);
    assert_eq!((damage[0].file.as_str(), damage[0].block, damage.len()), (EXTENT, Some(2), 1));
}

#[test]
fn a_discarded_copy_leaves_nothing() {
    let bench = bench();
    let incoming = begun(&bench, 1);
    write(&incoming, &disk(1)).unwrap();
    incoming.discard().unwrap();
    assert!(names(&bench.path.join("incoming")).is_empty());
}
