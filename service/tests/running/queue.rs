//! The queue at work: what a person wants, takes back and holds; what fails; what is cut off; another configuration.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::Value;
use stackferry_catalog::{
    AuditAction, Cancelled, Catalog, Clock, Job, JobFilter, JobId, JobKind, JobState, Priority, Trigger,
};
use stackferry_engine::jobs;
use stackferry_problem::Code;
use stackferry_volume::VolumeId;

use crate::bench::{Bench, Service, endings, free_port, get, sample, until};
use crate::program::{Program, address, command, runs_a_copy};

/// A round only when somebody asks for one, and nothing tested by itself: each job was asked for, or planned by a round.
const SELDOM: &str = "[schedule]\nevery = \"1h\"\n[verify]\nrestore_test = \"0s\"\n";
const OFTEN: &str = "[schedule]\nevery = \"1s\"\n[verify]\nrestore_test = \"0s\"\n";

async fn versions(catalog: &Catalog, volume: &VolumeId) -> usize {
    catalog.versions(volume).await.unwrap().len()
}

async fn job(catalog: &Catalog, id: JobId) -> Job {
    catalog.job(id).await.unwrap().unwrap()
}

async fn queued(catalog: &Catalog) -> Vec<Job> {
    catalog.jobs(&JobFilter { states: vec![JobState::Queued], ..JobFilter::default() }, 100).await.unwrap()
}

async fn ends(catalog: &Catalog, id: JobId) -> Job {
    until("the job ends", async || job(catalog, id).await.state.is_ended()).await;
    job(catalog, id).await
}

async fn actions(catalog: &Catalog) -> Vec<String> {
    catalog.audit_records(0, 1000).await.unwrap().into_iter().map(|record| record.action).collect()
}

/// The program with other arguments and the same configuration file.
fn ask(bench: &Bench, port: u16, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let config = bench.dir.path().join(format!("stackferry-{port}.toml"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_stackferry"));
    let output = command.arg("--config").arg(config).args(["--output", "json"]).args(arguments).stdin(Stdio::null());
    let output = output.output().unwrap();
    let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), value, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requested_copy_is_current_and_shows_progress() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let service = Service::start(&bench, &format!("{SELDOM}[limits]\nbandwidth = \"4MB/s\"\n")).await;
    let (catalog, queue) = (service.app.catalog().clone(), service.app.jobs().clone());
    until("the first version", async || versions(&catalog, &office).await == 1).await;
    until("it is at rest", async || !catalog.job_counts().await.unwrap().contains_key("running")).await;

    // It changed since the last round: a job of a person has the sources looked at again.
    bench.appstack("Office", 4 << 20);
    let mut events = queue.subscribe();
    let id = queue.enqueue(jobs::copy(&office, true, Trigger::Api, "jo")).await.unwrap();
    until("it tells how far it is", async || {
        let progress = queue.progress(id);
        progress.is_some_and(|progress| {
            progress.done > 0 && progress.expected >= 4 << 20 && progress.bytes_per_second > 0.0
        })
    })
    .await;
    let done = ends(&catalog, id).await;
    assert_eq!((done.state, done.outcome.as_deref(), done.actor.as_str()), (JobState::Done, Some("copied"), "jo"));
    assert_eq!(done.result.unwrap()["bytes"]["read"].as_u64().map(|read| read >= 4 << 20), Some(true));
    assert_eq!(versions(&catalog, &office).await, 2);
    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        assert_eq!((event.id, event.kind, event.volume.as_ref()), (id, JobKind::Copy, Some(&office)));
        seen.push(event.state);
    }
    assert_eq!(seen, [JobState::Queued, JobState::Running, JobState::Done]);
    assert_eq!(queue.progress(id), None);

    // Nothing changed: with `if_changed` no version, without it one all the same.
    let id = queue.enqueue(jobs::copy(&office, true, Trigger::Api, "jo")).await.unwrap();
    assert_eq!(ends(&catalog, id).await.outcome.as_deref(), Some("unchanged"));
    let id = queue.enqueue(jobs::copy(&office, false, Trigger::Api, "jo")).await.unwrap();
    assert_eq!(ends(&catalog, id).await.outcome.as_deref(), Some("copied"));
    assert_eq!(versions(&catalog, &office).await, 3);

    // The other kinds.
    let id = queue.enqueue(jobs::verify(Some(&office), None, Trigger::Api, "jo")).await.unwrap();
    let verified = ends(&catalog, id).await;
    assert_eq!((verified.state, &verified.result.unwrap()["ok"]), (JobState::Done, &Value::from(3)));
    let to = bench.dir.path().join("restored");
    let id = queue.enqueue(jobs::restore(&office, None, &to, false, Trigger::Command, "jo")).await.unwrap();
    assert_eq!(ends(&catalog, id).await.state, JobState::Done);
    assert_eq!(std::fs::metadata(to.join("Office-flat.vmdk")).unwrap().len(), 4 << 20);
    let id = queue.enqueue(jobs::restore(&office, None, &to, false, Trigger::Command, "jo")).await.unwrap();
    let refused = ends(&catalog, id).await;
    assert_eq!((refused.state, refused.error.unwrap().code), (JobState::Failed, "exists".to_owned()));
    assert_eq!(refused.result.unwrap()["code"], "exists");
    let gone: VolumeId = "appstack/Never".parse().unwrap();
    let id = queue.enqueue(jobs::copy(&gone, true, Trigger::Api, "jo")).await.unwrap();
    assert_eq!(ends(&catalog, id).await.error.unwrap().code, "no_such_volume");
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_taken_back_and_what_it_copied_is_kept() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 16 << 20);
    let service = Service::start(&bench, &format!("{SELDOM}[limits]\ntransfers = 1\nbandwidth = \"2MB/s\"\n")).await;
    let (catalog, queue) = (service.app.catalog().clone(), service.app.jobs().clone());
    let running = async || {
        let filter = JobFilter { states: vec![JobState::Running], ..JobFilter::default() };
        catalog.jobs(&filter, 9).await.unwrap().pop()
    };
    until("the planned copy runs", async || {
        let Some(job) = running().await else { return false };
        queue.progress(job.id).is_some_and(|progress| progress.done >= 2 << 20)
    })
    .await;
    let planned = running().await.unwrap();
    assert_eq!((planned.trigger, planned.priority), (Trigger::Schedule, Priority::NEVER_COPIED));
    let waiting = queue.enqueue(jobs::copy(&office, false, Trigger::Api, "jo")).await.unwrap();
    assert_ne!(waiting, planned.id, "what runs began before the wish");
    assert_eq!(queue.cancel(waiting, "jo").await.unwrap(), Cancelled::AtOnce);

    // By another process, as the command line does it.
    let other = bench.catalog().await;
    assert_eq!(other.cancel_job(planned.id).await.unwrap(), Some(Cancelled::Requested));
    let asked = Instant::now();
    assert_eq!(ends(&catalog, planned.id).await.state, JobState::Cancelled);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(bench.incoming(), 1, "what was copied is kept");
    assert_eq!(queue.cancel(planned.id, "jo").await.unwrap(), Cancelled::Ended(JobState::Cancelled));
    assert_eq!(queue.cancel(JobId(4711), "jo").await.unwrap_err().code, Code::NoSuchJob);
    assert_eq!(job(&catalog, waiting).await.started, None);
    assert!(actions(&catalog).await.contains(&AuditAction::JobCancelled.to_string()));
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_what_is_planned_and_lasts_over_a_restart() {
    let bench = Bench::new();
    let catalog = bench.catalog_of_a_new_folder().await;
    catalog.pause(None, "root").await.unwrap();
    let (office, visio) = (bench.appstack("Office", 1 << 20), bench.appstack("Visio", 1 << 20));
    let service = Service::start(&bench, OFTEN).await;
    let queue = service.app.jobs().clone();
    assert!(queue.is_paused().await.unwrap());
    let skipped = "stackferry_copy_skipped_total{reason=\"paused\"}";
    until("planned copies are held", async || service.sample(skipped).await >= Some(4.0)).await;
    assert_eq!(versions(&catalog, &office).await + versions(&catalog, &visio).await, 0);
    let id = queue.enqueue(jobs::copy(&visio, false, Trigger::Command, "root")).await.unwrap();
    assert_eq!(ends(&catalog, id).await.state, JobState::Done, "a person gets what they ask for");
    service.end().await;

    let service = Service::start(&bench, OFTEN).await;
    let queue = service.app.jobs().clone();
    until("a round is over", async || service.sample(skipped).await >= Some(1.0)).await;
    assert!(queue.pause(Some(&office), "jo").await.unwrap());
    assert!(queue.resume(None, "jo").await.unwrap());
    assert!(!queue.is_paused().await.unwrap());
    bench.appstack("Visio", 2 << 20);
    until("the others go on", async || versions(&catalog, &visio).await == 2).await;
    assert_eq!(versions(&catalog, &office).await, 0);
    assert!(queue.resume(Some(&office), "jo").await.unwrap());
    until("and then this one", async || versions(&catalog, &office).await == 1).await;
    service.end().await;
}

/// A folder in which nothing can be made, not even by root, until this is dropped.
struct Immutable(std::path::PathBuf);

impl Immutable {
    fn new(folder: std::path::PathBuf) -> Self {
        assert!(chattr("+i", &folder), "{} can't be made immutable", folder.display());
        Self(folder)
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        chattr("-i", &self.0);
    }
}

fn chattr(flag: &str, folder: &std::path::Path) -> bool {
    std::process::Command::new("chattr").arg(flag).arg(folder).status().is_ok_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_waits_for_its_next_try_whatever_the_rounds_say() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let service = Service::start(&bench, &format!("{OFTEN}[limits]\nper_datastore = 1\n")).await;
    let catalog = service.app.catalog().clone();
    until("the first version", async || versions(&catalog, &office).await == 1).await;
    // The volume's folder in the vault takes no version any more: somebody has to do something about it.
    let folder = Immutable::new(bench.dir.path().join("vault/volumes/appstack/Office"));
    bench.appstack("Office", 2 << 20);
    until("it failed", async || queued(&catalog).await.iter().any(|job| job.tries == 1)).await;
    let failed = queued(&catalog).await.pop().unwrap();
    let error = failed.error.clone().unwrap();
    assert_eq!((failed.trigger, failed.datastore.as_deref()), (Trigger::Schedule, Some("default/nfs01")));
    let waits = failed.not_before.unwrap().duration_since(Timestamp::now());
    assert!(waits.as_secs() > 200, "{waits:?} {error:?}");
    let rounds = "stackferry_discovery_rounds_total{source=\"default/nfs01\"}";
    let now = service.sample(rounds).await.unwrap();
    until("more rounds", async || service.sample(rounds).await.unwrap() >= now + 3.0).await;
    let still = queued(&catalog).await;
    assert_eq!((still.len(), still[0].id, still[0].tries), (1, failed.id, 1), "rounds don't hurry it");

    // A person is told at once, and waits for no delay.
    let id = service.app.jobs().enqueue(jobs::copy(&office, true, Trigger::Command, "root")).await.unwrap();
    let told = ends(&catalog, id).await;
    assert_eq!((told.state, told.error.unwrap().code), (JobState::Failed, error.code));
    drop(folder);
    let id = service.app.jobs().enqueue(jobs::copy(&office, true, Trigger::Command, "root")).await.unwrap();
    let told = ends(&catalog, id).await;
    assert_eq!(told.state, JobState::Done, "{told:?}");
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_lets_the_running_service_copy_and_prints_it() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 4 << 20);
    let port = free_port();
    let program = Program::start(command(&bench, port, &format!("{SELDOM}[limits]\nbandwidth = \"2MB/s\"\n")));
    let catalog = bench.catalog_of_a_new_folder().await;
    until("the first version", async || versions(&catalog, &office).await == 1).await;
    // Nobody knows this one yet.
    let visio = bench.appstack("Visio", 1 << 20);
    let (code, told, log) = ask(&bench, port, &["copy", "Visio"]);
    assert_eq!(
        (code, &told["outcome"], &told["volume"]),
        (Some(0), &"copied".into(), &"appstack/Visio".into()),
        "{log}"
    );
    assert_eq!(
        (&told["bytes"]["logical"].as_u64().map(|bytes| bytes > 1 << 20), &told["verified"]),
        (&Some(true), &true.into())
    );
    let done = catalog.jobs(&JobFilter { volume: Some(visio), ..JobFilter::default() }, 9).await.unwrap();
    assert_eq!(
        (done.len(), done[0].trigger, done[0].process.as_ref().unwrap().pid),
        (1, Trigger::Command, program.pid())
    );
    let (code, error, log) = ask(&bench, port, &["copy", "appstack/Nothing"]);
    assert_eq!((code, &error), (Some(10), &Value::Null), "{log}");
    let (code, listed, _) = ask(&bench, port, &["jobs", "--all"]);
    assert_eq!((code, listed.as_array().unwrap().len()), (Some(0), 2));
    assert_eq!((&listed[0]["id"], &listed[0]["state"], &listed[0]["result"]), (&2.into(), &"done".into(), &told));
    let (_, paused, _) = ask(&bench, port, &["pause"]);
    assert_eq!((&paused["paused"], &paused["pauses"][0]["actor"]), (&true.into(), &"command".into()));
    assert_eq!(ask(&bench, port, &["resume"]).1["paused"], false);
    assert_eq!(ask(&bench, port, &["cancel", "2"]).1, serde_json::json!({"id": 2, "was": "done"}));
    assert_eq!(ask(&bench, port, &["cancel", "99"]).0, Some(10));

    // The service goes away in the middle of it: the command goes on by itself, from what was copied.
    bench.appstack("Office", 16 << 20);
    let (arguments, config) = (["copy", "appstack/Office"], bench.dir.path().join(format!("stackferry-{port}.toml")));
    let mut copying = Command::new(env!("CARGO_BIN_EXE_stackferry"));
    copying.arg("--config").arg(config).args(["--output", "json"]).args(arguments);
    let copying = copying.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    runs_a_copy(port).await;
    program.signal(Signal::KILL);
    let output = tokio::task::spawn_blocking(move || copying.wait_with_output().unwrap()).await.unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(told["outcome"], "copied", "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(versions(&catalog, &office).await, 2);
    assert!(queued(&catalog).await.is_empty(), "nothing is left to be done again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_loses_no_job_and_does_none_twice() {
    let bench = Bench::new();
    let volumes: Vec<_> = (0..6).map(|number| bench.appstack(&format!("App{number}"), 4 << 20)).collect();
    let slow = format!("{SELDOM}[limits]\ntransfers = 3\nbandwidth = \"4MB/s\"\n");
    let port = free_port();
    let catalog = bench.catalog_of_a_new_folder().await;
    let mut kills = 0;
    let all = async || {
        let mut all = 0;
        for volume in &volumes {
            all += versions(&catalog, volume).await;
        }
        all
    };
    let mut jobs = 0;
    while all().await < volumes.len() && kills < 20 {
        let program = Program::start(command(&bench, port, &slow));
        let before = all().await;
        until("some run, or all are done", async || {
            let running = catalog.job_counts().await.unwrap().get("running").copied().unwrap_or(0);
            assert!(running <= 3, "the cap holds over restarts");
            (running == 3 && all().await > before) || all().await == volumes.len()
        })
        .await;
        program.signal(Signal::KILL);
        program.end().await;
        kills += 1;
        let counts = catalog.job_counts().await.unwrap();
        jobs = counts.values().sum::<u64>();
    }
    assert!(kills >= 2, "it was never killed among its jobs");
    let program = Program::start(command(&bench, port, &slow));
    program.logs("a round has ended").await;
    until("nothing is left", async || {
        let counts = catalog.job_counts().await.unwrap();
        !counts.contains_key("running") && !counts.contains_key("queued")
    })
    .await;
    program.signal(Signal::TERM);
    let (code, log) = program.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(jobs, 6, "each volume was one job");
    for volume in &volumes {
        assert_eq!(versions(&catalog, volume).await, 1, "{volume}");
    }
    for job in catalog.jobs(&JobFilter::default(), 100).await.unwrap() {
        // One that was committed, and killed before its end was written down, is not due any more.
        let is_done = job.state == JobState::Done || job.outcome.as_deref() == Some("not_due");
        assert!(is_done && job.tries == 0, "{job:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_configuration_again_and_refuses_a_bad_one() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 16 << 20);
    let port = free_port();
    let slow = format!("{SELDOM}[limits]\nbandwidth = \"500kB/s\"\n");
    let program = Program::start(command(&bench, port, &slow));
    let catalog = bench.catalog_of_a_new_folder().await;
    runs_a_copy(port).await;
    // A bad one: the old goes on, and so does the copy.
    let bad = bench.config_file(port, "[limits]\nbandwith = \"1GB/s\"\n");
    program.signal(Signal::HUP);
    let line = program.logs("the configuration is refused").await;
    assert!(line.contains("bandwith") && line.contains(&format!("{}:", bad.display())), "{line}");
    assert_eq!(get(address(port), "/healthz").await.0, 200);
    let metrics = get(address(port), "/metrics").await.1;
    assert_eq!(sample(&metrics, "stackferry_transfers_running"), Some(1.0));
    assert!(!actions(&catalog).await.contains(&AuditAction::ConfigReloaded.to_string()));

    // A good one: the running copy takes the new bandwidth, later ones the rest; the address stays.
    std::fs::create_dir_all(bench.dir.path().join("nfs02/cloudvolumes/apps")).unwrap();
    let root = bench.dir.path().display();
    let more = format!(
        "[schedule]\nevery = \"1s\"\n[[datastore]]\nname = \"nfs02\"\nroute = \"local\"\npath = \"{root}/nfs02\"\n"
    );
    let text = std::fs::read_to_string(bench.config_file(port, &more)).unwrap();
    let moved = text.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{}", free_port()));
    std::fs::write(bench.dir.path().join(format!("stackferry-{port}.toml")), moved).unwrap();
    let began = Instant::now();
    program.signal(Signal::HUP);
    program.logs("takes effect at a restart only").await;
    program.logs("the configuration was read again").await;
    until("the copy is not slow any more", async || versions(&catalog, &office).await == 1).await;
    assert!(began.elapsed() < Duration::from_secs(20), "16 MiB at 500 kB/s take over 30 s: {:?}", began.elapsed());
    let folder = bench.dir.path();
    for name in ["Office.vmdk", "Office-flat.vmdk"] {
        let from = folder.join("nfs01/cloudvolumes/apps").join(name);
        let to = folder.join("nfs02/cloudvolumes/apps").join(name.replace("Office", "Second"));
        std::fs::write(to, std::fs::read(from).unwrap()).unwrap();
    }
    let descriptor = folder.join("nfs02/cloudvolumes/apps/Second.vmdk");
    let text = std::fs::read_to_string(&descriptor).unwrap().replace("Office", "Second");
    std::fs::write(descriptor, text).unwrap();
    let second: VolumeId = "appstack/Second".parse().unwrap();
    until("the new datastore is looked at", async || versions(&catalog, &second).await == 1).await;
    assert_eq!(get(address(port), "/healthz").await.0, 200, "it listens where it did");
    assert!(actions(&catalog).await.contains(&AuditAction::ConfigReloaded.to_string()));
    program.signal(Signal::TERM);
    assert_eq!(program.end().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_stops_deleting_and_nothing_else() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let ahead = Arc::new(AtomicI64::new(0));
    let told = Arc::clone(&ahead);
    let clock = Clock::from_fn(move || {
        let ahead = jiff::SignedDuration::from_secs(told.load(Ordering::SeqCst));
        Timestamp::now().checked_add(ahead).unwrap()
    });
    let service = Service::start_at(&bench, OFTEN, clock).await;
    let (catalog, queue) = (service.app.catalog().clone(), service.app.jobs().clone());
    until("the first version", async || versions(&catalog, &office).await == 1).await;
    let rounds = "stackferry_discovery_rounds_total{source=\"default/nfs01\"}";
    let more_rounds = async || {
        let now = service.sample(rounds).await.unwrap();
        until("rounds go on", async || service.sample(rounds).await.unwrap() >= now + 2.0).await;
    };
    for (jump, frozen) in [(-3600, false), (0, false), (3 * 3600, true)] {
        ahead.store(jump, Ordering::SeqCst);
        more_rounds().await;
        if frozen {
            until("nothing is deleted", async || queue.prune_frozen().await.unwrap().is_some()).await;
        }
        assert_eq!(queue.prune_frozen().await.unwrap().is_some(), frozen, "{jump}");
    }
    assert_eq!(versions(&catalog, &office).await, 1, "nothing is due by it");
    assert_eq!(endings(&catalog, &office).await.len(), 1);
    let why = queue.prune_frozen().await.unwrap().unwrap().why;
    assert!(why.contains("forward"), "{why}");
    assert!(queue.confirm_clock("root").await.unwrap());
    assert!(!queue.confirm_clock("root").await.unwrap());
    assert_eq!(queue.prune_frozen().await.unwrap(), None);
    more_rounds().await;
    assert_eq!(queue.prune_frozen().await.unwrap(), None, "one jump is told once");
    let actions = actions(&catalog).await;
    for action in [AuditAction::PruneFrozen, AuditAction::ClockConfirmed] {
        assert_eq!(actions.iter().filter(|one| **one == action.to_string()).count(), 1, "{action}");
    }
    service.end().await;
}
