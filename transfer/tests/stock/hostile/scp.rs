//! `scp -f` that announces, sends or says something else than the one file.

use std::time::Duration;

use bytes::Bytes;
use stackferry_https::Retry;
use stackferry_transfer::TransferError;
use stackferry_volume::FolderError;

use super::{copy, fails, is_changed, is_protocol, is_silent, runs};
use crate::support::Deadline;
use crate::support::double::{Act, File};

/// `scp` does this.
fn scp(acts: impl Fn(&File) -> Vec<Act> + Send + Sync + 'static) -> TransferError {
    fails(runs(move |command, file| command.starts_with("scp ").then(|| acts(file))))
}

/// Of the right acts, this one is another: 1 the times, 3 the header, 5 the content, 6 the end.
fn instead(number: usize, act: impl Fn(&File) -> Act + Send + Sync + 'static) -> TransferError {
    scp(move |file| {
        let mut acts = file.scp();
        acts[number] = act(file);
        acts
    })
}

fn send(bytes: impl Into<Vec<u8>>) -> Act {
    Act::Send(Bytes::from(bytes.into()))
}

#[test]
fn the_double_serves_a_copy_by_default() {
    let _deadline = Deadline::seconds(60);
    let copied = copy(runs(|_, _| None));
    assert_eq!(copied.result.unwrap().credentials, 1);
    // The name that the host sends makes no difference.
    for name in ["../../../../tmp/x", "/etc/cron.d/x", "\x1b[2J", "-rf", &"x".repeat(4000)] {
        let name = name.to_owned();
        let named = runs(move |command, file| {
            command.starts_with("scp ").then(|| {
                let mut acts = file.scp();
                acts[3] = send(format!("C4777 {} {name}\n", file.bytes()));
                acts
            })
        });
        assert!(copy(named).result.is_ok());
    }
}

#[test]
fn unexpected_control_lines_are_refused() {
    let _deadline = Deadline::seconds(120);
    const HEADER: usize = 3;
    for (number, line) in [
        (HEADER, "D0755 0 apps\n"),
        (HEADER, "E\n"),
        (HEADER, "C0644 5\n"),
        (HEADER, "C0644 -5 a\n"),
        (HEADER, "C0644 99999999999999999999999 a\n"),
        (HEADER, "Cabcd 5 a\n"),
        (HEADER, "T1 0 1 0\n"),
        (HEADER, "\n"),
        (1, "C0644 5 a\n"),
        (1, "D0755 0 apps\n"),
        (1, "Tx 0 1 0\n"),
        (1, "Welcome to this host! \x1b[2J\u{202e}\n"),
    ] {
        is_protocol(&instead(number, move |_| send(line)), "where scp announces the file");
    }
    is_protocol(&instead(1, |_| Act::Forever(Bytes::from(vec![b'T'; 10_000]))), "without an end");
    is_protocol(&instead(HEADER, |_| Act::Forever(Bytes::from(vec![b'C'; 10_000]))), "without an end");
}

#[test]
fn errors_are_shown_without_control_characters() {
    let _deadline = Deadline::seconds(120);
    for (words, number) in [("\x01scp: \x1b[2J\x07a: bad\n", 1), ("\x02\x1b]0;owned\x07\u{202e}\n", 3)] {
        let error = instead(number, move |_| send(words));
        let TransferError::Refused { code, .. } = &error else { panic!("{error:?}") };
        assert_eq!((code.as_str(), error.retry()), ("io", Retry::Transient));
    }
    let missing = instead(1, |_| send("\x01scp: /ds/apps/a: No such file or directory\x1b[2J\n"));
    assert!(matches!(missing, TransferError::Folder(FolderError::NotFound { .. })), "{missing:?}");
    let denied = instead(1, |_| send("\x01scp: Permission denied\n"));
    assert!(matches!(denied, TransferError::Folder(FolderError::Denied { .. })), "{denied:?}");
    let late = instead(6, |_| send("\x01scp: read error\x1b[2J\n"));
    assert!(matches!(&late, TransferError::Refused { message, .. } if message == "scp: read error [2J"), "{late:?}");
    is_protocol(&instead(6, |_| Act::Forever(Bytes::from(vec![1; 10_000]))), "without an end");
}

#[test]
fn another_length_than_announced_is_refused() {
    let _deadline = Deadline::seconds(180);
    for bytes in [0u64, 1, super::file().bytes() - 1, super::file().bytes() + 1, u64::MAX] {
        is_changed(&instead(3, move |_| send(format!("C0644 {bytes} a\n"))), "its length was");
    }
    is_changed(&instead(1, |_| send("T1 0 1 0\n")), "time of last change");
    is_changed(&instead(1, |_| send("T18446744073709551615 0 1 0\n")), "time of last change");
    let cut = |file: &File| send(&file.content[..5 << 20]);
    is_changed(
        &scp(move |file| file.scp().into_iter().take(5).chain([cut(file), Act::Exit(Some(0))]).collect()),
        "it ends before",
    );
    is_silent(
        &scp(move |file| file.scp().into_iter().take(5).chain([cut(file), Act::Hang]).collect()),
        "sending a file",
    );
    is_protocol(&instead(6, |_| send("\x07more")), "more than it announced");
    is_protocol(&instead(5, |file| send([&file.content[..], b"more"].concat())), "more than it announced");
    is_protocol(&instead(8, |_| send("C0644 5 other\n")), "more than the one file");
    is_protocol(&instead(8, |_| Act::Forever(Bytes::from(vec![0; 10_000]))), "more than the one file");
    for status in [Some(1), Some(255), None] {
        is_protocol(&instead(8, move |_| Act::Exit(status)), "after the whole file");
        is_protocol(&instead(3, move |_| Act::Exit(status)), "before the file was complete");
    }
}

#[test]
fn silence_trickles_and_disconnects_are_noticed() {
    let _deadline = Deadline::seconds(180);
    for number in [1, 3, 5, 6, 8] {
        is_silent(&instead(number, |_| Act::Hang), "sending a file");
        let cut = instead(number, |_| Act::Cut);
        assert!(matches!(cut, TransferError::Unreachable { .. }), "{number}: {cut:?}");
    }
    let drip = |bytes: Vec<u8>| Act::Drip(Bytes::from(bytes), Duration::from_millis(200));
    is_silent(&instead(1, move |file| drip(file.times().repeat(10))), "sending a file");
    is_silent(&instead(5, move |file| drip(file.content.clone())), "sending a file");
    is_silent(&instead(5, |_| Act::ComplainForever(Bytes::from(vec![b'!'; 30_000]))), "sending a file");
}

#[test]
fn a_file_replaced_during_the_copy_is_reported() {
    let _deadline = Deadline::seconds(120);
    let found = |acts: fn(&File) -> Vec<Act>| {
        fails(runs(move |command, file| command.contains("-maxdepth 0").then(|| acts(file))))
    };
    is_changed(
        &found(|file| vec![send(File { mtime: 5, ..file.clone() }.found(0, "a")), send("end 0\0"), Act::Exit(Some(0))]),
        "time",
    );
    is_changed(&found(|_| vec![Act::Exit(Some(83))]), "it is gone");
    is_changed(&found(|_| vec![send("0 l 5 0 1.0 7 a\0end 0\0"), Act::Exit(Some(0))]), "it is gone");
    for acts in [
        (|_| vec![send("\x1b[2Jhello\n"), Act::Exit(Some(0))]) as fn(&File) -> Vec<Act>,
        |file| vec![send(file.found(0, "a").repeat(2)), Act::Exit(Some(0))],
        |file| vec![send(file.found(0, "a")), Act::Exit(Some(0))],
        |_| vec![Act::Exit(Some(0))],
        |_| vec![Act::Forever(Bytes::from(vec![b'0'; 10_000]))],
        |_| vec![Act::Complain(Bytes::from_static(b"\x1b[2Jno find")), Act::Exit(Some(127))],
    ] {
        let error = found(acts);
        assert!(matches!(error, TransferError::Unfit { .. }), "{error:?}");
    }
    is_silent(&found(|_| vec![Act::Hang]), "running a command");
}
