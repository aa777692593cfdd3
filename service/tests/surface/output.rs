//! The answers of commands: their JSON is the contract, their tables are for people.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use stackferry_catalog::{
    AuditCheck, AuditRecord, LocationRow, StatusReason, VersionContent, VersionRow, VolumeRow, VolumeState,
};
use stackferry_config::Secret;
use stackferry_engine::finding::{
    Affected, ByteRange, DamageFound, DamagedExtent, FindingCause, FindingFacts, Good, VersionFinding, judge,
};
use stackferry_engine::views::*;
use stackferry_problem::output::*;
use stackferry_problem::{Exit, Problem};
use stackferry_vault::{Damage, RestoreReport};
use stackferry_volume::content::ContentState;
use stackferry_volume::manifest::{ByteCounts, Owner, VerifyMethod};
use stackferry_volume::{Digest, Generation, Location, SiteName, VersionId, VolumeId};

fn office() -> VolumeId {
    "appstack/Office".parse().unwrap()
}

fn version() -> VersionId {
    "20261122T041500Z-3".parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn location(datastore: &str, reachable: bool) -> LocationRow {
    LocationRow {
        location: Location {
            site: SiteName("dc1".into()),
            datastore: datastore.into(),
            path: "cloudvolumes/apps/Office.vmdk".into(),
        },
        datastore_type: Some("NFS".into()),
        reachable,
        fingerprint: None,
        settled: true,
        seen_at: at("2026-11-22T04:00:00Z"),
        gone_since: None,
    }
}

fn volumes() -> Vec<VolumeRow> {
    let seen = at("2026-11-22T04:00:00Z");
    let office = VolumeRow {
        id: office(),
        stem: "Office".into(),
        name: "Office".into(),
        owner: None,
        guid: None,
        generation: Generation(1),
        size_bytes: Some(20 << 30),
        state: VolumeState::Ready,
        attached: None,
        protectable: true,
        reason: None,
        remedy: None,
        first_seen: seen,
        last_seen: Some(seen),
        gone_since: None,
        deferred_since: None,
        locations: vec![location("nfs02", false), location("nfs01", true)],
        former_locations: vec![],
        versions: 3,
        good_versions: 3,
        damaged_versions: 0,
        last_version: Some(version()),
        content: Some(ContentState::NotRecognised),
        last_success: Some(at("2026-11-22T04:20:00.25Z")),
        last_attempt: Some(seen),
        last_error: None,
    };
    let hostile = VolumeRow {
        id: "writable/CORP!5C!jdoe".parse().unwrap(),
        stem: "CORP!5C!jdoe".into(),
        name: "CORP\\jdoe\u{1b}[2J".into(),
        owner: Some(Owner { name: "CORP\\jdoe\u{202e}".into(), sid: None, upn: None }),
        guid: Some("8c1f9ad0-1111-4222-8333-444455556666".into()),
        generation: Generation(2),
        size_bytes: None,
        state: VolumeState::Deferred,
        attached: Some(true),
        protectable: false,
        reason: Some(StatusReason { code: "attached".into(), text: "attached to VDI-017".into() }),
        remedy: Some("log the user off".into()),
        deferred_since: Some(seen),
        locations: vec![],
        versions: 0,
        good_versions: 0,
        damaged_versions: 0,
        last_version: None,
        content: None,
        last_success: None,
        last_error: Some(StatusReason { code: "unreachable".into(), text: "stor2:2222 can't be reached\nx".into() }),
        ..office.clone()
    };
    vec![office, hostile]
}

fn table<V: View>(view: &V) -> String {
    let mut out = Vec::new();
    let style = Style::zone(TimeZone::get("Europe/Berlin").unwrap());
    print_styled(view, OutputFormat::Table, &style, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with('\n'));
    assert!(!text.contains(['\u{1b}', '\u{202e}', '\r']), "{text:?}");
    assert!(text.lines().all(|line| line.trim_end() == line), "{text:?}");
    text
}

/// One line of JSON, and the table: each answer's whole face.
fn shown<V: View>(view: &V) -> String {
    let mut out = Vec::new();
    print(view, OutputFormat::Json, &mut out).unwrap();
    let line = String::from_utf8(out).unwrap();
    assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line:?}");
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    format!("{value:#}\n-----\n{}", table(view))
}

#[test]
fn discover() {
    let text = shown(&DiscoverView::new(&volumes()));
    insta::assert_snapshot!(text);
}

#[test]
fn volumes_and_how_they_are_protected() {
    let text = shown(&VolumesView::new(&volumes()));
    insta::assert_snapshot!(text);
}

#[test]
fn nothing_is_an_empty_array() {
    let mut out = Vec::new();
    print(&VolumesView(vec![]), OutputFormat::Json, &mut out).unwrap();
    assert_eq!(out, b"[]\n");
    assert_eq!(table(&VersionsView(vec![])).lines().count(), 1, "the names of the columns");
}

#[test]
fn versions() {
    let good = VersionRow {
        volume: office(),
        version: version(),
        generation: Generation(1),
        created: at("2026-11-22T04:15:00Z"),
        bytes: 20 << 30,
        stored: 8_589_934_592,
        verified: true,
        verify_method: VerifyMethod::ReadBack,
        pinned: true,
        damaged: None,
        last_verified: Some(at("2026-11-22T23:30:00Z")),
        route: "endpoint".into(),
        incident: None,
        content: Some(VersionContent { state: ContentState::Healthy, text: "NTFS `Office`".into() }),
        restore_test: None,
        deleting: None,
    };
    let incident = VersionRow {
        version: "20261121T041500Z-2".parse().unwrap(),
        verify_method: VerifyMethod::Arrival,
        pinned: false,
        last_verified: None,
        incident: Some("it changed by no one's order".into()),
        ..good.clone()
    };
    let damaged = VersionRow {
        version: "20261120T041500Z-1".parse().unwrap(),
        verified: false,
        damaged: Some("block 17 of Office-flat.vmdk does not match its digest".into()),
        ..incident.clone()
    };
    let unknown = VersionRow {
        version: "20261119T041500Z-1".parse().unwrap(),
        incident: None,
        content: Some(VersionContent { state: ContentState::NotRecognised, text: "not recognised: zeros".into() }),
        ..incident.clone()
    };
    let text = shown(&VersionsView::new(&[good, incident, damaged, unknown]));
    insta::assert_snapshot!(text);
}

fn bytes() -> ByteCounts {
    ByteCounts { logical: 20 << 30, read: 9 << 30, zero: 11 << 30, wire: 4 << 30, stored: 9 << 30 }
}

fn copies() -> [CopyView; 4] {
    let busy = Problem::no_such_version(&office(), None);
    let reason = StatusReason { code: "attached".into(), text: "attached to VDI-017".into() };
    let took = Duration::from_micros(61_234_567);
    [
        CopyView::copied(&office(), &version(), VerifyMethod::Arrival).cost("endpoint", 2, bytes(), took),
        CopyView::unchanged(&office(), Some(&version())),
        CopyView::deferred(&office(), reason),
        CopyView::failed(&office(), &busy).cost("endpoint", 1, ByteCounts::default(), Duration::ZERO),
    ]
}

#[test]
fn copy() {
    let copies = copies();
    let text = copies.iter().map(shown).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(text);
    assert_eq!(copies.map(|copy| copy.exit()), [Exit::Done, Exit::Done, Exit::Partly, Exit::Failed]);
}

#[test]
fn run() {
    let [copied, unchanged, deferred, failed] = copies();
    let mut view = RunView::default();
    view.push_copy(&copied);
    view.push_copy(&unchanged);
    view.push(RunItem {
        volume: "image/vsan".parse().unwrap(),
        outcome: RunOutcome::Unprotectable,
        version: None,
        reason: Some(StatusReason { code: "vsan_only".into(), text: "it lies on vSAN only".into() }),
        left_out: Vec::new(),
    });
    assert_eq!(view.exit(), Exit::Done, "an unprotectable one does not change it");
    let mut one_failed = view.clone();
    one_failed.push_copy(&failed);
    assert_eq!(one_failed.exit(), Exit::Partly);
    view.push_copy(&deferred);
    assert_eq!(view.exit(), Exit::Partly);
    view.push_copy(&failed);
    let text = shown(&view);
    insta::assert_snapshot!(text);
}

#[test]
fn verify() {
    let mut view = VerifyView::default();
    view.push(&office(), &version(), vec![]);
    assert_eq!(view.exit(), Exit::Done);
    let whole = shown(&view);
    view.push(
        &office(),
        &"20261120T041500Z-1".parse().unwrap(),
        vec![
            Damage { file: "Office-flat.vmdk".into(), block: Some(17), why: "its digest does not match".into() },
            Damage { file: "Office.vmdk".into(), block: None, why: "the file is missing".into() },
        ],
    );
    let facts = FindingFacts {
        volume: office(),
        version: "20261120T041500Z-1".parse().unwrap(),
        good: Some(Good { version: version(), read_back: Some(at("2026-11-22T23:30:00Z")) }),
        copyable: true,
    };
    let affected = Affected {
        file: "Office-flat.vmdk".into(),
        role: "extent".into(),
        bytes: 1 << 20,
        of: Some(20 << 30),
        ranges: vec![ByteRange { offset: 17 << 20, length: 1 << 20 }],
    };
    let extent = DamagedExtent { name: "Office-flat.vmdk".into(), bytes: 20 << 30 };
    let found = DamageFound { affected: vec![affected], extents: vec![extent], cut: false };
    let finding = judge(&FindingCause::Damaged(Some(found)), &facts);
    view.findings.push(VersionFinding { volume: facts.volume, version: facts.version, finding });
    assert_eq!(view.exit(), Exit::VerifyFailed);
    assert_eq!((view.checked, view.ok), (2, 1), "versions are counted, not blocks");
    let text = format!("{whole}\n{}", shown(&view));
    insta::assert_snapshot!(text);
}

#[test]
fn restore() {
    let report = RestoreReport { files: 2, bytes: (20 << 30) + 512, stored: 9 << 30, untimed: 0 };
    let files = vec!["Office.vmdk".to_owned(), "Office-flat.vmdk".to_owned()];
    let took = Duration::from_millis(31_500);
    let to = "/srv/restore".to_owned();
    let text = shown(&RestoreView::new(&office(), &version(), to, files, &report, took));
    insta::assert_snapshot!(text);
}

#[test]
fn grant_shows_its_secret_once_and_never_in_debug() {
    let password = GrantView {
        volume: office(),
        file: "Office-flat.vmdk".into(),
        host: "stor2.example.com".into(),
        port: 2222,
        user: "sf-1a2b3c".into(),
        password: Some(Secret::new("correct-horse".into())),
        key_file: None,
        path: "nfs02/cloudvolumes/apps/Office-flat.vmdk".into(),
        expires: at("2026-11-22T04:25:00Z"),
        command: "sftp -P 2222 sf-1a2b3c@stor2.example.com:nfs02/cloudvolumes/apps/Office-flat.vmdk".into(),
    };
    assert!(!format!("{password:?}").contains("correct-horse"));
    let key = GrantView {
        password: None,
        key_file: Some("/var/lib/stackferry/grants/sf-1a2b3c".into()),
        port: 22,
        command: "scp -O -o IdentitiesOnly=yes -i /var/lib/stackferry/grants/sf-1a2b3c backup@stor2.example.com:x ."
            .into(),
        ..password.clone()
    };
    let text = format!("{}\n{}", shown(&password), shown(&key));
    insta::assert_snapshot!(text);
}

#[test]
fn check() {
    let problem = Problem::new(stackferry_problem::Code::Unreachable, "stor2:2222 can't be reached\u{1b}[2J")
        .hint("check the port\nand the firewall");
    let good = CheckItem::good("vault", "/srv/stackferry, 1.2 TiB free");
    assert_eq!(CheckView::new(vec![good.clone()]).exit(), Exit::Done);
    let view = CheckView::new(vec![good, CheckItem::bad("datastore nfs02", &problem)]);
    assert_eq!(view.exit(), Exit::Failed);
    let text = shown(&view);
    insta::assert_snapshot!(text);
}

#[test]
fn rebuild_and_pins() {
    let problem = PathProblem { path: "/srv/stackferry/volumes/image/x".into(), why: "it is no folder".into() };
    let rebuild = RebuildView { volumes: 12, versions: 80, damaged: 1, problems: vec![problem] };
    let pin = PinView { volume: office(), version: version(), pinned: true, note: Some("before the update".into()) };
    let unpin = PinView { pinned: false, note: None, ..pin.clone() };
    let text = [shown(&rebuild), shown(&pin), shown(&unpin)].join("\n");
    insta::assert_snapshot!(text);
}

#[test]
fn audit() {
    let record = AuditRecord {
        id: 7,
        at: at("2026-11-22T04:15:00Z"),
        action: "grant".into(),
        actor: "root".into(),
        subject: "appstack/Office\u{1b}[2J".into(),
        detail: serde_json::json!({"file": "Office-flat.vmdk"}),
        digest: Digest::of(b"x"),
    };
    let whole = AuditVerifyView::from(AuditCheck { records: 7, cut: 0, head: Some(Digest::of(b"x")), broken: None });
    let broken = AuditCheck { records: 3, cut: 0, head: None, broken: Some((4, "its digest is another".into())) };
    let broken = AuditVerifyView::from(broken);
    assert_eq!((whole.exit(), broken.exit()), (Exit::Done, Exit::VerifyFailed));
    let text = [shown(&AuditView(vec![record])), shown(&whole), shown(&broken)].join("\n");
    insta::assert_snapshot!(text);
}

#[test]
fn a_token_is_shown_once_and_never_in_debug() {
    let new = NewTokenView {
        name: "grafana".into(),
        role: stackferry_catalog::Role::Viewer,
        token: Secret::new("sf_0a1b2c3d_secret".into()),
    };
    assert!(!format!("{new:?}").contains("sf_0a1b2c3d"), "{new:?}");
    let row = TokenView {
        id: "0a1b2c3d".into(),
        name: "grafana".into(),
        role: stackferry_catalog::Role::Viewer,
        created: at("2026-11-22T04:00:00Z"),
        last_used: Some(at("2026-11-22T05:00:00Z")),
        revoked: None,
    };
    let told = serde_json::to_value(&new).unwrap();
    assert_eq!(told, serde_json::json!({ "name": "grafana", "role": "viewer", "token": "sf_0a1b2c3d_secret" }));
    let list = TokensView(vec![row]);
    let told = serde_json::to_value(&list).unwrap();
    assert_eq!((&told[0]["id"], &told[0]["revoked"]), (&serde_json::json!("0a1b2c3d"), &serde_json::Value::Null));
    for part in ["0a1b2c3d", "grafana", "viewer", "REVOKED"] {
        assert!(table(&list).contains(part), "{}", table(&list));
    }
}
