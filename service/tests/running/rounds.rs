//! Rounds, windows, caps, and several services on one state folder.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use stackferry_catalog::{Clock, Outcome, Trigger, VolumeState};
use stackferry_engine::decide::RoundOutcome;
use stackferry_engine::round;
use stackferry_problem::progress::Reporter;

use crate::bench::{Bench, Service, endings, get, until};

const OFTEN: &str = "[schedule]\nevery = \"1s\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_appears_and_what_changes_is_copied_by_itself() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let service = Service::start(&bench, OFTEN).await;
    let catalog = service.app.catalog().clone();
    let versions = async |volume| catalog.versions(volume).await.unwrap().len();
    until("the first volume is copied", async || versions(&office).await == 1).await;
    until("it is ready", async || get(service.address, "/readyz").await == (200, "ok\n".to_owned())).await;

    let visio = bench.appstack("Visio", 1 << 20);
    until("a new volume is copied", async || versions(&visio).await == 1).await;
    bench.appstack("Office", 2 << 20);
    until("a changed volume is copied again", async || versions(&office).await == 2).await;
    until("nothing runs", async || service.sample("stackferry_transfers_running").await == Some(0.0)).await;
    assert_eq!(versions(&visio).await, 1);
    assert_eq!(
        service.sample("stackferry_volume_versions{kind=\"appstack\",volume=\"appstack/Office\"}").await,
        Some(2.0)
    );
    assert_eq!(service.sample("stackferry_copy_duration_seconds_count").await, Some(3.0));
    assert_eq!(
        service.sample("stackferry_source_read_bytes_total{route=\"local\"}").await.map(|n| n >= 4e6),
        Some(true)
    );

    let folder = bench.dir.path().join("nfs01/cloudvolumes/apps");
    std::fs::remove_file(folder.join("Visio.vmdk")).unwrap();
    std::fs::remove_file(folder.join("Visio-flat.vmdk")).unwrap();
    let gone = async || catalog.volume(&visio).await.unwrap().unwrap().state == VolumeState::Gone;
    until("a volume that was removed is gone", gone).await;
    assert_eq!(versions(&visio).await, 1, "its version stays");
    assert_eq!(service.sample("stackferry_volume_versions{kind=\"appstack\",volume=\"appstack/Visio\"}").await, None);
    service.end().await;
    assert_eq!(bench.incoming(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_on_one_state_folder_copy_a_volume_once() {
    let bench = Bench::new();
    let volumes: Vec<_> = (0..4).map(|number| bench.appstack(&format!("App{number}"), 1 << 20)).collect();
    let more = "[schedule]\nevery = \"1s\"\n[limits]\nbandwidth = \"2MB/s\"\n";
    let one = Service::start(&bench, more).await;
    let other = Service::start(&bench, more).await;
    let catalog = bench.catalog().await;
    until("all are copied", async || {
        let mut copied = 0;
        for volume in &volumes {
            copied += catalog.versions(volume).await.unwrap().len();
        }
        copied >= volumes.len()
    })
    .await;
    for service in [&one, &other] {
        // Rounds that decided before the last copy ended have their say too.
        let rounds = "stackferry_discovery_rounds_total{source=\"default/nfs01\"}";
        let now = service.sample(rounds).await.unwrap();
        until("more rounds are over", async || service.sample(rounds).await.unwrap() >= now + 2.0).await;
        let running = async || service.sample("stackferry_transfers_running").await == Some(0.0);
        until("nothing runs", running).await;
    }
    one.end().await;
    other.end().await;
    for volume in &volumes {
        let copied = endings(&catalog, volume).await.into_iter().filter(|(outcome, _)| *outcome == Outcome::Copied);
        assert_eq!((catalog.versions(volume).await.unwrap().len(), copied.count()), (1, 1), "{volume}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_ends_stops_the_copy_which_goes_on_in_the_next() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 16 << 20);
    let seconds = Arc::new(AtomicI64::new(0));
    let at = |text: &str| {
        let noon: jiff::civil::DateTime = format!("2026-11-22T{text}").parse().unwrap();
        seconds.store(noon.to_zoned(TimeZone::system()).unwrap().timestamp().as_second(), Ordering::SeqCst);
    };
    at("12:00:00");
    let told = seconds.clone();
    let clock = Clock::from_fn(move || Timestamp::from_second(told.load(Ordering::SeqCst)).unwrap());
    let more = "[schedule]\nevery = \"1s\"\nwindows = [\"22:00-06:00\"]\n[limits]\nbandwidth = \"4MB/s\"\n";
    let service = Service::start_at(&bench, more, clock).await;
    let catalog = service.app.catalog().clone();
    let outside = "stackferry_copy_skipped_total{reason=\"outside_window\"}";
    until("it is left alone outside its window", async || service.sample(outside).await >= Some(2.0)).await;
    assert!(catalog.attempts(&office, 9).await.unwrap().is_empty());

    at("23:00:00");
    until("it is copied", async || service.sample("stackferry_transfers_running").await == Some(1.0)).await;
    until("some of it is there", async || {
        let files = walk(&bench.dir.path().join("vault/incoming"));
        files.iter().any(|(name, used)| name.ends_with("Office-flat.vmdk") && *used >= 2 << 20)
    })
    .await;
    let ended = Instant::now();
    at("06:00:00");
    until("the copy ends with its window", async || !endings(&catalog, &office).await.is_empty()).await;
    assert!(ended.elapsed() < Duration::from_secs(30));
    let deferred = (Outcome::Deferred, Some("outside_window".to_owned()));
    assert_eq!(endings(&catalog, &office).await, std::slice::from_ref(&deferred));
    assert_eq!(bench.incoming(), 1, "what was copied is kept");
    assert!(catalog.versions(&office).await.unwrap().is_empty());
    assert_eq!(catalog.volume(&office).await.unwrap().unwrap().last_error, None, "it is no failure");

    at("22:30:00");
    until("it is copied in the next window", async || endings(&catalog, &office).await.len() == 2).await;
    assert_eq!(endings(&catalog, &office).await, [(Outcome::Copied, None), deferred]);
    let read = service.sample("stackferry_source_read_bytes_total{route=\"local\"}").await.unwrap();
    assert!(read < f64::from(16 << 20), "it went on where it was: {read} bytes were read");
    service.end().await;
}

/// Every file below a folder, with the bytes that it takes on the disk.
fn walk(folder: &std::path::Path) -> Vec<(String, u64)> {
    use std::os::unix::fs::MetadataExt;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(about) if about.is_dir() => files.extend(walk(&entry.path())),
            Ok(about) => files.push((entry.path().display().to_string(), about.blocks() * 512)),
            Err(_) => {}
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_round_keeps_to_windows_and_bandwidth_too() {
    let bench = Bench::new();
    bench.appstack("Office", 4 << 20);
    let noon: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    let minute = |of_day: i8| format!("{of_day:02}:00");
    let hour = noon.to_zoned(TimeZone::system()).hour();
    let window = format!("{}-{}", minute((hour + 1) % 24), minute((hour + 2) % 24));
    let round = async |window: &str| {
        let more = format!("[limits]\nbandwidth = \"4MB/s\"\n[schedule.appstack]\nwindows = [{window}]\n");
        let clock = Clock::from_fn(move || noon);
        let app = stackferry_engine::app::App::open_with(bench.config(0, &more), <_>::default(), clock).await.unwrap();
        let result = round::run(&app, Trigger::Schedule, &Reporter::quiet()).await.unwrap();
        let [volume] = &result.volumes[..] else { panic!("{result:?}") };
        (volume.outcome, volume.reason.as_ref().map(|reason| reason.code.clone()))
    };
    let outside = (RoundOutcome::Deferred, Some("outside_window".to_owned()));
    assert_eq!(round(&format!("\"{window}\"")).await, outside);
    let began = Instant::now();
    assert_eq!(round("").await, (RoundOutcome::Copied, None));
    assert!(began.elapsed() >= Duration::from_millis(900), "4 MiB at 4 MB/s took {:?}", began.elapsed());
}
