//! Credentials and audit.

use serde_json::json;
use stackferry_catalog::*;

use crate::bench::*;

fn new(bench: &Bench, name: &str, standing: bool) -> NewCredential {
    NewCredential {
        name: name.into(),
        volume: vol("appstack/Office"),
        file: "Office-flat.vmdk".into(),
        route: "endpoint".into(),
        host: "stor2.example.com:2222".into(),
        direction: Direction::Read,
        standing,
        issued: bench.now(),
        expires: bench.now() + seconds(300),
    }
}

async fn actions(bench: &Bench) -> Vec<String> {
    bench.catalog.audit_records(0, 1000).await.unwrap().into_iter().map(|record| record.action).collect()
}

async fn outstanding(bench: &Bench) -> Vec<String> {
    bench.catalog.outstanding_credentials().await.unwrap().into_iter().map(|one| one.issued.name).collect()
}

#[tokio::test]
async fn a_credential_is_used_once_and_each_step_is_audited() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    let issued = new(&bench, "sf-1", false);
    catalog.credential_issued(&issued).await.unwrap();
    let error = catalog.credential_issued(&issued).await.unwrap_err();
    assert!(matches!(error, CatalogError::CredentialExists(_)), "{error:?}");
    catalog.credential_refused("sf-1", "another file was asked for").await.unwrap();
    let [one] = &catalog.outstanding_credentials().await.unwrap()[..] else { panic!() };
    assert_eq!((&one.issued, one.used, one.refusals), (&issued, None, 1));

    catalog.credential_used("sf-1").await.unwrap();
    let error = catalog.credential_used("sf-1").await.unwrap_err();
    assert!(matches!(error, CatalogError::CredentialSpent { .. }), "{error:?}");
    assert_eq!(outstanding(&bench).await, [""; 0], "it opens nothing any more");
    assert!(catalog.credential_ended("sf-1", CredentialEnding::Revoked).await.unwrap());
    assert!(!catalog.credential_ended("sf-1", CredentialEnding::Expired).await.unwrap());
    assert_eq!(
        actions(&bench).await,
        ["credential_issued", "credential_refused", "credential_used", "credential_revoked"]
    );
    let record = catalog.audit_records(0, 1).await.unwrap().remove(0);
    assert_eq!((record.subject.as_str(), &record.detail["file"]), ("sf-1", &json!("Office-flat.vmdk")));
}

#[tokio::test]
async fn what_stands_at_a_peer_is_outstanding_until_it_is_taken_away() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    catalog.credential_issued(&new(&bench, "account", true)).await.unwrap();
    catalog.credential_issued(&new(&bench, "ticket", false)).await.unwrap();
    catalog.credential_used("account").await.unwrap();
    bench.pass(301);
    assert_eq!(outstanding(&bench).await, ["account", "ticket"], "time alone ends nothing");
    let error = catalog.credential_used("ticket").await.unwrap_err();
    assert!(matches!(error, CatalogError::CredentialSpent { .. }), "{error:?}");
    catalog.credential_ended("ticket", CredentialEnding::Expired).await.unwrap();
    assert_eq!(outstanding(&bench).await, ["account"]);
    catalog.credential_ended("account", CredentialEnding::Revoked).await.unwrap();
    assert_eq!(outstanding(&bench).await, [""; 0]);

    bench.pass(1);
    let limits = HistoryLimits { before: bench.now(), size: u64::MAX };
    let trimmed = catalog.trim_history(&limits).await.unwrap();
    assert_eq!(trimmed.credentials, 2);
    for error in [
        catalog.credential_used("account").await.unwrap_err(),
        catalog.credential_refused("account", "why").await.unwrap_err(),
        catalog.credential_ended("account", CredentialEnding::Expired).await.unwrap_err(),
    ] {
        assert!(matches!(error, CatalogError::NoSuchCredential(_)), "{error:?}");
    }
    assert_eq!(trimmed.audit, 5, "what did not happen is not in it");
    assert_eq!(actions(&bench).await, ["history_trimmed"]);
}

#[tokio::test]
async fn records_are_read_in_order_and_sealed() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    let empty = catalog.verify_audit().await.unwrap();
    assert_eq!(empty, AuditCheck { records: 0, cut: 0, head: None, broken: None });
    for number in 1..=5u64 {
        let detail = json!({ "to": "/srv/restore", "number": number });
        assert_eq!(catalog.audit(AuditAction::Restored, "root", "appstack/Office", &detail).await.unwrap(), number);
    }
    let records = catalog.audit_records(1, 2).await.unwrap();
    assert_eq!(records.iter().map(|record| record.id).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((records[0].actor.as_str(), &records[0].detail["number"]), ("root", &json!(2)));
    let last = catalog.last_audit_records(2).await.unwrap();
    assert_eq!(last.iter().map(|record| record.id).collect::<Vec<_>>(), [5, 4]);
    let check = catalog.verify_audit().await.unwrap();
    assert_eq!(check, AuditCheck { records: 5, cut: 0, head: Some(last[0].digest), broken: None });
}

#[tokio::test]
async fn two_processes_add_to_one_chain() {
    let bench = Bench::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for who in 0..3 {
        let catalog = bench.another().await;
        tasks.spawn(async move {
            for number in 0..20 {
                let detail = json!({ "number": number });
                catalog.audit(AuditAction::Copied, &format!("worker {who}"), "appstack/Office", &detail).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let check = bench.catalog.verify_audit().await.unwrap();
    assert_eq!((check.records, check.broken), (60, None));
}

#[tokio::test]
async fn a_chain_longer_than_a_page_is_checked_to_its_end() {
    let bench = Bench::new().await;
    let mut records = Vec::new();
    for number in 0..1003 {
        records.push(bench.catalog.audit(AuditAction::Copied, "a", &number.to_string(), &json!({})).await.unwrap());
    }
    assert_eq!(bench.catalog.verify_audit().await.unwrap().records, 1003);
    bench.tamper("DROP TRIGGER audit_is_never_changed; UPDATE audit SET subject = 'x' WHERE id = 1002").await;
    assert_eq!(bench.catalog.verify_audit().await.unwrap().broken.unwrap().0, 1002);
}

#[tokio::test]
async fn the_database_itself_refuses_to_change_records() {
    let bench = Bench::new().await;
    bench.catalog.audit(AuditAction::Copied, "root", "appstack/Office", &json!({})).await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&bench.path);
    let mut conn = sqlx::ConnectOptions::connect(&options).await.unwrap();
    for sql in ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"] {
        assert!(sqlx::raw_sql(sql).execute(&mut conn).await.is_err(), "{sql}");
    }
    assert_eq!(bench.catalog.verify_audit().await.unwrap().broken, None);
}

#[tokio::test]
async fn any_change_past_the_triggers_is_seen() {
    for (sql, at, why) in [
        ("UPDATE audit SET actor = 'nobody' WHERE id = 3", 3, "digest"),
        ("UPDATE audit SET at = '2020-01-01T00:00:00.000000000Z' WHERE id = 1", 1, "digest"),
        ("UPDATE audit SET action = 'pinned' WHERE id = 5", 5, "digest"),
        ("UPDATE audit SET subject = 'x' WHERE id = 2", 2, "digest"),
        ("UPDATE audit SET detail = '{}' WHERE id = 2", 2, "digest"),
        // The border between two fields is part of what is sealed.
        ("UPDATE audit SET actor = 'roo', subject = 'tappstack/Office' WHERE id = 2", 2, "digest"),
        ("UPDATE audit SET detail = x'ff' WHERE id = 4", 4, "can't be read"),
        ("UPDATE audit SET digest = 'x' WHERE id = 4", 4, "can't be read"),
        ("UPDATE audit SET digest = (SELECT digest FROM audit WHERE id = 1) WHERE id = 2", 2, "digest"),
        ("DELETE FROM audit WHERE id = 3", 3, "missing"),
        ("DELETE FROM audit WHERE id = 1", 1, "missing"),
        ("DELETE FROM audit WHERE id = 3; UPDATE audit SET id = id - 1 WHERE id > 3", 3, "digest"),
        ("DELETE FROM audit WHERE id = 5", 5, "missing at the end"),
        ("DELETE FROM audit", 1, "missing at the end"),
        ("INSERT INTO audit SELECT 6, at, action, actor, subject, detail, digest FROM audit WHERE id = 5", 6, "digest"),
    ] {
        let bench = Bench::new().await;
        for number in 1..=5 {
            let detail = json!({ "number": number });
            bench.catalog.audit(AuditAction::Copied, "root", "appstack/Office", &detail).await.unwrap();
        }
        assert_eq!(bench.catalog.verify_audit().await.unwrap().broken, None);
        bench.tamper("DROP TRIGGER audit_is_never_changed; DROP TRIGGER audit_is_never_deleted").await;
        bench.tamper(sql).await;
        let check = bench.catalog.verify_audit().await.unwrap();
        let (id, text) = check.broken.unwrap_or_else(|| panic!("{sql}: not seen"));
        assert_eq!(id, at, "{sql}: {text}");
        assert!(text.contains(why), "{sql}: {text}");
        assert_eq!(check.records, at - 1, "{sql}");
    }
}

#[tokio::test]
async fn every_word_is_read_as_it_is_written() {
    for action in AuditAction::ALL {
        assert_eq!(action.as_str().parse::<AuditAction>().unwrap(), *action);
        assert_eq!(serde_json::to_value(action).unwrap(), json!(action.as_str()));
    }
    assert_eq!("made_up".parse::<AuditAction>().unwrap_err().to_string(), "`made_up` is no audit action");
}

#[tokio::test]
async fn what_is_owed_is_kept_until_it_is_paid() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    let cleanup = Cleanup {
        what: CleanupKind::SshService,
        system: "vc1".into(),
        subject: "esx1.example.com".into(),
        detail: json!({ "was": "stopped" }),
    };
    let one = catalog.add_cleanup(&cleanup).await.unwrap();
    let two = catalog.add_cleanup(&cleanup).await.unwrap();
    let pending = catalog.pending_cleanups().await.unwrap();
    assert_eq!(pending.iter().map(|row| row.id).collect::<Vec<_>>(), [one, two]);
    assert!(pending.iter().all(|row| row.cleanup == cleanup && row.since == bench.now() && !row.is_abandoned));
    catalog.end_cleanup(one).await.unwrap();
    catalog.end_cleanup(one).await.unwrap();
    assert_eq!(catalog.pending_cleanups().await.unwrap().len(), 1, "another copy still needs it");
    let lease = catalog.acquire_lease("volume/writable/jdoe", "service").await.unwrap();
    bench
        .tamper(
            "UPDATE owed SET process = json_set(process, '$.pid_namespace', 'pid:[1]'); \
             UPDATE leases SET process = json_set(process, '$.pid_namespace', 'pid:[1]')",
        )
        .await;
    assert!(!catalog.pending_cleanups().await.unwrap()[0].is_abandoned, "somebody out of sight copies with it");
    catalog.release_lease(&lease).await.unwrap();
    assert!(catalog.pending_cleanups().await.unwrap()[0].is_abandoned, "nobody copies with it");
    bench.tamper("UPDATE owed SET process = json_set(process, '$.boot_id', 'before the last power cut')").await;
    assert!(catalog.pending_cleanups().await.unwrap()[0].is_abandoned, "nobody else will pay it");
    catalog.end_cleanup(two).await.unwrap();
    assert_eq!(catalog.pending_cleanups().await.unwrap(), []);
}

#[tokio::test]
async fn a_note_is_kept_until_it_is_taken_away() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    assert_eq!(catalog.marker("a").await.unwrap(), None);
    catalog.set_marker("a", Some("one")).await.unwrap();
    catalog.set_marker("a", Some("two")).await.unwrap();
    assert_eq!(catalog.marker("a").await.unwrap().as_deref(), Some("two"));
    catalog.set_marker("a", None).await.unwrap();
    catalog.set_marker("a", None).await.unwrap();
    assert_eq!(catalog.marker("a").await.unwrap(), None);
    assert!(!catalog.install_id().await.unwrap().is_empty(), "what the catalog knows of itself is no note");
}

/// Writes so many records, each of its own minute.
async fn fill(bench: &Bench, number: u64) {
    for number in 0..number {
        let detail = json!({ "number": number });
        bench.catalog.audit(AuditAction::Copied, "schedule", "appstack/Office", &detail).await.unwrap();
        bench.pass(60);
    }
}

#[tokio::test]
async fn the_audit_is_cut_by_age_and_stays_verifiable() {
    let bench = Bench::new().await;
    fill(&bench, 30).await;
    let before = bench.now() - seconds(60 * 10);
    let limits = HistoryLimits { before, size: u64::MAX };
    assert_eq!(bench.catalog.trim_history(&limits).await.unwrap().audit, 20);
    assert_eq!(bench.catalog.trim_history(&limits).await.unwrap().audit, 0);
    let check = bench.catalog.verify_audit().await.unwrap();
    assert_eq!((check.records, check.cut, &check.broken), (11, 20, &None), "ten, and the record of the cut");
    let first = bench.catalog.audit_records(0, 1).await.unwrap().remove(0);
    assert_eq!(first.id, 21, "numbers stay");
    // It goes on, and is cut again.
    fill(&bench, 5).await;
    let again = HistoryLimits { before: bench.now() - seconds(60 * 5), size: u64::MAX };
    assert_eq!(bench.catalog.trim_history(&again).await.unwrap().audit, 10);
    let check = bench.catalog.verify_audit().await.unwrap();
    assert_eq!((check.records, check.cut, &check.broken), (7, 30, &None));
    // Nobody else deletes records, and what else is cut off is noticed.
    for harm in [
        "DROP TRIGGER audit_is_never_deleted; DELETE FROM audit WHERE id = (SELECT min(id) FROM audit)",
        "UPDATE meta SET value = '3' || value WHERE key = 'audit_anchor'",
        "DELETE FROM meta WHERE key = 'audit_anchor'",
        // As if the time of more records had been over.
        "UPDATE meta SET value = (SELECT id || ' ' || digest FROM audit WHERE id = 32) WHERE key = 'audit_anchor'; \
         DELETE FROM audit WHERE id <= 32",
    ] {
        let bench = Bench::new().await;
        fill(&bench, 30).await;
        let limits = HistoryLimits { before: bench.now() - seconds(60), size: u64::MAX };
        bench.catalog.trim_history(&limits).await.unwrap();
        fill(&bench, 6).await;
        assert_eq!(bench.catalog.verify_audit().await.unwrap().broken, None);
        bench.tamper(harm).await;
        let check = bench.catalog.verify_audit().await.unwrap();
        assert!(check.broken.is_some(), "{harm}: {check:?}");
    }
}
