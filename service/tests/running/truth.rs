//! Whatever the catalog and the vault contradict each other in, and whoever meets it first: the same state in the end, and no
//! other volume is concerned.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use stackferry_catalog::Trigger;
use stackferry_engine::app::App;
use stackferry_engine::copy::{CopyOptions, copy};
use stackferry_engine::prune;
use stackferry_engine::reconcile::{self, Reconciled};
use stackferry_engine::round;
use stackferry_engine::{inventory, versions};
use stackferry_problem::progress::Reporter;
use stackferry_vault::Vault;
use stackferry_volume::io::Cancel;
use stackferry_volume::{VersionId, VolumeId};

use tokio::task::{JoinSet, LocalSet};

use crate::bench::{Bench, Service, id, until};

/// Two volumes: Office with two versions, the older one pinned, and Visio with one.
struct Place {
    bench: Bench,
    office: VolumeId,
    older: VersionId,
    newer: VersionId,
}

impl Place {
    async fn new() -> Self {
        let bench = Bench::new();
        let office = bench.appstack("Office", 1 << 20);
        bench.appstack("Visio", 1 << 20);
        let app = open(&bench).await;
        run_once(&app).await;
        let older = newest(&app, &office).await;
        app.vault().await.unwrap().pin(&office, &older, "before the update", Timestamp::now()).unwrap();
        app.catalog().set_pinned(&office, &older, true).await.unwrap();
        close(app).await;
        for (what, kept) in [("vault/volumes/appstack/Office", "vault-before"), ("state", "state-before")] {
            copy_tree(&bench.dir.path().join(what), &bench.dir.path().join(kept));
        }
        let app = open(&bench).await;
        copy_office(&app, &office, false).await;
        let newer = newest(&app, &office).await;
        close(app).await;
        Self { bench, office, older, newer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.dir.path().join(name)
    }

    fn folder(&self) -> PathBuf {
        self.path("vault/volumes/appstack/Office")
    }

    fn record(&self) -> PathBuf {
        self.folder().join("volume.json")
    }

    /// The program before or beside the one that is tried.
    async fn with<T>(&self, work: impl AsyncFnOnce(&App, &Vault) -> T) -> T {
        let app = open(&self.bench).await;
        let done = work(&app, &app.vault().await.unwrap()).await;
        close(app).await;
        done
    }
}

async fn open(bench: &Bench) -> App {
    App::open(bench.config(0, ""), Cancel::default()).await.unwrap()
}

async fn close(app: App) {
    app.catalog().clone().close().await;
}

async fn newest(app: &App, volume: &VolumeId) -> VersionId {
    app.catalog().versions(volume).await.unwrap()[0].version.clone()
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let other = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_tree(&path, &other),
            // A lock or a socket is nothing that a snapshot holds.
            false if path.is_file() => drop(std::fs::copy(&path, &other).unwrap()),
            false => {}
        }
    }
}

/// As `run --once` does it.
async fn run_once(app: &App) {
    let vault = app.vault().await.unwrap();
    reconcile::reconcile(app, &vault).await.unwrap();
    round::run(app, Trigger::Schedule, &Reporter::quiet()).await.unwrap();
}

async fn copy_office(app: &App, office: &VolumeId, if_changed: bool) {
    let found =
        inventory::look(app).await.unwrap().inventory.volumes.into_iter().find(|one| one.id == *office).unwrap();
    let progress = Reporter::quiet().start("copying", "it", 0).progress();
    let (trigger, wait) = (Trigger::Command, Duration::from_secs(30));
    copy(app, &found, CopyOptions { if_changed, trigger, actor: trigger.to_string(), wait, progress }).await.unwrap();
}

/// What differs between the catalog and the vault; none where nothing does.
async fn contradiction(app: &App) -> Option<String> {
    let vault = app.vault().await.unwrap();
    let volumes = vault.volumes().unwrap();
    if !volumes.problems.is_empty() {
        return Some(format!("{:?}", volumes.problems));
    }
    for record in volumes.volumes {
        let mut rows = app.catalog().versions(&record.id).await.unwrap();
        rows.reverse();
        let there = vault.versions(&record.id).unwrap();
        let listed: Vec<_> = rows
            .iter()
            .filter(|row| row.damaged.as_deref() != Some("the vault does not have this version"))
            .map(|row| (row.version.clone(), row.pinned, row.damaged.is_some()))
            .collect();
        let known: Vec<_> =
            there.iter().map(|entry| (entry.id.clone(), entry.pin.is_some(), !entry.is_good())).collect();
        if listed != known {
            return Some(format!("{}: the catalog has {listed:?}, the vault {known:?}", record.id));
        }
        if there.iter().any(|entry| entry.damaged.is_none() && !entry.is_good()) {
            return Some(format!("{}: a version that can't be read is not marked", record.id));
        }
    }
    None
}

/// Nothing contradicts, every volume has a good version that can be read, the pin is there, and Visio is as it was.
async fn problem(app: &App, place: &Place) -> Option<String> {
    if let Some(why) = contradiction(app).await {
        return Some(why);
    }
    let vault = app.vault().await.unwrap();
    for (volume, most) in [(&place.office, 9), (&id("appstack/Visio"), 1)] {
        let there = vault.versions(volume).unwrap();
        let Some(good) = there.iter().rev().find(|entry| entry.is_good()) else {
            return Some(format!("{volume} has no good version"));
        };
        if app.catalog().volume(volume).await.unwrap().unwrap().good_versions == 0 || there.len() > most {
            return Some(format!("{volume}: {there:?}"));
        }
        let threads = std::num::NonZeroUsize::MIN;
        let opened = vault.version(volume, &good.id).unwrap();
        assert_eq!(opened.verify(threads, &mut |_| {}, &Cancel::default()).unwrap(), []);
    }
    let pins = vault.volume(&place.office).unwrap().pins;
    (!pins.contains_key(&place.older)).then(|| "the pin is lost".to_owned())
}

type Work<'p> = std::pin::Pin<Box<dyn Future<Output = ()> + 'p>>;
type Cause = (&'static str, fn(&Place) -> Work<'_>);

macro_rules! causes {
    ($($name:literal => |$place:ident| $body:expr),+ $(,)?) => {
        [$(($name, (|$place: &Place| Box::pin(async move { $body; })) as fn(&Place) -> Work<'_>)),+]
    };
}

fn causes() -> [Cause; 12] {
    causes! {
        "a row without its folder" => |place| {
            std::fs::rename(place.folder().join(place.newer.to_string()), place.path("lost")).unwrap()
        },
        "a folder without its row" => |place| {
            place.with(async |app, _| app.catalog().remove_version(&place.office, &place.newer).await.unwrap()).await
        },
        "a mark of damage only in the vault" => |place| place.with(async |_, vault| {
            vault.mark_damaged(&place.office, &place.newer, "a bit fell over", Timestamp::now()).unwrap();
        }).await,
        "a mark of damage only in the catalog" => |place| place.with(async |app, _| {
            app.catalog().mark_damaged(&place.office, &place.newer, "a bit fell over").await.unwrap();
        }).await,
        "a pin only in the vault" => |place| {
            place.with(async |app, _| app.catalog().set_pinned(&place.office, &place.older, false).await.unwrap()).await
        },
        "volume.json is missing" => |place| std::fs::remove_file(place.record()).unwrap(),
        "volume.json is {}" => |place| std::fs::write(place.record(), "{}").unwrap(),
        "volume.json is another volume's" => |place| {
            std::fs::copy(place.path("vault/volumes/appstack/Visio/volume.json"), place.record()).unwrap()
        },
        "volume.json is cut" => |place| {
            let bytes = std::fs::read(place.record()).unwrap();
            std::fs::write(place.record(), &bytes[..bytes.len() / 2]).unwrap()
        },
        "a manifest is missing" => |place| {
            std::fs::remove_file(place.folder().join(place.newer.to_string()).join("manifest.json")).unwrap()
        },
        "the vault is set back" => |place| {
            std::fs::rename(place.folder(), place.path("lost")).unwrap();
            std::fs::rename(place.path("vault-before"), place.folder()).unwrap();
        },
        "the state is set back" => |place| {
            std::fs::rename(place.path("state"), place.path("lost")).unwrap();
            std::fs::rename(place.path("state-before"), place.path("state")).unwrap();
        },
    }
}

/// Whoever meets it first.
const ROUTES: [&str; 5] = ["run --once", "copy", "verify", "rebuild", "service"];

async fn meet(place: &Place, route: &str) {
    if route == "service" {
        let service = Service::start(&place.bench, "[schedule]\nevery = \"1s\"\n").await;
        until("it is in line", async || problem(&service.app, place).await.is_none()).await;
        return service.end().await;
    }
    place
        .with(async |app, _| match route {
            "run --once" => run_once(app).await,
            "copy" => copy_office(app, &place.office, true).await,
            "verify" => {
                let quiet = Reporter::quiet().start("verifying", "all", 0).progress();
                versions::verify(app, None, "test", Arc::clone(&quiet)).await.map(drop).unwrap();
            }
            _ => drop(versions::rebuild(app).await.unwrap()),
        })
        .await;
}

/// One cause, met by one of them after the other.
async fn met_by_all((cause, make): Cause) {
    for route in ROUTES {
        let place = Place::new().await;
        make(&place).await;
        meet(&place, route).await;
        let what = format!("{cause}, met by {route}");
        place
            .with(async |app, vault| {
                assert_eq!(contradiction(app).await, None, "{what}");
                // What had to be copied again is, by the next round at the latest.
                run_once(app).await;
                assert_eq!(problem(app, &place).await, None, "{what}");
                assert_eq!(reconcile::reconcile(app, vault).await.unwrap(), Reconciled::default(), "{what}");
                // The next version has a name that nobody had, and that comes after all others.
                copy_office(app, &place.office, false).await;
                let newest = newest(app, &place.office).await;
                assert!(newest > place.newer, "{what}: {newest} after {}", place.newer);
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contradictions_end_in_one_state_whoever_meets_them() {
    let at_once = async {
        let mut all = JoinSet::new();
        causes().into_iter().for_each(|cause| drop(all.spawn_local(met_by_all(cause))));
        while let Some(ended) = all.join_next().await {
            ended.unwrap();
        }
    };
    LocalSet::new().run_until(at_once).await;
}

fn versions_in(place: &Place, volume: &str) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(place.path("vault/volumes/appstack").join(volume)).unwrap();
    let mut found: Vec<_> = folders.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn vanished_versions_are_noticed_by_the_next_round() {
    let place = Place::new().await;
    let service = Service::start(&place.bench, "[schedule]\nevery = \"1s\"\n").await;
    until("it is in line", async || problem(&service.app, &place).await.is_none()).await;
    for folder in versions_in(&place, "Visio") {
        std::fs::remove_dir_all(folder).unwrap();
    }
    std::fs::remove_dir_all(place.folder()).unwrap();
    let good = async |volume: &VolumeId| service.app.catalog().volume(volume).await.unwrap().unwrap().good_versions;
    until("both are copied again", async || good(&place.office).await == 1 && good(&id("appstack/Visio")).await == 1)
        .await;
    assert_eq!(service.sample("stackferry_versions_damaged").await, Some(3.0), "what is lost is counted");
    let missing = service.sample("stackferry_reconcile_differences_total{difference=\"missing\"}").await;
    assert_eq!(missing, Some(3.0));
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_what_is_missing_and_what_it_could_not_read() {
    let place = Place::new().await;
    std::fs::rename(place.folder().join(place.newer.to_string()), place.path("lost")).unwrap();
    let [visio] = &versions_in(&place, "Visio")[..] else { panic!() };
    std::fs::rename(visio.parent().unwrap().join("volume.json"), place.path("lost.json")).unwrap();
    place
        .with(async |app, _| {
            let quiet = Reporter::quiet().start("verifying", "all", 0).progress();
            let office = place.office.to_string();
            let gone = format!("{office}@{}", place.newer);
            for (what, checked) in [(None, 2), (Some(&*office), 1), (Some(&*gone), 0)] {
                let done = versions::verify(app, what, "test", Arc::clone(&quiet)).await.unwrap();
                assert_eq!(done.versions.len(), checked, "{what:?}");
                assert_eq!(done.missing, [(place.office.clone(), place.newer.clone())], "{what:?}");
                assert_eq!(done.findings.len(), 1, "{what:?}");
                let names: Vec<_> = done.unreadable.iter().map(|(name, _)| name.as_str()).collect();
                assert_eq!(names, if what.is_none() { vec!["appstack/Visio"] } else { vec![] });
            }
            let never = format!("{office}@20200101T000000Z-99");
            let problem = versions::verify(app, Some(&never), "test", quiet).await.unwrap_err();
            assert_eq!(problem.code.as_str(), "no_such_version");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pruned_since_the_state_was_saved_is_no_loss() {
    let place = Place::new().await;
    place
        .with(async |app, vault| {
            vault.unpin(&place.office, &place.older).unwrap();
            app.catalog().set_pinned(&place.office, &place.older, false).await.unwrap();
        })
        .await;
    copy_tree(&place.path("state"), &place.path("saved"));
    // Meanwhile there are three more, and only the newest is kept.
    let keeping = "[retention]\nlast = 1\n";
    let app = App::open(place.bench.config(0, keeping), Cancel::default()).await.unwrap();
    for _ in 0..3 {
        copy_office(&app, &place.office, false).await;
    }
    let what = prune::PruneRequest { volume: None, dry_run: false, actor: "test" };
    prune::prune(&app, what).await.unwrap();
    close(app).await;
    std::fs::rename(place.path("state"), place.path("later")).unwrap();
    std::fs::rename(place.path("saved"), place.path("state")).unwrap();
    let app = App::open(place.bench.config(0, keeping), Cancel::default()).await.unwrap();
    let done = reconcile::reconcile(&app, &app.vault().await.unwrap()).await.unwrap();
    assert_eq!((done.adopted, done.missing.len(), done.forgotten.len()), (1, 0, 2), "{done:?}");
    assert_eq!(contradiction(&app).await, None);
    assert_eq!(app.catalog().versions(&place.office).await.unwrap().len(), 1);
    close(app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_beside_copies_and_prunes_ends_in_line() {
    let place = Place::new().await;
    let keeping = "[retention]\nlast = 2\n";
    let (one, other) = (
        App::open(place.bench.config(0, keeping), Cancel::default()).await.unwrap(),
        App::open(place.bench.config(0, keeping), Cancel::default()).await.unwrap(),
    );
    let office = place.office.clone();
    let working = tokio::spawn(async move {
        for _ in 0..8 {
            copy_office(&one, &office, false).await;
            prune::prune(&one, prune::PruneRequest { volume: None, dry_run: false, actor: "test" }).await.unwrap();
        }
        close(one).await;
    });
    let mut rebuilds = 0;
    while !working.is_finished() {
        versions::rebuild(&other).await.unwrap();
        rebuilds += 1;
    }
    working.await.unwrap();
    assert!(rebuilds > 0);
    let vault = other.vault().await.unwrap();
    assert_eq!(contradiction(&other).await, None, "after {rebuilds} rebuilds");
    assert_eq!(reconcile::reconcile(&other, &vault).await.unwrap(), Reconciled::default());
    let numbers: Vec<_> = vault.versions(&place.office).unwrap().iter().map(|entry| entry.id.seq()).collect();
    assert_eq!(numbers, [1, 9, 10], "the pinned one and the last two");
    close(other).await;
}
