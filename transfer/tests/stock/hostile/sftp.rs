//! SFTP that lies: wrong lengths, numbers, types and states while a file is read.

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use stackferry_https::Retry;
use stackferry_transfer::{CopyContext, TransferError};
use stackferry_volume::io::Cancel;

use super::{copy, copy_by, fails, is_changed, is_protocol, is_refused, is_silent, no_map, sftp};
use crate::support::Deadline;
use crate::support::double::{Act, Asked, File, Script};
use crate::support::host::context;
use crate::support::wire::{self, Attributes, FOLDER};

/// The request of this type and number in its session is answered like this.
fn at(kind: u8, number: usize, answer: impl Fn(&Asked, &File) -> Vec<Act> + Send + Sync + 'static) -> TransferError {
    fails(sftp(move |asked, file| (asked.kind == kind && asked.before == number).then(|| answer(asked, file))))
}

fn read_gets(answer: impl Fn(&Asked, &File) -> Bytes + Send + Sync + 'static) -> TransferError {
    at(wire::READ, 9, move |asked, file| vec![Act::Send(answer(asked, file))])
}

#[test]
fn the_double_serves_a_copy_by_default() {
    let _deadline = Deadline::seconds(60);
    let copied = copy(Script::default());
    let outcome = copied.result.unwrap();
    assert_eq!((outcome.credentials, copied.sink.writes.load(Ordering::SeqCst)), (2, 8));
    let logins = copied.double.logins();
    assert_eq!(logins.len(), 3, "one to stat, one for the map, one for the file: {logins:?}");
    assert_eq!(copy(no_map()).result.unwrap().credentials, 1);
}

#[test]
fn answers_to_other_requests_are_refused() {
    let _deadline = Deadline::seconds(120);
    is_protocol(&read_gets(|asked, _| wire::data(asked.id, &vec![1; asked.bytes as usize + 1])), "length to read");
    is_protocol(&read_gets(|asked, _| wire::data(asked.id, b"")), "length to read");
    is_protocol(&read_gets(|asked, _| wire::data(asked.id + 100_000, b"x")), "which was not sent");
    is_protocol(&read_gets(|asked, _| wire::data(asked.id - 9, b"x")), "which was not sent");
    is_protocol(&read_gets(|asked, _| wire::handle(asked.id, b"x")), "wrong type");
    is_protocol(&read_gets(|asked, _| wire::names(asked.id, &[])), "wrong type");
    is_protocol(&read_gets(|asked, _| wire::status(asked.id, 0, "")), "no data and no error");
    is_protocol(&read_gets(|_, _| wire::version(3)), "second SFTP version packet");
    let twice = at(wire::READ, 9, |asked, file| {
        let right = wire::data(asked.id, file.part(asked.offset, asked.bytes));
        vec![Act::Send(right.clone()), Act::Send(right)]
    });
    is_protocol(&twice, "which was not sent");
    let forever =
        at(wire::READ, 9, |asked, file| vec![Act::Forever(wire::data(asked.id, file.part(asked.offset, asked.bytes)))]);
    is_protocol(&forever, "which was not sent");
}

#[test]
fn packets_of_impossible_lengths_and_types_are_refused() {
    let _deadline = Deadline::seconds(120);
    let raw = |bytes: &'static [u8]| read_gets(move |_, _| Bytes::from_static(bytes));
    is_protocol(&raw(b"\xff\xff\xff\xff"), "SFTP packet of 4294967295 bytes");
    is_protocol(&raw(b"\0\0\0\0"), "SFTP packet of 0 bytes");
    is_protocol(&raw(b"\0\0\0\x05\x4d\0\0\0\x01"), "unknown type 77");
    is_protocol(&raw(b"\0\0\0\x0a\x67\0\0\0\x01\xff\xff\xff\xff\0"), "cut");
    is_protocol(
        &at(wire::OPEN, 0, |asked, _| vec![Act::Send(wire::handle(asked.id, &vec![b'h'; 1 << 20]))]),
        "packet of",
    );
    is_protocol(&at(wire::OPEN, 0, |asked, _| vec![Act::Send(wire::handle(asked.id, &[b'h'; 300]))]), "handle of 300");
    for said in [wire::version(2), wire::version(6), wire::version(u32::MAX)] {
        is_protocol(&fails(greets(said)), "version");
    }
    is_protocol(&fails(greets(wire::status(0, 4, "no"))), "version packet");
    is_protocol(&fails(greets(Bytes::from_static(b"Welcome to this host!\r\n"))), "SFTP packet of");
}

fn greets(said: Bytes) -> Script {
    sftp(move |asked, _| (asked.kind == wire::INIT).then(|| vec![Act::Send(said.clone())]))
}

#[test]
fn a_hosts_messages_are_shown_without_control_characters() {
    let _deadline = Deadline::seconds(60);
    for code in [4, 7, 999, u32::MAX] {
        let words = format!("\x1b[2J\x07\u{202e}bad\n{}", "long ".repeat(5000));
        let error = read_gets(move |asked, _| wire::status(asked.id, code, &words));
        let TransferError::Read { file, .. } = &error else { panic!("{error:?}") };
        assert_eq!((file.as_str(), error.retry()), ("apps/a", Retry::Transient));
        assert!(stackferry_transfer::describe(&error).contains(&format!("(SFTP status {code})")));
    }
    let error = at(wire::OPEN, 0, |asked, _| vec![Act::Send(wire::status(asked.id, 3, "\x1b]0;x\x07"))]);
    assert_eq!(error.to_string(), "apps/a: permission denied");
}

#[test]
fn short_and_reordered_replies_are_accepted() {
    let _deadline = Deadline::seconds(120);
    let short = sftp(|asked, file| {
        (asked.kind == wire::READ)
            .then(|| vec![Act::Send(wire::data(asked.id, file.part(asked.offset, asked.bytes.min(50_001))))])
    });
    assert!(copy(short).result.is_ok());
    // Two by two, the later one first: the number of reads is even.
    let held = Mutex::new(None);
    let turned = sftp(move |asked, file| {
        let answer = Act::Send(wire::data(asked.id, file.part(asked.offset, asked.bytes)));
        if asked.kind != wire::READ {
            return None;
        }
        let mut held = held.lock().unwrap();
        match held.take() {
            Some(before) => Some(vec![answer, before]),
            None => {
                *held = Some(answer);
                Some(vec![])
            }
        }
    });
    assert!(copy(turned).result.is_ok());
}

#[test]
fn data_that_arrives_too_slowly_is_a_stall() {
    let _deadline = Deadline::seconds(120);
    let crumbs = sftp(|asked, file| {
        (asked.kind == wire::READ).then(|| vec![Act::Send(wire::data(asked.id, file.part(asked.offset, 1)))])
    });
    is_silent(&fails(crumbs), "reading by SFTP");
    let drips = at(wire::READ, 3, |asked, file| {
        vec![Act::Drip(wire::data(asked.id, file.part(asked.offset, asked.bytes)), Duration::from_millis(300))]
    });
    is_silent(&drips, "reading by SFTP");
    let greeting = sftp(|asked, _| {
        let long = wire::packet(2, 3, &vec![0; 1000]);
        (asked.kind == wire::INIT).then(|| vec![Act::Drip(long, Duration::from_millis(300))])
    });
    is_silent(&fails(greeting), "starting SFTP");
}

#[test]
fn silence_and_disconnects_are_noticed_at_every_step() {
    let _deadline = Deadline::seconds(180);
    for kind in [wire::INIT, wire::REALPATH, wire::OPEN, wire::FSTAT, wire::READ] {
        is_silent(&at(kind, 0, |_, _| vec![Act::Hang]), "SFTP");
        let cut = at(kind, 0, |_, _| vec![Act::Cut]);
        assert!(matches!(cut, TransferError::Unreachable { .. }), "{kind}: {cut:?}");
        assert_eq!(cut.retry(), Retry::Transient);
    }
    is_silent(&at(wire::READ, 30, |_, _| vec![Act::Hang]), "reading by SFTP");
    is_silent(&at(wire::FSTAT, 1, |_, _| vec![Act::Hang]), "reading by SFTP");
    let ended =
        at(wire::READ, 30, |_, _| vec![Act::Complain(Bytes::from_static(b"\x1b[31mkilled")), Act::Exit(Some(1))]);
    is_protocol(&ended, "SFTP ended by itself. [31mkilled");
    // Complaints without end are no sign of life.
    let noise = at(wire::READ, 3, |_, _| vec![Act::ComplainForever(Bytes::from(vec![b'!'; 30_000]))]);
    is_silent(&noise, "reading by SFTP");
}

#[test]
fn a_window_that_is_never_opened_stalls() {
    let _deadline = Deadline::seconds(60);
    is_silent(&fails(Script { window: 0, ..no_map() }), "accepting a request");
}

#[test]
fn changing_or_impossible_attributes_are_refused() {
    let _deadline = Deadline::seconds(120);
    let right = super::file();
    let fstat = |number: usize, of: Attributes| {
        at(wire::FSTAT, number, move |asked, _| vec![Act::Send(wire::attributes_reply(asked.id, of))])
    };
    let of = right.attributes();
    for number in [0, 1] {
        let bytes = |bytes| Attributes { bytes: Some(bytes), ..of };
        is_changed(&fstat(number, bytes(right.bytes() + 1)), "its length was");
        is_changed(&fstat(number, bytes(1)), "its length was");
        is_changed(&fstat(number, Attributes { mtime: Some(right.mtime + 1), ..of }), "time of last change");
        is_protocol(&fstat(number, bytes(u64::MAX)), "which no system can have");
        is_protocol(&fstat(number, Attributes { bytes: None, ..of }), "does not report a file's length");
    }
    is_changed(&read_gets(|asked, _| wire::status(asked.id, 1, "End of file")), "it ends before byte");
    // The first stat is of the datastore's own folder.
    let lstat =
        |of: Attributes| at(wire::LSTAT, 1, move |asked, _| vec![Act::Send(wire::attributes_reply(asked.id, of))]);
    is_refused(&lstat(FOLDER));
    is_refused(&lstat(Attributes { mode: Some(0o120_777), ..of }));
    is_refused(&lstat(Attributes { mode: None, ..of }));
    let path = |names: &'static [&[u8]]| {
        at(wire::REALPATH, 1, move |asked, _| {
            let names: Vec<_> = names.iter().map(|name| (*name, Attributes::default())).collect();
            vec![Act::Send(wire::names(asked.id, &names))]
        })
    };
    is_refused(&path(&[b"/etc/shadow"]));
    is_refused(&path(&[b"/ds/apps/../apps/a"]));
    is_refused(&path(&[b""]));
    is_protocol(&path(&[b"/ds/apps/a", b"/etc/shadow"]), "wrong type to realpath");
    is_protocol(&path(&[]), "wrong type to realpath");
}

#[test]
fn cancelling_does_not_wait_for_a_stalled_host() {
    let _deadline = Deadline::seconds(60);
    for kind in [wire::INIT, wire::OPEN, wire::READ] {
        let context = CopyContext { cancel: Cancel::default(), ..context() };
        let cancel = context.cancel.clone();
        // In the session that reads, not in the one that lists.
        let sessions = Mutex::new(0);
        let script = sftp(move |asked, _| {
            *sessions.lock().unwrap() += u32::from(asked.kind == wire::INIT);
            (asked.kind == kind && *sessions.lock().unwrap() == 2).then(|| {
                cancel.cancel();
                vec![Act::Hang]
            })
        });
        let copied = copy_by(script, &context, |address| address);
        let error = copied.result.unwrap_err();
        assert!(matches!(error, TransferError::Cancelled), "{error:?}");
        assert!(copied.took < super::TIMEOUTS.stall * 2, "{:?}", copied.took);
    }
}
