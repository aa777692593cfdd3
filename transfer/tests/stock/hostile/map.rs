//! Hole maps that lie or do not end: the file is read as if there were none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use stackferry_transfer::FileCopy;
use stackferry_volume::{BlockMap, HoleMapSource};

use super::{TIMEOUTS, copy, file};
use crate::support::Deadline;
use crate::support::double::{Act, Double, Script};
use crate::support::host::context;
use crate::support::sink::TestSink;

/// The copy is good, and the map was not used.
fn is_passed_over(what: &str, acts: impl Fn() -> Vec<Act> + Send + Sync + 'static, credentials: u64) {
    let runs = move |command: &str, _: &_| command.starts_with("python3").then(&acts);
    let outcome = copy(Script { runs: Box::new(runs), ..Script::default() }).result.expect(what);
    assert_eq!((outcome.hole_map, outcome.credentials), (HoleMapSource::None, credentials), "{what}");
    assert!(outcome.counts.read >= file().bytes(), "{what}: all is read");
}

fn says(what: &str, lines: String) {
    let text = Bytes::from(format!("stackferry-map-1\n{lines}"));
    is_passed_over(what, move || vec![Act::Send(text.clone()), Act::Exit(Some(0))], 2);
}

#[test]
fn contradictory_hole_maps_are_not_used() {
    let _deadline = Deadline::seconds(240);
    let (bytes, mtime) = (file().bytes(), file().mtime);
    let end = format!("-1 {bytes} {bytes} {mtime}\n");
    says("overlapping ranges", format!("0 5000000\n4999999 {bytes}\n{end}"));
    says("backwards", format!("5000000 {bytes}\n0 5000000\n{end}"));
    says("an empty range", format!("0 0\n0 {bytes}\n{end}"));
    says("gaps that hold data", format!("0 4096\n{} {bytes}\n-1 {bytes} {} {mtime}\n", 5 << 20, 5 << 20));
    says("all is a hole", format!("-1 {bytes} 0 {mtime}\n"));
    says("all is a hole that takes room", end.clone());
    says("beyond the end", format!("0 {}\n{end}", bytes + 1));
    says("numbers without end", format!("0 {}\n{end}", "9".repeat(90)));
    says("below zero", format!("-5 {bytes}\n{end}"));
    says("another file", format!("0 {bytes}\n-1 {} {bytes} {mtime}\n", bytes + 1));
    says("two ends", format!("0 {bytes}\n{end}{end}"));
    says("no end", format!("0 {bytes}\n"));
    says("commands to a terminal", "\x1b[2J\x1b]0;owned\x07\n".to_owned());
}

#[test]
fn one_failed_start_does_not_disable_hole_maps() {
    let _deadline = Deadline::seconds(120);
    // How often python3 is asked for over seven copies, where it fails so at first and works later.
    for (what, fails, words, status, expected) in [
        ("no process just now", 2, "sh: fork: retry: Resource temporarily unavailable", 254, 7),
        ("killed", 1, "Killed", 137, 7),
        ("not installed", 7, "sh: 1: python3: not found", 127, 1),
        ("not installed, to a C shell", 7, "python3: Command not found.", 1, 1),
        // Something that fails again and again is left for a while.
        ("always", 7, "sh: fork: retry: Resource temporarily unavailable", 254, 5),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&asked);
        let runs = move |command: &str, _: &_| {
            let is_map = command.starts_with("python3");
            let fails = is_map && counting.fetch_add(1, Ordering::Relaxed) < fails;
            fails.then(|| vec![Act::Complain(Bytes::from_static(words.as_bytes())), Act::Exit(Some(status))])
        };
        let home = tempfile::tempdir().unwrap();
        let file = file();
        let double = Double::start(home.path(), file.clone(), Script { runs: Box::new(runs), ..Script::default() });
        let client = double.client(home.path(), double.address, TIMEOUTS);
        let mtime = jiff::Timestamp::from_second(i64::from(file.mtime)).unwrap();
        for number in 0..7 {
            let sink = TestSink::new(home.path(), &format!("out{number}"), file.bytes());
            let done = BlockMap::new(file.bytes());
            let wanted = FileCopy { path: "apps/a", bytes: file.bytes(), mtime, sink: &sink, done, base: None };
            client.copy(wanted, &context(), &mut |_| {}).expect(what);
        }
        assert_eq!(asked.load(Ordering::Relaxed), expected, "{what}");
    }
}

#[test]
fn endless_hole_maps_are_not_used() {
    let _deadline = Deadline::seconds(240);
    let pieces: String = (0..300_000u64).map(|at| format!("{} {}\n", at << 17, (at << 17) + 1)).collect();
    says("too many pieces", pieces);
    let forever = |what: &str, greeting: &'static str, piece: Vec<u8>, credentials| {
        let piece = Bytes::from(piece);
        let acts = move || vec![Act::Send(Bytes::from_static(greeting.as_bytes())), Act::Forever(piece.clone())];
        is_passed_over(what, acts, credentials);
    };
    forever("one line without end", "stackferry-map-1\n", vec![b'1'; 30_000], 2);
    forever("the same lines", "stackferry-map-1\n", b"0 1\n".repeat(5000), 2);
    forever("another program", "hello\n", vec![b'x'; 30_000], 1);
    is_passed_over("silence", || vec![Act::Send(Bytes::from_static(b"stackferry-map-1\n")), Act::Hang], 2);
    is_passed_over("silence from the start", || vec![Act::Hang], 1);
    is_passed_over("complaints", || vec![Act::ComplainForever(Bytes::from(vec![b'!'; 30_000]))], 1);
}
