//! Writing new files by the endpoint: whole, sparse, and under their names only when all is done.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use stackferry_transfer::remote::IssuedCredential;
use stackferry_transfer::restore::{Checked, FileRestore, Written, finish};
use stackferry_transfer::wire::block::{ErrorPayload, encode_data, run_payload};
use stackferry_transfer::wire::frame::{FrameKind, FrameReader, encode, encode_json};
use stackferry_transfer::wire::upload::UploadRequest;
use stackferry_transfer::{CopyContext, TransferError, describe};
use stackferry_volume::Source;
use stackferry_volume::block::{BlockIndex, BlockState, Digest};
use stackferry_volume::io::Cancel;
use stackferry_volume::local::LocalSource;

use crate::support::place::{Counted, DATASTORE, Place, context};
use crate::support::version::{MIB, Version, names};
use crate::support::{raw, wait_until};

fn write<'p>(place: &'p Place, file: &FileRestore<'_>, context: &CopyContext) -> Result<Written<'p>, TransferError> {
    place.client().write(DATASTORE, file, context, &mut |_| {})
}

fn wait_empty(path: &Path) {
    wait_until("discarded files are gone", || names(path).is_empty());
}

#[test]
fn a_file_is_restored_sparse_and_renamed_last() {
    let place = Place::new();
    let version = Version::new(place.home.path(), "version");
    let progress = Arc::new(Counted::default());
    let used = Arc::new(AtomicU64::new(0));
    let mut context = CopyContext::new(Cancel::default(), progress.clone(), 32 << 20);
    let counting = Arc::clone(&used);
    context.used = Some(Arc::new(move |_| {
        counting.fetch_add(1, Ordering::SeqCst);
    }));
    let mut issued = Vec::new();
    let file = version.file("restored/deep/Office-flat.vmdk");
    let written =
        place.client().write(DATASTORE, &file, &context, &mut |credential| issued.push(credential.user.clone()));
    let written = written.unwrap();
    let there = place.path("restored/deep");
    let before = names(&there);
    assert!(before.len() == 1 && before[0].starts_with(".stackferry-restore-"), "{before:?}");
    assert_eq!(written.checked, Checked::Arrival);
    let (_, data) = version.blocks.data_blocks();
    assert!(written.stored <= data && written.stored >= 3 * MIB, "{}", written.stored);
    assert!(written.wire < data + (64 << 10), "zeros were sent: {}", written.wire);
    finish(vec![written.placed]).unwrap();
    assert_eq!(names(&there), ["Office-flat.vmdk"]);
    let path = there.join("Office-flat.vmdk");
    assert_eq!(std::fs::read(&path).unwrap(), version.bytes);
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!((found.mtime(), found.mtime_nsec()), (1_767_323_045, 678_000_000));
    assert!(found.blocks() * 512 <= 3 * MIB + (64 << 10), "{} bytes on disk", found.blocks() * 512);
    assert_eq!((issued.len(), used.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(progress.0.load(Ordering::SeqCst), version.bytes.len() as u64);
}

#[test]
fn files_of_all_lengths_are_restored() {
    let place = Place::new();
    for (at, length) in [0, 1, 4095, MIB - 1, MIB, MIB + 1, 20 * MIB].into_iter().enumerate() {
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let version = Version::of(place.home.path(), &format!("version{at}"), bytes);
        let path = format!("restored/{at}");
        let written = write(&place, &version.file(&path), &context()).unwrap();
        finish(vec![written.placed]).unwrap();
        assert_eq!(std::fs::read(place.path(&path)).unwrap(), version.bytes, "{length}");
    }
}

#[test]
fn nothing_is_overwritten_and_aborted_files_are_removed() {
    let place = Place::new();
    let version = Version::new(place.home.path(), "version");
    let there = place.path("apps");
    std::fs::write(there.join("a.vmdk"), "old").unwrap();
    let refused = write(&place, &version.file("apps/a.vmdk"), &context()).unwrap_err();
    assert!(matches!(refused, TransferError::Exists { .. }), "{}", describe(&refused));
    std::fs::remove_file(there.join("a.vmdk")).unwrap();
    drop(write(&place, &version.file("apps/a.vmdk"), &context()).unwrap());
    wait_empty(&there);
    // The second one's name is taken in the last moment: the first one goes with it.
    let one = write(&place, &version.file("apps/a-flat.vmdk"), &context()).unwrap();
    let two = write(&place, &version.file("apps/a.vmdk"), &context()).unwrap();
    std::fs::write(there.join("a.vmdk"), "came meanwhile").unwrap();
    let refused = finish(vec![one.placed, two.placed]).unwrap_err();
    assert!(matches!(refused, TransferError::Exists { .. }), "{}", describe(&refused));
    wait_until("only the other file exists", || names(&there) == ["a.vmdk"]);
    assert_eq!(std::fs::read_to_string(there.join("a.vmdk")).unwrap(), "came meanwhile");
}

#[test]
fn writes_need_an_allowed_datastore_and_a_plain_path() {
    let place = Place::closed();
    let version = Version::new(place.home.path(), "version");
    let refused = write(&place, &version.file("apps/a"), &context()).unwrap_err();
    let text = describe(&refused);
    assert!(matches!(refused, TransferError::NotAllowed { .. }), "{text}");
    assert!(text.contains(DATASTORE) && text.contains("`restore` of [serve]"), "{text}");
    assert!(names(&place.path("apps")).is_empty());
    let place = Place::new();
    let version = Version::new(place.home.path(), "version");
    std::fs::create_dir(place.home.path().join("outside")).unwrap();
    symlink("../outside", place.path("link")).unwrap();
    symlink(place.home.path().join("outside/new"), place.path("apps/dangling")).unwrap();
    for bad in ["link/a", "link/new/a", "../outside/a", "/a", "apps//a", "apps/./a", "apps/dangling"] {
        assert!(write(&place, &version.file(bad), &context()).is_err(), "{bad}");
    }
    let own = "apps/.stackferry-restore-0000000000000000-a";
    assert!(write(&place, &version.file(own), &context()).is_err());
    assert!(names(&place.home.path().join("outside")).is_empty());
    assert_eq!(names(&place.path("apps")), ["dangling"]);
    let unknown = place.client().write("nfs99", &version.file("a"), &context(), &mut |_| {}).unwrap_err();
    assert!(matches!(unknown, TransferError::Refused { .. }), "{}", describe(&unknown));
}

#[test]
fn a_damaged_version_leaves_nothing() {
    let place = Place::new();
    let mut version = Version::new(place.home.path(), "version");
    version.blocks.set(BlockIndex(2), BlockState::Data(Digest::of(b"something else")));
    let refused = write(&place, &version.file("apps/a"), &context()).unwrap_err();
    assert!(
        matches!(&refused, TransferError::VersionDamaged { block: Some(BlockIndex(2)), .. }),
        "{}",
        describe(&refused)
    );
    wait_empty(&place.path("apps"));
    let mut version = Version::new(place.home.path(), "version");
    version.blocks.set(BlockIndex(5), BlockState::Zero);
    let refused = write(&place, &version.file("apps/a"), &context()).unwrap_err();
    assert!(matches!(refused, TransferError::VersionDamaged { .. }), "a block that should be zero is not");
    wait_empty(&place.path("apps"));
    // What the manifest says of the whole file does not agree with its blocks: the endpoint reports it.
    let version = Version::new(place.home.path(), "version");
    let file = FileRestore { blake3: Digest::of(b""), ..version.file("apps/a") };
    let refused = write(&place, &file, &context()).unwrap_err();
    assert!(matches!(refused, TransferError::Arrived { .. }), "{}", describe(&refused));
    wait_empty(&place.path("apps"));
}

#[test]
fn a_file_that_does_not_fit_is_not_started() {
    let place = Place::new();
    let version = Version::new(place.home.path(), "version");
    let file = FileRestore { needed: u64::MAX, ..version.file("apps/a") };
    let refused = write(&place, &file, &context()).unwrap_err();
    assert!(matches!(refused, TransferError::NoRoom { .. }), "{}", describe(&refused));
    wait_empty(&place.path("apps"));
}

/// A source that stops in the middle until the test continues it.
struct Slow<'a> {
    source: &'a LocalSource,
    at: u64,
    reached: Box<dyn Fn() + Send + Sync + 'a>,
}

impl Source for Slow<'_> {
    fn bytes(&self) -> u64 {
        self.source.bytes()
    }
    fn next_data(&self, from: u64) -> std::io::Result<Option<std::ops::Range<u64>>> {
        self.source.next_data(from)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        if offset >= self.at {
            (self.reached)();
        }
        self.source.read_at(offset, buf)
    }
    fn hole_map(&self) -> stackferry_volume::HoleMapSource {
        self.source.hole_map()
    }
}

#[test]
fn an_interrupted_restore_leaves_nothing() {
    let place = Place::new();
    let version = Version::new(place.home.path(), "version");
    let context = context();
    let cancel = context.cancel.clone();
    let slow = Slow { source: &version.source, at: 2 * MIB, reached: Box::new(move || cancel.cancel()) };
    let file = FileRestore { source: &slow, ..version.file("apps/a") };
    assert!(matches!(write(&place, &file, &context), Err(TransferError::Cancelled)));
    wait_empty(&place.path("apps"));
}

#[test]
fn a_credential_revoked_during_a_write_leaves_nothing() {
    let place = Place::new();
    let version = Version::new(place.home.path(), "version");
    let user = Mutex::new(String::new());
    let revoke = || drop(place.client().revoke(&user.lock().unwrap()));
    let slow = Slow { source: &version.source, at: 2 * MIB, reached: Box::new(revoke) };
    let file = FileRestore { source: &slow, ..version.file("apps/a") };
    let written = place.client().write(DATASTORE, &file, &context(), &mut |credential| {
        user.lock().unwrap().clone_from(&credential.user);
    });
    let failed = written.unwrap_err();
    assert!(matches!(failed, TransferError::Unreachable { .. }), "{}", describe(&failed));
    wait_empty(&place.path("apps"));
}

/// Whether each of these is granted on a channel of a login of its own.
fn granted(place: &Place, credential: &IssuedCredential, subsystems: &[&str], command: Option<&str>) -> Vec<bool> {
    place.runtime.block_on(async {
        let handle = raw::log_in(place.address, credential).await;
        let mut channel = handle.channel_open_session().await.unwrap();
        let mut answers = Vec::new();
        for name in subsystems {
            channel.request_subsystem(true, *name).await.unwrap();
            answers.push(raw::is_granted(&mut channel).await);
        }
        if let Some(command) = command {
            channel.exec(true, command).await.unwrap();
            answers.push(raw::is_granted(&mut channel).await);
        }
        answers
    })
}

#[test]
fn credentials_are_limited_to_reading_or_writing() {
    let place = Place::new();
    std::fs::write(place.path("apps/there"), "secret").unwrap();
    let read = place.credential("apps/there");
    assert_eq!(granted(&place, &read, &["stackferry-write"], None), [false]);
    let version = Version::new(place.home.path(), "version");
    let mut answers = Vec::new();
    let result = place.client().write(DATASTORE, &version.file("apps/new"), &context(), &mut |credential| {
        let others = ["stackferry-blocks", "sftp", "stackferry-control"];
        answers = granted(&place, credential, &others, Some("scp -f /nfs01/apps/there"));
    });
    assert_eq!(answers, [false; 4]);
    let refused = result.unwrap_err();
    assert!(matches!(refused, TransferError::LoginRefused { .. }), "it was used once: {}", describe(&refused));
    assert_eq!(names(&place.path("apps")), ["there"]);
}

/// What the endpoint answers to these frames: its ERROR's code, and the exit status.
fn say(place: &Place, path: &str, frames: &[Bytes]) -> (String, Option<u32>) {
    let version = Version::of(place.home.path(), "said", vec![1]);
    let mut answer = None;
    // The credential is revoked during the write.
    let refused = place.client().write(DATASTORE, &version.file(path), &context(), &mut |credential| {
        answer = Some(place.runtime.block_on(async {
            let handle = raw::log_in(place.address, credential).await;
            let mut channel = handle.channel_open_session().await.unwrap();
            channel.request_subsystem(true, "stackferry-write").await.unwrap();
            assert!(raw::is_granted(&mut channel).await);
            for frame in frames {
                // A disconnected one can't send more.
                let _ = channel.data_bytes(frame.clone()).await;
            }
            raw::read_to_end(&mut channel).await
        }));
    });
    assert!(refused.is_err());
    let (bytes, status) = answer.unwrap();
    let mut reader = FrameReader::default();
    reader.push(&bytes);
    let mut code = String::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        if frame.kind == FrameKind::Error {
            code = serde_json::from_slice::<ErrorPayload>(&frame.payload).unwrap().code;
        }
    }
    (code, status)
}

#[test]
fn blocks_out_of_order_are_refused_and_leave_nothing() {
    let place = Place::new();
    let bytes = 3 * MIB;
    let new = |bytes| {
        let mtime = jiff::Timestamp::UNIX_EPOCH;
        let new = UploadRequest { protocol: 1, bytes, mtime, blake3: Digest::of(b""), needed: 0 };
        encode_json(FrameKind::New, &new).unwrap()
    };
    let zero = |first, count| encode(FrameKind::Zero, &run_payload(BlockIndex(first), count));
    let bare = |kind| encode(kind, &[]);
    let block = vec![7u8; 1 << 20];
    let mut wrong = Vec::new();
    encode_data(BlockIndex(0), &block, &Digest::of(b"another"), None, &mut wrong);
    let mut late = Vec::new();
    encode_data(BlockIndex(1), &block, &Digest::of(&block), None, &mut late);
    let cases: Vec<(&str, Vec<Bytes>, &str)> = vec![
        ("nothing was begun", vec![bare(FrameKind::Finish)], "bad_request"),
        ("too long", vec![new(u64::MAX)], "bad_request"),
        ("begun twice", vec![new(bytes), new(bytes)], "bad_request"),
        ("named before it is whole", vec![new(bytes), bare(FrameKind::Name)], "bad_request"),
        ("kept before it is whole", vec![new(bytes), bare(FrameKind::Keep)], "bad_request"),
        ("blocks are missing", vec![new(bytes), zero(0, 2), bare(FrameKind::Finish)], "block_mismatch"),
        ("another digest", vec![new(bytes), zero(0, 3), bare(FrameKind::Finish)], "block_mismatch"),
        ("one is left out", vec![new(bytes), zero(1, 1)], "bad_request"),
        ("no blocks", vec![new(bytes), zero(0, 0)], "bad_request"),
        ("beyond the end", vec![new(bytes), zero(0, 4)], "bad_request"),
        ("far beyond the end", vec![new(bytes), zero(0, u64::MAX)], "bad_request"),
        ("twice", vec![new(bytes), zero(0, 1), zero(0, 1)], "bad_request"),
        ("a wrong digest", vec![new(bytes), Bytes::from(wrong)], "block_mismatch"),
        ("out of order", vec![new(bytes), Bytes::from(late)], "bad_request"),
        ("a frame of another subsystem", vec![new(bytes), bare(FrameKind::Go)], "bad_request"),
    ];
    for (what, frames, code) in cases {
        assert_eq!(say(&place, "apps/a", &frames), (code.to_owned(), Some(1)), "{what}");
        wait_empty(&place.path("apps"));
    }
}
