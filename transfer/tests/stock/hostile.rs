//! Hosts of route `ssh` that break the protocols they speak, or stop: each is found out in bounded time, named for what
//! it did in words that a terminal can show, and nothing that it sent is taken for the file unless it is the file.

mod folders;
mod map;
mod place;
mod scp;
mod sftp;
mod way;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use stackferry_transfer::Timeouts;
use stackferry_transfer::stock::StockFolder;
use stackferry_transfer::{CopyContext, FileCopy, FileOutcome, TransferError, describe};
use stackferry_volume::{BlockMap, BlockState, Digest, FolderError};

use crate::support::double::{Act, Asked, Double, File, Script};
use crate::support::files::{MIB, noise};
use crate::support::host::context;
use crate::support::sink::TestSink;

/// Long enough for a loaded machine, short enough to wait for.
const TIMEOUTS: Timeouts =
    Timeouts { answer: Duration::from_secs(2), stall: Duration::from_secs(2), login: Duration::from_secs(10) };
/// What ends a timeouts must end within this: several of them in a row, on a loaded machine.
const BOUND: Duration = Duration::from_secs(30);

/// Nine blocks and a half, so that the hole map is asked for: the third and fourth are zero.
fn file() -> File {
    let mut content = noise(1, 9 * MIB + MIB / 2);
    content[2 << 20..4 << 20].fill(0);
    File { content, mtime: 1_800_000_000 }
}

struct Copied {
    result: Result<FileOutcome, TransferError>,
    sink: TestSink,
    double: Double,
    took: Duration,
}

fn copy(script: Script) -> Copied {
    copy_by(script, &context(), |address| address)
}

/// Copies by way of another address, and checks what holds for every copy.
fn copy_by(script: Script, context: &CopyContext, by: impl FnOnce(SocketAddr) -> SocketAddr) -> Copied {
    let home = tempfile::tempdir().unwrap();
    let file = file();
    let double = Double::start(home.path(), file.clone(), script);
    let sink = TestSink::new(home.path(), "out", file.bytes());
    let client = double.client(home.path(), by(double.address), TIMEOUTS);
    let mtime = jiff::Timestamp::from_second(i64::from(file.mtime)).unwrap();
    let done = BlockMap::new(file.bytes());
    let wanted = FileCopy { path: "apps/a", bytes: file.bytes(), mtime, sink: &sink, done, base: None };
    let began = Instant::now();
    let result = client.copy(wanted, context, &mut |_| {});
    let took = began.elapsed();
    assert!(took < BOUND, "{took:?}: {result:?}");
    assert!(sink.lies.lock().unwrap().is_empty());
    match &result {
        Ok(outcome) => {
            for block in (0..outcome.blocks.blocks()).map(stackferry_volume::BlockIndex) {
                let right = file.part(block.offset(), 1 << 20);
                let zero = right.iter().all(|byte| *byte == 0);
                let right = if zero { BlockState::Zero } else { BlockState::Data(Digest::of(right)) };
                assert_eq!(
                    outcome.blocks.get(block),
                    right,
                    "{block:?} is another one, and the copy is said to be good"
                );
            }
        }
        Err(error) => shows(&describe(error)),
    }
    let mut left: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["out", "user_ca"], "nothing is written outside of the sink");
    Copied { result, sink, double, took }
}

/// A terminal shows it as it is.
fn shows(words: &str) {
    assert!(!words.chars().any(char::is_control), "{words:?}");
    assert!(!words.contains('\u{202e}'), "{words:?}");
    assert!(words.len() < 3000, "{} bytes", words.len());
}

fn fails(script: Script) -> TransferError {
    copy(script).result.unwrap_err()
}

fn is_protocol(error: &TransferError, words: &str) {
    let TransferError::Protocol { host, what } = error else { panic!("{words}: {error:?}") };
    assert!(what.contains(words), "{what:?} does not contain {words:?}");
    assert!(host.starts_with("127.0.0.1:"));
}

fn is_silent(error: &TransferError, words: &str) {
    let TransferError::Stalled { doing, .. } = error else { panic!("{words}: {error:?}") };
    assert!(doing.contains(words), "{doing:?} does not contain {words:?}");
}

fn is_changed(error: &TransferError, words: &str) {
    let TransferError::SourceChanged { what, .. } = error else { panic!("{words}: {error:?}") };
    assert!(what.contains(words), "{what:?} does not contain {words:?}");
}

fn is_refused(error: &TransferError) {
    assert!(matches!(error, TransferError::Folder(FolderError::Refused { .. })), "{error:?}");
}

/// Answers requests of SFTP like this; none for the right answer.
fn sftp(answer: impl Fn(&Asked, &File) -> Option<Vec<Act>> + Send + Sync + 'static) -> Script {
    Script { sftp: Box::new(answer), ..no_map() }
}

/// Has no Python.
fn no_map() -> Script {
    Script {
        runs: Box::new(|command, _| command.starts_with("python3").then(|| vec![Act::Exit(Some(127))])),
        ..Script::default()
    }
}

/// Runs commands like this, and has no SFTP.
fn runs(run: impl Fn(&str, &File) -> Option<Vec<Act>> + Send + Sync + 'static) -> Script {
    Script { runs: Box::new(run), has_sftp: false, ..Script::default() }
}

/// Asks a host for something in its datastore.
fn ask<T>(script: Script, asking: impl FnOnce(&StockFolder) -> Result<T, FolderError>) -> Result<T, FolderError> {
    let home = tempfile::tempdir().unwrap();
    let double = Double::start(home.path(), file(), script);
    let began = Instant::now();
    let answer = asking(&double.client(home.path(), double.address, TIMEOUTS).folder());
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    answer.inspect_err(|error| shows(&describe(error)))
}

fn unreachable<T: std::fmt::Debug>(answer: Result<T, FolderError>, words: &str) {
    let error = answer.unwrap_err();
    let FolderError::Unreachable { why, .. } = &error else { panic!("{words}: {error:?}") };
    assert!(why.contains(words), "{why:?} does not contain {words:?}");
}
