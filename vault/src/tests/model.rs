//! Random work on a vault, compared with a simple model of what it should hold.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::MAX_AGE;
use crate::steps::Trace;

#[derive(Debug, Clone)]
enum Op {
    /// A whole copy: of which volume, in which generation, with which bytes; stopped after so many steps, if at all.
    Copy {
        volume: usize,
        generation: u32,
        seed: u8,
        stop: Option<usize>,
    },
    /// A copy that is left unfinished, or thrown away.
    Leave {
        volume: usize,
        discard: bool,
    },
    /// Goes on with what was left, if there is anything.
    Resume {
        volume: usize,
        seed: u8,
    },
    Delete {
        volume: usize,
        which: usize,
        stop: Option<usize>,
    },
    Pin {
        volume: usize,
        which: usize,
        on: bool,
    },
    Mark {
        volume: usize,
        which: usize,
        on: bool,
    },
    Sweep {
        late: bool,
    },
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let stop = || prop_oneof![3 => Just(None), 1 => (0usize..40).prop_map(Some)];
    prop_oneof![
        4 => (0..2usize, 1..3u32, any::<u8>(), stop())
            .prop_map(|(volume, generation, seed, stop)| Op::Copy { volume, generation, seed, stop }),
        1 => (0..2usize, any::<bool>()).prop_map(|(volume, discard)| Op::Leave { volume, discard }),
        1 => (0..2usize, any::<u8>()).prop_map(|(volume, seed)| Op::Resume { volume, seed }),
        4 => (0..2usize, 0..6usize, stop()).prop_map(|(volume, which, stop)| Op::Delete { volume, which, stop }),
        1 => (0..2usize, 0..6usize, any::<bool>()).prop_map(|(volume, which, on)| Op::Pin { volume, which, on }),
        1 => (0..2usize, 0..6usize, any::<bool>()).prop_map(|(volume, which, on)| Op::Mark { volume, which, on }),
        1 => any::<bool>().prop_map(|late| Op::Sweep { late }),
        1 => Just(Op::Reopen),
    ]
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    generation: u32,
    seed: u8,
    pinned: bool,
    damaged: bool,
}

struct World {
    bench: Bench,
    held: [BTreeMap<VersionId, Held>; 2],
    highest: [u64; 2],
    transfers: u64,
}

const VOLUMES: [&str; 2] = ["appstack/Office", "writable/CORP!5C!jdoe"];

fn bytes(seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; 30_000];
    bytes[10_000..12_000].fill(seed | 1);
    bytes[0] = seed;
    bytes
}

impl World {
    fn id(volume: usize) -> VolumeId {
        VOLUMES[volume].parse().unwrap()
    }

    fn next(&mut self) -> u64 {
        self.transfers += 1;
        self.transfers
    }

    /// Records a version that was made, whether reported or found.
    fn came(&mut self, volume: usize, version: VersionId, generation: u32, seed: u8) {
        assert!(version.seq() > self.highest[volume], "a number was given twice");
        self.highest[volume] = version.seq();
        self.held[volume].insert(version, Held { generation, seed, pinned: false, damaged: false });
    }

    fn nth(&self, volume: usize, which: usize) -> Option<VersionId> {
        self.held[volume].keys().nth(which).cloned()
    }

    fn versions(&self, volume: usize) -> Vec<VersionId> {
        match self.bench.vault.versions(&Self::id(volume)) {
            Ok(entries) => entries.into_iter().map(|entry| entry.id).collect(),
            Err(error) if error.is_not_found() => vec![],
            Err(error) => panic!("{error}"),
        }
    }

    fn run(&mut self, op: &Op) {
        let vault = self.bench.vault.clone();
        match *op {
            Op::Copy { volume, generation, seed, stop } => {
                let transfer = self.next();
                let trace = Trace::start(stop);
                let made = copy(&vault, &Self::id(volume), transfer, generation, seed);
                drop(trace);
                assert!(made.is_ok() || stop.is_some(), "{made:?}");
                let new = self.versions(volume).into_iter().find(|id| !self.held[volume].contains_key(id));
                assert!(made.is_err() || made.ok() == new);
                if let Some(new) = new {
                    self.came(volume, new, generation, seed);
                }
            }
            Op::Leave { volume, discard } => {
                let (transfer, id) = (self.next(), Self::id(volume));
                vault.ensure_volume(&spec(&id, 1)).unwrap();
                let incoming = vault.begin(&incoming_spec(&id, transfer), now()).unwrap();
                let file = incoming.file(&FileName::new(EXTENT).unwrap(), 30_000).unwrap();
                fill(&file, &bytes(9));
                drop(file);
                if discard {
                    incoming.discard().unwrap();
                }
            }
            Op::Resume { volume, seed } => {
                let id = Self::id(volume);
                let Some(incoming) = vault.resumable(&id, &fingerprint(), now()).unwrap() else { return };
                vault.ensure_volume(&spec(&id, 1)).unwrap();
                let version = finish(incoming, &id, 1, seed).unwrap();
                self.came(volume, version, 1, seed);
            }
            Op::Delete { volume, which, stop } => {
                let Some(version) = self.nth(volume, which) else { return };
                let own = self.held[volume][&version].clone();
                let other = self.held[volume]
                    .iter()
                    .any(|(id, held)| *id != version && held.generation == own.generation && !held.damaged);
                // A mark alone lets none go: read back, the version is found whole, and the mark is gone.
                let allowed = !own.pinned && other;
                let trace = Trace::start(stop);
                let deleted = vault.delete(&Self::id(volume), &version, now());
                drop(trace);
                let gone = !self.versions(volume).contains(&version);
                assert!(allowed || !gone, "it was protected");
                assert!(stop.is_some() || deleted.is_ok() == allowed, "{deleted:?}");
                assert!(deleted.is_err() || gone);
                if gone {
                    self.held[volume].remove(&version);
                } else if own.damaged {
                    let marked = vault.volume(&Self::id(volume)).unwrap().damaged.contains_key(&version);
                    assert!(stop.is_some() || own.pinned || other || !marked);
                    self.held[volume].get_mut(&version).unwrap().damaged = marked;
                }
            }
            Op::Pin { volume, which, on } => {
                let Some(version) = self.nth(volume, which) else { return };
                match on {
                    true => vault.pin(&Self::id(volume), &version, "kept", now()).unwrap(),
                    false => vault.unpin(&Self::id(volume), &version).unwrap(),
                }
                self.held[volume].get_mut(&version).unwrap().pinned = on;
            }
            Op::Mark { volume, which, on } => {
                let Some(version) = self.nth(volume, which) else { return };
                match on {
                    true => vault.mark_damaged(&Self::id(volume), &version, "found so", now()).unwrap(),
                    false => vault.clear_damage(&Self::id(volume), &version).unwrap(),
                }
                self.held[volume].get_mut(&version).unwrap().damaged = on;
            }
            Op::Sweep { late } => {
                let swept = vault.sweep(if late { now() + MAX_AGE } else { now() }).unwrap();
                assert_eq!(swept.problems, []);
                assert!(names(&self.bench.path.join("trash")).is_empty());
                assert!(!late || names(&self.bench.path.join("incoming")).is_empty());
            }
            Op::Reopen => self.bench.reopen(),
        }
    }

    fn compare(&self) {
        for volume in 0..2 {
            let id = Self::id(volume);
            let entries = match self.bench.vault.versions(&id) {
                Ok(entries) => entries,
                Err(error) => {
                    assert!(error.is_not_found() && self.held[volume].is_empty());
                    continue;
                }
            };
            let found: Vec<_> = entries
                .iter()
                .map(|entry| {
                    let generation = entry.summary.as_ref().unwrap().generation.0;
                    (entry.id.clone(), generation, entry.pin.is_some(), entry.damaged.is_some())
                })
                .collect();
            let expected: Vec<_> = self.held[volume]
                .iter()
                .map(|(id, held)| (id.clone(), held.generation, held.pinned, held.damaged))
                .collect();
            assert_eq!(found, expected);
            for (version, held) in &self.held[volume] {
                assert_whole(&self.bench.vault.version(&id, version).unwrap(), &bytes(held.seed));
            }
        }
        assert_eq!(self.bench.vault.volumes().unwrap().problems, []);
    }
}

fn finish(mut incoming: Incoming, volume: &VolumeId, generation: u32, seed: u8) -> Result<VersionId, VaultError> {
    for (name, bytes) in files(&bytes(seed)) {
        let file = incoming.file(&FileName::new(name).unwrap(), bytes.len() as u64)?;
        let io = |error| VaultError::system("write", file.path(), error);
        file.clear(0, file.bytes()).map_err(io)?;
        file.write_at(0, bytes).map_err(io)?;
        file.checkpoint(&states(bytes)).map_err(io)?;
    }
    let version = incoming.allocate(at("2026-11-22T04:15:00Z"), None)?;
    incoming.commit(&manifest(volume, &version, generation, &files(&bytes(seed))), &mut || Ok(()))?;
    Ok(version)
}

fn copy(vault: &Vault, volume: &VolumeId, transfer: u64, generation: u32, seed: u8) -> Result<VersionId, VaultError> {
    vault.ensure_volume(&spec(volume, generation))?;
    let incoming = vault.begin(&incoming_spec(volume, transfer), now())?;
    finish(incoming, volume, generation, seed)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_holds_what_a_simple_model_says(ops in prop::collection::vec(op(), 1..25)) {
        let mut world = World { bench: bench(), held: Default::default(), highest: [0; 2], transfers: 0 };
        for op in &ops {
            world.run(op);
        }
        world.compare();
    }
}
