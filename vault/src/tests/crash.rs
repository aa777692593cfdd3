//! The machine stops at each step of each durable path in turn; what is found afterwards is old or new, never half.

use super::*;
use crate::MAX_AGE;
use crate::steps::Trace;

/// Does `work` once to count its steps, then on a fresh bench with a stop before each step. `check` sees the bench
/// afterwards, and whether the work was told to have succeeded.
fn stop_everywhere<T>(
    prepare: impl Fn(&Bench) -> T,
    work: impl Fn(&Bench, T) -> Result<(), VaultError>,
    check: impl Fn(&Bench, bool),
) {
    let whole = bench();
    let prepared = prepare(&whole);
    let trace = Trace::start(None);
    work(&whole, prepared).unwrap();
    let steps = trace.seen().len();
    drop(trace);
    check(&whole, true);
    assert!(steps > 3, "only {steps} steps");
    for left in 0..=steps {
        let mut bench = bench();
        let prepared = prepare(&bench);
        let trace = Trace::start(Some(left));
        let done = work(&bench, prepared).is_ok();
        drop(trace);
        // Cleaning up may fail unseen: the work is done all the same.
        assert!(done || left < steps, "it failed without a stop");
        bench.reopen();
        check(&bench, done);
    }
}

fn place(seen: &[String], step: &str) -> usize {
    seen.iter().position(|seen| seen == step).unwrap_or_else(|| panic!("no step `{step}` in {seen:#?}"))
}

fn only(bench: &Bench) -> Option<VersionId> {
    let entries = bench.vault.versions(&volume()).unwrap();
    assert!(entries.len() <= 1 && entries.iter().all(crate::VersionEntry::is_good));
    entries.into_iter().next().map(|entry| entry.id)
}

#[test]
fn a_commit_is_seen_whole_or_not_at_all() {
    let disk = disk(1);
    let prepare = |bench: &Bench| {
        bench.vault.ensure_volume(&spec(&volume(), 1)).unwrap();
        let incoming = bench.vault.begin(&incoming_spec(&volume(), 1), now()).unwrap();
        write(&incoming, &disk).unwrap();
        incoming
    };
    let work = |_: &Bench, mut incoming: Incoming| {
        let version = incoming.allocate(now(), None)?;
        incoming.commit(&manifest(&volume(), &version, 1, &files(&disk)), &mut || Ok(()))
    };
    let check = |bench: &Bench, done: bool| {
        let vault = &bench.vault;
        let first = only(bench);
        assert!(first.is_some() || !done);
        if let Some(version) = &first {
            assert_whole(&vault.version(&volume(), version).unwrap(), &disk);
            assert_eq!(names(bench.version_path(version, "").as_path()), [EXTENT, DESCRIPTOR, "manifest.json"]);
        }
        // What was written can go on, if it did not become a version; and the next one gets a number of its own.
        let resumed = vault.resumable(&volume(), &fingerprint(), now()).unwrap();
        assert_eq!(resumed.is_some(), first.is_none());
        if let Some(mut incoming) = resumed {
            for (name, bytes) in files(&disk) {
                let file = incoming.file(&FileName::new(name).unwrap(), bytes.len() as u64).unwrap();
                assert!(file.recorded().unwrap().is_complete());
            }
            let version = incoming.allocate(now(), None).unwrap();
            incoming.commit(&manifest(&volume(), &version, 1, &files(&disk)), &mut || Ok(())).unwrap();
            assert_whole(&vault.version(&volume(), &version).unwrap(), &disk);
        }
        vault.sweep(now()).unwrap();
        assert!(names(&bench.path.join("incoming")).is_empty() && names(&bench.path.join("trash")).is_empty());
        let next = put(vault, 2, 1, &disk).unwrap();
        assert!(first.is_none_or(|first| first.seq() < next.seq()));
        assert_eq!(vault.volumes().unwrap().problems, []);
    };
    stop_everywhere(prepare, work, check);
}

#[test]
fn a_commit_keeps_its_order() {
    let bench = bench();
    bench.vault.ensure_volume(&spec(&volume(), 1)).unwrap();
    let mut incoming = bench.vault.begin(&incoming_spec(&volume(), 1), now()).unwrap();
    write(&incoming, &disk(1)).unwrap();
    let trace = Trace::start(None);
    let version = incoming.allocate(now(), None).unwrap();
    let numbered = trace.seen().len();
    incoming.commit(&manifest(&volume(), &version, 1, &files(&disk(1))), &mut || Ok(())).unwrap();
    let seen = trace.seen();
    let (numbering, commit) = seen.split_at(numbered);
    let whole = ["write volume.json.tmp", "sync file volume.json.tmp", "rename volume.json.tmp", "sync folder Office"];
    assert!(whole.map(|step| place(numbering, step)).is_sorted(), "{numbering:#?}");
    let order = ["sync file Office.vmdk", "sync folder files", "fence 0000000000000001", "rename files"];
    assert!(order.map(|step| place(commit, step)).is_sorted(), "{commit:#?}");
    for synced in ["sync file Office-flat.vmdk", "sync file manifest.json"] {
        assert!(place(commit, synced) < place(commit, "sync folder files"));
    }
    let renamed = place(commit, "rename files");
    assert_eq!(place(commit, "fence 0000000000000001") + 1, renamed, "nothing is between the fence and the rename");
    assert_eq!(commit[renamed + 1..renamed + 3], ["sync folder Office", "sync folder 0000000000000001"]);
}

#[test]
fn a_checkpoint_brings_the_data_first() {
    let bench = bench();
    bench.vault.ensure_volume(&spec(&volume(), 1)).unwrap();
    let incoming = bench.vault.begin(&incoming_spec(&volume(), 1), now()).unwrap();
    let file = incoming.file(&FileName::new(EXTENT).unwrap(), 5).unwrap();
    let trace = Trace::start(None);
    fill(&file, b"hello");
    let steps = ["sync data", "append", "sync journal"].map(|step| format!("{step} {EXTENT}"));
    assert_eq!(trace.seen(), steps);
    for left in 0..3 {
        let trace = Trace::start(Some(left));
        let error = file.checkpoint(&[(BlockIndex(0), BlockState::Zero)]).unwrap_err();
        drop((trace, error));
        assert_eq!(file.recorded().unwrap().get(BlockIndex(0)), states(b"hello")[0].1);
    }
}

#[test]
fn a_deletion_leaves_the_version_whole_or_gone() {
    let prepare = |bench: &Bench| {
        put(&bench.vault, 1, 1, &disk(1)).unwrap();
        let version = put(&bench.vault, 2, 1, &disk(2)).unwrap();
        bench.vault.lock_until(&volume(), &version, at("2020-01-01T00:00:00Z")).unwrap();
        version
    };
    let work = |bench: &Bench, version| bench.vault.delete(&volume(), &version, now());
    let check = |bench: &Bench, done: bool| {
        let vault = &bench.vault;
        let entries = vault.versions(&volume()).unwrap();
        assert!(!entries.is_empty() && entries.iter().all(crate::VersionEntry::is_good));
        assert!(!done || entries.len() == 1);
        for entry in &entries {
            let seed = u8::try_from(entry.id.seq()).unwrap();
            assert_whole(&vault.version(&volume(), &entry.id).unwrap(), &disk(seed));
        }
        assert_eq!(vault.sweep(now()).unwrap().problems, []);
        assert!(names(&bench.path.join("trash")).is_empty());
        assert_eq!(put(vault, 3, 1, &disk(3)).unwrap().seq(), 3);
    };
    stop_everywhere(prepare, work, check);
}

#[test]
fn a_deletion_keeps_its_order() {
    let bench = bench();
    let one = put(&bench.vault, 1, 1, &disk(1)).unwrap();
    put(&bench.vault, 2, 1, &disk(2)).unwrap();
    let trace = Trace::start(None);
    bench.vault.delete(&volume(), &one, now()).unwrap();
    let seen = trace.seen();
    assert_eq!(seen[..3], [format!("rename {one}"), "sync folder Office".into(), "sync folder trash".into()]);
    assert!(seen[3..].iter().all(|step| step.starts_with("remove ")), "{seen:#?}");
}

#[test]
fn what_is_noted_of_a_volume_is_old_or_new() {
    let prepare = |bench: &Bench| put(&bench.vault, 1, 1, &disk(1)).unwrap();
    let work = |bench: &Bench, version| {
        bench.vault.ensure_volume(&spec(&volume(), 2))?;
        bench.vault.pin(&volume(), &version, "kept", now())
    };
    let check = |bench: &Bench, done: bool| {
        let record = bench.vault.volume(&volume()).unwrap();
        assert!(!done || (record.generations.len() == 2 && record.pins.len() == 1));
        assert!(record.pins.is_empty() || record.generations.len() == 2);
        assert_eq!(record.next_seq, 2);
        assert_eq!(bench.vault.volumes().unwrap().problems, []);
        put(&bench.vault, 2, 2, &disk(2)).unwrap();
    };
    stop_everywhere(prepare, work, check);
}

#[test]
fn a_first_copy_may_stop_anywhere() {
    let disk = disk(1);
    let work = |bench: &Bench, ()| {
        bench.vault.ensure_volume(&spec(&volume(), 1))?;
        let incoming = bench.vault.begin(&incoming_spec(&volume(), 1), now())?;
        let file = incoming.file(&FileName::new(EXTENT).unwrap(), disk.len() as u64)?;
        let written =
            file.write_at(0, &disk[..4096]).and_then(|_| file.checkpoint(&[(BlockIndex(1), BlockState::Zero)]));
        written.map_err(|error| VaultError::system("write", file.path(), error))
    };
    let check = |bench: &Bench, done: bool| {
        let vault = &bench.vault;
        assert_eq!(vault.volumes().unwrap().problems, []);
        if let Some(incoming) = vault.resumable(&volume(), &fingerprint(), now()).unwrap() {
            let recorded =
                incoming.file(&FileName::new(EXTENT).unwrap(), disk.len() as u64).unwrap().recorded().unwrap();
            assert!(!done || recorded.get(BlockIndex(1)) == BlockState::Zero);
            assert_eq!(recorded.get(BlockIndex(0)), BlockState::Unknown);
        } else {
            assert!(!done);
        }
        vault.sweep(now() + MAX_AGE).unwrap();
        assert!(names(&bench.path.join("incoming")).is_empty());
        put(vault, 2, 1, &disk).unwrap();
        assert_eq!(vault.volumes().unwrap().problems, []);
    };
    stop_everywhere(|_| (), work, check);
}

#[test]
fn a_vault_that_was_half_made_is_made() {
    let home = tempfile::tempdir().unwrap();
    let trace = Trace::start(None);
    Vault::open(&home.path().join("whole"), &options()).unwrap();
    let steps = trace.seen().len();
    drop(trace);
    for left in 0..=steps {
        let path = home.path().join(left.to_string());
        let trace = Trace::start(Some(left));
        let made = Vault::open(&path, &options()).map(|vault| vault.id());
        drop(trace);
        assert_eq!(made.is_ok(), left == steps);
        let id = Vault::open(&path, &options()).unwrap().id();
        assert!(made.is_err() || made.unwrap() == id);
        assert_eq!(Vault::open(&path, &options()).unwrap().id(), id);
    }
}

#[test]
fn a_restore_that_stops_leaves_no_disk_behind() {
    let disk = disk(1);
    let work = |bench: &Bench, version| {
        let version = bench.vault.version(&volume(), &version)?;
        version.restore(&bench.path.join("../restored"), false, &mut |_| {}, &Cancel::default()).map(|_| ())
    };
    let check = |bench: &Bench, done: bool| {
        let to = bench.path.join("../restored");
        let there: Vec<String> =
            if to.exists() { names(&to).into_iter().filter(|name| !name.starts_with('.')).collect() } else { vec![] };
        assert!(!done || there == [EXTENT, DESCRIPTOR]);
        assert!(there.is_empty() || there[0] == EXTENT, "the descriptor comes last");
        for name in &there {
            let whole = files(&disk).into_iter().find(|(known, _)| known == name).unwrap();
            assert!(std::fs::read(to.join(name)).unwrap() == whole.1);
        }
        // The next one goes through, and takes away what was left.
        let version = bench.vault.versions(&volume()).unwrap().remove(0).id;
        let version = bench.vault.version(&volume(), &version).unwrap();
        version.restore(&to, true, &mut |_| {}, &Cancel::default()).unwrap();
        assert_eq!(names(&to), [EXTENT, DESCRIPTOR]);
    };
    stop_everywhere(|bench| put(&bench.vault, 1, 1, &disk).unwrap(), work, check);
}

#[test]
fn a_sweep_that_stops_is_done_by_the_next() {
    let prepare = |bench: &Bench| {
        put(&bench.vault, 1, 1, &disk(1)).unwrap();
        let incoming = bench.vault.begin(&incoming_spec(&volume(), 2), now()).unwrap();
        write(&incoming, &disk(2)).unwrap();
        std::fs::create_dir(bench.path.join("trash/old")).unwrap();
    };
    let work = |bench: &Bench, ()| {
        let swept = bench.vault.sweep(now() + MAX_AGE)?;
        let problem = swept.problems.into_iter().next();
        problem.map_or(Ok(()), |problem| Err(VaultError::RecordDamaged { path: problem.path, why: problem.why }))
    };
    let check = |bench: &Bench, _: bool| {
        bench.vault.sweep(now() + MAX_AGE).unwrap();
        assert!(names(&bench.path.join("incoming")).is_empty() && names(&bench.path.join("trash")).is_empty());
        assert_whole(&bench.vault.version(&volume(), &only(bench).unwrap()).unwrap(), &disk(1));
    };
    stop_everywhere(prepare, work, check);
}
