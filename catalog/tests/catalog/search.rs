//! Finding volumes among many, and counting how they stand.

use stackferry_catalog::*;
use stackferry_volume::Kind;

use crate::bench::*;

const WHOLE: Page = Page { offset: 0, limit: 500 };

async fn site(bench: &Bench) -> FreshnessByKind {
    let unprotectable = ObservedVolume {
        state: VolumeState::Unprotectable,
        protectable: false,
        reason: Some(StatusReason { code: "vsan_only".into(), text: "it lies on vSAN only".into() }),
        ..seen("appstack/Objects", &["vsan"])
    };
    let named = ObservedVolume { name: "50% off_Tools".into(), ..seen("package/Tools", &["nfs01"]) };
    let volumes = vec![
        seen("appstack/Office", &["nfs01", "nfs02"]),
        unprotectable,
        named,
        deferred(seen("writable/CORP!5C!jdoe", &["nfs02"]), "attached"),
        seen("writable/CORP!5C!old", &["nfs02"]),
        seen("writable/CORP!5C!fresh", &["nfs02"]),
    ];
    bench.round(volumes, &["nfs01", "nfs02", "vsan"]).await;
    let catalog = &bench.catalog;
    let day = seconds(86_400);
    for (id, created) in [
        ("appstack/Office", bench.now() - day * 400),
        ("writable/CORP!5C!old", bench.now() - day * 2),
        ("writable/CORP!5C!fresh", bench.now()),
    ] {
        catalog.add_version(&version(id, 1, created)).await.unwrap();
    }
    FreshnessByKind {
        writable: FreshnessLimit { since: Some(bench.now() - day), by_scan: false },
        ..FreshnessByKind::default()
    }
}

async fn ids(bench: &Bench, filter: VolumeFilter, before: &FreshnessByKind) -> Vec<String> {
    let found = bench.catalog.find_volumes(&filter, before, VolumeOrder::Id, WHOLE).await.unwrap();
    assert_eq!(found.total, found.rows.len() as u64);
    found.rows.into_iter().map(|(row, _)| row.id.to_string()).collect()
}

#[tokio::test]
async fn each_filter_finds_what_it_says() {
    let bench = Bench::new().await;
    let before = site(&bench).await;
    let all = VolumeFilter::default;
    let text = |text: &str| VolumeFilter { text: Some(text.into()), ..all() };
    let cases: [(VolumeFilter, &[&str]); 11] = [
        (text("OFFICE"), &["appstack/Office"]),
        // What `LIKE` would take as a joker is a letter here.
        (text("50% OFF_"), &["package/Tools"]),
        (text("5%f"), &[]),
        (VolumeFilter { kind: Some(Kind::Package), ..all() }, &["package/Tools"]),
        (VolumeFilter { state: Some(VolumeState::Deferred), ..all() }, &["writable/CORP!5C!jdoe"]),
        (VolumeFilter { reason: Some("attached".into()), ..all() }, &["writable/CORP!5C!jdoe"]),
        (VolumeFilter { datastore: Some("vsan".into()), ..all() }, &["appstack/Objects"]),
        (VolumeFilter { standing: Some(Standing::Overdue), ..all() }, &["writable/CORP!5C!old"]),
        (VolumeFilter { standing: Some(Standing::Never), ..all() }, &["package/Tools", "writable/CORP!5C!jdoe"]),
        (VolumeFilter { standing: Some(Standing::Unprotectable), ..all() }, &["appstack/Objects"]),
        (VolumeFilter { standing: Some(Standing::Protected), ..all() }, &["appstack/Office", "writable/CORP!5C!fresh"]),
    ];
    for (filter, expected) in cases {
        assert_eq!(ids(&bench, filter.clone(), &before).await, expected, "{filter:?}");
    }
    assert_eq!(ids(&bench, VolumeFilter { failing: true, ..all() }, &before).await, [""; 0]);
    let id = bench.catalog.start_attempt(&vol("package/Tools"), "local", Trigger::Schedule).await.unwrap();
    let error = StatusReason { code: "silent".into(), text: "nothing".into() };
    let end = AttemptEnd {
        outcome: Outcome::Failed,
        version: None,
        error: Some(error),
        bytes: <_>::default(),
        took: <_>::default(),
    };
    bench.catalog.finish_attempt(id, &end).await.unwrap();
    assert_eq!(ids(&bench, VolumeFilter { failing: true, ..all() }, &before).await, ["package/Tools"]);
}

#[tokio::test]
async fn pages_together_are_the_whole_in_every_order() {
    let bench = Bench::new().await;
    let before = site(&bench).await;
    let filter = VolumeFilter::default();
    for order in VolumeOrder::ALL {
        let whole = bench.catalog.find_volumes(&filter, &before, *order, WHOLE).await.unwrap();
        assert_eq!(whole.total, 6);
        let mut paged = Vec::new();
        for offset in (0..6).step_by(2) {
            let page = Page { offset, limit: 2 };
            let part = bench.catalog.find_volumes(&filter, &before, *order, page).await.unwrap();
            assert_eq!((part.total, part.rows.len()), (6, 2));
            paged.extend(part.rows);
        }
        assert_eq!(paged, whole.rows, "{order}");
        let past = Page { offset: 6, limit: 2 };
        let past = bench.catalog.find_volumes(&filter, &before, *order, past).await.unwrap();
        assert_eq!((past.total, past.rows.len()), (6, 0));
        // The same rows as reading them all gives, places and counts too.
        for (row, _) in whole.rows {
            assert_eq!(bench.catalog.volume(&row.id).await.unwrap().unwrap(), row);
        }
    }
    let oldest = bench.catalog.find_volumes(&filter, &before, VolumeOrder::Oldest, WHOLE).await.unwrap();
    assert_eq!(oldest.rows.last().unwrap().0.id, vol("writable/CORP!5C!fresh"));
}

#[tokio::test]
async fn standings_count_every_volume_once() {
    let bench = Bench::new().await;
    let before = site(&bench).await;
    let counts = bench.catalog.standings(&before).await.unwrap();
    assert_eq!(counts.iter().map(|count| count.volumes).sum::<u64>(), 6);
    let of = |standing| counts.iter().filter(|one| one.standing == standing).map(|one| one.volumes).sum::<u64>();
    assert_eq!(Standing::ALL.iter().map(|one| of(*one)).collect::<Vec<_>>(), [2, 1, 2, 1, 0]);
    let waiting = counts.iter().find(|one| one.reason.as_deref() == Some("attached")).unwrap();
    assert_eq!((waiting.state, waiting.deferred_since), (VolumeState::Deferred, Some(bench.now())));
    // Without limits nothing is overdue.
    let counts = bench.catalog.standings(&FreshnessByKind::default()).await.unwrap();
    assert!(counts.iter().all(|count| count.standing != Standing::Overdue));

    // Where a scan is enough, what a round found unchanged is fresh; a writable's times of change prove nothing.
    let limit = |by_scan| FreshnessLimit { since: Some(bench.now()), by_scan };
    bench.pass(60);
    let volumes = [vol("appstack/Office"), vol("writable/CORP!5C!old")];
    bench.catalog.confirm(&volumes, bench.now()).await.unwrap();
    let fresh = FreshnessByKind { appstack: limit(true), writable: limit(false), ..FreshnessByKind::default() };
    let overdue = VolumeFilter { standing: Some(Standing::Overdue), ..VolumeFilter::default() };
    assert_eq!(ids(&bench, overdue.clone(), &fresh).await, ["writable/CORP!5C!fresh", "writable/CORP!5C!old"]);
    let fresh = FreshnessByKind { appstack: limit(false), ..FreshnessByKind::default() };
    assert_eq!(ids(&bench, overdue, &fresh).await, ["appstack/Office"]);
}
