//! Endpoints that break the protocol, in every way but one's own: each is found out in bounded time, named for what it
//! did, and nothing that it sent is recorded that does not hash.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use stackferry_transfer::Timeouts;
use stackferry_transfer::remote::EndpointFolder;
use stackferry_transfer::wire::block::{End, run_payload};
use stackferry_transfer::wire::frame::{FrameKind, encode, encode_json, header};
use stackferry_transfer::{CopyContext, FileCopy, FileOutcome, TransferError};
use stackferry_volume::{BlockIndex, BlockMap, BlockState, Digest, Folder, FolderError};

use crate::support::Deadline;
use crate::support::double::{Act, Double, File, Script, response};
use crate::support::files::{MIB, noise};
use crate::support::place::context;
use crate::support::sink::TestSink;

const BLOCKS: u64 = 8;

/// Eight blocks and a half: the third and fourth are zero.
fn file() -> File {
    let mut content = noise(1, BLOCKS * MIB + MIB / 2);
    content[2 << 20..4 << 20].fill(0);
    File { content, mtime: "2026-11-22T04:15:00.5Z".parse().unwrap() }
}

/// Long enough for a loaded machine, short enough to wait for.
const TIMEOUTS: Timeouts =
    Timeouts { answer: Duration::from_secs(2), stall: Duration::from_secs(2), login: Duration::from_secs(10) };

struct Copied {
    result: Result<FileOutcome, TransferError>,
    sink: TestSink,
    double: Double,
    _home: tempfile::TempDir,
}

fn copy_with(script: Script, base: Option<&BlockMap>, context: &CopyContext) -> Copied {
    let home = tempfile::tempdir().unwrap();
    let double = Double::start(home.path(), file(), script);
    let file = double.file();
    let sink = TestSink::new(home.path(), "out", file.bytes());
    let copy = FileCopy {
        path: "apps/a",
        bytes: file.bytes(),
        mtime: file.mtime,
        sink: &sink,
        done: BlockMap::new(file.bytes()),
        base,
    };
    let began = Instant::now();
    let result = double.client(TIMEOUTS).copy("ds", copy, context, &mut |_| {});
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(sink.lies.lock().unwrap().is_empty());
    for (block, digest) in sink.records() {
        assert_eq!(digest, Digest::of(file.block(block)), "block {block} is recorded and is not the file's");
    }
    if result.is_err() {
        assert_eq!(double.revoked(), ["sf-1"], "a credential that is of no more use is revoked");
    }
    Copied { result, sink, double, _home: home }
}

fn acts(acts: impl Fn(&File) -> Vec<Act> + Send + Sync + 'static) -> TransferError {
    let script = Script { acts: Box::new(move |file, _| acts(file)), ..Script::default() };
    copy_with(script, None, &context()).result.unwrap_err()
}

/// The right frames but for what `change` does to them.
fn frames(change: impl Fn(&File, &mut Vec<Bytes>) + Send + Sync + 'static) -> TransferError {
    acts(move |file| {
        let mut frames = file.frames();
        change(file, &mut frames);
        frames.into_iter().map(Act::Send).collect()
    })
}

fn is_protocol(error: &TransferError, words: &str) {
    let TransferError::Protocol { host, what } = error else { panic!("{words}: {error:?}") };
    assert!(what.contains(words), "{what:?} does not contain {words:?}");
    assert!(host.starts_with("127.0.0.1:"));
}

fn run(kind: FrameKind, first: u64, count: u64) -> Bytes {
    encode(kind, &run_payload(BlockIndex(first), count))
}

#[test]
fn the_double_serves_a_copy_by_default() {
    let _deadline = Deadline::seconds(60);
    let copied = copy_with(Script::default(), None, &context());
    let outcome = copied.result.unwrap();
    assert_eq!(outcome.counts.zero, 2 * MIB);
    assert_eq!(copied.sink.writes.load(Ordering::SeqCst), 7);
    assert_eq!(copied.double.logins(), 2, "one to ask, one for the file");
}

#[test]
fn misordered_duplicate_and_missing_blocks_are_refused() {
    let _deadline = Deadline::seconds(120);
    is_protocol(&frames(|_, frames| frames.swap(0, 1)), "block 1 where 0 is expected");
    is_protocol(&frames(|file, frames| frames.insert(1, file.frame(0, false))), "block 0 where 1 is expected");
    is_protocol(&frames(|_, frames| drop(frames.remove(5))), "block 6 where 5 is expected");
    is_protocol(&frames(|file, frames| frames.insert(9, file.frame(8, false))), "block 8 where 9 is expected");
    is_protocol(&frames(|_, frames| frames[0] = run(FrameKind::Zero, u64::MAX, 1)), "where 0 is expected");
}

#[test]
fn overlapping_and_empty_runs_are_refused() {
    let _deadline = Deadline::seconds(120);
    for (at, first, count) in [(2, 1, 3), (3, 2, 2), (2, 2, 7 + 1), (2, 2, u64::MAX), (2, 2, 0), (2, 3, 1)] {
        let error = frames(move |_, frames| frames[at] = run(FrameKind::Zero, first, count));
        is_protocol(&error, "zero blocks");
    }
    is_protocol(&frames(|_, frames| frames[2] = encode(FrameKind::Zero, &[0; 15])), "wrong length");
}

#[test]
fn blocks_called_equal_without_comparison_are_refused() {
    let _deadline = Deadline::seconds(60);
    is_protocol(&frames(|_, frames| frames[0] = run(FrameKind::Same, 0, 1)), "was not compared");
    // Of a base that says that the block was zero, nothing is asked either.
    let mut base = BlockMap::new(file().bytes());
    base.set(BlockIndex(1), BlockState::Data(Digest::of(b"x")));
    base.set_zero(BlockIndex(0), 1);
    let script = Script {
        acts: Box::new(|_, known| {
            assert_eq!(known.base.data_blocks().0, 1);
            vec![Act::Send(run(FrameKind::Same, 0, 1))]
        }),
        ..Script::default()
    };
    is_protocol(&copy_with(script, Some(&base), &context()).result.unwrap_err(), "was not compared");
}

#[test]
fn long_unknown_and_unexpected_frames_are_refused() {
    let _deadline = Deadline::seconds(120);
    for kind in [FrameKind::Data, FrameKind::Zero, FrameKind::Same, FrameKind::End, FrameKind::Error] {
        let error = frames(move |_, frames| frames[0] = Bytes::copy_from_slice(&header(kind, kind.limit() + 1)));
        is_protocol(&error, "are allowed");
    }
    is_protocol(&frames(|_, frames| frames[0] = Bytes::from_static(&[0x77, 0, 0, 0, 0])), "unknown type 0x77");
    for kind in [FrameKind::Open, FrameKind::Go, FrameKind::Opened, FrameKind::Response] {
        is_protocol(&frames(move |_, frames| frames[0] = encode(kind, &[])), "in the middle of a file");
    }
}

#[test]
fn a_block_with_a_wrong_digest_is_reported() {
    let _deadline = Deadline::seconds(60);
    for place in [20, 60, 5000] {
        // In the digest, and in the bytes: these blocks are not compressed.
        let error = frames(move |_, frames| {
            let mut frame = BytesMut::from(&frames[5][..]);
            frame[place] ^= 1;
            frames[5] = frame.freeze();
        });
        let TransferError::BlockMismatch { file, block, .. } = &error else { panic!("{error:?}") };
        assert_eq!((file.as_str(), *block), ("apps/a", BlockIndex(5)));
    }
}

/// A DATA frame made by hand.
fn data(block: u64, codec: u8, mask: u16, digest: Digest, raw: u32, body: &[u8]) -> Bytes {
    let mut payload = BytesMut::new();
    payload.put_u64_le(block);
    payload.put_u8(codec);
    payload.put_u8(0);
    payload.put_u16_le(mask);
    payload.extend_from_slice(digest.as_bytes());
    payload.put_u32_le(raw);
    payload.extend_from_slice(body);
    encode(FrameKind::Data, &payload)
}

#[test]
fn decompression_bombs_and_wrong_lengths_are_refused() {
    let _deadline = Deadline::seconds(120);
    let digest = Digest::of(b"x");
    let bomb = zstd::bulk::compress(&vec![7u8; 512 << 20], 19).unwrap();
    assert!(bomb.len() < 1 << 20);
    let full = 1u32 << 20;
    for (what, frame) in [
        ("decompressed", data(0, 1, 0xffff, digest, full, &bomb)),
        ("decompressed", data(0, 1, 1, digest, 64 << 10, &bomb)),
        ("decompressed", data(0, 1, 0xffff, digest, full, b"no zstd at all")),
        ("decompressed", data(0, 1, 0xffff, digest, full, &zstd::bulk::compress(&[7; 100], 1).unwrap())),
        ("contradict", data(0, 1, 0xffff, digest, u32::MAX, &bomb)),
        ("contradict", data(0, 0, 0xffff, digest, full, &[1; 100])),
        ("contradict", data(0, 0, 1, digest, 100, &[1; 100])),
        ("contradict", data(0, 0, 0, digest, 0, &[])),
        ("codec", data(0, 9, 0xffff, digest, full, &[])),
        ("too short", encode(FrameKind::Data, &[0; 47])),
    ] {
        is_protocol(&frames(move |_, frames| frames[0] = frame.clone()), what);
    }
}

#[test]
fn an_early_or_inconsistent_end_is_refused() {
    let _deadline = Deadline::seconds(120);
    is_protocol(&frames(|_, frames| drop(frames.remove(8))), "ended at block 8 of 9");
    is_protocol(&frames(|_, frames| drop(frames.drain(..9))), "ended at block 0 of 9");
    let end = |change: fn(&mut End)| {
        frames(move |file, frames| {
            let mut end = file.end();
            change(&mut end);
            frames[9] = encode_json(FrameKind::End, &end).unwrap();
        })
    };
    is_protocol(&end(|end| end.data_frames -= 1), "ended at block");
    for error in [end(|end| end.bytes += 1), end(|end| end.mtime += Duration::from_nanos(1))] {
        assert!(matches!(error, TransferError::SourceChanged { .. }), "{error:?}");
    }
    is_protocol(&frames(|_, frames| frames[9] = encode(FrameKind::End, b"{}")), "END is invalid");
    let error = frames(|_, frames| frames.truncate(9));
    assert!(matches!(error, TransferError::Unreachable { .. }), "it closed without END: {error:?}");
}

#[test]
fn an_endpoints_messages_are_shown_without_control_characters() {
    let _deadline = Deadline::seconds(60);
    let refused_with = |code: &str| {
        let failure = json!({"code": code, "message": format!("\u{1b}[2J{}", "long ".repeat(1000))});
        frames(move |_, frames| frames[3] = encode_json(FrameKind::Error, &failure).unwrap())
    };
    let error = refused_with("io");
    let TransferError::Refused { code, message, .. } = &error else { panic!("{error:?}") };
    assert_eq!(code, "io");
    assert!(message.len() <= 500 && !message.contains('\u{1b}'), "{message:?}");
    assert_eq!(error.retry(), stackferry_https::Retry::Transient);
    assert!(matches!(refused_with("replaced"), TransferError::SourceChanged { .. }));
    is_protocol(&frames(|_, frames| frames[3] = encode(FrameKind::Error, b"x")), "is invalid");
}

#[test]
fn silence_and_trickles_are_noticed() {
    let _deadline = Deadline::seconds(120);
    let silent = |error: TransferError| {
        assert!(matches!(error, TransferError::Stalled { .. }), "{error:?}");
    };
    silent(acts(|_| vec![Act::Hang]));
    silent(acts(|file| {
        vec![Act::Send(file.frame(0, false)), Act::Send(file.frame(1, false).slice(..70_000)), Act::Hang]
    }));
    let error = acts(|file| vec![Act::Send(file.frame(0, false)), Act::Cut]);
    assert!(matches!(error, TransferError::Unreachable { .. }), "{error:?}");
    // What never ends is not waited for, whatever it is.
    is_protocol(&acts(|file| vec![Act::Forever(file.frame(0, false))]), "where 1 is expected");
    is_protocol(&acts(|_| vec![Act::Forever(encode(FrameKind::Zero, &[]))]), "wrong length");
}

#[test]
fn cancelling_does_not_wait_for_a_stalled_host() {
    let _deadline = Deadline::seconds(60);
    let context = context();
    let cancel = context.cancel.clone();
    let script = Script {
        acts: Box::new(move |_, _| {
            cancel.cancel();
            vec![Act::Hang]
        }),
        ..Script::default()
    };
    let began = Instant::now();
    let error = copy_with(script, None, &context).result.unwrap_err();
    assert!(matches!(error, TransferError::Cancelled), "{error:?}");
    assert!(began.elapsed() < TIMEOUTS.stall, "{:?}", began.elapsed());
}

#[test]
fn a_wrong_opened_frame_is_refused() {
    let _deadline = Deadline::seconds(120);
    let opened = |bytes: Bytes| {
        let copied = copy_with(Script { opened: Some(bytes), ..Script::default() }, None, &context());
        assert_eq!(copied.sink.writes.load(Ordering::SeqCst), 0);
        copied.result.unwrap_err()
    };
    let with = |key: &str, value: Value| {
        let file = file();
        let mut right = json!({"protocol": 1, "bytes": file.bytes(), "mtime": file.mtime, "hole_map": "seek"});
        right[key] = value;
        opened(encode_json(FrameKind::Opened, &right).unwrap())
    };
    assert!(matches!(with("bytes", json!(1)), TransferError::SourceChanged { .. }));
    assert!(matches!(with("mtime", json!("2026-11-22T04:15:00Z")), TransferError::SourceChanged { .. }));
    is_protocol(&with("protocol", json!(2)), "protocol 2");
    is_protocol(&with("protocol", json!(0)), "protocol 0");
    is_protocol(&with("hole_map", json!("magic")), "OPENED is invalid");
    is_protocol(&opened(encode(FrameKind::Go, &[])), "where OPENED is expected");
    let failure = json!({"code": "replaced", "message": "it is another file now"});
    let error = opened(encode_json(FrameKind::Error, &failure).unwrap());
    assert!(matches!(error, TransferError::SourceChanged { .. }), "{error:?}");
}

#[test]
fn channels_opened_by_a_host_are_refused() {
    let _deadline = Deadline::seconds(60);
    let copied = copy_with(Script { opens_channels: true, ..Script::default() }, None, &context());
    copied.result.unwrap();
}

/// Asks a double whose control subsystem answers like this.
fn asked<T>(
    answers: impl Fn(u64, &Value) -> Option<Vec<Bytes>> + Send + Sync + 'static,
    ask: impl Fn(&EndpointFolder) -> T,
) -> T {
    let home = tempfile::tempdir().unwrap();
    let double = Double::start(home.path(), file(), Script { answers: Box::new(answers), ..Script::default() });
    let began = Instant::now();
    let answer = ask(&EndpointFolder::new(Arc::new(double.client(TIMEOUTS)), "ds"));
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    answer
}

fn unreachable(error: FolderError, words: &str) {
    let FolderError::Unreachable { datastore, why } = &error else { panic!("{error:?}") };
    assert_eq!(datastore, "ds");
    assert!(why.contains(words), "{why:?} does not contain {words:?}");
}

fn entry(name: &str) -> Value {
    json!({"name": name, "utf8": true, "kind": "file", "bytes": 1, "allocated": null, "mtime": "2026-11-22T00:00:00Z"})
}

/// A list whose pages are made of the name that they begin after.
fn lists(page: impl Fn(Option<&str>) -> Value + Send + Sync + 'static) -> Result<Vec<String>, FolderError> {
    let answers = move |id: u64, request: &Value| {
        (request["op"] == "list").then(|| vec![response(id, &page(request["after"].as_str()))])
    };
    let entries = asked(answers, |folder| folder.list("apps"));
    entries.map(|entries| entries.into_iter().map(|entry| entry.name).collect())
}

#[test]
fn endless_lists_are_refused() {
    let _deadline = Deadline::seconds(120);
    let page = |from: u64, count: u64, more: bool| {
        let entries: Vec<_> = (from..from + count).map(|at| entry(&format!("{at:09}"))).collect();
        json!({"entries": entries, "more": more})
    };
    let number = |after: Option<&str>| after.map_or(0, |after| after.parse::<u64>().unwrap() + 1);
    let names = lists(move |after| page(number(after), 1000, after.is_none())).unwrap();
    assert_eq!(names.len(), 2000);
    let error = lists(move |after| page(number(after), 1000, true)).unwrap_err();
    assert!(matches!(error, FolderError::TooMany { .. }), "{error:?}");
    unreachable(lists(move |after| page(number(after), 1, true)).unwrap_err(), "does not advance");
    unreachable(lists(move |_| page(0, 1000, true)).unwrap_err(), "does not advance");
    unreachable(lists(|_| json!({"entries": [], "more": true})).unwrap_err(), "does not advance");
    let backward = json!({"entries": [entry("b"), entry("a")], "more": false});
    unreachable(lists(move |_| backward.clone()).unwrap_err(), "does not advance");
}

#[test]
fn invalid_answers_are_refused() {
    let _deadline = Deadline::seconds(120);
    let described = json!({"entry": null});
    let stat = |answers: fn(u64) -> Vec<Bytes>| {
        asked(move |id, request| (request["op"] == "describe").then(|| answers(id)), |folder| folder.stat("apps/a"))
    };
    let right = described.clone();
    assert!(
        asked(
            move |id, request| (request["op"] == "describe").then(|| vec![response(id, &right)]),
            |folder| { folder.stat("apps/a") }
        )
        .unwrap()
        .is_none()
    );
    unreachable(stat(|id| vec![response(id + 1, &json!({"entry": null}))]).unwrap_err(), "an answer to request");
    unreachable(stat(|id| vec![response(id, &json!({"entry": 5}))]).unwrap_err(), "is invalid");
    unreachable(stat(|_| vec![encode(FrameKind::Response, b"{\"id\":")]).unwrap_err(), "is invalid");
    unreachable(stat(|_| vec![encode(FrameKind::Data, &[0; 60])]).unwrap_err(), "where an answer is expected");
    unreachable(stat(|_| vec![Bytes::copy_from_slice(&header(FrameKind::Response, 2 << 20))]).unwrap_err(), "allowed");
    unreachable(stat(|_| vec![]).unwrap_err(), "silent for 2 seconds");
    unreachable(stat(|_| vec![Bytes::from_static(&[0x21, 9])]).unwrap_err(), "silent for 2 seconds");
}

#[test]
fn a_late_answer_is_not_taken_for_the_next_requests() {
    let _deadline = Deadline::seconds(60);
    // It answers the first question twice; the second answer must not be taken for that to the next question.
    let home = tempfile::tempdir().unwrap();
    let twice = |id: u64, request: &Value| {
        let missing = response(id, &json!({"entry": null}));
        match request["path"].as_str() {
            Some("late") => Some(vec![]),
            Some("twice") => Some(vec![missing.clone(), missing]),
            Some("once") => Some(vec![response(id, &json!({"entry": entry("once")}))]),
            _ => None,
        }
    };
    let double = Double::start(home.path(), file(), Script { answers: Box::new(twice), ..Script::default() });
    let folder = EndpointFolder::new(Arc::new(double.client(TIMEOUTS)), "ds");
    assert!(folder.stat("twice").unwrap().is_none());
    unreachable(folder.stat("once").unwrap_err(), "an answer to request");
    assert_eq!(folder.stat("once").unwrap().unwrap().name, "once");
    unreachable(folder.stat("late").unwrap_err(), "silent");
    assert_eq!(folder.stat("once").unwrap().unwrap().name, "once");
}

#[test]
fn more_content_than_requested_is_refused() {
    let _deadline = Deadline::seconds(60);
    for base64 in ["AAAAAAAA", "no base64"] {
        let answers = move |id: u64, request: &Value| {
            (request["op"] == "read").then(|| vec![response(id, &json!({"base64": base64}))])
        };
        unreachable(asked(answers, |folder| folder.read("a", 5)).unwrap_err(), "not what was requested");
    }
}

#[test]
fn an_endpoint_with_another_protocol_is_reported() {
    let _deadline = Deadline::seconds(60);
    for protocol in [0, 2] {
        let answers = move |id: u64, request: &Value| {
            let hello = json!({"protocol": protocol, "program": "x", "features": [], "datastores": []});
            (request["op"] == "hello").then(|| vec![response(id, &hello)])
        };
        unreachable(asked(answers, |folder| folder.list("")).unwrap_err(), &format!("protocol {protocol}"));
    }
}
