//! What is told by HTTP.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use jiff::Timestamp;
use stackferry_catalog::{
    DatastoreKey, InventoryRound, ObservedLocation, ObservedVolume, Outcome, Reason, VolumeState,
};
use stackferry_service::app::App;
use stackferry_service::daemon::Health;
use stackferry_service::http;
use stackferry_service::metrics::registry::{FAMILIES, Type, document};
use stackferry_service::problem::Code;
use stackferry_volume::io::Cancel;
use stackferry_volume::manifest::ByteCounts;
use stackferry_volume::{Generation, Kind, Location, SiteName, VolumeId};

use crate::bench::{Bench, Service, get, id, sample, until};

fn observed(id: VolumeId, name: &str, at: usize) -> ObservedVolume {
    let place = Location {
        site: SiteName("default".into()),
        datastore: "nfs01".into(),
        path: format!("cloudvolumes/apps/{at}.vmdk"),
    };
    ObservedVolume {
        id,
        stem: at.to_string(),
        name: name.to_owned(),
        owner: None,
        guid: None,
        generation: Generation::FIRST,
        size_bytes: Some(20 << 30),
        state: VolumeState::Ready,
        attached: None,
        protectable: true,
        reason: None,
        remedy: None,
        locations: vec![ObservedLocation {
            location: place,
            datastore_type: Some("NFS".into()),
            reachable: true,
            fingerprint: Some(stackferry_volume::Fingerprint::new(Vec::new(), None)),
            settled: true,
        }],
    }
}

async fn record(app: &App, volumes: Vec<ObservedVolume>) {
    let key = DatastoreKey { site: SiteName("default".into()), datastore: "nfs01".into() };
    let at: Timestamp = "2026-11-22T04:00:00Z".parse().unwrap();
    let round = InventoryRound { at, volumes, scanned: vec![key], unreachable: vec![], complete: true };
    app.catalog().record_inventory(&round).await.unwrap();
}

/// An app and the address where it tells; nothing runs by itself.
async fn telling(bench: &Bench, more: &str) -> (App, std::net::SocketAddr) {
    let app = App::open(bench.config(0, more), Cancel::default()).await.unwrap();
    let (listener, address) = http::bind(app.config()).await.unwrap();
    let router = http::router(app.clone(), Health::new(std::time::Duration::from_secs(60)).into());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (app, address)
}

/// Volumes of every sort, and something of everything that is counted.
async fn all_sorts(app: &App) {
    let mut attached = observed(id(r"writable/CORP!5C!jd"), "CORP\\jd \"the\"\nsecond", 1);
    attached.state = VolumeState::Deferred;
    attached.reason = Some(Reason { code: "attached".into(), text: "it is attached".into() });
    let mut lost = observed(id("package/Lost"), "Lost", 2);
    lost.state = VolumeState::Unprotectable;
    lost.protectable = false;
    record(app, vec![observed(id("appstack/Gone"), "Gone", 4), attached.clone(), lost.clone()]).await;
    record(app, vec![observed(id("appstack/Office"), "Office", 3), attached, lost]).await;
    let attempt = app
        .catalog()
        .start_attempt(&id("appstack/Office"), "local", stackferry_catalog::Trigger::Schedule)
        .await
        .unwrap();
    let end = stackferry_catalog::AttemptEnd {
        outcome: Outcome::Unchanged,
        version: None,
        error: None,
        bytes: ByteCounts::default(),
        took: std::time::Duration::from_secs(1),
    };
    app.catalog().finish_attempt(attempt, &end).await.unwrap();
    app.vault().await.unwrap();
    let metrics = app.metrics();
    let bytes = ByteCounts { logical: 100, read: 40, zero: 60, wire: 50, stored: 30 };
    drop(metrics.copy_began(Kind::Appstack));
    metrics.copy_ended(Outcome::Copied, "local", &bytes, None, std::time::Duration::from_secs(45));
    metrics.copy_ended(Outcome::Deferred, "local", &bytes, Some("outside_window"), std::time::Duration::from_secs(45));
    metrics.copy_failed(Kind::Writable, Code::SourceChanged);
    metrics.skipped("attached");
    metrics.waiting(3);
}

fn families(text: &str) -> BTreeSet<(String, String)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split_once(' ').unwrap()).map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exposed_is_the_table() {
    let bench = Bench::new();
    let (app, address) = telling(&bench, "").await;
    all_sorts(&app).await;
    let (status, text) = get(address, "/metrics").await;
    assert_eq!(status, 200, "{text}");
    let table: BTreeSet<_> =
        FAMILIES.iter().map(|family| (family.name.to_owned(), family.kind.as_str().to_owned())).collect();
    assert_eq!(families(&text), table);
    for family in FAMILIES {
        assert!(text.contains(&format!("# HELP {} {}\n", family.name, family.meaning)), "{}", family.name);
        let series = text.lines().find(|line| {
            let rest = line.strip_prefix(family.name).unwrap_or_default();
            rest.starts_with(['{', ' ']) || (family.kind == Type::Histogram && rest.starts_with("_bucket"))
        });
        let series = series.unwrap_or_else(|| panic!("{} has no series", family.name));
        for label in family.labels {
            assert!(series.contains(&format!("{label}=\"")), "{series} lacks {label}");
        }
    }
    // Values that differ from machine to machine are left out.
    let varying = ["process_", "stackferry_vault_", "stackferry_start_", "stackferry_build_info"];
    let varies = |line: &str| {
        varying.iter().any(|name| line.starts_with(name))
            || (line.contains("appstack/Office") && line.contains("timestamp"))
    };
    let told: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !varies(line)).collect();
    insta::assert_snapshot!("told", told.join("\n"));
    promtool(&text);
}

/// Prometheus' own check of names and form, where it is installed.
fn promtool(text: &str) {
    let mut check = Command::new("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let spawned = check.spawn();
    let Ok(mut check) = spawned else {
        eprintln!("promtool is not installed: its check is left out");
        return;
    };
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_document_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("STACKFERRY_TEST_WRITE").is_some() {
        std::fs::write(&path, document()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == document(), "{} is out of date: run the tests with STACKFERRY_TEST_WRITE=1", path.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_of_5500_volumes_is_told_in_one_scrape() {
    let bench = Bench::new();
    let series = |text: &str| text.lines().filter(|line| line.starts_with("stackferry_volume_")).count();
    for (per_volume, expected) in [("all", 5500 * 3), ("problems", 5500 * 3), ("off", 0)] {
        let (app, address) = telling(&bench, &format!("[metrics]\nper_volume = \"{per_volume}\"\n")).await;
        let volumes = (0..5500).map(|number| {
            observed(id(&format!("writable/CORP!5C!user{number}")), &format!("CORP\\user{number}"), number)
        });
        record(&app, volumes.collect()).await;
        let began = Instant::now();
        let (status, text) = get(address, "/metrics").await;
        println!("per_volume = {per_volume}: {} bytes in {:?}", text.len(), began.elapsed());
        assert_eq!((status, series(&text)), (200, expected), "{per_volume}");
        assert_eq!(sample(&text, "stackferry_volumes{kind=\"writable\",state=\"ready\"}"), Some(5500.0));
        assert_eq!(sample(&text, "stackferry_volumes_never_copied"), Some(5500.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_volumes_with_problems_are_told_if_so_configured() {
    let bench = Bench::new();
    bench.appstack("Office", 1 << 20);
    let more = "[schedule]\nevery = \"1s\"\n[metrics]\nper_volume = \"problems\"\n";
    let service = Service::start(&bench, more).await;
    until("it is copied", async || service.sample("stackferry_versions").await == Some(1.0)).await;
    let office = "stackferry_volume_versions{kind=\"appstack\",volume=\"appstack/Office\"}";
    until("it has no problem", async || service.sample(office).await.is_none()).await;
    let folder = bench.dir.path().join("nfs01/cloudvolumes/apps");
    std::fs::write(folder.join("Broken.vmdk"), "# Disk DescriptorFile\nnothing else\n").unwrap();
    let broken = "stackferry_volume_versions{kind=\"appstack\",volume=\"appstack/Broken\"}";
    until("one that can't be protected is told", async || service.sample(broken).await == Some(0.0)).await;
    assert_eq!(service.sample(office).await, None);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_ready_before_vault_and_discovery_are() {
    let bench = Bench::new();
    let (app, address) = telling(&bench, "").await;
    assert_eq!(get(address, "/healthz").await, (200, "ok\n".to_owned()));
    let (status, text) = get(address, "/readyz").await;
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 503);
    insta::assert_json_snapshot!("not_ready", answer);
    app.vault().await.unwrap();
    let (status, text) = get(address, "/readyz").await;
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, answer["reasons"].as_array().unwrap().len()), (503, 1), "discovery is still to come: {text}");
    assert_eq!(get(address, "/").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_can_not_be_opened_is_told_and_tried_again() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let vault = bench.dir.path().join("vault");
    std::fs::create_dir(&vault).unwrap();
    std::fs::write(vault.join("letter.txt"), "not a vault").unwrap();
    let service = Service::start(&bench, "[schedule]\nevery = \"1s\"\n").await;
    until("the reason is told", async || {
        let (status, text) = get(service.address, "/readyz").await;
        status == 503 && text.contains("\"part\":\"vault\"") && !text.contains("it is not open yet")
    })
    .await;
    assert_eq!(service.sample("stackferry_vault_size_bytes").await, None);
    std::fs::remove_file(vault.join("letter.txt")).unwrap();
    let catalog = service.app.catalog().clone();
    until("it is copied", async || !catalog.versions(&office).await.unwrap().is_empty()).await;
    until("it is ready", async || get(service.address, "/readyz").await.0 == 200).await;
    service.end().await;
}
