//! A process that works on a vault is killed in the middle of it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::MAX_AGE;

/// Where the work is done in the process that is killed.
const VAULT: &str = "STACKFERRY_TEST_VAULT";

/// Copies and deletes, each version with its own bytes: seed and number agree.
fn work_on(vault: &Vault, rounds: u64) {
    for round in 0..rounds {
        vault.ensure_volume(&spec(&volume(), 1)).unwrap();
        let mut incoming = vault.begin(&incoming_spec(&volume(), round), now()).unwrap();
        let version = incoming.allocate(now(), None).unwrap();
        let bytes = disk(seed(&version));
        write(&incoming, &bytes).unwrap();
        incoming.commit(&manifest(&volume(), &version, 1, &files(&bytes)), &mut || Ok(())).unwrap();
        if version.seq().is_multiple_of(2) {
            vault.delete(&volume(), &version, now()).unwrap();
        }
    }
}

fn seed(version: &VersionId) -> u8 {
    u8::try_from(version.seq() % 256).unwrap()
}

/// How many versions there are of those that are not deleted again.
fn kept(vault: &Vault) -> usize {
    match vault.versions(&volume()) {
        Ok(entries) => entries.iter().filter(|entry| !entry.id.seq().is_multiple_of(2)).count(),
        Err(error) if error.is_not_found() => 0,
        Err(error) => panic!("{error}"),
    }
}

/// What the killed process does. By itself it does some rounds and checks the outcome.
#[test]
fn work_goes_on_round_after_round() {
    match std::env::var_os(VAULT) {
        Some(path) => work_on(&Vault::open(Path::new(&path), &options()).unwrap(), u64::MAX),
        None => {
            let bench = bench();
            work_on(&bench.vault, 5);
            let seqs: Vec<_> = bench.vault.versions(&volume()).unwrap().iter().map(|entry| entry.id.seq()).collect();
            assert_eq!(seqs, [1, 3, 5]);
        }
    }
}

#[test]
fn a_killed_process_leaves_whole_versions_and_no_locks() {
    for wanted in 1..5 {
        let mut bench = bench();
        let mut worker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::kill::work_goes_on_round_after_round"])
            .env(VAULT, &bench.path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while kept(&bench.vault) < wanted && Instant::now() < deadline {
            std::thread::yield_now();
        }
        worker.kill().unwrap();
        worker.wait().unwrap();
        bench.reopen();
        let vault = &bench.vault;
        let entries = vault.versions(&volume()).unwrap();
        assert!(kept(vault) >= wanted);
        for entry in &entries {
            assert_whole(&vault.version(&volume(), &entry.id).unwrap(), &disk(seed(&entry.id)));
        }
        // Its locks went with it: all it left can be taken over, or swept.
        drop(vault.resumable(&volume(), &fingerprint(), now()).unwrap());
        let swept = vault.sweep(now() + MAX_AGE).unwrap();
        assert_eq!(swept.problems, []);
        assert!(names(&bench.path.join("incoming")).is_empty() && names(&bench.path.join("trash")).is_empty());
        let highest = entries.last().unwrap().id.seq();
        assert!(put(vault, 1, 1, &disk(1)).unwrap().seq() > highest);
        assert_eq!(vault.volumes().unwrap().problems, []);
    }
}
