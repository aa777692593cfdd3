//! What fails is counted and shown wherever a person reads how everything stands.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use stackferry_catalog::{Outcome, Role, Trigger};
use stackferry_engine::app::App;
use stackferry_engine::copy::{CopyOptions, copy};
use stackferry_engine::inventory;
use stackferry_engine::jobs;
use stackferry_problem::progress::Reporter;
use stackferry_volume::VolumeId;
use stackferry_volume::io::Cancel;

use crate::ask::{call, token};
use crate::bench::{Bench, Service, endings, sample, until};

/// A copy by somebody at the command line; `prepare` is called between the scan of the sources and the copy.
async fn copy_after(app: &App, volume: &VolumeId, prepare: impl FnOnce()) -> Result<Outcome, String> {
    let round = inventory::look(app).await.unwrap();
    prepare();
    let found = round.inventory.volumes.into_iter().find(|one| one.id == *volume).unwrap();
    let progress = Reporter::quiet().start("copying", "it", 0).progress();
    let (trigger, actor, wait) = (Trigger::Command, "test".to_owned(), Duration::ZERO);
    let copied = copy(app, &found, CopyOptions { if_changed: false, trigger, actor, wait, progress }).await;
    copied.map(|done| done.outcome).map_err(|problem| problem.code.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_cannot_begin_marks_its_volume() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let app = App::open(bench.config(0, ""), Cancel::default()).await.unwrap();
    let volumes = bench.dir.path().join("vault/volumes/appstack");
    let no_folder = || std::fs::write(&volumes, "no folder").unwrap();
    let code = copy_after(&app, &office, no_folder).await.unwrap_err();
    let row = app.catalog().volume(&office).await.unwrap().unwrap();
    assert_eq!(row.last_error.map(|error| error.code), Some(code.clone()));
    assert_eq!(endings(app.catalog(), &office).await, [(Outcome::Failed, Some(code.clone()))]);
    let text = stackferry_web::scrape::render(&app, None).await.unwrap();
    let series = format!("stackferry_copy_failures_total{{kind=\"appstack\",reason=\"{code}\"}}");
    assert_eq!(sample(&text, &series), Some(1.0), "{text}");

    std::fs::remove_file(&volumes).unwrap();
    assert_eq!(copy_after(&app, &office, || {}).await, Ok(Outcome::Copied));
    assert_eq!(app.catalog().volume(&office).await.unwrap().unwrap().last_error, None);
}

/// A manager whose password can't be read.
const NO_PASSWORD: &str = "[[app_volumes]]\nname = \"avm1\"\nurl = \"https://127.0.0.1:1\"\nusername = \"u\"\n\
    password = { env = \"STACKFERRY_TEST_NO_SUCH_VARIABLE\" }\n";

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_failed_jobs_systems_and_damage() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let more = format!("{NO_PASSWORD}[schedule]\nevery = \"1s\"\n");
    let service = Service::start(&bench, &more).await;
    let viewer = token(&service, Role::Viewer).await;
    let status = async || call(&service, &viewer, "GET", "/api/v1/status", "").await.json();
    until("Office is copied", async || status().await["volumes"]["protected"] == 1).await;
    let system = status().await["systems"][0].clone();
    assert_eq!((&system["name"], &system["up"]), (&Value::from("avm1"), &Value::from(false)), "{system}");
    assert_eq!(system["problem"]["code"], "secret_unavailable", "its own cause is shown: {system}");

    let restore = |to: &Path| jobs::restore(&office, None, to, false, Trigger::Command, "test");
    let file = bench.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    service.app.jobs().enqueue(restore(&file.join("below"))).await.unwrap();
    let failed = async || status().await["failed_jobs"].as_array().unwrap().clone();
    until("the restore has failed", async || !failed().await.is_empty()).await;
    let [job] = &failed().await[..] else { panic!("one job failed") };
    assert_eq!((&job["kind"], &job["volume"]), (&Value::from("restore"), &Value::from("appstack/Office")), "{job}");
    assert!(job["message"].as_str().is_some_and(|text| !text.is_empty()), "{job}");
    assert_eq!(service.sample("stackferry_job_failures_total{kind=\"restore\"}").await, Some(1.0));
    service.app.jobs().enqueue(restore(&bench.dir.path().join("restored"))).await.unwrap();
    until("a restore that succeeds ends it", async || failed().await.is_empty()).await;

    let [row] = &service.app.catalog().versions(&office).await.unwrap()[..] else { panic!("one version") };
    service.app.vault().await.unwrap().mark_damaged(&office, &row.version, "a bit flipped", row.created).unwrap();
    service.app.catalog().mark_damaged(&office, &row.version, "a bit flipped").await.unwrap();
    until("damage is counted", async || status().await["volumes"]["damaged"] == 1).await;
    let listed = call(&service, &viewer, "GET", "/api/v1/volumes?damaged=true", "").await.json();
    assert_eq!((&listed["total"], &listed["volumes"][0]["damaged_versions"]), (&Value::from(1), &Value::from(1)));
    service.end().await;
}
