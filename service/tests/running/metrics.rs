//! What is told by HTTP.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use stackferry_catalog::{
    DatastoreKey, InventoryRound, ObservedLocation, ObservedVolume, Outcome, RestoreTest, StatusReason, VaultVolume,
    VersionRow, VolumeState,
};
use stackferry_engine::app::App;
use stackferry_engine::health::Health;
use stackferry_engine::metrics::RunningGuard;
use stackferry_engine::metrics::registry::{FAMILIES, Type, document};
use stackferry_engine::prune::{self, PruneRequest};
use stackferry_engine::restore::{Destination, restore};
use stackferry_problem::Code;
use stackferry_transfer::{NoProgress, Progress};
use stackferry_volume::io::Cancel;
use stackferry_volume::manifest::{ByteCounts, VerifyMethod};
use stackferry_volume::{Generation, Kind, Location, SiteName, VersionId, VolumeId};
use stackferry_web::http;

use crate::bench::{Bench, Service, get, id, sample, until};
use crate::direct::Direct;

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

/// An hour ago, in whole seconds: no volume is overdue yet, whatever the date is.
fn an_hour_ago() -> Timestamp {
    let now = Timestamp::now().as_second();
    Timestamp::from_second(now - 3600).unwrap()
}

async fn record(app: &App, volumes: Vec<ObservedVolume>, at: Timestamp) {
    let key = nfs01();
    let round = InventoryRound { at, volumes, scanned: vec![key], unreachable: vec![], complete: true };
    app.catalog().record_inventory(&round).await.unwrap();
}

/// An app and the address where it tells; nothing runs by itself.
pub(crate) async fn telling(bench: &Bench, more: &str) -> (App, std::net::SocketAddr) {
    let app = App::open(bench.config(0, more), Cancel::default()).await.unwrap();
    let server = http::Server::bind(app.config()).await.unwrap();
    let address = server.address();
    let router = stackferry_web::router(app.clone(), Health::new(std::time::Duration::from_secs(60)).into());
    tokio::spawn(server.serve(router, std::future::pending()));
    (app, address)
}

/// Volumes of every sort, seen at `seen`, and something of everything that is counted.
async fn all_sorts(app: &App, seen: Timestamp) -> RunningGuard {
    let mut attached = observed(id(r"writable/CORP!5C!jd"), "CORP\\jd \"the\"\nsecond", 1);
    attached.state = VolumeState::Deferred;
    attached.reason = Some(StatusReason { code: "attached".into(), text: "it is attached".into() });
    let mut lost = observed(id("package/Lost"), "Lost", 2);
    lost.state = VolumeState::Unprotectable;
    lost.protectable = false;
    record(app, vec![observed(id("appstack/Gone"), "Gone", 4), attached.clone(), lost.clone()], seen).await;
    record(app, vec![observed(id("appstack/Office"), "Office", 3), attached, lost], seen).await;
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
    let running = metrics.copy_began(&id("appstack/Visio"), 100);
    running.progress(&(Arc::new(NoProgress) as Arc<dyn Progress>)).done(25);
    drop(metrics.copy_began(&id("appstack/Office"), 100));
    metrics.copy_ended(Outcome::Copied, "local", &bytes, None, std::time::Duration::from_secs(45));
    metrics.copy_ended(Outcome::Deferred, "local", &bytes, Some("outside_window"), std::time::Duration::from_secs(45));
    metrics.copy_failed(Kind::Writable, Code::SourceChanged);
    metrics.skipped("attached");
    metrics.waiting(3);
    metrics.retried(Code::Unreachable);
    metrics.lease_lost();
    metrics.verified(true, 1000);
    metrics.verified(false, 500);
    metrics.restore_tested(true);
    metrics.restore_tested(false);
    metrics.restore_began();
    metrics.restored(2000, std::time::Duration::from_secs(7));
    metrics.restore_began();
    metrics.restore_failed();
    metrics.pruned(2, 300);
    prune::prune(app, PruneRequest { volume: None, dry_run: false, actor: "test" }).await.unwrap();
    metrics.config_reloaded(false);
    metrics.sources().looked_at(&nfs01(), seen + SignedDuration::from_mins(30), true, false);
    metrics.sources().asked("app_volumes", "avm1", Ok(()));
    // Nothing listens there: it is asked, and does not answer.
    app.ask_systems().await;
    let version = VersionId::new(seen, 1);
    app.catalog().add_version(&version_row(id("appstack/Office"), version.clone(), seen)).await.unwrap();
    let test = RestoreTest { at: seen, ok: true, found: "NTFS".into(), content: None };
    app.catalog().set_restore_tested(&id("appstack/Office"), &version, &test).await.unwrap();
    let debt = stackferry_catalog::Cleanup {
        what: stackferry_catalog::CleanupKind::Account,
        system: "vc1".into(),
        subject: "esx1 sf-000000-00000000".into(),
        detail: serde_json::json!({ "host_id": "host-1", "host_name": "esx1", "name": "sf-000000-00000000" }),
    };
    app.catalog().add_cleanup(&debt).await.unwrap();
    let now = Timestamp::now();
    let credential = stackferry_catalog::NewCredential {
        name: "sf-000000-00000000".into(),
        volume: id("appstack/Office"),
        file: "Office-flat.vmdk".into(),
        route: "esxi".into(),
        host: "esx1".into(),
        direction: stackferry_catalog::Direction::Read,
        standing: true,
        issued: now,
        expires: now,
    };
    app.catalog().credential_issued(&credential).await.unwrap();
    running
}

/// A manager and a host that nobody ever starts.
const NEVER_THERE: &str = "[retention]\nlast = 7\n\
    [[app_volumes]]\nname = \"avm1\"\nurl = \"https://127.0.0.1:1\"\nusername = \"u\"\n\
    password = { env = \"STACKFERRY_TEST_NO_SUCH_VARIABLE\" }\n\
    [[datastore]]\nname = \"nfs02\"\nroute = \"endpoint\"\nhost = \"127.0.0.1:1\"\nkey = \"/nowhere/key\"\n\
    host_key = \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJSnMm8JBnOsC1Yg3Aq4mC0yOCY9PCbn4x5nBPhq0wzI\"\n";

fn nfs01() -> DatastoreKey {
    DatastoreKey { site: SiteName("default".into()), datastore: "nfs01".into() }
}

fn families(text: &str) -> BTreeSet<(String, String)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split_once(' ').unwrap()).map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exposed_is_the_table() {
    let bench = Bench::new();
    let (app, address) = telling(&bench, NEVER_THERE).await;
    let seen = an_hour_ago();
    let _running = all_sorts(&app, seen).await;
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
    let varying = [
        "process_",
        "stackferry_vault_free",
        "stackferry_vault_size",
        "stackferry_vault_reserve",
        "stackferry_start_",
        "stackferry_clock_",
        "stackferry_config_last_reload_success_",
        "stackferry_prune_last_success_",
        "stackferry_system_last_success_",
        "stackferry_credentials_oldest_",
        "stackferry_volume_inflight_progress_",
        "stackferry_build_info",
    ];
    // Hosts that other tests of this process met.
    let hosts = "stackferry_hostkey_mismatches_total{";
    let varies = |line: &str| {
        (line.starts_with(hosts) && !line.contains("\"127.0.0.1:1\""))
            || varying.iter().any(|name| line.starts_with(name))
            || (line.contains("appstack/Office") && line.contains("timestamp"))
    };
    let lines = text.lines().filter(|line| !line.starts_with('#') && !varies(line));
    let told: Vec<String> = lines.map(|line| since(line, seen)).collect();
    insta::assert_snapshot!("told", told.join("\n"));
    promtool(&text);
}

/// A line whose value is a time, with the seconds that passed since `seen` in its place.
fn since(line: &str, seen: Timestamp) -> String {
    let name = line.split(['{', ' ']).next().unwrap_or_default();
    match line.rsplit_once(' ') {
        Some((series, value)) if name.ends_with("_timestamp_seconds") => {
            let passed = value.parse::<f64>().unwrap() - seen.as_second() as f64;
            format!("{series} seen + {passed} s")
        }
        _ => line.to_owned(),
    }
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

pub(crate) fn version_row(volume: VolumeId, version: VersionId, at: Timestamp) -> VersionRow {
    VersionRow {
        volume,
        version,
        generation: Generation::FIRST,
        created: at,
        bytes: 20 << 30,
        stored: 1 << 30,
        verified: true,
        verify_method: VerifyMethod::Arrival,
        pinned: false,
        damaged: None,
        last_verified: Some(at),
        route: "local".into(),
        incident: None,
        content: None,
        restore_test: None,
        deleting: None,
    }
}

/// A catalog that knows 5,500 writables, each with so many versions. Two of them differ: one never was copied, one is held.
pub(crate) async fn many(app: &App, versions: u64) {
    const HELD: usize = 17;
    let volume = |number: usize| id(&format!("writable/CORP!5C!user{number}"));
    let volumes = (0..5500).map(|number| {
        let mut volume = observed(volume(number), &format!("CORP\\user{number}"), number);
        if number == HELD {
            volume.state = VolumeState::Deferred;
            volume.reason = Some(StatusReason { code: "attached".into(), text: "it is attached".into() });
        }
        volume
    });
    let now = Timestamp::now();
    record(app, volumes.collect(), an_hour_ago()).await;
    let kept = (1..5500).map(|number| {
        let rows = (1..=versions).map(|seq| version_row(volume(number), VersionId::new(now, seq), now));
        VaultVolume {
            id: volume(number),
            stem: number.to_string(),
            name: format!("CORP\\user{number}"),
            owner: None,
            guid: None,
            generation: Generation::FIRST,
            size_bytes: Some(20 << 30),
            locations: vec![],
            versions: rows.collect(),
            baselines: vec![],
        }
    });
    app.catalog().replace_all(&kept.collect::<Vec<_>>()).await.unwrap();
}

/// How many versions each of many volumes has: 3, or as the environment says.
pub(crate) fn versions_of_each() -> u64 {
    std::env::var("STACKFERRY_TEST_VERSIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// Told as text, so that the time it takes can be read in the output (`--nocapture`); what it takes depends on the
/// machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_of_5500_volumes_is_told_in_one_scrape() {
    let versions = versions_of_each();
    let bench = Bench::new();
    many(&telling(&bench, "").await.0, versions).await;
    let series = |text: &str| text.lines().filter(|line| line.starts_with("stackferry_volume_")).count();
    // Six series of each, success and reading back of those that have versions, and since when one is held.
    let all = 5500 * 5 + 5499 * 2 + 1;
    for (per_volume, expected) in [("all", all), ("problems", 5 + 5 + 2 + 1), ("off", 0)] {
        let (app, _) = telling(&bench, &format!("[metrics]\nper_volume = \"{per_volume}\"\n")).await;
        let (answer, took) = Direct::new(&app).page("/metrics", &[], 11).await;
        let text = answer.body;
        let resident = sample(&text, "process_resident_memory_bytes").unwrap_or_default();
        println!(
            "per_volume = {per_volume}, {versions} versions each: {} statements, {took:?} at the server (median of 11), \
             {} bytes of text, {:.0} MiB resident",
            answer.statements,
            text.len(),
            resident / f64::from(1 << 20)
        );
        assert!((1..=12).contains(&answer.statements), "{}", answer.statements);
        assert_eq!(series(&text), expected, "{per_volume}");
        assert_eq!(sample(&text, "stackferry_volumes{kind=\"writable\",state=\"ready\"}"), Some(5499.0));
        assert_eq!(sample(&text, "stackferry_volumes_never_copied"), Some(1.0));
        assert_eq!(sample(&text, "stackferry_versions"), Some(5499.0 * versions as f64));
        assert_eq!(sample(&text, "stackferry_volumes_unprotected{reason=\"waiting\"}"), Some(1.0));
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
async fn a_disk_that_never_changes_stays_fresh_without_being_read() {
    let bench = Bench::new();
    bench.appstack("Office", 1 << 20);
    let service = Service::start(&bench, "[schedule]\nevery = \"1s\"\n").await;
    let success = "stackferry_volume_last_success_timestamp_seconds{kind=\"appstack\",volume=\"appstack/Office\"}";
    until("it is copied", async || service.sample(success).await.is_some()).await;
    let first = service.sample(success).await.unwrap();
    until("a later round finds it unchanged", async || service.sample(success).await > Some(first + 2.0)).await;
    assert_eq!(service.sample("stackferry_copy_attempts_total{kind=\"appstack\"}").await, Some(1.0));
    assert_eq!(service.app.catalog().volumes().await.unwrap()[0].versions, 1);
    // Changed, and not copied yet: what was found equal before stays what it was.
    service.app.jobs().pause(None, "test").await.unwrap();
    bench.appstack("Office", 2 << 20);
    let left = "stackferry_copy_skipped_total{reason=\"paused\"}";
    until("a round leaves it alone", async || service.sample(left).await >= Some(1.0)).await;
    let last = service.sample(success).await.unwrap();
    until("more rounds do", async || service.sample(left).await >= Some(3.0)).await;
    assert_eq!(service.sample(success).await, Some(last));
    service.end().await;
}

/// What is known beforehand is at 0 before anything happens: else the first failure would be no increase.
#[tokio::test(flavor = "multi_thread")]
async fn counters_begin_at_zero() {
    let bench = Bench::new();
    let (app, address) = telling(&bench, NEVER_THERE).await;
    let text = get(address, "/metrics").await.1;
    for kind in Kind::ALL {
        for code in [Code::LoginRefused, Code::NoSpace, Code::Unreachable, Code::HostKeyChanged, Code::SourceChanged] {
            let series = format!("stackferry_copy_failures_total{{kind=\"{kind}\",reason=\"{code}\"}}");
            assert_eq!(sample(&text, &series), Some(0.0), "{series}");
        }
    }
    let known = [
        "stackferry_copy_skipped_total{reason=\"attached\"}",
        "stackferry_copy_skipped_total{reason=\"unchanged\"}",
        "stackferry_retries_total{reason=\"unreachable\"}",
        "stackferry_copy_phase_seconds_total{phase=\"commit\"}",
        "stackferry_credentials_refused_total{route=\"endpoint\"}",
        "stackferry_hostkey_mismatches_total{host=\"127.0.0.1:1\"}",
        "stackferry_restore_failures_total",
    ];
    for series in known {
        assert_eq!(sample(&text, series), Some(0.0), "{series}");
    }
    // A route that comes with a new configuration.
    let ssh = "stackferry_credentials_refused_total{route=\"ssh\"}";
    assert_eq!(sample(&text, ssh), None);
    let more = "[[datastore]]\nname = \"nfs03\"\nroute = \"ssh\"\nhost = \"127.0.0.1:1\"\nuser = \"backup\"\n\
        path = \"/mnt\"\nca_key = \"/nowhere/ca\"\nknown_hosts = \"/nowhere/known\"\n";
    app.metrics().expect(&bench.config(1, more));
    assert_eq!(sample(&get(address, "/metrics").await.1, ssh), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_time_goes_and_how_restores_end_is_told() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 4 << 20);
    let service = Service::start(&bench, "[schedule]\nevery = \"1s\"\n").await;
    until("it is copied", async || service.sample("stackferry_versions").await == Some(1.0)).await;
    let phase = async |phase: &str| {
        service.sample(&format!("stackferry_copy_phase_seconds_total{{phase=\"{phase}\"}}")).await.unwrap()
    };
    for name in ["plan", "transfer", "check", "commit"] {
        until(name, async || phase(name).await > 0.0).await;
    }
    let to = Destination::Folder(bench.dir.path().join("restored"));
    for _ in 0..2 {
        let progress = Arc::new(NoProgress) as Arc<dyn Progress>;
        // The second time the files are there already, and are not overwritten.
        let _ = restore(&service.app, &office.to_string(), &to, false, "test", progress).await;
    }
    assert_eq!(service.sample("stackferry_restore_attempts_total").await, Some(2.0));
    assert_eq!(service.sample("stackferry_restore_failures_total").await, Some(1.0));
    assert_eq!(service.sample("stackferry_restore_duration_seconds_count").await, Some(1.0));
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
    assert_eq!(get(address, "/nothing").await.0, 404);
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
