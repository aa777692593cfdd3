//! Retention carried out on a real vault and its catalog.

use std::time::Duration;

use jiff::Timestamp;
use stackferry_catalog::{AuditAction, Clock, Trigger, VersionRow};
use stackferry_engine::app::App;
use stackferry_engine::copy::{CopyOptions, copy};
use stackferry_engine::prune::{Fate, PruneRequest, Pruned, last, prune};
use stackferry_engine::reconcile::{Reconciled, reconcile};
use stackferry_engine::{inventory, versions};
use stackferry_problem::progress::Reporter;
use stackferry_volume::VolumeId;
use stackferry_volume::io::Cancel;

use crate::bench::{Bench, id};

pub(crate) async fn open(bench: &Bench, more: &str) -> App {
    App::open_with(bench.config(0, more), Cancel::default(), Clock::system()).await.unwrap()
}

/// Makes so many versions, oldest first.
pub(crate) async fn copies(app: &App, volume: &VolumeId, number: usize) -> Vec<VersionRow> {
    for _ in 0..number {
        let round = inventory::look(app).await.unwrap();
        let found = round.inventory.volumes.into_iter().find(|one| one.id == *volume).unwrap();
        let task = Reporter::quiet().start("copying", "it", 0);
        let (trigger, wait) = (Trigger::Command, Duration::ZERO);
        let (actor, progress) = (trigger.to_string(), task.progress());
        copy(app, &found, CopyOptions { if_changed: false, trigger, actor, wait, progress }).await.unwrap();
    }
    let mut rows = app.catalog().versions(volume).await.unwrap();
    rows.reverse();
    rows
}

pub(crate) async fn run(app: &App, dry_run: bool) -> Pruned {
    prune(app, PruneRequest { volume: None, dry_run, actor: "test" }).await.unwrap()
}

pub(crate) async fn numbers(app: &App, volume: &VolumeId) -> Vec<u64> {
    let rows = app.catalog().versions(volume).await.unwrap();
    let known: Vec<u64> = rows.iter().rev().map(|row| row.version.seq()).collect();
    let there: Vec<u64> = versions::list(app, volume).await.unwrap().iter().map(|entry| entry.id.seq()).collect();
    assert_eq!(known, there, "catalog and vault agree");
    known
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_is_told_and_then_carried_out() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let app = open(&bench, "[retention]\nlast = 2\n").await;
    let rows = copies(&app, &office, 5).await;
    app.vault().await.unwrap().pin(&office, &rows[0].version, "", rows[0].created).unwrap();

    let plan = run(&app, true).await;
    assert_eq!((plan.kept, plan.count(&Fate::Doomed).0), (3, 2));
    prune(&app, PruneRequest { volume: Some(&id("appstack/Visio")), dry_run: false, actor: "test" }).await.unwrap();
    assert_eq!(last(&app).await.unwrap(), None, "neither a plan nor one volume is all of it");
    assert_eq!(numbers(&app, &office).await, [1, 2, 3, 4, 5], "a dry run deletes nothing");

    let before = Timestamp::now();
    let done = run(&app, false).await;
    assert_eq!(done.count(&Fate::Deleted), (2, rows[1].stored + rows[2].stored));
    assert!(last(&app).await.unwrap() >= Some(before));
    // The catalog keeps it, so that a restart forgets nothing.
    assert_eq!(last(&open(&bench, "[retention]\nlast = 2\n").await).await.unwrap(), last(&app).await.unwrap());
    assert_eq!(numbers(&app, &office).await, [1, 4, 5]);
    let records = app.catalog().last_audit_records(2).await.unwrap();
    assert!(records.iter().all(|record| record.action.as_str() == AuditAction::VersionDeleted.as_str()), "{records:?}");
    assert_eq!(records[1].subject, format!("{office}@{}", rows[1].version), "the oldest one first");
    assert!(std::fs::read_dir(bench.dir.path().join("vault/trash")).unwrap().next().is_none());
    assert_eq!(run(&app, false).await.versions, []);

    // What is asked for is told in full, with the rules.
    let what = PruneRequest { volume: Some(&office), dry_run: true, actor: "test" };
    let told = prune(&app, what).await.unwrap().versions;
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|one| matches!(&one.fate, Fate::Kept(why) if !why.is_empty())), "{told:?}");
    // What remains is not due for that.
    let round = stackferry_engine::round::run(&app, Trigger::Schedule, &Reporter::quiet()).await.unwrap();
    assert_eq!(round.count(stackferry_engine::decide::RoundOutcome::Unchanged), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vault_has_the_last_word() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let app = open(&bench, "[retention]\nlast = 1\n").await;
    let rows = copies(&app, &office, 4).await;
    let vault = app.vault().await.unwrap();
    let until = rows[0].created + Duration::from_secs(3600);
    vault.lock_until(&office, &rows[0].version, until).unwrap();
    let reading = vault.version(&office, &rows[1].version).unwrap();
    // A mark that the catalog does not know of yet: the version before is the last good one then.
    vault.mark_damaged(&office, &rows[3].version, "a bit fell over", rows[3].created).unwrap();

    let done = run(&app, false).await;
    let [stays] = &done.versions[..] else { panic!("{done:?}") };
    assert_eq!(stays.version, rows[1].version);
    assert!(matches!(&stays.fate, Fate::Stays(why) if why.contains("being read")), "{stays:?}");
    drop(reading);
    assert_eq!(run(&app, false).await.count(&Fate::Deleted).0, 1);
    assert_eq!(numbers(&app, &office).await, [1, 3, 4], "locked, last good, newest");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_keeps_everything() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let app = open(&bench, "[retention]\nlast = 1\n").await;
    copies(&app, &office, 3).await;
    app.catalog().mark_incident(&office, "it changed by no one's order", "look at it").await.unwrap();
    let done = run(&app, false).await;
    assert_eq!((done.kept, done.held.len(), done.versions.len()), (3, 1, 0));
    assert_eq!(numbers(&app, &office).await, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubted_clock_keeps_everything() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let app = open(&bench, "[retention]\nlast = 1\n").await;
    copies(&app, &office, 3).await;
    app.jobs().freeze_prune("the clock jumped").await.unwrap();
    let done = run(&app, false).await;
    assert_eq!((done.held.len(), done.versions.len()), (1, 0));
    assert!(done.held[0].0.is_none() && done.held[0].1.contains("--confirm-clock"), "{:?}", done.held);
    assert_eq!(last(&app).await.unwrap(), None, "it was not carried out");
    assert_eq!(numbers(&app, &office).await, [1, 2, 3]);
    assert!(app.jobs().confirm_clock("test").await.unwrap());
    assert_eq!(run(&app, false).await.count(&Fate::Deleted).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newest_version_that_was_lost_takes_no_good_one_along() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let app = open(&bench, "[retention]\nlast = 1\n").await;
    let rows = copies(&app, &office, 4).await;
    // The catalog does not know of it yet.
    let folder = bench.dir.path().join("vault/volumes/appstack/Office").join(rows[3].version.to_string());
    std::fs::rename(&folder, bench.dir.path().join("lost")).unwrap();
    let done = run(&app, false).await;
    assert_eq!(done.count(&Fate::Deleted).0, 2);
    let [.., stays] = &done.versions[..] else { panic!("{done:?}") };
    assert_eq!(done.versions.iter().filter(|one| matches!(one.fate, Fate::Stays(_))).count(), 1, "{stays:?}");
    let left: Vec<u64> = versions::list(&app, &office).await.unwrap().iter().map(|entry| entry.id.seq()).collect();
    assert_eq!(left, [3], "the newest one that is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_can_not_be_read_takes_no_good_one_along() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let app = open(&bench, "[retention]\nlast = 2\n").await;
    let rows = copies(&app, &office, 5).await;
    // Nobody was told of it: manifest and catalog say that the newest one is good.
    let folder = bench.dir.path().join("vault/volumes/appstack/Office").join(rows[4].version.to_string());
    std::fs::remove_file(folder.join("Office-flat.vmdk")).unwrap();
    let done = run(&app, false).await;
    assert_eq!(done.count(&Fate::Deleted).0, 2);
    let [(volume, version, why)] = &done.damaged[..] else { panic!("{done:?}") };
    assert!(*volume == office && *version == rows[4].version && why.contains("missing"), "{why}");
    assert_eq!(numbers(&app, &office).await, [3, 4, 5], "two good ones, and the damaged one in its time");
    let row = app.catalog().versions(&office).await.unwrap().remove(0);
    assert!(row.damaged.is_some() && !row.verified, "{row:?}");
    assert!(app.vault().await.unwrap().volume(&office).unwrap().damaged.contains_key(&rows[4].version));
    let records = app.catalog().last_audit_records(9).await.unwrap();
    assert!(records.iter().any(|record| record.action == AuditAction::DamageFound.as_str()), "{records:?}");
    assert!(run(&app, false).await.damaged.is_empty(), "it is known now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_cut_short_is_no_loss() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let app = open(&bench, "[retention]\nlast = 1\n").await;
    let rows = copies(&app, &office, 3).await;
    let vault = app.vault().await.unwrap();
    // As a crash leaves it after the vault's part, and before it.
    let now = app.local_time().timestamp();
    for row in &rows[..2] {
        app.catalog().set_deleting(&office, &row.version, Some(now)).await.unwrap();
    }
    vault.delete(&office, &rows[0].version, now).unwrap();
    let forgotten = vec![(office.clone(), rows[0].version.clone())];
    let done = reconcile(&app, &vault).await.unwrap();
    assert_eq!(done, Reconciled { forgotten, ..Reconciled::default() }, "nothing is missing");
    assert_eq!(numbers(&app, &office).await, [2, 3]);
    assert_eq!(run(&app, false).await.count(&Fate::Deleted).0, 1);
    assert_eq!(numbers(&app, &office).await, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_do_not_prune_at_once() {
    let bench = Bench::new();
    let app = open(&bench, "[retention]\nlast = 1\n").await;
    let lease = app.catalog().hold_lease("prune", "another", Duration::ZERO).await.unwrap();
    let what = PruneRequest { volume: None, dry_run: false, actor: "test" };
    let problem = prune(&app, what).await.unwrap_err();
    assert_eq!(problem.code, stackferry_problem::Code::Busy);
    assert!(prune(&app, PruneRequest { dry_run: true, ..what }).await.is_ok(), "a plan harms nobody");
    lease.release().await.unwrap();
    prune(&app, what).await.unwrap();
}
