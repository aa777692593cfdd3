//! A catalog with something in every table, in every state that there is: what an upgrade has to bring along.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use stackferry_catalog::*;
use stackferry_volume::Digest;
use stackferry_volume::manifest::ByteCounts;

use crate::bench::*;

fn trouble(code: &str) -> StatusReason {
    StatusReason { code: code.into(), text: format!("it is {code}: “é\u{0}'”") }
}

/// A catalog with rows of every sort, closed: the file is all there is of it.
pub(crate) async fn full() -> Bench {
    let bench = Bench::new().await;
    bench.catalog.bind_vault("11111111-2222-3333-4444-555555555555").await.unwrap();
    bench.catalog.set_marker("retention", Some("{\"at\":\"2026-11-22T04:00:00Z\"}")).await.unwrap();
    volumes(&bench).await;
    attempts(&bench).await;
    jobs(&bench).await;
    callers(&bench).await;
    notifications(&bench).await;
    bench.catalog.clone().close().await;
    bench
}

async fn volumes(bench: &Bench) {
    let catalog = &bench.catalog;
    let mut all = vec![seen("writable/CORP!5C!jdoe", &["nfs01", "nfs02"])];
    for state in VolumeState::ALL {
        let mut volume = seen(&format!("appstack/{state}"), &["nfs01"]);
        volume.state = state;
        volume.protectable = state != VolumeState::Unprotectable;
        if state != VolumeState::Ready {
            volume.reason = Some(StatusReason { code: "attached".into(), text: "somebody has it".into() });
            volume.remedy = Some("log off".into());
        }
        all.push(volume);
    }
    let ids: Vec<String> = all.iter().map(|volume| volume.id.to_string()).collect();
    bench.round(all, &["nfs01", "nfs02"]).await;
    for (seq, id) in (1..).zip(&ids) {
        bench.pass(60);
        let mut row = version(id, seq, bench.now());
        row.pinned = seq == 1;
        catalog.add_version(&row).await.unwrap();
        catalog.set_baselines(&vol(id), &[baseline(id, "nfs01", &row)]).await.unwrap();
        match seq {
            1 => {
                catalog.mark_damaged(&vol(id), &row.version, "block 7 of Office-flat.vmdk").await.unwrap();
                catalog.record_damage(&vol(id), &row.version, &json!({ "affected": [7] })).await.unwrap();
            }
            2 => catalog.mark_incident(&vol(id), "it changed by no one's order", "look").await.unwrap(),
            3 => {
                catalog.set_verified(&vol(id), &row.version, bench.now(), true).await.unwrap();
                let test = RestoreTest {
                    at: bench.now(),
                    ok: true,
                    found: "an NTFS".into(),
                    content: Some(stackferry_volume::content::ContentState::Healthy),
                };
                catalog.set_restore_tested(&vol(id), &row.version, &test).await.unwrap();
            }
            4 => catalog.set_deleting(&vol(id), &row.version, Some(bench.now())).await.unwrap(),
            _ => catalog.confirm(&[vol(id)], bench.now()).await.unwrap(),
        }
    }
    let cached = DescriptorRow { bytes: 500, mtime: at("2026-01-01T00:00:00.5Z"), content: vec![0, 255, b'\n'] };
    let cached = HashMap::from([("cloudvolumes/apps/ready.vmdk".to_owned(), cached)]);
    catalog.store_descriptors(&key("nfs01"), &cached).await.unwrap();
}

async fn attempts(bench: &Bench) {
    let catalog = &bench.catalog;
    let id = vol("appstack/ready");
    let made = catalog.versions(&id).await.unwrap().remove(0).version;
    for outcome in Outcome::ALL {
        let attempt = catalog.start_attempt(&id, "endpoint", Trigger::Schedule).await.unwrap();
        bench.pass(5);
        let good = matches!(outcome, Outcome::Copied | Outcome::Unchanged);
        let end = AttemptEnd {
            outcome: *outcome,
            version: good.then(|| made.clone()),
            error: (!good).then(|| trouble("attached")),
            bytes: ByteCounts { logical: 1 << 40, read: 5, zero: 4, wire: 3, stored: 2 },
            took: Duration::from_millis(5250),
        };
        catalog.finish_attempt(attempt, &end).await.unwrap();
    }
    catalog.start_attempt(&id, "local", Trigger::Api).await.unwrap();
    let lease = catalog.acquire_lease("volume/appstack/gone", "copy").await.unwrap();
    catalog.release_lease(&lease).await.unwrap();
    catalog.acquire_lease("volume/appstack/ready", "copy").await.unwrap();
    for (number, what) in CleanupKind::ALL.iter().enumerate() {
        let detail = json!({ "number": number });
        let cleanup = Cleanup { what: *what, system: "vc1".into(), subject: format!("esx1 sf-{number}"), detail };
        catalog.add_cleanup(&cleanup).await.unwrap();
    }
}

async fn jobs(bench: &Bench) {
    let catalog = &bench.catalog;
    let claim = Claim {
        kinds: JobKind::ALL,
        most: 99,
        per_host: 99,
        per_datastore: None,
        planned: true,
        closed: &[],
        known: None,
    };
    for (number, state) in JobState::ALL.iter().filter(|state| state.is_ended()).enumerate() {
        let job = NewJob {
            volume: Some(vol("appstack/ready")),
            detail: json!({ "number": number }),
            host: Some("esx1".into()),
            datastore: Some("dc1/nfs01".into()),
            last_attempt: Some(bench.now()),
            ..NewJob::requested(JobKind::ALL[number % JobKind::ALL.len()], Trigger::Command, "root")
        };
        let id = catalog.enqueue_job(&job).await.unwrap();
        assert_eq!(catalog.claim_job(&claim).await.unwrap().unwrap().id, id);
        let end = JobEnd {
            state: *state,
            outcome: Some("copied".into()),
            error: Some(trouble("silent")),
            result: Some(json!({ "bytes": { "read": 1 } })),
        };
        assert!(catalog.finish_job(id, &end).await.unwrap());
    }
    catalog.enqueue_job(&NewJob::requested(JobKind::Verify, Trigger::Api, "token jo")).await.unwrap();
    let running = catalog.claim_job(&claim).await.unwrap().unwrap();
    catalog.cancel_job(running.id).await.unwrap();
    let late =
        NewJob { volume: Some(vol("appstack/gone")), ..NewJob::requested(JobKind::Copy, Trigger::Api, "token jo") };
    catalog.enqueue_job(&late).await.unwrap();
    let again = catalog.claim_job(&claim).await.unwrap().unwrap();
    catalog.requeue_job(again.id, Some(&trouble("busy")), Some(bench.now() + seconds(60))).await.unwrap();
    catalog.pause(None, "root").await.unwrap();
    catalog.pause(Some(&vol("appstack/ready")), "token jo").await.unwrap();
}

async fn callers(bench: &Bench) {
    let catalog = &bench.catalog;
    for (number, role) in Role::ALL.iter().enumerate() {
        let digest = Digest::of(role.as_str().as_bytes());
        let token = NewToken { id: format!("0000000{number}"), name: role.to_string(), role: *role, digest };
        catalog.add_token(&token, "root").await.unwrap();
    }
    catalog.token_used("00000001").await.unwrap();
    catalog.revoke_token("admin", "root").await.unwrap();
    for (name, direction) in
        [("sf-open", Direction::Read), ("sf-expired", Direction::Write), ("sf-revoked", Direction::Read)]
    {
        let new = NewCredential {
            name: name.into(),
            volume: vol("appstack/ready"),
            file: "ready-flat.vmdk".into(),
            route: "esxi".into(),
            host: "esx1".into(),
            direction,
            standing: true,
            issued: bench.now(),
            expires: bench.now() + seconds(300),
        };
        catalog.credential_issued(&new).await.unwrap();
        catalog.credential_refused(name, "another file was asked for").await.unwrap();
        catalog.credential_used(name).await.unwrap();
    }
    catalog.credential_ended("sf-expired", CredentialEnding::Expired).await.unwrap();
    catalog.credential_ended("sf-revoked", CredentialEnding::Revoked).await.unwrap();
    catalog.audit(AuditAction::Restored, "jo", "appstack/ready", &json!({ "to": "/srv/é" })).await.unwrap();
}

async fn notifications(bench: &Bench) {
    let problem = |subject: &str, reported, gone| ReportedProblem {
        code: "overdue".into(),
        subject: subject.into(),
        name: "é".into(),
        detail: Some("attached".into()),
        since: bench.now(),
        seen: bench.now(),
        reported,
        gone,
    };
    let now = Some(bench.now());
    let message = |channel: &Channel| NewMessage {
        id: "11111111-2222-3333-4444-555555555555".into(),
        channel: *channel,
        event: "problem".into(),
        body: "{}".into(),
    };
    let change = NotifyChange {
        put: vec![
            problem("appstack/new", None, None),
            problem("appstack/ready", now, None),
            problem("appstack/gone", now, now),
        ],
        codes: vec!["overdue".into()],
        messages: Channel::ALL.iter().map(message).collect(),
        digests: vec![(Channel::Mail, "2026-11-22".into())],
        ..NotifyChange::default()
    };
    bench.catalog.record_problems(&change).await.unwrap();
    let first = bench.catalog.next_message(Channel::Mail).await.unwrap().unwrap();
    bench.catalog.message_failed(first.seq, "it answered 500", bench.now() + seconds(60)).await.unwrap();
}
