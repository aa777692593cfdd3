//! How large a catalog gets: a year of a large site, from samples of what one copy writes.

use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use stackferry_catalog::*;
use stackferry_volume::manifest::ByteCounts;

use crate::bench::*;

/// The design's largest site on one machine, and what the configuration says where nobody says anything.
const VOLUMES: u64 = 5_000;
const HISTORY: u64 = 640 << 20;
const JOB_DAYS: u64 = 30;
const CREDENTIAL_DAYS: u64 = 7;
/// What 7 last, 14 daily, 8 weekly and 12 monthly versions come to, at most.
const VERSIONS: u64 = 41;
/// The sample: so many copies.
const COPIES: u64 = 120;

/// The bytes of the file that hold something.
async fn used(bench: &Bench) -> u64 {
    let options = SqliteConnectOptions::new().filename(&bench.path);
    let mut conn = SqliteConnection::connect_with(&options).await.unwrap();
    let mut ask =
        async |pragma: &'static str| -> i64 { sqlx::query_scalar(pragma).fetch_one(&mut conn).await.unwrap() };
    let pages = ask("PRAGMA page_count").await - ask("PRAGMA freelist_count").await;
    u64::try_from(pages * ask("PRAGMA page_size").await).unwrap()
}

fn writable(number: u64) -> String {
    format!("writable/CORP!5C!firstname.lastname{number:04}")
}

fn credential(bench: &Bench, number: u64, file: &str) -> NewCredential {
    NewCredential {
        name: format!("sf-{number:016x}-{}", file.len()),
        volume: vol(&writable(number % 40)),
        file: file.to_owned(),
        route: "endpoint".into(),
        host: "stor2.example.com:2222".into(),
        direction: Direction::Read,
        standing: false,
        issued: bench.now(),
        expires: bench.now() + seconds(300),
    }
}

/// The audit and the attempt of a copy, and its credentials.
async fn copy(bench: &Bench, number: u64) {
    let (catalog, volume) = (&bench.catalog, vol(&writable(number % 40)));
    let attempt = catalog.start_attempt(&volume, "endpoint", Trigger::Schedule).await.unwrap();
    for file in ["CORP!5C!firstname.lastname.vmdk", "CORP!5C!firstname.lastname-flat.vmdk"] {
        let new = credential(bench, number, file);
        catalog.credential_issued(&new).await.unwrap();
        catalog.credential_used(&new.name).await.unwrap();
    }
    let detail = json!({ "version": "20261122T041500Z-3", "route": "endpoint", "credentials": 2, "bytes": 1u64 << 30 });
    catalog.audit(AuditAction::Copied, "schedule", &volume.to_string(), &detail).await.unwrap();
    let took = std::time::Duration::from_secs(60);
    let end =
        AttemptEnd { outcome: Outcome::Unchanged, version: None, error: None, bytes: ByteCounts::default(), took };
    catalog.finish_attempt(attempt, &end).await.unwrap();
    bench.pass(10);
}

#[tokio::test]
async fn a_year_of_five_thousand_writables_is_below_a_gibibyte() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    let volumes: Vec<_> = (0..40).map(|number| vault_volume(&writable(number), vec![], vec![])).collect();
    catalog.replace_all(&volumes).await.unwrap();
    let empty = used(&bench).await;
    for number in 0..COPIES {
        let volume = writable(number % 40);
        catalog.add_version(&version(&volume, number + 1, bench.now())).await.unwrap();
    }
    let versions = (used(&bench).await - empty) / COPIES;
    let before = used(&bench).await;
    for number in 0..COPIES {
        let job = NewJob {
            volume: Some(vol(&writable(number))),
            ..NewJob::requested(JobKind::Copy, Trigger::Schedule, "stackferry")
        };
        catalog.enqueue_job(&job).await.unwrap();
    }
    // What a job is given when it ends takes about as much again.
    let jobs = (used(&bench).await - before) / COPIES * 2;
    let before = used(&bench).await;
    for number in 0..COPIES {
        for file in ["CORP!5C!firstname.lastname.vmdk", "CORP!5C!firstname.lastname-flat.vmdk"] {
            catalog.credential_issued(&credential(&bench, 1000 + number, file)).await.unwrap();
        }
    }
    // Its audit record beside it counts too, which makes it more.
    let credentials = (used(&bench).await - before) / COPIES;

    // However much was done, the history keeps to its size.
    let before = used(&bench).await;
    for number in 0..COPIES {
        copy(&bench, number).await;
    }
    let history = used(&bench).await - before;
    assert!(history > 160_000, "the sample is too small to tell: {history}");
    let size = history / 3;
    let limits = HistoryLimits { before: bench.now() - seconds(400 * 86_400), size };
    let trimmed = catalog.trim_history(&limits).await.unwrap();
    assert!(trimmed.audit > 0 && trimmed.attempts > 0, "{trimmed:?}");
    assert_eq!(catalog.verify_audit().await.unwrap().broken, None);
    // Credentials are trimmed by their age only.
    bench.pass(86_400 * i64::try_from(CREDENTIAL_DAYS).unwrap() + 301);
    assert_eq!(catalog.trim_history(&limits).await.unwrap().credentials, 2 * COPIES, "those that were used are over");
    let left = used(&bench).await - before;
    assert!(left <= size + 64 * 1024, "{left} of {size}");

    let year = HISTORY + VOLUMES * (versions * VERSIONS + jobs * JOB_DAYS + credentials * CREDENTIAL_DAYS + empty / 40);
    assert!(year < 1 << 30, "{year}: {versions} a version, {jobs} a job, {credentials} for credentials");
}
