//! Versions, baselines, and rebuilding them from the vault.

use std::collections::HashMap;

use serde_json::json;
use stackferry_catalog::*;
use stackferry_volume::Generation;

use crate::bench::*;

const OFFICE: &str = "appstack/Office";

async fn with_two_versions() -> (Bench, VersionRow, VersionRow) {
    let bench = Bench::new().await;
    bench.round(vec![seen(OFFICE, &["nfs01", "nfs02"])], &[]).await;
    let one = version(OFFICE, 1, bench.now());
    bench.pass(3600);
    let two = version(OFFICE, 2, bench.now());
    bench.catalog.add_version(&one).await.unwrap();
    bench.catalog.add_version(&two).await.unwrap();
    (bench, one, two)
}

#[tokio::test]
async fn versions_are_read_as_they_were_added_newest_first() {
    let (bench, one, mut two) = with_two_versions().await;
    assert!(!bench.catalog.is_empty().await.unwrap());
    assert_eq!(bench.catalog.versions(&vol(OFFICE)).await.unwrap(), [two.clone(), one.clone()]);
    assert_eq!(bench.catalog.all_versions().await.unwrap().len(), 2);
    let row = bench.volume(OFFICE).await;
    assert_eq!((row.versions, row.good_versions, row.last_version), (2, 2, Some(two.version.clone())));
    assert_eq!(row.last_success, Some(two.created));

    // The number orders them, not the time: a clock may have been set back.
    let mut early = version(OFFICE, 10, one.created - seconds(1_000_000));
    early.incident = Some("changed by no one's order".into());
    early.last_verified = Some(bench.now());
    bench.catalog.add_version(&early).await.unwrap();
    assert_eq!(bench.catalog.versions(&vol(OFFICE)).await.unwrap(), [early.clone(), two.clone(), one]);
    assert_eq!(bench.volume(OFFICE).await.last_version, Some(early.version));

    let error = bench.catalog.add_version(&two).await.unwrap_err();
    assert!(matches!(error, CatalogError::VersionExists { .. }), "{error:?}");
    two.volume = vol("appstack/None");
    let error = bench.catalog.add_version(&two).await.unwrap_err();
    assert!(matches!(error, CatalogError::NoSuchVolume(_)), "{error:?}");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_an_error_of_its_volume_only() {
    let (bench, one, two) = with_two_versions().await;
    bench.round(vec![seen("appstack/Zip", &["nfs01"])], &[]).await;
    bench.catalog.add_version(&version("appstack/Zip", 1, bench.now())).await.unwrap();
    bench.tamper("UPDATE versions SET version = 'x' WHERE volume = 'appstack/Zip'").await;
    let indexed = bench.catalog.indexed(&[vol(OFFICE), vol("appstack/Zip")]).await.unwrap();
    let versions = &indexed[&vol(OFFICE)].as_ref().unwrap().versions;
    assert_eq!(versions.iter().map(|row| &row.version).collect::<Vec<_>>(), [&one.version, &two.version]);
    assert!(matches!(indexed[&vol("appstack/Zip")], Err(CatalogError::Row { .. })), "{indexed:?}");
}

#[tokio::test]
async fn what_does_not_exist_can_not_be_changed() {
    let (bench, ..) = with_two_versions().await;
    let (volume, none) = (vol(OFFICE), version(OFFICE, 7, bench.now()));
    let catalog = &bench.catalog;
    for done in [
        catalog.remove_version(&volume, &none.version).await,
        catalog.set_pinned(&volume, &none.version, true).await,
        catalog.mark_damaged(&volume, &none.version, "why").await,
        catalog.set_verified(&volume, &none.version, bench.now(), true).await,
        catalog.set_baselines(&volume, &[baseline(OFFICE, "nfs01", &none)]).await,
    ] {
        assert!(matches!(done, Err(CatalogError::NoSuchVersion { .. })), "{done:?}");
    }
}

#[tokio::test]
async fn pins_damage_and_verification_are_kept() {
    let (bench, _, two) = with_two_versions().await;
    let (volume, catalog) = (vol(OFFICE), &bench.catalog);
    let newest = async || catalog.versions(&volume).await.unwrap().remove(0);
    catalog.set_pinned(&volume, &two.version, true).await.unwrap();
    assert!(newest().await.pinned);
    catalog.set_pinned(&volume, &two.version, false).await.unwrap();
    assert!(!newest().await.pinned);

    catalog.mark_damaged(&volume, &two.version, "block 7 of Office-flat.vmdk").await.unwrap();
    let row = newest().await;
    assert_eq!((row.damaged.as_deref(), row.verified), (Some("block 7 of Office-flat.vmdk"), false));
    let summary = bench.volume(OFFICE).await;
    assert_eq!((summary.versions, summary.good_versions), (2, 1));
    assert_eq!(summary.last_version, Some(two.version.clone()));
    assert!(summary.last_success.unwrap() < two.created, "a damaged version is no success");

    bench.pass(60);
    catalog.set_verified(&volume, &two.version, bench.now(), false).await.unwrap();
    let row = newest().await;
    assert_eq!(row.damaged.as_deref(), Some("block 7 of Office-flat.vmdk"), "the reason that says more stays");
    assert_eq!(row.last_verified, Some(bench.now()));
    catalog.set_verified(&volume, &two.version, bench.now(), true).await.unwrap();
    let row = newest().await;
    assert_eq!((row.damaged, row.verified), (None, true));
    catalog.set_verified(&volume, &two.version, bench.now(), false).await.unwrap();
    assert!(newest().await.damaged.is_some());
}

#[tokio::test]
async fn a_baseline_goes_with_what_it_rests_on() {
    let (bench, one, two) = with_two_versions().await;
    let (volume, catalog) = (vol(OFFICE), &bench.catalog);
    let at_first = [baseline(OFFICE, "nfs01", &one), baseline(OFFICE, "nfs02", &one)];
    catalog.set_baselines(&volume, &at_first).await.unwrap();
    assert_eq!(catalog.baselines(&volume).await.unwrap(), at_first);

    let mut newer = baseline(OFFICE, "nfs01", &two);
    newer.fingerprint = print(2);
    newer.settled = false;
    catalog.set_baselines(&volume, std::slice::from_ref(&newer)).await.unwrap();
    assert_eq!(catalog.baselines(&volume).await.unwrap(), [newer.clone(), at_first[1].clone()], "it is replaced");

    catalog.remove_version(&volume, &one.version).await.unwrap();
    assert_eq!(catalog.baselines(&volume).await.unwrap(), [newer.clone()]);
    catalog.mark_damaged(&volume, &two.version, "why").await.unwrap();
    assert_eq!(catalog.baselines(&volume).await.unwrap(), []);
    catalog.set_baselines(&volume, std::slice::from_ref(&newer)).await.unwrap();
    assert_eq!(catalog.baselines(&volume).await.unwrap(), [], "nothing rests on a damaged version");
    catalog.set_verified(&volume, &two.version, bench.now(), true).await.unwrap();
    catalog.set_baselines(&volume, std::slice::from_ref(&newer)).await.unwrap();
    assert_eq!(catalog.baselines(&volume).await.unwrap(), [newer]);
    catalog.set_verified(&volume, &two.version, bench.now(), false).await.unwrap();
    assert_eq!(catalog.baselines(&volume).await.unwrap(), []);
}

#[tokio::test]
async fn a_rebuild_replaces_versions_and_keeps_the_rest() {
    let (bench, one, two) = with_two_versions().await;
    let (volume, catalog) = (vol(OFFICE), &bench.catalog);
    catalog.set_baselines(&volume, &[baseline(OFFICE, "nfs02", &one)]).await.unwrap();
    catalog.start_attempt(&volume, "local", Trigger::Command).await.unwrap();
    catalog.audit(AuditAction::Copied, "root", OFFICE, &json!({})).await.unwrap();

    let mut damaged = version(OFFICE, 3, bench.now());
    damaged.damaged = Some("why".into());
    let other = version("writable/x", 4, bench.now());
    let mut former = version("writable/x", 2, bench.now());
    former.generation = Generation(7);
    let office = vault_volume(
        OFFICE,
        vec![two.clone(), damaged.clone()],
        vec![baseline(OFFICE, "nfs01", &two), baseline(OFFICE, "nfs01", &one), baseline(OFFICE, "nfs02", &damaged)],
    );
    let x = vault_volume(
        "writable/x",
        vec![other.clone(), former.clone()],
        vec![baseline("writable/x", "nfs01", &former), baseline("writable/x", "nfs02", &other)],
    );
    catalog.replace_all(&[office.clone(), x.clone()]).await.unwrap();
    catalog.replace_all(&[office.clone(), x.clone()]).await.unwrap();

    assert_eq!(catalog.versions(&volume).await.unwrap(), [damaged, two.clone()]);
    assert_eq!(catalog.baselines(&volume).await.unwrap(), [baseline(OFFICE, "nfs01", &two)]);
    assert_eq!(catalog.baselines(&vol("writable/x")).await.unwrap(), [baseline("writable/x", "nfs02", &other)]);
    assert_eq!(catalog.attempts(&volume, 9).await.unwrap().len(), 1);
    assert_eq!(catalog.verify_audit().await.unwrap().records, 1);
    let row = bench.volume(OFFICE).await;
    assert_eq!((row.state, row.locations.len()), (VolumeState::Ready, 2), "as discovery saw it");
    assert_eq!(row.last_success, Some(two.created));
    assert_eq!(bench.volume("writable/x").await.last_success, Some(other.created));

    let mut clash = x.clone();
    clash.versions.push(version("writable/x", 4, bench.now() + seconds(1)));
    for (volumes, what) in [(vec![office.clone(), clash], "a number twice"), (vec![x.clone(), x], "a volume twice")] {
        assert!(catalog.replace_all(&volumes).await.is_err(), "{what}");
        assert_eq!(catalog.all_versions().await.unwrap().len(), 4, "all is as it was");
    }
    catalog.replace_all(&[]).await.unwrap();
    assert!(catalog.is_empty().await.unwrap());
    assert_eq!(catalog.volumes().await.unwrap().len(), 2, "rows of volumes are never deleted");
}

/// What adds these versions.
fn adding(id: &str, versions: Vec<VersionRow>, baselines: Vec<Baseline>) -> IndexChange {
    IndexChange {
        volume: vault_volume(id, versions, baselines),
        rewritten: vec![],
        marked: vec![],
        forgotten: vec![],
        renewed: false,
    }
}

async fn lease(catalog: &Catalog, id: &str) -> LeaseGuard {
    catalog.hold_lease(&format!("volume/{id}"), "test", std::time::Duration::ZERO).await.unwrap()
}

#[tokio::test]
async fn reconciling_writes_all_that_differs_at_once() {
    let (bench, one, two) = with_two_versions().await;
    let (catalog, volume) = (&bench.catalog, vol(OFFICE));
    catalog.set_baselines(&volume, &[baseline(OFFICE, "nfs02", &two)]).await.unwrap();
    catalog.mark_damaged(&volume, &one.version, "a bit fell over").await.unwrap();
    catalog.record_damage(&volume, &one.version, &json!({ "affected": [7] })).await.unwrap();
    let held = lease(catalog, OFFICE).await;
    let three = version(OFFICE, 3, bench.now());
    // An older baseline does not replace a newer one.
    let baselines = vec![baseline(OFFICE, "nfs01", &three), baseline(OFFICE, "nfs02", &one)];
    let mut whole = one.clone();
    whole.damaged = None;
    whole.verified = true;
    let change = IndexChange {
        rewritten: vec![whole],
        marked: vec![(two.version.clone(), true, Some("marked in the vault".into()))],
        ..adding(OFFICE, vec![three.clone()], baselines)
    };
    assert!(catalog.reconcile(&held, &change).await.unwrap());
    let rows = catalog.versions(&volume).await.unwrap();
    let shown: Vec<_> = rows.iter().map(|row| (row.version.seq(), row.pinned, row.damaged.as_deref())).collect();
    assert_eq!(shown, [(3, false, None), (2, true, Some("marked in the vault")), (1, false, None)]);
    assert!(!rows[1].verified && rows[2].verified);
    assert!(catalog.damages(&volume).await.unwrap().is_empty());
    let places: Vec<_> = catalog.baselines(&volume).await.unwrap().into_iter().map(|one| one.version).collect();
    assert_eq!(places, std::slice::from_ref(&three.version), "the baseline of the damaged version is gone");
    assert_eq!(bench.volume(OFFICE).await.good_versions, 2);

    // A number that was given again: the row that is in the way goes in the same transaction.
    let again = version(OFFICE, 3, bench.now() + seconds(60));
    let clash = adding(OFFICE, vec![again.clone()], vec![]);
    assert!(catalog.reconcile(&held, &clash).await.is_err());
    let change = IndexChange { forgotten: vec![three.version.clone()], ..clash };
    assert!(catalog.reconcile(&held, &change).await.unwrap());
    assert_eq!(catalog.versions(&volume).await.unwrap()[0].version, again.version);

    // A later generation: what was known of the former one says nothing of it.
    let mut later = adding(OFFICE, vec![], vec![]);
    later.volume.generation = Generation(2);
    later.volume.guid = Some("another".into());
    later.renewed = true;
    assert!(catalog.reconcile(&held, &later).await.unwrap());
    let row = bench.volume(OFFICE).await;
    assert_eq!((row.generation, row.guid.as_deref(), row.good_versions), (Generation(2), Some("another"), 0));
}

#[tokio::test]
async fn reconciling_without_the_lease_writes_nothing() {
    let (bench, ..) = with_two_versions().await;
    let catalog = &bench.catalog;
    let held = lease(catalog, OFFICE).await;
    let before = catalog.all_versions().await.unwrap();
    bench.pass(31);
    let other = Process { host: "other".into(), boot_id: "other".into(), ..Process::current().unwrap() };
    catalog.acquire_lease_as(&format!("volume/{OFFICE}"), "another", &other).await.unwrap();
    let change = adding(OFFICE, vec![version(OFFICE, 3, bench.now())], vec![]);
    assert!(!catalog.reconcile(&held, &change).await.unwrap());
    assert_eq!(catalog.all_versions().await.unwrap(), before);
}

#[tokio::test]
async fn a_vault_is_adopted_by_the_first_only() {
    let bench = Bench::new().await;
    let x = vault_volume("writable/x", vec![version("writable/x", 1, bench.now())], vec![]);
    assert!(bench.catalog.adopt_vault("a", std::slice::from_ref(&x)).await.unwrap());
    assert_eq!(bench.volume("writable/x").await.versions, 1);
    // Another process read the vault before the first one committed a further version.
    bench.catalog.add_version(&version("writable/x", 2, bench.now())).await.unwrap();
    assert!(!bench.another().await.adopt_vault("a", &[x]).await.unwrap());
    assert_eq!(bench.volume("writable/x").await.versions, 2);
    assert!(bench.catalog.adopt_vault("b", &[]).await.is_err());
}

#[tokio::test]
async fn descriptors_are_kept_while_they_are_seen() {
    let bench = Bench::new().await;
    let one = |bytes: u64, content: &[u8]| DescriptorRow { bytes, mtime: bench.now(), content: content.to_vec() };
    let mut seen: HashMap<String, DescriptorRow> =
        [("a.vmdk".to_owned(), one(3, b"abc")), ("b.vmdk".to_owned(), one(0, b""))].into();
    let (first, second) = (key("nfs01"), key("nfs02"));
    bench.catalog.store_descriptors(&first, &seen).await.unwrap();
    bench.catalog.store_descriptors(&second, &seen).await.unwrap();
    assert_eq!(bench.catalog.cached_descriptors(&first).await.unwrap(), seen);

    bench.pass(1);
    seen.remove("b.vmdk");
    seen.insert("a.vmdk".into(), one(3, b"abd"));
    seen.insert("c.vmdk".into(), one(1, b"\xff\x00"));
    bench.catalog.store_descriptors(&first, &seen).await.unwrap();
    assert_eq!(bench.catalog.cached_descriptors(&first).await.unwrap(), seen);
    assert_eq!(bench.catalog.cached_descriptors(&second).await.unwrap().len(), 2, "another datastore is not touched");

    seen.insert("long.vmdk".into(), one(1, &vec![0; MAX_CACHED_DESCRIPTOR + 1]));
    let error = bench.catalog.store_descriptors(&first, &seen).await.unwrap_err();
    assert!(matches!(error, CatalogError::DescriptorTooLong { .. }), "{error:?}");
    bench.catalog.store_descriptors(&first, &HashMap::new()).await.unwrap();
    assert!(bench.catalog.cached_descriptors(&first).await.unwrap().is_empty());
}

#[tokio::test]
async fn who_waits_longest_is_verified_and_tested_first() {
    let (bench, one, two) = with_two_versions().await;
    let (volume, catalog) = (vol(OFFICE), &bench.catalog);
    let waiting = async || catalog.longest_unverified(bench.now(), 1).await.unwrap().pop();
    let oldest = async || waiting().await.map(|row| row.version);
    assert_eq!(oldest().await, Some(one.version.clone()));
    let all = catalog.longest_unverified(bench.now(), 9).await.unwrap();
    assert_eq!(all, std::slice::from_ref(&one), "the other one is just made");
    bench.pass(60);
    catalog.set_verified(&volume, &one.version, bench.now(), true).await.unwrap();
    assert_eq!(oldest().await, Some(two.version.clone()));
    catalog.mark_damaged(&volume, &two.version, "a bit fell over").await.unwrap();
    assert_eq!(oldest().await, None, "what is damaged was found so, and the other was read just now");
    assert_eq!(catalog.longest_unverified(one.created, 9).await.unwrap(), [], "nothing is that old");

    // The newest version that is good is opened; once that was done, its volume is not asked again.
    let untested = async || catalog.longest_untested(bench.now(), 9).await.unwrap().pop().map(|row| row.version);
    assert_eq!(untested().await, Some(one.version.clone()));
    let test = RestoreTest { at: bench.now(), ok: true, found: "NTFS, 12 records".into(), content: None };
    catalog.set_restore_tested(&volume, &one.version, &test).await.unwrap();
    assert_eq!(untested().await, None);
    let rows = catalog.versions(&volume).await.unwrap();
    assert_eq!(rows.last().unwrap().restore_test.as_ref(), Some(&test));
    bench.pass(60);
    assert_eq!(untested().await, Some(one.version), "its time has come again");
}

#[tokio::test]
async fn a_deletion_is_noted_before_it_is_done() {
    let (bench, one, _) = with_two_versions().await;
    let volume = vol(OFFICE);
    let deleting = async || bench.catalog.versions(&volume).await.unwrap().last().unwrap().deleting;
    bench.catalog.set_deleting(&volume, &one.version, Some(bench.now())).await.unwrap();
    assert_eq!(deleting().await, Some(bench.now()));
    bench.catalog.set_deleting(&volume, &one.version, None).await.unwrap();
    assert_eq!(deleting().await, None);
}

#[tokio::test]
async fn the_fleet_is_counted_in_one_reading() {
    let (bench, one, two) = with_two_versions().await;
    let writable = "writable/CORP!5C!jdoe";
    bench.round(vec![seen(OFFICE, &["nfs01", "nfs02"]), deferred(seen(writable, &["nfs01"]), "attached")], &[]).await;
    let seen_at = bench.now();
    bench.pass(60);
    bench.catalog.set_verified(&vol(OFFICE), &one.version, bench.now(), true).await.unwrap();
    let mut old = version(OFFICE, 3, bench.now());
    old.damaged = Some("block 7".into());
    old.incident = Some("changed by no one's order".into());
    let test = |at, ok| RestoreTest { at, ok, found: "as expected".into(), content: None };
    bench.catalog.set_restore_tested(&vol(OFFICE), &one.version, &test(bench.now(), true)).await.unwrap();
    bench.catalog.set_restore_tested(&vol(OFFICE), &two.version, &test(bench.now(), false)).await.unwrap();
    bench.catalog.add_version(&old).await.unwrap();
    bench.catalog.confirm(&[vol(OFFICE)], bench.now()).await.unwrap();

    let fleet = bench.catalog.fleet().await.unwrap();
    assert_eq!(fleet.seen, [(key("nfs01"), seen_at), (key("nfs02"), seen_at)].into());
    let [office, jdoe] = fleet.volumes.as_slice() else { panic!("{fleet:?}") };
    assert_eq!((office.versions, office.good_versions, office.damaged_versions, office.incidents), (3, 2, 1, 1));
    assert_eq!((office.logical_bytes, office.stored_bytes), (3 * (20 << 30), 3 << 30));
    assert_eq!((office.confirmed, office.last_success), (Some(bench.now()), Some(two.created)));
    // The one that was never read back was proved when it was made.
    assert_eq!((office.last_verified, office.oldest_proof), (Some(bench.now()), Some(two.created)));
    assert_eq!((office.last_restore_test, office.unusable_versions), (Some(bench.now()), 1));
    assert_eq!(office.datastore.as_deref(), Some("nfs01"));
    assert_eq!((jdoe.state, jdoe.reason.as_deref(), jdoe.versions), (VolumeState::Deferred, Some("attached"), 0));
    assert_eq!((jdoe.confirmed, jdoe.last_success, jdoe.oldest_proof), (None, None, None));
    // It agrees with what is known of each volume.
    for volume in &fleet.volumes {
        let row = bench.catalog.volume(&volume.id).await.unwrap().unwrap();
        let known = (row.versions, row.good_versions, row.last_success, row.last_attempt, row.first_seen);
        let found =
            (volume.versions, volume.good_versions, volume.last_success, volume.last_attempt, volume.first_seen);
        assert_eq!(found, known, "{}", volume.id);
    }

    // Another generation of the volume: what was found of the previous one says nothing of it.
    let mut reborn = seen(OFFICE, &["nfs01"]);
    reborn.generation = Generation(2);
    bench.round(vec![reborn], &[]).await;
    let office = bench.catalog.fleet().await.unwrap().volumes.remove(0);
    assert_eq!((office.confirmed, office.last_success, office.good_versions, office.versions), (None, None, 0, 3));
}

#[tokio::test]
async fn thousands_are_confirmed_at_once() {
    let bench = Bench::new().await;
    let ids: Vec<String> = (0..2500).map(|number| format!("writable/user{number}")).collect();
    let volumes = ids.iter().map(|id| {
        let mut volume = seen(id, &[]);
        volume.locations.clear();
        volume
    });
    bench.round(volumes.collect(), &[]).await;
    let named: Vec<_> = ids.iter().skip(1).map(|id| vol(id)).collect();
    bench.catalog.confirm(&named, bench.now()).await.unwrap();
    let fleet = bench.catalog.fleet().await.unwrap();
    let confirmed = fleet.volumes.iter().filter(|volume| volume.confirmed == Some(bench.now()));
    assert_eq!(confirmed.count(), 2499);
}

/// What is counted when versions change is what counting them now would give.
async fn assert_tallied(bench: &Bench) {
    use sqlx::ConnectOptions as _;
    let mut conn = sqlx::sqlite::SqliteConnectOptions::new().filename(&bench.path).connect().await.unwrap();
    for difference in
        ["SELECT * FROM tallied EXCEPT SELECT * FROM tallies", "SELECT * FROM tallies EXCEPT SELECT * FROM tallied"]
    {
        assert!(sqlx::query(difference).fetch_optional(&mut conn).await.unwrap().is_none(), "{difference}");
    }
    let left = sqlx::query("SELECT 1 FROM meta WHERE key = 'tally_later'").fetch_optional(&mut conn).await.unwrap();
    assert!(left.is_none(), "counting is put off for ever");
    sqlx::Connection::close(conn).await.unwrap();
}

#[tokio::test]
async fn what_is_counted_follows_every_change_whoever_makes_it() {
    let (bench, one, two) = with_two_versions().await;
    let other = bench.another().await;
    let volume = vol(OFFICE);
    let counted = async || {
        let fleet = bench.catalog.fleet().await.unwrap();
        let row = fleet.volumes.into_iter().find(|row| row.id == volume).unwrap();
        assert_tallied(&bench).await;
        (row.versions, row.good_versions, row.damaged_versions, row.unusable_versions, row.incidents)
    };
    assert_eq!(counted().await, (2, 2, 0, 0, 0));
    // Another process writes: what it committed is told here.
    other.mark_damaged(&volume, &one.version, "a bit fell over").await.unwrap();
    assert_eq!(counted().await, (2, 1, 1, 0, 0));
    let test = RestoreTest { at: bench.now(), ok: false, found: "no NTFS".into(), content: None };
    other.set_restore_tested(&volume, &two.version, &test).await.unwrap();
    assert_eq!(counted().await, (2, 1, 1, 1, 0));
    bench.pass(60);
    bench.catalog.set_verified(&volume, &one.version, bench.now(), true).await.unwrap();
    assert_eq!(counted().await, (2, 2, 0, 1, 0));
    let mut renewed = seen(OFFICE, &["nfs01"]);
    renewed.generation = Generation(2);
    bench.round(vec![renewed], &["nfs01"]).await;
    assert_eq!(counted().await, (2, 0, 0, 1, 0), "another life has no version yet");
    let mut three = version(OFFICE, 3, bench.now());
    three.generation = Generation(2);
    three.incident = Some("changed by no one's order".into());
    bench.catalog.add_version(&three).await.unwrap();
    assert_eq!(counted().await, (3, 1, 0, 1, 1));
    bench.catalog.remove_version(&volume, &two.version).await.unwrap();
    assert_eq!(counted().await, (2, 1, 0, 0, 1));

    // Many at once, and what failed in the middle.
    let many: Vec<_> = (4..9).map(|seq| version(OFFICE, seq, bench.now())).collect();
    let held = lease(&other, OFFICE).await;
    assert!(other.reconcile(&held, &adding(OFFICE, many.clone(), vec![])).await.unwrap());
    assert_eq!(counted().await, (7, 1, 0, 0, 1));
    let twice = vec![many[0].clone(), many[0].clone()];
    bench.catalog.replace_all(&[vault_volume(OFFICE, twice, vec![])]).await.unwrap_err();
    assert_eq!(counted().await, (7, 1, 0, 0, 1));
    bench.catalog.replace_all(&[vault_volume(OFFICE, many, vec![])]).await.unwrap();
    assert_eq!(counted().await, (5, 0, 0, 0, 0));
    bench.catalog.replace_all(&[]).await.unwrap();
    assert_eq!(counted().await, (0, 0, 0, 0, 0));
}

#[tokio::test]
async fn what_is_damaged_is_kept_until_the_version_is_whole_or_gone() {
    let (bench, one, two) = with_two_versions().await;
    let (volume, catalog) = (vol(OFFICE), &bench.catalog);
    catalog.record_damage(&volume, &one.version, &json!({ "block": 1 })).await.unwrap();
    catalog.record_damage(&volume, &one.version, &json!({ "block": 2 })).await.unwrap();
    catalog.record_damage(&volume, &two.version, &json!({ "block": 3 })).await.unwrap();
    catalog.record_damage(&volume, &version(OFFICE, 7, bench.now()).version, &json!({})).await.unwrap();
    let found = catalog.damages(&volume).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[&one.version], json!({ "block": 2 }));
    catalog.set_verified(&volume, &one.version, bench.now(), true).await.unwrap();
    catalog.remove_version(&volume, &two.version).await.unwrap();
    assert_eq!(catalog.damages(&volume).await.unwrap(), HashMap::new());
}
