//! What does not grow for ever: leftovers of copies that nobody resumes, and what was done long ago.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use stackferry_catalog::{Clock, Trigger};
use stackferry_engine::app::App;
use stackferry_engine::copy::{CopyOptions, copy};
use stackferry_engine::housekeeping::put_in_order;
use stackferry_engine::inventory;
use stackferry_problem::progress::Reporter;
use stackferry_vault::{IncomingSpec, Vault};
use stackferry_volume::io::Cancel;
use stackferry_volume::{Digest, TransferId, VolumeId};

use crate::bench::{Bench, until};

async fn open(bench: &Bench, more: &str) -> App {
    App::open_with(bench.config(0, more), Cancel::default(), Clock::system()).await.unwrap()
}

async fn copied(app: &App, volume: &VolumeId) {
    let round = inventory::look(app).await.unwrap();
    let found = round.inventory.volumes.into_iter().find(|one| one.id == *volume).unwrap();
    let task = Reporter::quiet().start("copying", "it", 0);
    let (trigger, actor, wait) = (Trigger::Command, "test".to_owned(), Duration::ZERO);
    copy(app, &found, CopyOptions { if_changed: false, trigger, actor, wait, progress: task.progress() })
        .await
        .unwrap();
}

/// What a copy left that was cut off, of a source that is another now.
fn leave(vault: &Vault, volume: &VolumeId) {
    let spec = IncomingSpec {
        volume: volume.clone(),
        transfer: TransferId::new(0x5747),
        fingerprint: Digest::of(b"what the source was"),
        settled: true,
        fence: 1,
    };
    drop(vault.begin(&spec, Timestamp::now()).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_that_nobody_resumes_are_removed() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    // A datastore on which nothing is left would not be believed.
    bench.appstack("Visio", 1 << 20);
    let app = open(&bench, "").await;
    copied(&app, &office).await;
    let vault = app.vault().await.unwrap();
    leave(&vault, &office);
    put_in_order(&app, &vault).await.unwrap();
    assert_eq!(bench.incoming(), 1, "the next copy may go on with it");
    copied(&app, &office).await;
    assert_eq!(bench.incoming(), 0, "the source is another");

    leave(&vault, &office);
    for file in ["Office.vmdk", "Office-flat.vmdk"] {
        std::fs::remove_file(bench.dir.path().join("nfs01/cloudvolumes/apps").join(file)).unwrap();
    }
    inventory::look(&app).await.unwrap();
    let lease = app.catalog().hold_lease(&format!("volume/{office}"), "another", Duration::ZERO).await.unwrap();
    put_in_order(&app, &vault).await.unwrap();
    assert_eq!(bench.incoming(), 1, "the lease is not ours");
    lease.release().await.unwrap();
    put_in_order(&app, &vault).await.unwrap();
    assert_eq!(bench.incoming(), 0, "the volume is gone");
    assert!(std::fs::read_dir(bench.dir.path().join("vault/trash")).unwrap().next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_kept_as_long_as_configured() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let app = open(&bench, "").await;
    let vault = app.vault().await.unwrap();
    copied(&app, &office).await;
    put_in_order(&app, &vault).await.unwrap();
    assert_eq!(app.catalog().verify_audit().await.unwrap().cut, 0, "nothing is so old");

    let app = open(&bench, "[history]\nkeep = \"1s\"\n").await;
    let newest = app.catalog().last_audit_records(1).await.unwrap().remove(0);
    until("a second is over", async || Timestamp::now() > newest.at + SignedDuration::from_secs(2)).await;
    app.jobs().freeze_prune("the clock jumped").await.unwrap();
    put_in_order(&app, &vault).await.unwrap();
    assert_eq!(app.catalog().verify_audit().await.unwrap().cut, 0, "by a clock that is doubted nothing is old");
    app.jobs().confirm_clock("test").await.unwrap();
    put_in_order(&app, &vault).await.unwrap();
    let check = app.catalog().verify_audit().await.unwrap();
    assert!(check.cut >= newest.id && check.broken.is_none(), "{check:?}");
    assert_eq!(app.catalog().attempts(&office, 9).await.unwrap(), []);
    assert!(app.catalog().volume(&office).await.unwrap().unwrap().last_success.is_some(), "it is known all the same");
}
