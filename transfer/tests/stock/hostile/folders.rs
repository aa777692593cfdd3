//! Listings and descriptors that lie or do not end.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use stackferry_volume::io::MAX_SMALL_READ;
use stackferry_volume::{Entry, EntryKind, Folder, FolderError};

use super::{ask, runs, sftp, unreachable};
use crate::support::Deadline;
use crate::support::double::{Act, Asked, File};
use crate::support::wire::{self, Attributes, FOLDER};

const A_FILE: Attributes = Attributes { bytes: Some(5), mode: Some(0o100_644), mtime: Some(7) };

/// Lists a folder of a host that answers `readdir` like this.
fn lists(answer: impl Fn(&Asked) -> Option<Vec<Act>> + Send + Sync + 'static) -> Result<Vec<Entry>, FolderError> {
    let script = sftp(move |asked, _| (asked.kind == wire::READDIR).then(|| answer(asked)).flatten());
    ask(script, |folder| folder.list("apps"))
}

fn named(names: Vec<Vec<u8>>) -> Result<Vec<Entry>, FolderError> {
    lists(move |asked| {
        let names: Vec<_> = names.iter().map(|name| (name.as_slice(), A_FILE)).collect();
        (asked.before == 0).then(|| vec![Act::Send(wire::names(asked.id, &names))])
    })
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let _deadline = Deadline::seconds(120);
    for bad in [&b"../x"[..], b"/etc/passwd", b"a/b", b"a\0b", b"", &[b'x'; 100_000]] {
        unreachable(named(vec![b"good".to_vec(), bad.to_vec()]), "a name in a folder");
    }
    // What is a name on a Linux disk is reported unchanged, and hides no other.
    let odd: [&[u8]; 6] = [b"line\nbreak", b"\x1b[2J", b"..x", b"-rf", b"\xff", b"\xfe"];
    let entries = named(odd.iter().map(|name| name.to_vec()).collect()).unwrap();
    assert_eq!(entries.len(), odd.len());
    assert_eq!(entries.iter().filter(|entry| !entry.utf8).count(), 2);
}

#[test]
fn a_name_listed_twice_counts_once() {
    let _deadline = Deadline::seconds(60);
    let entries = named([b"a", b"b", b"a", b"a", b".", b"."].map(|name| name.to_vec()).into()).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let find = "0 d 4096 8 7.0 2 apps\x001 f 5 8 7.0 3 a\x001 f 9 8 7.0 4 a\0end 0\0";
    let script = runs(move |_, _| Some(vec![Act::Send(Bytes::from(find)), Act::Exit(Some(0))]));
    let entries = ask(script, |folder| folder.list("apps")).unwrap();
    assert_eq!((entries.len(), entries[0].bytes), (1, 5));
}

#[test]
fn endless_folders_are_refused() {
    let _deadline = Deadline::seconds(240);
    let too_many = |answer: Result<Vec<Entry>, FolderError>| {
        let error = answer.unwrap_err();
        assert!(matches!(&error, FolderError::TooMany { path, .. } if path == "apps"), "{error:?}");
    };
    let next = AtomicU64::new(0);
    let page = move |asked: &Asked| {
        let names: Vec<_> = (0..1000).map(|_| next.fetch_add(1, Ordering::SeqCst).to_string()).collect();
        let names: Vec<_> = names.iter().map(|name| (name.as_bytes(), A_FILE)).collect();
        vec![Act::Send(wire::names(asked.id, &names))]
    };
    too_many(lists(move |asked| Some(page(asked))));
    for name in [&b"a"[..], b".", b".."] {
        // The same again and again, which adds no entry.
        too_many(lists(move |asked| Some(vec![Act::Send(wire::names(asked.id, &vec![(name, A_FILE); 1000]))])));
    }
    let long = vec![b'x'; 4000];
    too_many(lists(move |asked| Some(vec![Act::Send(wire::names(asked.id, &vec![(&*long, A_FILE); 60]))])));
    unreachable(lists(|asked| Some(vec![Act::Send(wire::names(asked.id, &[]))])), "wrong type to readdir");
    let record = Bytes::from("1 f 5 8 7.0 3 a\0".repeat(1000));
    let find = runs(move |_, _| {
        Some(vec![Act::Send(Bytes::from_static(b"0 d 4096 8 7.0 2 apps\0")), Act::Forever(record.clone())])
    });
    too_many(ask(find, |folder| folder.list("apps")));
}

#[test]
fn invalid_stat_answers_are_refused() {
    let _deadline = Deadline::seconds(180);
    unreachable(lists(|_| Some(vec![Act::Hang])), "silent for 2 seconds");
    unreachable(lists(|_| Some(vec![Act::Cut])), "can't be reached");
    unreachable(lists(|asked| Some(vec![Act::Send(wire::names(asked.id + 9, &[(b"a", A_FILE)]))])), "was not sent");
    unreachable(lists(|asked| Some(vec![Act::Send(wire::status(asked.id, 0, ""))])), "wrong type to readdir");
    unreachable(lists(|asked| Some(vec![Act::Send(wire::data(asked.id, b"x"))])), "wrong type to readdir");
    // More names are announced than come.
    let lie = |asked: &Asked| Some(vec![Act::Send(wire::packet(104, asked.id, b"\xff\xff\xff\xff"))]);
    unreachable(lists(lie), "cut");
    let impossible = Attributes { bytes: Some(u64::MAX), ..A_FILE };
    unreachable(lists(move |asked| Some(vec![Act::Send(wire::names(asked.id, &[(b"a", impossible)]))])), "no system");
    let status = |code: u32| {
        lists(move |asked| Some(vec![Act::Send(wire::status(asked.id, code, "\x1b[2J\u{202e}bad"))])).unwrap_err()
    };
    assert!(matches!(status(3), FolderError::Denied { .. }));
    assert!(matches!(status(2), FolderError::NotFound { .. }));
    assert!(matches!(status(u32::MAX), FolderError::Io { .. }));
    // Attributes that are left out are requested; a host that leaves them out again has no file.
    let none = Attributes::default();
    let script = sftp(move |asked, _| match asked.kind {
        wire::READDIR if asked.before == 0 => Some(vec![Act::Send(wire::names(asked.id, &[(b"b", none)]))]),
        wire::LSTAT if asked.path == "/ds/apps/b" => Some(vec![Act::Send(wire::attributes_reply(asked.id, none))]),
        _ => None,
    });
    let entries = ask(script, |folder| folder.list("apps")).unwrap();
    assert_eq!((entries[0].kind, entries[0].bytes), (EntryKind::Other, 0));
    let folder = sftp(|asked, _| {
        (asked.kind == wire::LSTAT && asked.path == "/ds/apps")
            .then(|| vec![Act::Send(wire::attributes_reply(asked.id, A_FILE))])
    });
    assert!(matches!(ask(folder, |folder| folder.list("apps")), Err(FolderError::Refused { .. })));
}

/// Reads a descriptor of this length of a host that answers `read` like this.
fn reads(bytes: u64, answer: impl Fn(&Asked, &File) -> Bytes + Send + Sync + 'static) -> Result<Vec<u8>, FolderError> {
    let script = sftp(move |asked, file| match asked.kind {
        wire::LSTAT if asked.path == "/ds/apps/a" => {
            Some(vec![Act::Send(wire::attributes_reply(asked.id, Attributes { bytes: Some(bytes), ..A_FILE }))])
        }
        wire::READ => Some(vec![Act::Send(answer(asked, file))]),
        _ => None,
    });
    ask(script, |folder| folder.read("apps/a", usize::MAX))
}

#[test]
fn endless_and_changing_descriptors_are_refused() {
    let _deadline = Deadline::seconds(120);
    let endless = |asked: &Asked, _: &File| wire::data(asked.id, &vec![b'#'; asked.bytes as usize]);
    assert_eq!(reads(i64::MAX as u64, endless).unwrap().len(), MAX_SMALL_READ);
    assert_eq!(reads(700, endless).unwrap().len(), 700, "no more than it was said to have");
    assert_eq!(reads(0, endless).unwrap(), b"");
    let slowly = |asked: &Asked, _: &File| wire::data(asked.id, b"#");
    assert_eq!(reads(700, slowly).unwrap().len(), 700);
    let cut = |asked: &Asked, _: &File| match asked.offset {
        0 => wire::data(asked.id, b"# Disk"),
        _ => wire::status(asked.id, 1, "End of file"),
    };
    let error = reads(700, cut).unwrap_err();
    assert!(matches!(&error, FolderError::Io { path, .. } if path == "apps/a"), "{error:?}");
    unreachable(reads(7, |asked, _| wire::data(asked.id, &vec![0; asked.bytes as usize + 1])), "wrong type to read");
    unreachable(reads(7, |asked, _| wire::data(asked.id, b"")), "wrong type to read");
    let by_head = |acts: fn() -> Vec<Act>| {
        ask(runs(move |command, _| command.contains("head -c").then(acts)), |folder| folder.read("apps/a", 700))
    };
    unreachable(by_head(|| vec![Act::Forever(Bytes::from(vec![b'#'; 10_000]))]), "more than was requested");
    unreachable(by_head(|| vec![Act::Hang]), "silent for 2 seconds");
    let words = by_head(|| vec![Act::Complain(Bytes::from_static(b"\x1b[2Jhead: bad")), Act::Exit(Some(1))]);
    assert!(matches!(words, Err(FolderError::Io { .. })), "{words:?}");
}

#[test]
fn find_results_outside_the_folder_are_refused() {
    let _deadline = Deadline::seconds(120);
    let folder = "0 d 4096 8 7.0 2 apps\0";
    for bad in
        ["1 f 5 8 7.0 3 ..\0", "1 f 5 8 7.0 3 ../x\0", "2 f 5 8 7.0 3 x\0", "1 f 18446744073709551615 8 7.0 3 x\0"]
    {
        let said = Bytes::from(format!("{folder}{bad}end 0\0"));
        let find = runs(move |_, _| Some(vec![Act::Send(said.clone()), Act::Exit(Some(0))]));
        unreachable(ask(find, |folder| folder.list("apps")), "`find` prints no list");
    }
    // What ends with success, and proves nothing: no list, one without an end, an end that does not fit.
    for (said, status) in [
        (String::new(), 0),
        (folder.to_owned(), 0),
        (format!("{folder}1 f 5 8 7.0 3 a\0"), 0),
        ("end 0\0".to_owned(), 0),
        (format!("{folder}end 1\0"), 0),
        (format!("{folder}end 0\0"), 1),
    ] {
        let acts = move || vec![Act::Send(Bytes::from(said.clone())), Act::Exit(Some(status))];
        unreachable(ask(runs(move |_, _| Some(acts())), |folder| folder.list("apps")), "`find` prints no list");
    }
    let empty = || runs(|_, _| Some(vec![Act::Exit(Some(0))]));
    unreachable(ask(empty(), |folder| folder.stat("apps/a")), "`find` prints no list");
    unreachable(ask(empty(), |folder| folder.read("apps/a", 700)), "`head` prints no file");
    let reply = wire::attributes_reply(0, FOLDER);
    let binary = runs(move |_, _| Some(vec![Act::Send(reply.clone()), Act::Exit(Some(0))]));
    unreachable(ask(binary, |folder| folder.list("apps")), "`find` prints no list");
}
