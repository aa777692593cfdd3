//! Copies that fail: the source changes, the disk is full, the copy is cancelled, a worker panics.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use stackferry_https::Retry;
use stackferry_transfer::wire::block::{Codec, DataFrame, ErrorPayload, OpenRequest};
use stackferry_transfer::wire::frame::{FrameKind, FrameReader, encode, encode_json};
use stackferry_transfer::{FileCopy, TransferError};
use stackferry_volume::BlockMap;

use crate::support::files::{MIB, sparse};
use crate::support::place::{BOTH, Place, Via, context};
use crate::support::sink::TestSink;
use crate::support::{Deadline, raw, wait_until};

const NAME: &str = "apps/a-flat.vmdk";

fn place(mib: u64) -> Place {
    let place = Place::new();
    sparse(&place.path(NAME), mib * MIB, &[0..mib * MIB]);
    place
}

fn fails(place: &Place, via: Via, sink: &TestSink) -> TransferError {
    let error = place.copy(via, place.file(NAME, sink), &context()).unwrap_err();
    assert!(sink.lies.lock().unwrap().is_empty(), "{via:?}");
    error
}

#[test]
fn a_source_that_is_not_what_discovery_saw_is_not_copied() {
    let _deadline = Deadline::seconds(60);
    let place = place(3);
    for via in BOTH {
        let sink = place.sink(&format!("a-{via:?}"), 4 * MIB);
        let seen = place.file(NAME, &sink);
        let longer = FileCopy { bytes: 4 * MIB, done: BlockMap::new(4 * MIB), ..seen };
        let error = place.copy(via, longer, &context()).unwrap_err();
        assert!(matches!(&error, TransferError::SourceChanged { file, .. } if file == NAME), "{error:?}");
        let sink = place.sink(&format!("b-{via:?}"), 3 * MIB);
        let earlier = place.file(NAME, &sink);
        let earlier = FileCopy { mtime: earlier.mtime - Duration::from_nanos(1), ..earlier };
        let error = place.copy(via, earlier, &context()).unwrap_err();
        assert!(matches!(&error, TransferError::SourceChanged { .. }), "{error:?}");
        assert_eq!(error.retry(), Retry::Transient);
        assert_eq!(sink.writes.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn a_source_that_changes_during_the_copy_fails_it() {
    let _deadline = Deadline::seconds(60);
    type Change = fn(&std::fs::File);
    let changes: [(&str, Change); 3] = [
        ("it grows", |file| file.set_len(30 * MIB).unwrap()),
        ("it is touched", |file| file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap()),
        ("it is cut", |file| file.set_len(1000).unwrap()),
    ];
    for (what, change) in changes {
        for via in BOTH {
            let place = place(20);
            let mut sink = place.sink("a", 20 * MIB);
            let source = std::fs::File::options().write(true).open(place.path(NAME)).unwrap();
            sink.before_write = Some(Box::new(move |before| {
                if before == 0 {
                    change(&source);
                }
            }));
            let error = fails(&place, via, &sink);
            assert!(matches!(error, TransferError::SourceChanged { .. }), "{what} {via:?}: {error:?}");
        }
    }
}

#[test]
fn cancelling_ends_the_copy_promptly_and_keeps_what_is_done() {
    let _deadline = Deadline::seconds(60);
    for via in BOTH {
        let place = place(100);
        let mut sink = place.sink("a", 100 * MIB);
        let context = context();
        let cancel = context.cancel.clone();
        sink.before_write = Some(Box::new(move |before| {
            if before == 20 * MIB {
                cancel.cancel();
            }
        }));
        let began = Instant::now();
        let error = place.copy(via, place.file(NAME, &sink), &context).unwrap_err();
        assert!(matches!(error, TransferError::Cancelled), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let writes = sink.writes.load(Ordering::SeqCst);
        assert!(writes < 40, "{writes} blocks were written");
        assert!(sink.records().len() as u64 >= writes - 8, "what is done is recorded");
    }
}

#[test]
fn a_copy_cancelled_before_its_start_opens_nothing() {
    let _deadline = Deadline::seconds(60);
    let place = place(1);
    for via in BOTH {
        let sink = place.sink(&format!("a-{via:?}"), MIB);
        let context = context();
        context.cancel.cancel();
        let error = place.copy(via, place.file(NAME, &sink), &context).unwrap_err();
        assert!(matches!(error, TransferError::Cancelled), "{error:?}");
        assert_eq!(sink.writes.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn a_full_disk_is_a_write_error() {
    let _deadline = Deadline::seconds(60);
    for via in BOTH {
        let place = place(80);
        let mut sink = place.sink("a", 80 * MIB);
        sink.room = 30 * MIB;
        let error = fails(&place, via, &sink);
        assert!(matches!(&error, TransferError::Write { file, .. } if file == NAME), "{error:?}");
        assert!(error.is_no_space());
        assert_eq!(error.retry(), Retry::Permanent);
    }
}

#[test]
fn one_failed_write_ends_the_other_workers_at_once() {
    let _deadline = Deadline::seconds(60);
    for via in BOTH {
        let place = place(200);
        let mut sink = place.sink("a", 200 * MIB);
        sink.broken_at = Some(0);
        let error = fails(&place, via, &sink);
        assert!(matches!(&error, TransferError::Write { source, .. } if source.kind() == io::ErrorKind::Other));
        let writes = sink.writes.load(Ordering::SeqCst);
        assert!(writes < 50, "{via:?}: {writes} blocks were written after the failure");
    }
}

#[test]
fn a_journal_that_cannot_be_written_ends_the_copy() {
    let _deadline = Deadline::seconds(60);
    for via in BOTH {
        let place = place(100);
        let sink = place.sink("a", 100 * MIB);
        sink.checkpoints.store(1, Ordering::SeqCst);
        let error = fails(&place, via, &sink);
        assert!(matches!(&error, TransferError::Write { .. }), "{error:?}");
        assert!(sink.writes.load(Ordering::SeqCst) < 80, "it went on without a journal");
    }
}

#[test]
fn unrecorded_bytes_stay_within_the_limit() {
    let _deadline = Deadline::seconds(60);
    for via in BOTH {
        let place = place(150);
        let mut sink = place.sink("a", 150 * MIB);
        let unrecorded = Arc::clone(&sink.unrecorded);
        // The disk is slow: it takes all it can get before it is done once.
        sink.before_checkpoint = Some(Box::new(move |_| {
            wait_until("writers fill what they may", || unrecorded.lock().unwrap().1 >= 32 * MIB);
        }));
        let context = context();
        place.copy(via, place.file(NAME, &sink), &context).unwrap();
        let most = sink.most_unrecorded();
        assert!(most <= (33 + context.workers as u64) * MIB, "{most} bytes were not recorded");
    }
}

#[test]
fn a_panicking_worker_fails_the_copy_without_hanging() {
    let _deadline = Deadline::seconds(60);
    for via in BOTH {
        let place = place(100);
        let mut sink = place.sink("writing", 100 * MIB);
        sink.before_write = Some(Box::new(|before| assert!(before < 10 * MIB, "a defect, on purpose")));
        let error = fails(&place, via, &sink);
        assert!(matches!(error, TransferError::Worker { .. }), "{error:?}");
        let mut sink = place.sink("recording", 100 * MIB);
        sink.before_checkpoint = Some(Box::new(|_| panic!("a defect, on purpose")));
        let error = fails(&place, via, &sink);
        assert!(matches!(error, TransferError::Worker { .. }), "{error:?}");
    }
}

#[test]
fn a_sink_of_another_length_is_refused_before_writing() {
    let _deadline = Deadline::seconds(60);
    let place = place(3);
    for via in BOTH {
        let short = place.sink(&format!("short-{via:?}"), 2 * MIB);
        let error = place.copy(via, place.file(NAME, &short), &context()).unwrap_err();
        assert!(matches!(error, TransferError::Write { .. }), "{error:?}");
        let sink = place.sink(&format!("a-{via:?}"), 3 * MIB);
        let copy = FileCopy { done: BlockMap::new(0), ..place.file(NAME, &sink) };
        let error = place.copy(via, copy, &context()).unwrap_err();
        assert!(matches!(error, TransferError::Write { .. }), "{error:?}");
        assert_eq!(sink.writes.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn a_server_killed_during_a_copy_is_noticed() {
    let _deadline = Deadline::seconds(60);
    let place = place(200);
    let mut sink = place.sink("a", 200 * MIB);
    let serving = place.serving.abort_handle();
    sink.before_write = Some(Box::new(move |before| {
        if before == 10 * MIB {
            serving.abort();
        }
    }));
    let began = Instant::now();
    let error = fails(&place, Via::Endpoint, &sink);
    assert!(matches!(error, TransferError::Unreachable { .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(place.client().hello().is_err(), "nothing of it answers any more");
}

#[test]
fn a_file_truncated_during_a_copy_is_reported_as_changed() {
    // The first block is waited for, so that the hole map was asked before the file is cut; what the client takes
    // unasked is bounded, so that the end was not read yet.
    let _deadline = Deadline::seconds(60);
    let place = place(60);
    let credential = place.credential(NAME);
    let (blocks, failure) = place.runtime.block_on(async {
        let handle = raw::log_in(place.address, &credential).await;
        let mut channel = raw::blocks(&handle).await;
        let open = OpenRequest { protocol: 1, codecs: vec![Codec::None] };
        channel.data_bytes(encode_json(FrameKind::Open, &open).unwrap()).await.unwrap();
        channel.data_bytes(encode(FrameKind::Go, &[])).await.unwrap();
        let mut reader = FrameReader::default();
        let (mut blocks, mut failure) = (Vec::new(), None);
        while let Some(message) = channel.wait().await {
            let russh::ChannelMsg::Data { data } = message else { continue };
            reader.push(&data);
            while let Some(frame) = reader.next_frame().unwrap() {
                match frame.kind {
                    FrameKind::Opened => {}
                    FrameKind::Data => {
                        if blocks.is_empty() {
                            let file = std::fs::File::options().write(true).open(place.path(NAME)).unwrap();
                            file.set_len(1000).unwrap();
                        }
                        blocks.push(DataFrame::parse(&frame.payload).unwrap().block.0);
                    }
                    FrameKind::Error => failure = Some(serde_json::from_slice::<ErrorPayload>(&frame.payload).unwrap()),
                    other => panic!("a frame of type {other:?}"),
                }
            }
        }
        (blocks, failure)
    });
    assert_eq!(failure.unwrap().code, "source_changed");
    assert!(blocks.len() < 60);
    assert_eq!(blocks, (0..blocks.len() as u64).collect::<Vec<_>>(), "no block is left out before the failure");
}
