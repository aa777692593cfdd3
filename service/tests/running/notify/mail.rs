//! Mail, through a real SMTP server.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::smtp::{MailServer, PASSWORD, is_there};
use super::{Datastore, json as answer};
use crate::bench::{Bench, free_port, until};
use crate::program::{Program, command};

const SOON: &str = "[schedule]\nevery = \"1s\"\n[notify]\nsettle = \"0s\"\napart = \"0s\"\n";

/// `notify test` with this password.
fn test(config: &Path, password: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stackferry"));
    command.arg("--config").arg(config).args(["-vv", "notify", "test", "--output", "json"]);
    command.env("STACKFERRY_TEST_MAIL", password).stdin(Stdio::null()).output().unwrap()
}

/// How `notify test` ended: its exit code, and what it says of the mail.
fn tried(bench: &Bench, section: &str, password: &str) -> (Option<i32>, Value) {
    let output = test(&bench.config_file(1, section), password);
    for text in [&output.stdout, &output.stderr] {
        says_no_password(&String::from_utf8_lossy(text), password);
    }
    (output.status.code(), answer(&output)["sent"][0].take())
}

/// Neither as it is, nor as PLAIN or LOGIN send it.
fn says_no_password(text: &str, password: &str) {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let plain = encode(format!("\0stackferry\0{password}").as_bytes());
    for secret in [password, &encode(password.as_bytes()), &plain] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn a_letter_arrives_by_every_kind_of_connection() {
    if !is_there() {
        return;
    }
    let bench = Bench::new();
    for (tls, more) in [("starttls", ""), ("tls", "tls = \"tls\""), ("none", "tls = \"none\"")] {
        let server = MailServer::start(bench.dir.path(), tls, &json!({}));
        let section = server.section(more);
        let section = match tls {
            "none" => section.lines().filter(|line| !line.starts_with("ca =")).collect::<Vec<_>>().join("\n"),
            _ => section,
        };
        let (code, item) = tried(&bench, &section, PASSWORD);
        assert_eq!((code, &item["channel"], &item["ok"]), (Some(0), &"mail".into(), &true.into()), "{tls}: {item}");
        let letters = server.letters();
        let [letter] = letters.as_slice() else { panic!("{tls}: {} letters", letters.len()) };
        assert_eq!(
            (&letter.0["sender"], &letter.0["to"]),
            (&"stackferry@example.com".into(), &json!(["vdi@example.com"]))
        );
        assert_eq!(letter.subject(), "[stackferry] this is a test: messages arrive");
        assert_eq!(
            (letter.headers("auto-submitted"), letter.headers("x-stackferry-event")),
            (vec!["auto-generated"], vec!["test"])
        );
        assert_eq!((&letter.0["kind"], letter.headers("date").len()), (&"text/plain".into(), 1));
        assert!(letter.headers("message-id")[0].ends_with(".stackferry>"), "{:?}", letter.headers("message-id"));
        let auths = server.told("auth");
        assert_eq!((auths.len(), &auths[0]["ok"], &auths[0]["encrypted"]), (1, &true.into(), &(tls != "none").into()));
        assert!(server.told("mail").iter().all(|mail| mail["encrypted"] == (tls != "none")));
    }
}

#[test]
fn a_server_that_asks_for_no_login_gets_none() {
    if !is_there() {
        return;
    }
    let bench = Bench::new();
    let server = MailServer::start(bench.dir.path(), "starttls", &json!({ "login": false }));
    let section = server.section("");
    let open: Vec<&str> =
        section.lines().filter(|line| !line.starts_with("user") && !line.starts_with("password")).collect();
    assert_eq!(tried(&bench, &open.join("\n"), PASSWORD).0, Some(0));
    let (code, item) = tried(&bench, &section, PASSWORD);
    assert_eq!((code, &item["code"]), (Some(1), &"refused".into()), "{item}");
    assert!(item["text"].as_str().unwrap().contains("offers no login"), "{item}");
}

#[test]
fn a_wrong_password_is_named_and_never_shown() {
    if !is_there() {
        return;
    }
    let bench = Bench::new();
    let server = MailServer::start(bench.dir.path(), "starttls", &json!({}));
    let (code, item) = tried(&bench, &server.section(""), "wrong tulip");
    assert_eq!((code, &item["code"]), (Some(12), &"login_refused".into()), "{item}");
    let text = item["text"].as_str().unwrap();
    assert!(text.contains("refused the login of stackferry (535)"), "{text}");
    assert!(item["hint"].as_str().unwrap().contains("`password` in [notify.mail]"), "{item}");
    assert_eq!((server.told("auth").len(), server.letters().len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_a_wrong_password_says_so_and_asks_once() {
    if !is_there() {
        return;
    }
    let bench = Bench::new();
    let away = Datastore::new(&bench, "nfs02");
    away.take_away();
    let server = MailServer::start(bench.dir.path(), "starttls", &json!({}));
    let config = format!("{}{SOON}{}", away.section(), server.section(""));
    let start = |password: &str| {
        let mut command = command(&bench, free_port(), &config);
        command.env("STACKFERRY_TEST_MAIL", password).args(["-vv"]);
        Program::start(command)
    };
    let program = start("wrong tulip");
    program.logs("refused the login of stackferry").await;
    // More rounds, and no further login: each would look like an attack.
    let office = bench.appstack("Office", 1 << 20);
    let catalog = bench.catalog().await;
    until("it is copied", async || !catalog.versions(&office).await.unwrap().is_empty()).await;
    program.signal(Signal::TERM);
    let (code, log) = program.end().await;
    says_no_password(&log, "wrong tulip");
    assert_eq!((code, server.told("auth").len()), (Some(0), 1), "{log}");
    // With the right one the message goes out at once.
    let program = start(PASSWORD);
    until("it is taken", async || server.letters().len() == 1).await;
    program.signal(Signal::TERM);
    says_no_password(&program.end().await.1, PASSWORD);
    assert_eq!(server.letters()[0].subject(), "[stackferry] 1 datastore can't be looked at: default/nfs02");
}

#[test]
fn a_certificate_that_is_not_trusted_is_told_nothing() {
    if !is_there() {
        return;
    }
    let bench = Bench::new();
    for (tls, more) in [("starttls", ""), ("tls", "tls = \"tls\"")] {
        let server = MailServer::start(bench.dir.path(), tls, &json!({}));
        let strange = server.section(more);
        let strange: Vec<&str> = strange.lines().filter(|line| !line.starts_with("ca =")).collect();
        let (code, item) = tried(&bench, &strange.join("\n"), PASSWORD);
        assert_eq!((code, &item["code"]), (Some(13), &"certificate_refused".into()), "{item}");
        let hint = item["hint"].as_str().unwrap();
        let (_, rest) = hint.split_once("set fingerprint = \"").unwrap();
        assert!(server.told("auth").is_empty() && server.told("mail").is_empty());
        // What it says to do helps.
        let own = format!("{}\nfingerprint = \"{}\"", strange.join("\n"), rest.split('"').next().unwrap());
        assert_eq!(tried(&bench, &own, PASSWORD).0, Some(0), "{own}");
    }
}

#[test]
fn encryption_that_is_not_offered_is_not_done_without() {
    if !is_there() {
        return;
    }
    let bench = Bench::new();
    let server = MailServer::start(bench.dir.path(), "none", &json!({}));
    let (code, item) = tried(&bench, &server.section(""), PASSWORD);
    assert_eq!((code, &item["code"]), (Some(1), &"refused".into()), "{item}");
    assert!(item["text"].as_str().unwrap().contains("does not offer to encrypt (STARTTLS)"), "{item}");
    assert!(item["hint"].as_str().unwrap().starts_with("nothing was sent."), "{item}");
    assert!(server.told("auth").is_empty() && server.told("mail").is_empty());
}

#[test]
fn one_recipient_who_is_not_taken_keeps_no_other_waiting() {
    if !is_there() {
        return;
    }
    let bench = Bench::new();
    let server = MailServer::start(bench.dir.path(), "starttls", &json!({}));
    let to = |list: &str| server.section("").replace("to = [\"vdi@example.com\"]", &format!("to = {list}"));
    let (code, item) = tried(&bench, &to("[\"nobody@example.com\", \"vdi@example.com\"]"), PASSWORD);
    assert_eq!((code, &item["code"]), (Some(1), &"refused".into()), "{item}");
    assert!(item["text"].as_str().unwrap().contains("nobody@example.com: "), "{item}");
    assert_eq!(server.letters()[0].0["to"], json!(["vdi@example.com"]));
    let (code, item) = tried(&bench, &to("[\"nobody@example.com\"]"), PASSWORD);
    assert_eq!((code, server.letters().len()), (Some(1), 1), "{item}");
    let full = MailServer::start(bench.dir.path(), "starttls", &json!({ "full": true }));
    let (_, item) = tried(&bench, &full.section(""), PASSWORD);
    assert!(item["text"].as_str().unwrap().contains("there is no room"), "{item}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_never_more_than_text() {
    if !is_there() {
        return;
    }
    let bench = Bench::new();
    let evil = "Evil\r\nBcc: victim@example.com\r\n\r\n.\r\nQUIT\r\n<b>";
    let folder = bench.dir.path().join("nfs01/cloudvolumes/apps");
    std::fs::write(folder.join(format!("{evil}.vmdk")), "# Disk DescriptorFile\nversion=1\n").unwrap();
    std::fs::write(folder.join("Büro.vmdk"), "# Disk DescriptorFile\nversion=1\n").unwrap();
    let server = MailServer::start(bench.dir.path(), "starttls", &json!({}));
    let config = format!("{SOON}{}", server.section(""));
    let mut command = command(&bench, free_port(), &config);
    command.env("STACKFERRY_TEST_MAIL", PASSWORD);
    let program = Program::start(command);
    until("it is taken", async || !server.letters().is_empty()).await;
    program.signal(Signal::TERM);
    program.end().await;
    let letters = server.letters();
    let letter = &letters[0];
    assert_eq!(letter.0["to"], json!(["vdi@example.com"]));
    assert_eq!((letter.headers("bcc").len(), letter.headers("to")), (0, vec!["vdi@example.com"]));
    assert_eq!(letter.subject(), "[stackferry] 2 volumes are not supported: action needed");
    let line = letter.body().lines().find(|line| line.contains("Evil")).unwrap();
    assert!(line.contains("Bcc: victim@example.com") && line.contains("<b>"), "{line}");
    assert!(letter.body().contains("appstack/Büro"), "{}", letter.body());
    // RFC 5321, 4.5.3.1.6: no line is longer than 998 bytes.
    assert!(letter.0["longest"].as_u64().unwrap() <= 998, "{}", letter.0);
}
