//! Copies from a stock host: by SFTP with and without its hole map, and by SCP.

use std::collections::HashSet;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stackferry_transfer::resume::resume;
use stackferry_transfer::stock::Purpose;
use stackferry_transfer::{CopyContext, FileCopy, FileOutcome, Progress, TransferError};
use stackferry_volume::io::Cancel;
use stackferry_volume::{BlockIndex, BlockState, Digest, Folder, HoleMapSource};

use crate::support::Deadline;
use crate::support::files::{KIB, MIB, allocated, blocks_of, noise, sparse};
use crate::support::host::{Has, Host, context};
use crate::support::sink::TestSink;

const ALL: [Has; 3] = [Has::All, Has::NoPython, Has::NoSftp];

#[derive(Default)]
struct Counted(AtomicU64);

impl Progress for Counted {
    fn done(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::SeqCst);
    }
}

/// Copies a file, and checks all that holds for every copy.
fn copied(host: &Host, client: &stackferry_transfer::stock::StockClient, name: &str) -> (FileOutcome, TestSink) {
    let path = host.path(name);
    let bytes = path.metadata().unwrap().len();
    let sink = host.sink(&name.replace('/', "-"), bytes);
    let progress = Arc::new(Counted::default());
    let context = CopyContext { progress: progress.clone(), ..context() };
    let outcome = host.copy(client, host.file(client, name, &sink), &context).unwrap();
    let source = std::fs::File::open(&path).unwrap();
    assert_eq!(outcome.blocks, blocks_of(&source), "{name}");
    assert_eq!(blocks_of(sink.file()), blocks_of(&source), "{name}");
    assert_eq!(progress.0.load(Ordering::SeqCst), bytes, "{name}: progress");
    let (_, data) = outcome.blocks.data_blocks();
    assert_eq!(outcome.counts.logical, bytes);
    assert_eq!(outcome.counts.zero + data, bytes, "{name}");
    assert!(outcome.counts.wire >= outcome.counts.read, "{name}: {:?}", outcome.counts);
    let stored = sink.file().metadata().unwrap().blocks() * 512;
    assert!(stored <= allocated(&path) + 64 * KIB, "{name}: {stored} bytes on disk");
    assert!(sink.lies.lock().unwrap().is_empty());
    (outcome, sink)
}

#[test]
fn files_of_all_shapes_are_copied_with_a_certificate_each() {
    let _deadline = Deadline::seconds(240);
    let shapes: Vec<(&str, u64, Vec<std::ops::Range<u64>>)> = vec![
        ("empty", 0, vec![]),
        ("one-byte", 1, vec![0..1]),
        ("all-hole", 37 * MIB + 5, vec![]),
        ("odd", 5 * MIB + 4095, vec![MIB..MIB + 10, 5 * MIB..5 * MIB + 4095]),
        ("odd-pages", 9 * MIB + 3 * 4096, vec![0..4096, 2 * MIB - 1..2 * MIB + 1, 9 * MIB + 8192..9 * MIB + 12288]),
        ("dense", 21 * MIB, vec![0..21 * MIB]),
        ("sparse", 300 * MIB, vec![0..3 * MIB, 133 * MIB + 7..140 * MIB, 299 * MIB + 512 * KIB..300 * MIB]),
        ("a b'c\"d!5C!$(id)`id`\\*?;|&ü", 9 * MIB, vec![MIB..2 * MIB]),
        ("-rf --", 2 * MIB, vec![MIB..2 * MIB]),
    ];
    for has in ALL {
        let host = Host::new(has);
        let client = host.client();
        let mut credentials = 0;
        for (name, bytes, data) in &shapes {
            let name = format!("apps/{name}");
            sparse(&host.path(&name), *bytes, data);
            let (outcome, _) = copied(&host, &client, &name);
            credentials += outcome.credentials;
            let mapped = has == Has::All && *bytes >= 8 * MIB;
            assert_eq!(outcome.credentials, 1 + u64::from(mapped), "{name} {has:?}");
            let expected = if mapped { HoleMapSource::Host } else { HoleMapSource::None };
            assert_eq!(outcome.hole_map, expected, "{name} {has:?}");
            if mapped {
                // Its data, short holes, and the samples of its holes.
                let most = allocated(&host.path(&name)) + 3 * 64 * KIB + MIB;
                assert!(outcome.counts.read <= most.min(*bytes), "{name}: {:?}", outcome.counts);
            } else {
                assert_eq!(outcome.counts.read, *bytes, "{name} {has:?}");
            }
        }
        let taken = host.taken();
        // The host without Python was asked once, with a certificate that opened nothing.
        let asked_in_vain = u64::from(has == Has::NoPython);
        assert_eq!(taken.len() as u64, credentials + asked_in_vain, "{has:?}");
        assert_eq!(taken.iter().map(|(_, _, key)| key).collect::<HashSet<_>>().len(), taken.len(), "keys");
        assert_eq!(taken.iter().map(|(_, serial, _)| serial).collect::<HashSet<_>>().len(), taken.len(), "serials");
        let data = host.issued.lock().unwrap().iter().filter(|cert| cert.purpose != Purpose::HoleMap).count();
        assert_eq!(data, shapes.len(), "{has:?}: one for each file's data");
        assert_eq!(client.probe().unwrap(), if has == Has::NoSftp { "scp" } else { "sftp" });
        assert!(!host.log().contains("stackferry-forced-command"), "the requested command is not run");
    }
}

#[test]
fn a_user_without_a_shell_is_read_by_sftp() {
    let _deadline = Deadline::seconds(60);
    let host = Host::new(Has::All);
    sparse(&host.path("apps/a-flat.vmdk"), 30 * MIB, &[0..MIB, 20 * MIB..21 * MIB]);
    let client =
        host.client_of(stackferry_transfer::stock::StockHost { user: "backup".to_owned(), ..host.stock_host() });
    let (outcome, _) = copied(&host, &client, "apps/a-flat.vmdk");
    assert_eq!((outcome.hole_map, outcome.credentials), (HoleMapSource::None, 1));
}

#[test]
fn more_reads_than_the_connection_buffers_are_answered() {
    let _deadline = Deadline::seconds(120);
    let host = Host::new(Has::NoPython);
    let name = "apps/a-flat.vmdk";
    sparse(&host.path(name), 90 * MIB, &[0..90 * MIB]);
    let client = host.client();
    let sink = host.sink("a", 90 * MIB);
    // The largest window: 128 reads of 128 KiB in flight.
    let context = CopyContext { memory: 128 << 20, ..context() };
    let outcome = host.copy(&client, host.file(&client, name, &sink), &context).unwrap();
    assert_eq!(outcome.blocks, blocks_of(&std::fs::File::open(host.path(name)).unwrap()));
}

#[test]
fn blocks_equal_to_the_last_version_are_not_written() {
    let _deadline = Deadline::seconds(120);
    for has in ALL {
        let host = Host::new(has);
        let client = host.client();
        let name = "apps/a-flat.vmdk";
        sparse(&host.path(name), 40 * MIB + 100, &[0..10 * MIB, 20 * MIB..30 * MIB, 40 * MIB..40 * MIB + 100]);
        let file = std::fs::File::options().read(true).write(true).open(host.path(name)).unwrap();
        let base = blocks_of(&file);
        file.write_all_at(b"changed", 3 * MIB + 5).unwrap();
        file.write_all_at(b"new", 35 * MIB).unwrap();
        file.write_all_at(&vec![0; 1 << 20], 25 * MIB).unwrap();
        file.sync_all().unwrap();
        let sink = host.sink("a", 40 * MIB + 100);
        let copy = FileCopy { base: Some(&base), ..host.file(&client, name, &sink) };
        let outcome = host.copy(&client, copy, &context()).unwrap();
        assert_eq!(outcome.blocks, blocks_of(&file));
        assert_eq!(outcome.same_as_base.len(), 19);
        assert_eq!(sink.writes.load(Ordering::SeqCst), 2);
    }
}

#[test]
fn an_interrupted_copy_resumes_where_it_was() {
    let _deadline = Deadline::seconds(120);
    for has in ALL {
        let host = Host::new(has);
        let client = host.client();
        let name = "apps/a-flat.vmdk";
        sparse(&host.path(name), 60 * MIB, &[0..20 * MIB, 30 * MIB..60 * MIB]);
        let source = std::fs::File::open(host.path(name)).unwrap();
        let mut sink = host.sink("a", 60 * MIB);
        sink.room = 40 * MIB;
        let error = host.copy(&client, host.file(&client, name, &sink), &context()).unwrap_err();
        assert!(error.is_no_space(), "{error:?}");
        let recorded = sink.records();
        assert!(recorded.len() >= 12, "only {} blocks are recorded", recorded.len());
        sink.heal();
        let damaged = *recorded.keys().next().unwrap();
        sink.file().write_all_at(b"damage", damaged * MIB + 77).unwrap();
        sink.tamper(25, Digest::of(b"never written"));
        let resumed = resume(&sink, None, 2, &Cancel::default()).unwrap();
        assert_eq!(resumed.rejected, [BlockIndex(damaged), BlockIndex(25)]);
        let taken = resumed.taken;
        let copy = FileCopy { done: resumed.done, ..host.file(&client, name, &sink) };
        let outcome = host.copy(&client, copy, &context()).unwrap();
        assert_eq!(outcome.blocks, blocks_of(&source));
        assert_eq!(blocks_of(sink.file()), blocks_of(&source));
        assert_eq!(sink.writes.load(Ordering::SeqCst), 50 - taken, "existing blocks are not written again");
        match has {
            Has::NoSftp => assert_eq!(outcome.counts.read, 60 * MIB, "SCP can't seek"),
            Has::NoPython => assert_eq!(outcome.counts.read, (60 - taken) * MIB),
            Has::All => assert!(outcome.counts.read <= (50 - taken) * MIB + MIB, "{:?}", outcome.counts),
        }
    }
}

#[test]
fn a_file_that_changes_during_the_copy_is_discarded() {
    let _deadline = Deadline::seconds(120);
    for has in ALL {
        let host = Host::new(has);
        let client = host.client();
        let name = "apps/a-flat.vmdk";
        sparse(&host.path(name), 40 * MIB, &[0..40 * MIB]);
        let changing = |sink: &mut TestSink, change: Box<dyn Fn(&std::fs::File) + Send + Sync>| {
            let path = host.path(name);
            sink.before_write = Some(Box::new(move |written| {
                if written == 0 {
                    change(&std::fs::File::options().write(true).open(&path).unwrap());
                }
            }));
        };
        // Another time of last change, some seconds off.
        let mut sink = host.sink("touched", 40 * MIB);
        changing(
            &mut sink,
            Box::new(|file| {
                let later = std::time::SystemTime::now() + std::time::Duration::from_secs(100);
                file.set_modified(later).unwrap();
            }),
        );
        let error = host.copy(&client, host.file(&client, name, &sink), &context()).unwrap_err();
        assert!(matches!(error, TransferError::SourceChanged { .. }), "{has:?}: {error:?}");
        // Cut while it is read.
        let mut sink = host.sink("cut", 40 * MIB);
        changing(&mut sink, Box::new(|file| file.set_len(39 * MIB).unwrap()));
        let error = host.copy(&client, host.file(&client, name, &sink), &context()).unwrap_err();
        // scp itself may report that it read less than it announced.
        let progress = matches!(&error, TransferError::Refused { code, .. } if has == Has::NoSftp && code == "io");
        assert!(progress || matches!(error, TransferError::SourceChanged { .. }), "{has:?}: {error:?}");
        // Changed since discovery.
        let sink = host.sink("grown", 39 * MIB);
        let copy = host.file(&client, name, &sink);
        std::fs::File::options().write(true).open(host.path(name)).unwrap().set_len(50 * MIB).unwrap();
        let error = host.copy(&client, copy, &context()).unwrap_err();
        assert!(matches!(error, TransferError::SourceChanged { .. }), "{has:?}: {error:?}");
        assert_eq!(sink.writes.load(Ordering::SeqCst), 0, "nothing of another length is written");
    }
}

#[test]
fn only_regular_files_are_opened() {
    let _deadline = Deadline::seconds(60);
    let host = Host::new(Has::All);
    let client = host.client();
    std::fs::write(host.path("apps/real"), noise(1, 100)).unwrap();
    std::os::unix::fs::symlink("real", host.path("apps/link")).unwrap();
    std::os::unix::fs::symlink("apps", host.path("linked")).unwrap();
    let pipe = std::ffi::OsString::from(host.path("apps/pipe"));
    assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
    for name in ["apps/link", "linked/real", "apps/pipe", "apps"] {
        let sink = host.sink(&name.replace('/', "-"), 100);
        let real = host.file(&client, "apps/real", &sink);
        let error = host.copy(&client, FileCopy { path: name, ..real }, &context()).unwrap_err();
        assert!(matches!(&error, TransferError::Folder(_)), "{name}: {error:?}");
        assert!(client.folder().read(name, 10).is_err(), "{name}");
    }
    let sink = host.sink("none", 100);
    let real = host.file(&client, "apps/real", &sink);
    let error = host.copy(&client, FileCopy { path: "apps/none", ..real }, &context()).unwrap_err();
    assert_eq!(error.to_string(), "apps/none: no such file or folder");
    for (number, path) in ["../secret", "apps/../../secret", "/etc/passwd", "apps/a\nb", "apps/a\0b"].iter().enumerate()
    {
        let sink = host.sink(&format!("bad{number}"), 100);
        let real = host.file(&client, "apps/real", &sink);
        let before = host.issued.lock().unwrap().len();
        assert!(host.copy(&client, FileCopy { path, ..real }, &context()).is_err());
        assert_eq!(host.issued.lock().unwrap().len(), before, "no certificate is made for such a path");
    }
}

#[test]
fn a_hole_map_that_does_not_agree_is_not_used() {
    let _deadline = Deadline::seconds(60);
    // A `python3` that knows the greeting and calls everything a hole.
    let host = Host::new(Has::NoPython);
    let name = "apps/a-flat.vmdk";
    sparse(&host.path(name), 30 * MIB, &[0..200 * KIB, 5 * MIB..10 * MIB]);
    let meta = host.path(name).metadata().unwrap();
    for (said, why) in [
        (format!("-1 {} {} {}", 30 * MIB, meta.blocks() * 512, meta.mtime()), "holes that take room on disk"),
        (format!("-1 {} 0 {}", 30 * MIB, meta.mtime()), "holes that are not zero"),
        (format!("0 {}\\n-1 {} 0 {}", 31 * MIB, 30 * MIB, meta.mtime()), "data beyond the end"),
        ("-1 1 1 1".to_owned(), "another file"),
        ("garbage".to_owned(), "garbage"),
    ] {
        let script = format!("#!/bin/sh\nprintf '%b\\n' 'stackferry-map-1\\n{said}'\n");
        let python = host.home.path().join("bin/python3");
        std::fs::write(&python, script).unwrap();
        std::fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let client = host.client();
        let sink = host.sink(&why.replace(' ', "-"), 30 * MIB);
        let outcome = host.copy(&client, host.file(&client, name, &sink), &context()).unwrap();
        assert_eq!(outcome.hole_map, HoleMapSource::None, "{why}");
        assert_eq!(outcome.blocks, blocks_of(&std::fs::File::open(host.path(name)).unwrap()), "{why}");
        assert!(matches!(outcome.blocks.get(BlockIndex(7)), BlockState::Data(_)));
        assert!(outcome.counts.read >= 30 * MIB, "{why}");
        assert_eq!(outcome.credentials, 2, "{why}");
    }
}

#[test]
fn a_copy_ends_when_cancelled() {
    let _deadline = Deadline::seconds(120);
    for has in ALL {
        let host = Host::new(has);
        let client = host.client();
        let name = "apps/a-flat.vmdk";
        sparse(&host.path(name), 60 * MIB, &[0..60 * MIB]);
        let cancel = Cancel::default();
        let mut sink = host.sink("a", 60 * MIB);
        let asked = cancel.clone();
        sink.before_write = Some(Box::new(move |written| {
            if written > 5 * MIB {
                asked.cancel();
            }
        }));
        let context = CopyContext { cancel, ..context() };
        let error = host.copy(&client, host.file(&client, name, &sink), &context).unwrap_err();
        assert!(matches!(error, TransferError::Cancelled), "{has:?}: {error:?}");
        assert!(sink.lies.lock().unwrap().is_empty());
    }
}
