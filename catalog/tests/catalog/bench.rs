//! What the tests share: a catalog in a folder of its own, a clock, and samples.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use stackferry_catalog::*;
use stackferry_volume::manifest::VerifyMethod;
use stackferry_volume::{FileStamp, Fingerprint, Generation, Location, SiteName, VersionId, VolumeId};

pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) path: PathBuf,
    pub(crate) catalog: Catalog,
    millis: Arc<AtomicI64>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.sqlite");
        let start = at("2026-11-22T04:00:00Z").as_millisecond();
        let millis = Arc::new(AtomicI64::new(start));
        let catalog = Catalog::open_with(&path, clock(&millis)).await.unwrap();
        Self { dir, path, catalog, millis }
    }

    /// Another handle on the same file, with the same clock: as another process would have it.
    pub(crate) async fn another(&self) -> Catalog {
        Catalog::open_with(&self.path, clock(&self.millis)).await.unwrap()
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.millis.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.catalog.clock().now()
    }

    /// Runs statements past the catalog.
    pub(crate) async fn tamper(&self, sql: &'static str) {
        let mut conn = SqliteConnectOptions::new().filename(&self.path).connect().await.unwrap();
        sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
        sqlx::Connection::close(conn).await.unwrap();
    }

    pub(crate) async fn volume(&self, id: &str) -> VolumeRow {
        self.catalog.volume(&vol(id)).await.unwrap().unwrap()
    }

    /// Records a round, now, that saw these and scanned these datastores.
    pub(crate) async fn round(&self, volumes: Vec<ObservedVolume>, scanned: &[&str]) -> InventoryChange {
        let round = InventoryRound {
            at: self.now(),
            volumes,
            scanned: scanned.iter().map(|name| key(name)).collect(),
            unreachable: vec![],
            complete: false,
        };
        self.catalog.record_inventory(&round).await.unwrap()
    }
}

fn clock(millis: &Arc<AtomicI64>) -> Clock {
    let millis = millis.clone();
    Clock::from_fn(move || Timestamp::from_millisecond(millis.load(Ordering::SeqCst)).unwrap())
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn vol(id: &str) -> VolumeId {
    id.parse().unwrap()
}

pub(crate) fn key(datastore: &str) -> DatastoreKey {
    DatastoreKey { site: SiteName("dc1".into()), datastore: datastore.into() }
}

pub(crate) fn place(datastore: &str, id: &str) -> Location {
    let (_, stem) = id.split_once('/').unwrap();
    Location {
        site: SiteName("dc1".into()),
        datastore: datastore.into(),
        path: format!("cloudvolumes/apps/{stem}.vmdk"),
    }
}

pub(crate) fn print(bytes: u64) -> Fingerprint {
    let file = FileStamp { name: "a-flat.vmdk".into(), bytes, mtime: at("2026-01-01T00:00:00.5Z") };
    Fingerprint::new(vec![file], Some("fffffffe".into()))
}

pub(crate) fn seen(id: &str, datastores: &[&str]) -> ObservedVolume {
    let locations = datastores.iter().map(|datastore| ObservedLocation {
        location: place(datastore, id),
        datastore_type: Some("NFS".into()),
        reachable: true,
        fingerprint: Some(print(1)),
        settled: true,
    });
    ObservedVolume {
        id: vol(id),
        stem: id.split_once('/').unwrap().1.into(),
        name: id.into(),
        owner: None,
        guid: None,
        generation: Generation::FIRST,
        size_bytes: Some(1 << 40),
        state: VolumeState::Ready,
        attached: Some(false),
        protectable: true,
        reason: None,
        remedy: None,
        locations: locations.collect(),
    }
}

pub(crate) fn deferred(mut volume: ObservedVolume, code: &str) -> ObservedVolume {
    volume.state = VolumeState::Deferred;
    volume.reason = Some(StatusReason { code: code.into(), text: format!("it is {code}") });
    volume
}

pub(crate) fn version(id: &str, seq: u64, created: Timestamp) -> VersionRow {
    VersionRow {
        volume: vol(id),
        version: VersionId::new(created, seq),
        generation: Generation::FIRST,
        created,
        bytes: 20 << 30,
        stored: 1 << 30,
        verified: true,
        verify_method: VerifyMethod::Arrival,
        pinned: false,
        damaged: None,
        last_verified: None,
        route: "local".into(),
        incident: None,
        content: None,
        restore_test: None,
        deleting: None,
    }
}

pub(crate) fn baseline(id: &str, datastore: &str, version: &VersionRow) -> Baseline {
    Baseline { location: place(datastore, id), fingerprint: print(1), version: version.version.clone(), settled: true }
}

pub(crate) fn vault_volume(id: &str, versions: Vec<VersionRow>, baselines: Vec<Baseline>) -> VaultVolume {
    VaultVolume {
        id: vol(id),
        stem: id.split_once('/').unwrap().1.into(),
        name: id.into(),
        owner: None,
        guid: None,
        generation: Generation::FIRST,
        size_bytes: None,
        locations: vec![],
        versions,
        baselines,
    }
}

pub(crate) fn seconds(count: i64) -> SignedDuration {
    SignedDuration::from_secs(count)
}
