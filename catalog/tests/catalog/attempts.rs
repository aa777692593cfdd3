//! Attempts, and what a volume's row says of them.

use std::process::Command;
use std::time::Duration;

use stackferry_catalog::*;
use stackferry_volume::manifest::ByteCounts;

use crate::bench::*;

const OFFICE: &str = "appstack/Office";

fn end(outcome: Outcome) -> AttemptEnd {
    let error = match outcome {
        Outcome::Failed => Some(StatusReason { code: "no_space".into(), text: "the vault is full".into() }),
        Outcome::Deferred => Some(StatusReason { code: "attached".into(), text: "it is attached".into() }),
        _ => None,
    };
    let bytes = ByteCounts { logical: 5, read: 4, zero: 1, wire: 3, stored: 2 };
    AttemptEnd { outcome, version: None, error, bytes, took: Duration::from_millis(1500) }
}

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.round(vec![seen(OFFICE, &["nfs01"])], &[]).await;
    bench
}

async fn attempt(bench: &Bench, outcome: Outcome) -> VolumeRow {
    let id = bench.catalog.start_attempt(&vol(OFFICE), "endpoint", Trigger::Schedule).await.unwrap();
    bench.pass(60);
    bench.catalog.finish_attempt(id, &end(outcome)).await.unwrap();
    bench.volume(OFFICE).await
}

#[tokio::test]
async fn success_clears_the_last_error_and_deferral_keeps_it() {
    let bench = bench().await;
    let row = attempt(&bench, Outcome::Failed).await;
    assert_eq!(row.last_error, end(Outcome::Failed).error);
    assert_eq!((row.last_success, row.last_attempt), (None, Some(bench.now() - seconds(60))));
    let row = attempt(&bench, Outcome::Deferred).await;
    assert_eq!((row.last_error, row.last_success), (end(Outcome::Failed).error, None));
    let row = attempt(&bench, Outcome::Unchanged).await;
    let success = Some(bench.now());
    assert_eq!((row.last_error, row.last_success), (None, success));
    let row = attempt(&bench, Outcome::Failed).await;
    assert_eq!((row.last_error, row.last_success), (end(Outcome::Failed).error, success));
    let row = attempt(&bench, Outcome::Copied).await;
    assert_eq!((row.last_error, row.last_success), (None, Some(bench.now())));

    // A version that a rebuild brought, older than the last attempt, does not make the success older.
    bench.catalog.add_version(&version(OFFICE, 1, bench.now() - seconds(9999))).await.unwrap();
    assert_eq!(bench.volume(OFFICE).await.last_success, Some(bench.now()));
}

#[tokio::test]
async fn attempts_are_read_as_they_were() {
    let bench = bench().await;
    for outcome in [Outcome::Failed, Outcome::Copied] {
        attempt(&bench, outcome).await;
    }
    let open = bench.catalog.start_attempt(&vol(OFFICE), "local", Trigger::Api).await.unwrap();
    let attempts = bench.catalog.attempts(&vol(OFFICE), 2).await.unwrap();
    let [last, copied] = &attempts[..] else { panic!("{attempts:?}") };
    assert_eq!((last.id, last.ended, &last.end, last.trigger), (open, None, &None, Trigger::Api));
    assert_eq!(copied.end.as_ref(), Some(&end(Outcome::Copied)));
    assert_eq!(copied.ended, Some(copied.started + seconds(60)));
    assert_eq!(bench.catalog.open_attempts().await.unwrap(), std::slice::from_ref(last));
}

#[tokio::test]
async fn an_attempt_ends_once_and_is_of_a_known_volume() {
    let bench = bench().await;
    let id = bench.catalog.start_attempt(&vol(OFFICE), "local", Trigger::Command).await.unwrap();
    let mut huge = end(Outcome::Copied);
    huge.bytes.wire = u64::MAX;
    assert!(matches!(bench.catalog.finish_attempt(id, &huge).await, Err(CatalogError::Range { .. })));
    bench.catalog.finish_attempt(id, &end(Outcome::Copied)).await.unwrap();
    for id in [id, AttemptId(999)] {
        let error = bench.catalog.finish_attempt(id, &end(Outcome::Failed)).await.unwrap_err();
        assert!(matches!(error, CatalogError::AttemptNotOpen(_)), "{error:?}");
    }
    let error = bench.catalog.start_attempt(&vol("appstack/None"), "local", Trigger::Command).await.unwrap_err();
    assert!(matches!(error, CatalogError::NoSuchVolume(_)), "{error:?}");
}

#[tokio::test]
async fn what_a_dead_process_left_open_is_closed_as_interrupted() {
    let bench = bench().await;
    bench.round(vec![seen("appstack/B", &["nfs01"]), seen("appstack/C", &["nfs01"])], &[]).await;
    let mine = bench.catalog.start_attempt(&vol(OFFICE), "local", Trigger::Schedule).await.unwrap();
    let dead = bench.catalog.start_attempt(&vol("appstack/B"), "local", Trigger::Schedule).await.unwrap();
    let unseen = bench.catalog.start_attempt(&vol("appstack/C"), "local", Trigger::Schedule).await.unwrap();
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let process = Process::of(child.id()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let set = |id: AttemptId, process: Process| {
        let path = bench.path.clone();
        async move {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
            let mut conn = sqlx::ConnectOptions::connect(&options).await.unwrap();
            sqlx::query("UPDATE attempts SET process = $2 WHERE id = $1")
                .bind(id.0)
                .bind(serde_json::to_string(&process).unwrap())
                .execute(&mut conn)
                .await
                .unwrap();
        }
    };
    set(unseen, Process { pid_namespace: "pid:[1]".into(), ..process.clone() }).await;
    set(dead, process).await;

    let closed = bench.catalog.close_interrupted_attempts().await.unwrap();
    assert_eq!(closed, [(dead, vol("appstack/B"))]);
    assert_eq!(bench.catalog.close_interrupted_attempts().await.unwrap(), []);
    let open: Vec<_> = bench.catalog.open_attempts().await.unwrap().iter().map(|one| one.id).collect();
    assert_eq!(open, [mine, unseen]);
    assert_eq!(bench.volume("appstack/B").await.last_error.unwrap().code, "interrupted");

    // Who holds the volume's lease and begins again knows that nobody else works on it.
    bench.catalog.start_attempt(&vol("appstack/C"), "local", Trigger::Schedule).await.unwrap();
    let attempts = bench.catalog.attempts(&vol("appstack/C"), 9).await.unwrap();
    assert_eq!(attempts[1].end.as_ref().unwrap().error.as_ref().unwrap().code, "interrupted");
}

#[tokio::test]
async fn old_attempts_are_forgotten_but_not_what_they_came_to() {
    let bench = bench().await;
    attempt(&bench, Outcome::Copied).await;
    let open = bench.catalog.start_attempt(&vol(OFFICE), "local", Trigger::Command).await.unwrap();
    let before = bench.volume(OFFICE).await;
    bench.pass(9999);
    let limits = HistoryLimits { before: bench.now(), size: u64::MAX };
    assert_eq!(bench.catalog.trim_history(&limits).await.unwrap().attempts, 1);
    assert_eq!(bench.catalog.attempts(&vol(OFFICE), 9).await.unwrap()[0].id, open);
    assert_eq!(bench.volume(OFFICE).await, before);
}
