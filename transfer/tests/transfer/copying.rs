//! Copies that go well, by both routes.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use stackferry_transfer::resume::resume;
use stackferry_transfer::{CopyContext, FileCopy, FileOutcome, local};
use stackferry_volume::io::Cancel;
use stackferry_volume::{BlockIndex, BlockMap, BlockState, Digest, HoleMapSource};

use crate::support::Deadline;
use crate::support::files::{KIB, MIB, allocated, blocks_of, noise, sparse};
use crate::support::place::{BOTH, Counted, Place, Via, context};
use crate::support::sink::TestSink;

/// Copies a file, and checks all that holds for every copy.
fn copied(place: &Place, via: Via, name: &str) -> (FileOutcome, TestSink) {
    let path = place.path(name);
    let bytes = path.metadata().unwrap().len();
    let sink = place.sink(&format!("{}-{via:?}", name.replace('/', "-")), bytes);
    let progress = Arc::new(Counted::default());
    let context = CopyContext { progress: progress.clone(), ..context() };
    let outcome = place.copy(via, place.file(name, &sink), &context).unwrap();
    let source = std::fs::File::open(&path).unwrap();
    assert_eq!(outcome.blocks, blocks_of(&source), "{name}");
    assert_eq!(blocks_of(sink.file()), blocks_of(&source), "{name}");
    assert_eq!(progress.0.load(Ordering::SeqCst), bytes, "{name}: progress");
    let (_, data) = outcome.blocks.data_blocks();
    assert_eq!(outcome.counts.logical, bytes);
    assert_eq!(outcome.counts.zero + data, bytes, "{name}");
    assert!(outcome.counts.read <= allocated(&path).min(bytes), "{name}: {:?}", outcome.counts);
    assert_eq!(outcome.hole_map, HoleMapSource::Seek);
    assert_eq!(outcome.credentials, u64::from(via == Via::Endpoint));
    assert!(outcome.same_as_base.is_empty());
    match via {
        Via::Local => assert_eq!(outcome.counts.wire, 0),
        // Frames of 53 bytes for each block, and some JSON.
        Via::Endpoint => assert!(outcome.counts.wire <= data + data / 1000 + 2 * KIB, "{name}: {:?}", outcome.counts),
    }
    let recorded = sink.records();
    assert_eq!(recorded.len() as u64, outcome.blocks.data_blocks().0, "{name}: all is recorded at the end");
    assert!(sink.lies.lock().unwrap().is_empty());
    (outcome, sink)
}

#[test]
fn files_of_all_shapes_are_copied_unchanged() {
    let _deadline = Deadline::seconds(120);
    let place = Place::new();
    let shapes: Vec<(&str, u64, Vec<std::ops::Range<u64>>)> = vec![
        ("empty", 0, vec![]),
        ("one-byte", 1, vec![0..1]),
        ("short", 100, vec![3..50]),
        ("all-hole", 37 * MIB + 5, vec![]),
        ("one-block", MIB, vec![0..MIB]),
        ("odd", 5 * MIB + 4095, vec![MIB..MIB + 10, 5 * MIB..5 * MIB + 4095]),
        ("odd-pages", 5 * MIB + 3 * 4096, vec![0..4096, 2 * MIB - 1..2 * MIB + 1, 5 * MIB + 8192..5 * MIB + 12288]),
        ("ends-in-a-hole", 9 * MIB + 1, vec![3 * MIB + 70 * KIB..4 * MIB + 100]),
        ("dense", 21 * MIB, vec![0..21 * MIB]),
        ("sparse", 700 * MIB, vec![0..3 * MIB, 333 * MIB + 7..340 * MIB, 699 * MIB + 512 * KIB..700 * MIB]),
    ];
    for (name, bytes, data) in shapes {
        let name = format!("apps/{name}");
        sparse(&place.path(&name), bytes, &data);
        let data: u64 = data.iter().map(|range| range.end - range.start).sum();
        for via in BOTH {
            let (outcome, sink) = copied(&place, via, &name);
            assert!(outcome.counts.read >= data, "{name} {via:?}");
            let stored = std::os::unix::fs::MetadataExt::blocks(&sink.file().metadata().unwrap()) * 512;
            assert!(stored <= allocated(&place.path(&name)) + 64 * KIB, "{name} {via:?}: {stored} bytes on disk");
        }
    }
}

#[test]
fn written_zeros_are_neither_sent_nor_stored() {
    let _deadline = Deadline::seconds(60);
    let place = Place::new();
    let path = place.path("apps/thick");
    std::fs::write(&path, vec![0u8; 48 << 20]).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    // Noise in three wire segments of 64 KiB, of 4 KiB each.
    for at in [64 * KIB, 20 * MIB + 128 * KIB, 47 * MIB] {
        file.write_all_at(&noise(at, 4 * KIB), at).unwrap();
    }
    file.sync_all().unwrap();
    for via in BOTH {
        let path = place.path("apps/thick");
        let bytes = path.metadata().unwrap().len();
        let sink = place.sink(&format!("thick-{via:?}"), bytes);
        let outcome = place.copy(via, place.file("apps/thick", &sink), &context()).unwrap();
        assert_eq!(blocks_of(sink.file()), blocks_of(&std::fs::File::open(&path).unwrap()));
        assert_eq!(outcome.counts.read, bytes, "its hole map knows no holes");
        assert_eq!(outcome.counts.zero, 45 * MIB);
        assert_eq!(outcome.counts.stored, 12 * KIB);
        if via == Via::Endpoint {
            assert!(outcome.counts.wire < 3 * 64 * KIB + 4 * KIB, "{:?}", outcome.counts);
        }
    }
}

#[test]
fn blocks_equal_to_the_last_version_are_not_sent() {
    let _deadline = Deadline::seconds(60);
    let place = Place::new();
    let name = "apps/a-flat.vmdk";
    sparse(&place.path(name), 40 * MIB + 100, &[0..10 * MIB, 20 * MIB..30 * MIB, 40 * MIB..40 * MIB + 100]);
    let file = std::fs::File::options().read(true).write(true).open(place.path(name)).unwrap();
    let base = blocks_of(&file);
    file.write_all_at(b"changed", 3 * MIB + 5).unwrap();
    file.write_all_at(b"new", 35 * MIB).unwrap();
    file.write_all_at(&vec![0; 1 << 20], 25 * MIB).unwrap();
    file.sync_all().unwrap();
    for via in BOTH {
        let sink = place.sink(&format!("a-{via:?}"), 40 * MIB + 100);
        let copy = FileCopy { base: Some(&base), ..place.file(name, &sink) };
        let outcome = place.copy(via, copy, &context()).unwrap();
        assert_eq!(outcome.blocks, blocks_of(&file));
        let same: Vec<_> = (0..41)
            .map(BlockIndex)
            .filter(|block| matches!(base.get(*block), BlockState::Data(_)))
            .filter(|block| base.get(*block) == outcome.blocks.get(*block))
            .collect();
        assert_eq!(same.len(), 19);
        assert_eq!(outcome.same_as_base, same);
        let mut recorded: Vec<_> = same.iter().map(|block| block.0).chain([3, 35]).collect();
        recorded.sort_unstable();
        assert_eq!(sink.records().keys().copied().collect::<Vec<_>>(), recorded, "what is equal is recorded too");
        assert_eq!(sink.writes.load(Ordering::SeqCst), 2);
        if via == Via::Endpoint {
            assert!(outcome.counts.wire < MIB + 64 * KIB + 30 * 41 + 2 * KIB, "{:?}", outcome.counts);
        }
    }
}

#[test]
fn a_base_of_another_length_is_used_too() {
    let _deadline = Deadline::seconds(60);
    let place = Place::new();
    let name = "apps/a-flat.vmdk";
    sparse(&place.path(name), 6 * MIB + 100, &[0..6 * MIB + 100]);
    let file = std::fs::File::options().read(true).write(true).open(place.path(name)).unwrap();
    let base = blocks_of(&file);
    file.set_len(9 * MIB).unwrap();
    file.write_all_at(b"grown", 8 * MIB).unwrap();
    for via in BOTH {
        let sink = place.sink(&format!("a-{via:?}"), 9 * MIB);
        let copy = FileCopy { base: Some(&base), ..place.file(name, &sink) };
        let outcome = place.copy(via, copy, &context()).unwrap();
        assert_eq!(outcome.blocks, blocks_of(&file));
        assert_eq!(outcome.same_as_base, (0..6).map(BlockIndex).collect::<Vec<_>>());
    }
}

#[test]
fn an_interrupted_copy_resumes_and_verifies_what_it_has() {
    let _deadline = Deadline::seconds(60);
    let place = Place::new();
    let name = "apps/a-flat.vmdk";
    sparse(&place.path(name), 60 * MIB, &[0..20 * MIB, 30 * MIB..60 * MIB]);
    let source = std::fs::File::open(place.path(name)).unwrap();
    for via in BOTH {
        let mut sink = place.sink(&format!("a-{via:?}"), 60 * MIB);
        sink.room = 40 * MIB;
        let error = place.copy(via, place.file(name, &sink), &context()).unwrap_err();
        assert!(error.is_no_space(), "{error:?}");
        let recorded = sink.records();
        assert!(recorded.len() >= 12, "only {} blocks are recorded", recorded.len());
        assert!(sink.lies.lock().unwrap().is_empty());
        // One block is damaged on the disk, one record is of something that was never there, one block was written
        // and never recorded: it must not shine through where the source has a hole.
        sink.heal();
        let damaged = *recorded.keys().next().unwrap();
        sink.file().write_all_at(b"damage", damaged * MIB + 77).unwrap();
        sink.tamper(25, Digest::of(b"never written"));
        sink.file().write_all_at(b"left over", 27 * MIB).unwrap();
        let resumed = resume(&sink, None, 2, &Cancel::default()).unwrap();
        assert_eq!(resumed.rejected, [BlockIndex(damaged), BlockIndex(25)]);
        assert_eq!(resumed.taken, recorded.len() as u64 - 1);
        let taken = resumed.taken;
        let copy = FileCopy { done: resumed.done, ..place.file(name, &sink) };
        let outcome = place.copy(via, copy, &context()).unwrap();
        assert_eq!(outcome.blocks, blocks_of(&source));
        assert_eq!(blocks_of(sink.file()), blocks_of(&source));
        assert_eq!(outcome.counts.read, (50 - taken) * MIB, "existing blocks are not read again");
        assert_eq!(sink.writes.load(Ordering::SeqCst), 50 - taken);
    }
}

#[test]
fn blocks_equal_to_the_base_survive_an_interruption() {
    let place = Place::new();
    let sink = place.sink("a", 4 * MIB);
    let (here, gone) = (Digest::of(b"in the base"), Digest::of(b"in no base"));
    sink.tamper(1, here);
    sink.tamper(2, gone);
    let mut base = BlockMap::new(4 * MIB);
    base.set(BlockIndex(1), BlockState::Data(here));
    let resumed = resume(&sink, Some(&base), 1, &Cancel::default()).unwrap();
    assert_eq!((resumed.in_base, resumed.rejected), (vec![BlockIndex(1)], vec![BlockIndex(2)]));
    assert_eq!(resumed.done.get(BlockIndex(1)), BlockState::Data(here));
    assert_eq!(resumed.done.get(BlockIndex(2)), BlockState::Unknown);
}

#[test]
fn an_interrupted_resume_keeps_only_what_it_has_hashed() {
    let place = Place::new();
    let sink = place.sink("a", 4 * MIB);
    sink.tamper(1, Digest::of(b"x"));
    let cancel = Cancel::default();
    cancel.cancel();
    let resumed = resume(&sink, None, 1, &cancel).unwrap();
    assert_eq!((resumed.taken, resumed.rejected.len()), (0, 0));
    assert_eq!(resumed.done, BlockMap::new(4 * MIB));
}

#[test]
fn a_path_below_a_file_is_reported() {
    let place = Place::new();
    let sink = place.sink("a", 0);
    let file = FileCopy {
        path: "apps/none.vmdk",
        bytes: 0,
        mtime: jiff::Timestamp::UNIX_EPOCH,
        sink: &sink,
        done: BlockMap::new(0),
        base: None,
    };
    let error = local::copy(&place.folder(), file, &context()).unwrap_err();
    assert_eq!(error.to_string(), "apps/none.vmdk: no such file or folder");
}
