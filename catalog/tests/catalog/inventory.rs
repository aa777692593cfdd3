//! Discovery rounds: what stays, what is gone, and since when.

use stackferry_catalog::*;
use stackferry_volume::Generation;
use stackferry_volume::manifest::Owner;

use crate::bench::*;

#[tokio::test]
async fn a_volume_is_read_as_it_was_seen() {
    let bench = Bench::new().await;
    let mut volume = deferred(seen("writable/CORP!5C!jdoe", &["nfs01"]), "attached");
    volume.owner = Some(Owner { name: "CORP\\jdoe".into(), sid: Some("S-1-5-21-1".into()), upn: None });
    volume.guid = Some("{1234}".into());
    volume.attached = Some(true);
    volume.remedy = Some("log off".into());
    let first = bench.now();
    assert_eq!(bench.round(vec![volume.clone()], &[]).await.new, [volume.id.clone()]);

    bench.pass(300);
    bench.round(vec![volume.clone()], &[]).await;
    let row = bench.volume("writable/CORP!5C!jdoe").await;
    assert_eq!((row.owner, row.guid, row.remedy), (volume.owner, volume.guid, volume.remedy));
    assert_eq!((row.state, row.attached, row.reason), (volume.state, volume.attached, volume.reason));
    assert_eq!((row.first_seen, row.last_seen), (first, Some(bench.now())));
    assert_eq!((row.size_bytes, row.protectable), (Some(1 << 40), true));
    assert_eq!((row.versions, row.last_version, row.last_success, row.last_error), (0, None, None, None));
    let [location] = &row.locations[..] else { panic!("{:?}", row.locations) };
    assert_eq!(location.location, volume.locations[0].location);
    assert_eq!((&location.fingerprint, location.settled), (&Some(print(1)), true));
    assert_eq!((location.reachable, location.datastore_type.as_deref()), (true, Some("NFS")));

    let all = bench.catalog.volumes().await.unwrap();
    assert_eq!(all, [bench.volume("writable/CORP!5C!jdoe").await]);
    assert!(bench.catalog.volume(&vol("writable/nobody")).await.unwrap().is_none());
}

#[tokio::test]
async fn deferred_since_is_when_the_present_reason_began() {
    let bench = Bench::new().await;
    let office = || seen("appstack/Office", &["nfs01"]);
    let since = async || bench.volume("appstack/Office").await.deferred_since;
    bench.round(vec![deferred(office(), "attached")], &[]).await;
    let attached = bench.now();
    bench.pass(60);
    let mut again = deferred(office(), "attached");
    again.reason.as_mut().unwrap().text = "it is attached to another machine".into();
    bench.round(vec![again], &[]).await;
    assert_eq!(since().await, Some(attached), "another text is the same reason");
    bench.pass(60);
    bench.round(vec![deferred(office(), "locked")], &[]).await;
    assert_eq!(since().await, Some(bench.now()));
    bench.round(vec![office()], &[]).await;
    assert_eq!(since().await, None);
    bench.pass(60);
    bench.round(vec![deferred(office(), "attached")], &[]).await;
    assert_eq!(since().await, Some(bench.now()), "it began anew");
}

#[tokio::test]
async fn only_a_scanned_datastore_proves_that_a_volume_is_gone() {
    let bench = Bench::new().await;
    let all = || {
        vec![seen("appstack/A", &["nfs01"]), seen("appstack/B", &["nfs02"]), seen("appstack/C", &["nfs01", "nfs02"])]
    };
    bench.round(all(), &["nfs01", "nfs02"]).await;

    bench.pass(60);
    assert_eq!(bench.round(vec![], &[]).await, InventoryChange::default(), "nothing was looked at");
    let change = bench.round(vec![], &["nfs01"]).await;
    assert_eq!(change.gone, [vol("appstack/A")]);
    let gone = bench.now();
    let a = bench.volume("appstack/A").await;
    assert_eq!((a.state, a.gone_since, a.deferred_since), (VolumeState::Gone, Some(gone), Some(gone)));
    assert_eq!((a.protectable, a.attached), (false, None));
    assert_eq!(a.reason.unwrap().code, "missing");
    assert_eq!((a.locations.len(), a.former_locations.len()), (0, 1));
    assert_eq!(bench.volume("appstack/B").await.state, VolumeState::Ready);
    let c = bench.volume("appstack/C").await;
    assert_eq!(c.state, VolumeState::Ready, "it is elsewhere too");
    assert_eq!(c.locations.iter().map(|one| one.location.datastore.as_str()).collect::<Vec<_>>(), ["nfs02"]);
    assert_eq!(c.former_locations[0].gone_since, Some(gone));

    bench.pass(60);
    let change = bench.round(vec![], &["nfs01", "nfs02"]).await;
    assert_eq!(change.gone, [vol("appstack/B"), vol("appstack/C")], "A is gone already");
    assert_eq!(bench.volume("appstack/A").await.gone_since, Some(gone), "and stays so");

    bench.pass(60);
    let change = bench.round(all(), &["nfs01", "nfs02"]).await;
    assert_eq!((change.back.len(), change.new.len()), (3, 0));
    let a = bench.volume("appstack/A").await;
    assert_eq!((a.state, a.gone_since, a.deferred_since), (VolumeState::Ready, None, None));
    assert_eq!((a.locations.len(), a.former_locations.len()), (1, 0));
}

#[tokio::test]
async fn a_datastore_that_does_not_answer_defers_its_volumes() {
    let bench = Bench::new().await;
    bench
        .round(vec![seen("appstack/A", &["nfs01"]), seen("appstack/C", &["nfs01", "nfs02"])], &["nfs01", "nfs02"])
        .await;
    let mut round = InventoryRound {
        at: bench.now(),
        volumes: vec![],
        scanned: vec![],
        unreachable: vec![UnreachableDatastore { key: key("nfs01"), why: "host away".into() }],
        complete: false,
    };
    let change = bench.catalog.record_inventory(&round).await.unwrap();
    assert_eq!(change, InventoryChange::default());
    let since = bench.now();
    let a = bench.volume("appstack/A").await;
    let reason = a.reason.unwrap();
    assert_eq!((a.state, reason.code.as_str(), a.deferred_since), (VolumeState::Deferred, "unreachable", Some(since)));
    assert_eq!(reason.text, "datastore nfs01: host away");
    assert!(!a.locations[0].reachable && a.protectable);
    let c = bench.volume("appstack/C").await;
    assert_eq!(c.state, VolumeState::Ready);
    assert_eq!(c.locations.iter().map(|one| one.reachable).collect::<Vec<_>>(), [false, true]);

    bench.pass(60);
    round.at = bench.now();
    bench.catalog.record_inventory(&round).await.unwrap();
    assert_eq!(bench.volume("appstack/A").await.deferred_since, Some(since));
    bench.round(vec![seen("appstack/A", &["nfs01"])], &["nfs01"]).await;
    let a = bench.volume("appstack/A").await;
    assert_eq!((a.state, a.deferred_since, a.locations[0].reachable), (VolumeState::Ready, None, true));
}

#[tokio::test]
async fn a_volume_without_location_is_gone_after_a_complete_round() {
    let bench = Bench::new().await;
    let made = bench.now();
    bench
        .catalog
        .replace_all(&[vault_volume("writable/x", vec![version("writable/x", 1, made)], vec![])])
        .await
        .unwrap();
    let x = bench.volume("writable/x").await;
    assert_eq!((x.state, x.last_seen, x.attached, x.versions), (VolumeState::Deferred, None, None, 1));
    assert_eq!(x.reason.unwrap().code, "missing");
    assert_eq!(bench.round(vec![], &["nfs01"]).await.gone, []);

    let round =
        InventoryRound { at: bench.now(), volumes: vec![], scanned: vec![], unreachable: vec![], complete: true };
    assert_eq!(bench.catalog.record_inventory(&round).await.unwrap().gone, [vol("writable/x")]);
    assert_eq!(bench.volume("writable/x").await.state, VolumeState::Gone);
}

#[tokio::test]
async fn a_vault_volume_keeps_its_locations_until_the_first_round() {
    let bench = Bench::new().await;
    let vault_volume = |id: &str, places: &[&str]| VaultVolume {
        locations: places
            .iter()
            .map(|name| VaultLocation { location: place(name, id), fingerprint: Some(print(1)) })
            .collect(),
        ..vault_volume(id, vec![version(id, 1, bench.now())], vec![])
    };
    let known = [vault_volume("writable/x", &["nfs01", "nfs02"]), vault_volume("writable/y", &["nfs03"])];
    for _ in 0..2 {
        bench.catalog.replace_all(&known).await.unwrap();
        let x = bench.volume("writable/x").await;
        assert_eq!((x.state, x.locations.len(), x.former_locations.len()), (VolumeState::Deferred, 2, 0));
        let first = &x.locations[0];
        assert_eq!((&first.location, &first.fingerprint), (&place("nfs01", "writable/x"), &Some(print(1))));
        assert!(!first.reachable && !first.settled);
    }
    // It has moved; the other one's datastore can't be reached, so nobody knows that it is gone.
    bench.round(vec![seen("writable/x", &["nfs02"])], &["nfs01", "nfs02"]).await;
    let x = bench.volume("writable/x").await;
    assert_eq!((x.state, x.locations.len(), x.former_locations.len()), (VolumeState::Ready, 1, 1));
    assert_eq!(bench.volume("writable/y").await.state, VolumeState::Deferred);
    bench.catalog.replace_all(&known).await.unwrap();
    assert_eq!(bench.volume("writable/x").await.locations.len(), 1, "it stays as discovery saw it");
    assert_eq!(bench.round(vec![], &["nfs03"]).await.gone, [vol("writable/y")]);
}

#[tokio::test]
async fn a_new_generation_is_protected_by_nothing_of_the_former() {
    let bench = Bench::new().await;
    let id = vol("appstack/Office");
    bench.round(vec![seen("appstack/Office", &["nfs01"])], &[]).await;
    let one = version("appstack/Office", 1, bench.now());
    let attempt = bench.catalog.start_attempt(&id, "local", Trigger::Schedule).await.unwrap();
    let late = bench.catalog.start_attempt(&id, "local", Trigger::Schedule).await.unwrap();
    assert!(late > attempt);
    bench.catalog.add_version(&one).await.unwrap();
    bench.catalog.set_baselines(&id, &[baseline("appstack/Office", "nfs01", &one)]).await.unwrap();
    assert_eq!(bench.volume("appstack/Office").await.good_versions, 1);

    let mut second = seen("appstack/Office", &["nfs01"]);
    second.generation = Generation::FIRST.next();
    assert_eq!(bench.round(vec![second], &[]).await.new_generation, std::slice::from_ref(&id));
    let done = AttemptEnd {
        outcome: Outcome::Copied,
        version: Some(one.version.clone()),
        error: None,
        bytes: Default::default(),
        took: Default::default(),
    };
    bench.catalog.finish_attempt(late, &done).await.unwrap();
    let row = bench.volume("appstack/Office").await;
    assert_eq!((row.versions, row.good_versions), (1, 0));
    assert_eq!((row.last_success, row.last_attempt), (None, None));
    assert_eq!(row.last_version.as_ref(), Some(&one.version));
    bench.catalog.set_baselines(&id, &[baseline("appstack/Office", "nfs01", &one)]).await.unwrap();
    assert_eq!(bench.catalog.baselines(&id).await.unwrap(), []);
}

#[tokio::test]
async fn a_location_belongs_to_one_volume() {
    let bench = Bench::new().await;
    bench.round(vec![seen("appstack/A", &["nfs01"])], &[]).await;
    let mut other = seen("appstack/A@0a1b2c3d", &["nfs01"]);
    other.locations[0].location = place("nfs01", "appstack/A");
    bench.round(vec![other.clone()], &[]).await;
    assert_eq!(bench.volume("appstack/A").await.locations, []);
    assert_eq!(bench.volume("appstack/A@0a1b2c3d").await.locations.len(), 1);

    for volumes in
        [vec![seen("appstack/A", &["nfs01"]), other], vec![seen("appstack/A", &["x"]), seen("appstack/A", &["y"])]]
    {
        let round = InventoryRound { at: bench.now(), volumes, scanned: vec![], unreachable: vec![], complete: false };
        let error = bench.catalog.record_inventory(&round).await.unwrap_err();
        assert!(matches!(error, CatalogError::Twice { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_number_out_of_range_is_an_error_and_writes_nothing() {
    let bench = Bench::new().await;
    let mut huge = seen("appstack/B", &["nfs01"]);
    huge.size_bytes = Some(u64::MAX);
    let volumes = vec![seen("appstack/A", &["nfs01"]), huge];
    let round = InventoryRound { at: bench.now(), volumes, scanned: vec![], unreachable: vec![], complete: false };
    let error = bench.catalog.record_inventory(&round).await.unwrap_err();
    assert!(matches!(error, CatalogError::Range { field: "size_bytes", .. }), "{error:?}");
    assert_eq!(bench.catalog.volumes().await.unwrap(), []);
}

#[tokio::test]
async fn an_unreadable_row_is_an_error_that_names_the_column() {
    let bench = Bench::new().await;
    bench.round(vec![seen("appstack/A", &["nfs01"])], &[]).await;
    bench.tamper("UPDATE volumes SET state = 'fine'").await;
    let error = bench.catalog.volumes().await.unwrap_err();
    assert!(matches!(error, CatalogError::Row { column: "state", .. }), "{error:?}");
    assert!(error.to_string().contains("`fine` is no state"), "{error}");
}

#[tokio::test]
async fn a_round_of_five_thousand_writables_is_read_back_whole() {
    let bench = Bench::new().await;
    let volumes: Vec<_> = (0..5000).map(|number| seen(&format!("writable/u{number:04}"), &["nfs01"])).collect();
    bench.round(volumes.clone(), &["nfs01"]).await;
    bench.pass(300);
    let change = bench.round(volumes.into_iter().skip(1).collect(), &["nfs01"]).await;
    assert_eq!(change.gone, [vol("writable/u0000")]);
    let rows = bench.catalog.volumes().await.unwrap();
    assert_eq!(rows.len(), 5000);
    assert!(rows.iter().skip(1).all(|row| row.locations.len() == 1 && row.last_seen == Some(bench.now())));
}
