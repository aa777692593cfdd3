//! Holds `docs/protocol.md` against the program: its numbers, its byte layouts, its JSON, its error codes.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use stackferry_volume::block::{BLOCK_BYTES, BlockIndex, BlockMap, BlockState, Digest, WIRE_ZERO_BYTES};
use stackferry_volume::io::MAX_SMALL_READ;
use stackferry_volume::local::MAX_FOLDER_ENTRIES;

use crate::endpoint::{channel, grants, listener, receive, send, sftp};
use crate::remote::client::CREDENTIAL_LIFE;
use crate::ssh;
use crate::timeouts::Timeouts;
use crate::wire::block::{
    COMPARE, End, MAX_COMPARED, OpenRequest, OpenResponse, SKIP, encode_data, known_payloads, run_payload,
};
use crate::wire::control::{
    ControlOutcome, ControlRequest, ControlResponse, Described, FileContent, Hello, IssueResponse, LIST_PAGE,
    ListResponse, MAX_GRANT_SECONDS, SMALLEST_PAGE,
};
use crate::wire::frame::{DATA_HEADER_BYTES, FrameKind, HEADER_BYTES, encode};
use crate::wire::upload::{MAX_AHEAD, UploadDone, UploadReady, UploadRequest};
use crate::wire::{BLOCK_SUBSYSTEM, CONTROL_SUBSYSTEM, PROTOCOL, WRITE_SUBSYSTEM};

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

/// The fenced blocks of a language, each with the words after it.
fn blocks(language: &str) -> Vec<(String, String)> {
    let parts = DOCUMENT.split("\n```").skip(1).step_by(2);
    let blocks = parts.map(|block| block.split_once('\n').unwrap());
    blocks
        .filter_map(|(info, text)| {
            let words = info.strip_prefix(language)?;
            Some((words.trim().to_owned(), text.to_owned()))
        })
        .collect()
}

/// The rows of the table under this header row.
fn table(header: &str) -> Vec<Vec<String>> {
    let (_, rest) = DOCUMENT.split_once(header).unwrap_or_else(|| panic!("there is no table {header}"));
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

fn same<T: Serialize + DeserializeOwned>(value: &Value) {
    let typed: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{value}: {error}"));
    assert_eq!(serde_json::to_value(typed).unwrap(), *value);
}

#[test]
fn the_documents_json_matches_the_types() {
    let mut ops = BTreeSet::new();
    for (what, text) in blocks("json") {
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        match what.as_str() {
            "request" => {
                same::<ControlRequest>(&value);
                ops.insert(value["op"].as_str().unwrap().to_owned());
            }
            "open" => same::<OpenRequest>(&value),
            "opened" => same::<OpenResponse>(&value),
            "end" => same::<End>(&value),
            "new" => same::<UploadRequest>(&value),
            "ready" => same::<UploadReady>(&value),
            "done" => same::<UploadDone>(&value),
            "response error" => same::<ControlResponse>(&value),
            response => {
                let parsed: ControlResponse = serde_json::from_value(value.clone()).unwrap();
                let ControlOutcome::Ok(ok) = parsed.outcome else { panic!("{value}") };
                match response {
                    "response hello" => same::<Hello>(&ok),
                    "response list" => same::<ListResponse>(&ok),
                    "response describe" => same::<Described>(&ok),
                    "response read" => same::<FileContent>(&ok),
                    "response issue" => same::<IssueResponse>(&ok),
                    "response revoke" => assert_eq!(ok, serde_json::json!({})),
                    other => panic!("an example of nothing known: {other}"),
                }
                same::<ControlResponse>(&value);
            }
        }
    }
    let all = ["describe", "hello", "issue", "list", "read", "revoke"];
    assert_eq!(ops.iter().map(String::as_str).collect::<Vec<_>>(), all);
    // An unknown op's message lists those that there are, so that none can be added without being told of here.
    let error = serde_json::from_str::<ControlRequest>(r#"{"id":1,"op":"none"}"#).unwrap_err().to_string();
    assert_eq!(error.matches('`').count(), 2 * (all.len() + 1), "{error}");
}

#[test]
fn the_documents_bytes_match_the_encoders() {
    let bytes = |text: &str| -> Vec<u8> {
        text.split_whitespace()
            .take_while(|word| *word != "```")
            .map(|word| u8::from_str_radix(word, 16).unwrap())
            .collect()
    };
    let mut seen = 0;
    for (what, text) in blocks("hex") {
        let expected = match what.as_str() {
            "zero" => encode(FrameKind::Zero, &run_payload(BlockIndex(2), 3)).to_vec(),
            "known" => {
                let (mut done, mut base) = (BlockMap::new(9 * BLOCK_BYTES), BlockMap::new(9 * BLOCK_BYTES));
                done.set_zero(BlockIndex(2), 3);
                base.set(BlockIndex(7), BlockState::Data(Digest::of(b"hello world")));
                let payloads: Vec<_> = known_payloads(&done, Some(&base)).collect();
                assert_eq!(payloads.len(), 1);
                encode(FrameKind::Known, &payloads[0]).to_vec()
            }
            "data" => {
                let mut frame = Vec::new();
                encode_data(BlockIndex(7), b"hello", &Digest::of(b"hello"), None, &mut frame);
                frame
            }
            other => panic!("{other}"),
        };
        let hex: Vec<String> = expected.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(bytes(&text), expected, "{what} is {}", hex.join(" "));
        seen += 1;
    }
    assert_eq!(seen, 3);
    assert_eq!((SKIP, COMPARE), (0, 1));
}

#[test]
fn the_documents_frames_match_the_code() {
    let rows = table("| type | name | sent by | payload | most bytes of payload |");
    let kinds = FrameKind::ALL;
    assert_eq!(rows.len(), kinds.len());
    for (row, kind) in rows.iter().zip(kinds) {
        assert_eq!(row[0], format!("`{:#04x}`", kind as u8));
        assert_eq!(row[1], format!("{kind:?}").to_uppercase());
        assert_eq!(row[4], kind.limit().to_string(), "{kind:?}");
    }
    let known = (0..=u8::MAX).filter(|byte| {
        let mut reader = crate::wire::frame::FrameReader::default();
        reader.push(&[*byte, 0, 0, 0, 0]);
        reader.next_frame().is_ok()
    });
    assert_eq!(known.count(), kinds.len());
}

#[test]
fn the_documents_limits_match_the_constants() {
    let timeouts = Timeouts::default();
    let limits: Vec<(&str, u64)> = vec![
        ("bytes of a frame's header", HEADER_BYTES as u64),
        ("bytes before the segments of a DATA frame", DATA_HEADER_BYTES as u64),
        ("entries of one `list` answer, at most", LIST_PAGE as u64),
        ("entries of one `list` answer with `more`, at least", SMALLEST_PAGE as u64),
        ("entries of a folder", MAX_FOLDER_ENTRIES as u64),
        ("bytes of one `read`", MAX_SMALL_READ as u64),
        ("seconds of a credential's life, at most", MAX_GRANT_SECONDS),
        ("seconds of a credential's life that Stackferry requests for a copy", CREDENTIAL_LIFE.as_secs()),
        ("credentials that wait for their login", grants::MAX_GRANTS as u64),
        ("seconds to log in", listener::LOGIN_GRACE.as_secs()),
        ("login attempts on one connection", listener::MAX_LOGIN_ATTEMPTS as u64),
        ("seconds until a wrong login is answered", listener::REJECTION_DELAY.as_secs()),
        ("connections that are not logged in", listener::MAX_PENDING_LOGINS as u64),
        ("seconds of silence until a server sends a keepalive", listener::KEEPALIVE.as_secs()),
        ("unanswered keepalives until it disconnects", listener::KEEPALIVES as u64),
        ("seconds until an idle connection is ended", listener::IDLE.as_secs()),
        ("seconds that a client may take between frames, before GO", send::REQUEST_TIMEOUT.as_secs()),
        ("seconds that a client of `stackferry-write` may take between two frames", receive::FRAME_TIMEOUT.as_secs()),
        ("DATA frames that such a client may be ahead", MAX_AHEAD),
        ("seconds that a client may leave sent data unread", channel::READ_TIMEOUT.as_secs()),
        ("seconds of silence until Stackferry sends a keepalive", ssh::KEEPALIVE.as_secs()),
        ("unanswered keepalives until Stackferry disconnects", ssh::KEEPALIVES as u64),
        ("seconds that Stackferry waits for a connection, and for a channel, each", ssh::CONNECT_TIMEOUT.as_secs()),
        ("seconds that Stackferry waits for a greeting and keys, and for its login, each", timeouts.login.as_secs()),
        ("seconds that Stackferry waits for an answer", timeouts.answer.as_secs()),
        ("seconds that Stackferry waits for a whole frame", timeouts.stall.as_secs()),
    ];
    let rows = table("| what | value |");
    assert_eq!(rows.len(), limits.len());
    for (row, (what, value)) in rows.iter().zip(limits) {
        assert_eq!((row[0].as_str(), row[1].as_str()), (what, value.to_string().as_str()));
    }
    // Dead peers are noticed within 30 seconds.
    assert!(ssh::KEEPALIVE.as_secs() * (ssh::KEEPALIVES as u64 + 1) <= 30);
    assert_eq!(send::RunJoiner::LONGEST.as_secs(), 1);
    for sentence in [
        format!("Version of this protocol: **{PROTOCOL}**."),
        format!("subsystem `{CONTROL_SUBSYSTEM}`"),
        format!("subsystem `{BLOCK_SUBSYSTEM}`"),
        format!("Subsystem `{WRITE_SUBSYSTEM}`"),
        format!("at most {MAX_AHEAD} DATA frames ahead"),
        format!("may take {} hours", receive::FRAME_TIMEOUT.as_secs() / 3600),
        format!("`{}`, 16 hexadecimal digits", stackferry_volume::local::RESTORE_PREFIX),
        format!("A block is {BLOCK_BYTES} bytes"),
        format!("A segment is {WIRE_ZERO_BYTES} bytes"),
        format!("At most {MAX_COMPARED} blocks are compared"),
        format!("such an answer has at least {SMALLEST_PAGE}\nentries"),
        format!("more than {MAX_FOLDER_ENTRIES} entries is refused"),
        format!("at most `limit` and at most {MAX_SMALL_READ}"),
        format!("1 to {MAX_GRANT_SECONDS}"),
        format!("says nothing for {} seconds before GO", send::REQUEST_TIMEOUT.as_secs()),
        format!("A packet is at most {} bytes", sftp::MAX_PACKET),
        format!("{} bytes are given for one request", sftp::MAX_READ),
        format!("{} handles", sftp::MAX_HANDLES),
        format!("may be {} bytes ahead", channel::MAX_UNREAD),
    ] {
        assert!(DOCUMENT.contains(&sentence), "the document does not say: {sentence}");
    }
}

#[test]
fn the_documents_error_codes_match_the_code() {
    let sources =
        [include_str!("endpoint/control.rs"), include_str!("endpoint/send.rs"), include_str!("endpoint/receive.rs")];
    let mut sent = BTreeSet::new();
    for source in sources {
        let code = source.split("#[cfg(test)]").next().unwrap();
        for before in ["failure(\"", "refusal(\"", "fail(\"", "code: \"", "let code = if", "=> \""] {
            for piece in code.split(before).skip(1) {
                // In a choice between two codes each is a literal of its own.
                let literals = if before.starts_with("let") { piece.split(';').next().unwrap() } else { piece };
                let words: Vec<_> = literals.split('"').collect();
                let found = if before.starts_with("let") { vec![words[1], words[3]] } else { vec![words[0]] };
                sent.extend(found.into_iter().filter(|word| word.bytes().all(|b| b == b'_' || b.is_ascii_lowercase())));
            }
        }
    }
    let told: BTreeSet<_> =
        table("| code | what | worth another try |").into_iter().map(|row| row[0].clone()).collect();
    let sent: BTreeSet<_> = sent.into_iter().map(|code| format!("`{code}`")).collect();
    assert_eq!(told, sent);
}
