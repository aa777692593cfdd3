//! The catalog is brought in line with the vault at the start.

use stackferry_catalog::AuditAction;
use stackferry_engine::app::App;
use stackferry_engine::reconcile::{Reconciled, reconcile};
use stackferry_engine::round;
use stackferry_problem::progress::Reporter;
use stackferry_volume::io::Cancel;

use crate::bench::Bench;

async fn copied(bench: &Bench) -> App {
    let app = App::open(bench.config(0, ""), Cancel::default()).await.unwrap();
    round::run(&app, stackferry_catalog::Trigger::Schedule, &Reporter::quiet()).await.unwrap();
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_without_a_row_gets_one() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    bench.appstack("Visio", 1 << 20);
    let app = copied(&bench).await;
    let [row] = &app.catalog().versions(&office).await.unwrap()[..] else { panic!() };
    let vault = app.vault().await.unwrap();
    assert_eq!(reconcile(&app, &vault).await.unwrap(), Reconciled::default());

    // As a crash between the commit and its row leaves it.
    app.catalog().remove_version(&office, &row.version).await.unwrap();
    let done = reconcile(&app, &vault).await.unwrap();
    assert_eq!(done, Reconciled { adopted: 1, ..Reconciled::default() });
    let [again] = &app.catalog().versions(&office).await.unwrap()[..] else { panic!() };
    assert_eq!((&again.version, again.bytes, again.damaged.as_ref()), (&row.version, row.bytes, None));
    assert_eq!(reconcile(&app, &vault).await.unwrap(), Reconciled::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_its_version_is_told_and_kept() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let app = copied(&bench).await;
    let [row] = &app.catalog().versions(&office).await.unwrap()[..] else { panic!() };
    let vault = app.vault().await.unwrap();
    let folder = bench.dir.path().join("vault/volumes/appstack/Office").join(row.version.to_string());
    std::fs::rename(&folder, bench.dir.path().join("lost")).unwrap();
    let missing = vec![(office.clone(), row.version.clone())];
    assert_eq!(reconcile(&app, &vault).await.unwrap(), Reconciled { missing, ..Reconciled::default() });
    let [kept] = &app.catalog().versions(&office).await.unwrap()[..] else { panic!() };
    assert_eq!(kept.damaged.as_deref(), Some("the vault does not have this version"));
    assert_eq!(app.catalog().volume(&office).await.unwrap().unwrap().good_versions, 0, "it counts as not protected");
    let last = &app.catalog().last_audit_records(1).await.unwrap()[0];
    assert_eq!(
        (last.action.as_str(), last.subject.as_str()),
        (AuditAction::DamageFound.as_str(), &*format!("{office}@{}", row.version))
    );
    assert_eq!(reconcile(&app, &vault).await.unwrap(), Reconciled::default(), "it is told once");

    round::run(&app, stackferry_catalog::Trigger::Schedule, &Reporter::quiet()).await.unwrap();
    assert_eq!(app.catalog().volume(&office).await.unwrap().unwrap().good_versions, 1, "it is copied again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_works_on_is_left_to_him() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let app = copied(&bench).await;
    let [row] = &app.catalog().versions(&office).await.unwrap()[..] else { panic!() };
    app.catalog().remove_version(&office, &row.version).await.unwrap();
    let wait = std::time::Duration::ZERO;
    let lease = app.catalog().hold_lease(&format!("volume/{office}"), "another", wait).await.unwrap();
    let vault = app.vault().await.unwrap();
    let busy = vec![office.clone()];
    assert_eq!(reconcile(&app, &vault).await.unwrap(), Reconciled { busy, ..Reconciled::default() });
    lease.release().await.unwrap();
    assert_eq!(reconcile(&app, &vault).await.unwrap().adopted, 1);
}
