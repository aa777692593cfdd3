//! Tokens for the API.

use stackferry_catalog::*;
use stackferry_volume::Digest;

use crate::bench::*;

fn new(id: &str, name: &str, role: Role) -> NewToken {
    NewToken { id: id.into(), name: name.into(), role, digest: Digest::of(name.as_bytes()) }
}

#[test]
fn roles_cover_those_below_them() {
    let all = [Role::Viewer, Role::Operator, Role::Admin];
    for (rank, role) in all.into_iter().enumerate() {
        for (least, other) in all.into_iter().enumerate() {
            assert_eq!(role.covers(other), rank >= least, "{role} for {other}");
        }
    }
    assert_eq!(Role::ALL.len(), all.len(), "a new role has to be ranked here");
}

#[tokio::test]
async fn a_token_is_known_by_its_digest_until_it_is_taken_back() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    let grafana = new("0a1b2c3d", "grafana", Role::Viewer);
    catalog.add_token(&grafana, "root").await.unwrap();
    let row = catalog.token("0a1b2c3d").await.unwrap().unwrap();
    assert_eq!((row.role, row.digest, row.created), (Role::Viewer, grafana.digest, bench.now()));
    assert_eq!((row.last_used, row.revoked), (None, None));
    assert_eq!(catalog.token("ffffffff").await.unwrap(), None);
    assert!(!serde_json::to_string(&row).unwrap().contains(&row.digest.to_string()), "the digest is never shown");

    for same in [new("11111111", "grafana", Role::Admin), new("0a1b2c3d", "other", Role::Admin)] {
        let error = catalog.add_token(&same, "root").await.unwrap_err();
        assert!(matches!(error, CatalogError::TokenExists(_)), "{error:?}");
    }
    bench.pass(60);
    catalog.token_used("0a1b2c3d").await.unwrap();
    assert_eq!(catalog.token("0a1b2c3d").await.unwrap().unwrap().last_used, Some(bench.now()));

    bench.pass(60);
    let revoked = catalog.revoke_token("grafana", "root").await.unwrap();
    assert_eq!(revoked.revoked, Some(bench.now()));
    assert_eq!(catalog.token("0a1b2c3d").await.unwrap().unwrap().revoked, Some(bench.now()));
    for name in ["grafana", "0a1b2c3d", "nobody"] {
        let error = catalog.revoke_token(name, "root").await.unwrap_err();
        assert!(matches!(error, CatalogError::NoSuchToken(_)), "{error:?}");
    }
    bench.pass(60);
    catalog.add_token(&new("22222222", "grafana", Role::Operator), "root").await.unwrap();
    let all: Vec<_> = catalog.tokens().await.unwrap().into_iter().map(|row| (row.id, row.revoked.is_some())).collect();
    assert_eq!(all, [("22222222".to_owned(), false), ("0a1b2c3d".to_owned(), true)]);

    let audit = catalog.audit_records(0, 10).await.unwrap();
    let actions: Vec<_> =
        audit.iter().map(|one| (one.action.as_str(), one.actor.as_str(), one.subject.as_str())).collect();
    let (made, taken) = (("token_created", "root", "grafana"), ("token_revoked", "root", "grafana"));
    assert_eq!(actions, [made, taken, made]);
}

#[tokio::test]
async fn what_a_token_asked_for_ends_when_it_is_taken_back() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    let (lost, other) = (new("0a1b2c3d", "lost", Role::Admin), new("11111111", "other", Role::Admin));
    for token in [&lost, &other] {
        catalog.add_token(token, "root").await.unwrap();
    }
    let restore = |stem: &str, actor: &str| NewJob {
        volume: Some(vol(stem)),
        ..NewJob::requested(JobKind::Restore, Trigger::Api, actor)
    };
    let actor = catalog.token(&lost.id).await.unwrap().unwrap().actor();
    let running = catalog.enqueue_job(&restore("appstack/a", &actor)).await.unwrap();
    let waiting = catalog.enqueue_job(&restore("appstack/b", &actor)).await.unwrap();
    let of_another = catalog.enqueue_job(&restore("appstack/c", "token other")).await.unwrap();
    let by_command = NewJob { trigger: Trigger::Command, ..restore("appstack/d", &actor) };
    let by_command = catalog.enqueue_job(&by_command).await.unwrap();
    let claim = Claim {
        kinds: &[JobKind::Restore],
        most: 1,
        per_host: 1,
        per_datastore: None,
        planned: true,
        closed: &[],
        known: None,
    };
    assert_eq!(catalog.claim_job(&claim).await.unwrap().unwrap().id, running);
    catalog.revoke_token("lost", "root").await.unwrap();
    let state = async |id| {
        let job = catalog.job(id).await.unwrap().unwrap();
        (job.state, job.cancel_requested, job.ended.is_some())
    };
    assert_eq!(state(running).await, (JobState::Running, true, false));
    assert_eq!(state(waiting).await, (JobState::Cancelled, true, true));
    assert_eq!(state(of_another).await, (JobState::Queued, false, false));
    assert_eq!(state(by_command).await, (JobState::Queued, false, false), "no token asked for it");
    assert_eq!(catalog.jobs_to_cancel().await.unwrap(), [running]);
    let audit = catalog.audit_records_before(None, Some("token_revoked"), None, 1).await.unwrap();
    assert_eq!(audit[0].detail["jobs_cancelled"], 2);
}
