use super::super::snapshot::FoundProblem;
use super::*;

const AT: &str = "2026-11-22T06:00:00Z";

fn sender() -> Sender {
    Sender { install: "a1b2c3".to_owned(), host: "backup1".to_owned() }
}

fn at() -> Timestamp {
    AT.parse().unwrap()
}

fn row(trouble: Trouble, subject: &str, name: &str, detail: Option<&str>) -> ReportedProblem {
    ReportedProblem {
        code: trouble.row().word.to_owned(),
        subject: subject.to_owned(),
        name: name.to_owned(),
        detail: detail.map(str::to_owned),
        since: at(),
        seen: at(),
        reported: Some(at()),
        gone: None,
    }
}

#[test]
fn the_json_is_what_the_document_promises() {
    let kinds = Kinds::from([(
        Trouble::Overdue,
        vec![row(Trouble::Overdue, "writable/CORP!5C!jdoe", "CORP\\jdoe", Some("attached"))],
    )]);
    let mut message = sender().change(Event::Problem, &kinds, at());
    message.id = "11111111-2222-3333-4444-555555555555".to_owned();
    message.program = "stackferry 0.1.0".to_owned();
    // Times in words are local.
    assert!(message.text.starts_with("Stackferry on backup1: 1 volume is overdue: writable/CORP!5C!jdoe\n"));
    message.text = "Stackferry on backup1: …".to_owned();
    let json = serde_json::to_value(&message).unwrap();
    let text = include_str!("../../../docs/notifications.md");
    let (_, rest) = text.split_once("```json\n").unwrap();
    let shown: serde_json::Value = serde_json::from_str(rest.split("```").next().unwrap()).unwrap();
    assert_eq!(shown, json, "{json:#}");
    assert_eq!(serde_json::from_value::<Message>(json).unwrap(), message);
}

#[test]
fn a_thousand_of_one_kind_are_one_bounded_message() {
    let hostile = "<!channel> \u{202e}\u{0}\r\nBcc: x@y ".repeat(50);
    let rows =
        (0..1000).map(|number| row(Trouble::Overdue, &format!("appstack/A{number:04}"), &hostile, Some(&hostile)));
    let kinds = Kinds::from([(Trouble::Overdue, rows.collect())]);
    let message = sender().change(Event::Problem, &kinds, at());
    assert_eq!((message.problems.len(), message.problems[0].count, message.problems[0].subjects.len()), (1, 1000, 20));
    assert_eq!(message.headline(), "1000 volumes are overdue");
    let json = serde_json::to_string(&message).unwrap();
    assert!(json.len() < 32 << 10, "{} bytes", json.len());
    let mail = message.mail(&TimeZone::UTC);
    assert!(mail.len() < 32 << 10 && mail.contains("\n  - and 980 more\n"), "{mail}");
    assert!(
        message.text.chars().count() <= TEXT + 1 && message.text.contains("\n- and 995 more\n"),
        "{}",
        message.text
    );
    // Nothing of a name ends a line, turns text around or is a chat's own word.
    for text in [&mail, &message.text] {
        assert!(!text.contains(['\r', '\0', '\u{202e}']) && !text.contains("\nBcc"), "{text}");
    }
    assert!(!message.text.contains("<!"), "{}", message.text);
}

#[test]
fn every_kind_at_once_is_still_bounded() {
    let long = "x".repeat(5000);
    let kinds: Kinds = super::super::trouble::TROUBLES
        .iter()
        .map(|kind| {
            (
                kind.trouble,
                (0..50).map(|number| row(kind.trouble, &format!("{number}{long}"), &long, Some(&long))).collect(),
            )
        })
        .collect();
    let message = sender().change(Event::Problem, &kinds, at());
    assert_eq!(message.problems.len(), super::super::trouble::TROUBLES.len());
    let json = serde_json::to_string(&message).unwrap();
    assert!(json.len() < 512 << 10, "{} bytes", json.len());
    assert!(message.headline().chars().count() <= HEADLINE + 1);
}

#[test]
fn a_digest_says_at_a_glance_whether_all_is_safe() {
    let found = |trouble, subject: &str| FoundProblem {
        trouble,
        subject: subject.to_owned(),
        name: subject.to_owned(),
        since: Some(at()),
        detail: None,
    };
    let volumes = |total, not_safe| VolumeCounts { total, not_safe, ..VolumeCounts::default() };
    let line = |found: Vec<FoundProblem>, volumes| {
        sender().digest(&SiteSnapshot { found, volumes, ..SiteSnapshot::default() }, at()).headline()
    };
    assert_eq!(line(Vec::new(), volumes(0, 0)), "no volume is known yet");
    assert_eq!(line(Vec::new(), volumes(1, 0)), "the only volume is safe");
    assert_eq!(line(Vec::new(), volumes(241, 0)), "all 241 volumes are safe");
    assert_eq!(line(vec![found(Trouble::Overdue, "appstack/A")], volumes(241, 1)), "1 of 241 volumes is not safe");
    let full = line(vec![found(Trouble::VaultFull, "vault"), found(Trouble::Held, "appstack/A")], volumes(241, 3));
    assert_eq!(full, "3 of 241 volumes are not safe; the vault is full");
    let look = SiteSnapshot {
        found: vec![found(Trouble::VersionDamaged, "appstack/Office")],
        volumes: VolumeCounts { new: 2, vault_free: Some(1 << 40), vault_size: Some(4 << 40), ..volumes(241, 0) },
        ..SiteSnapshot::default()
    };
    let mut message = sender().digest(&look, at());
    message.program = "stackferry 0.1.0".to_owned();
    assert_eq!(
        message.mail(&TimeZone::UTC),
        "All 241 volumes are safe.\n2 just found and wait for their first copy.\nFree in the vault: 1.0 TiB of 4.0 TiB.\n\n\
         CRITICAL: 1 volume has a damaged version\n  - appstack/Office, since 2026-11-22 06:00\n  What to do: Look for failing \
         disks below the vault. `stackferry verify VOLUME` tells which blocks; where no other version is good the volume \
         is copied again.\n\n-- \nstackferry 0.1.0 on backup1, installation a1b2c3, 2026-11-22 06:00 UTC\n"
    );
}
