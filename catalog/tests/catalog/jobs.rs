//! The queue.

use std::process::{Child, Command};

use serde_json::json;
use stackferry_catalog::*;

use crate::bench::*;

fn planned(id: &str, host: Option<&str>, priority: Priority, last: Option<&str>) -> NewJob {
    NewJob {
        volume: Some(vol(id)),
        trigger: Trigger::Schedule,
        priority,
        last_attempt: last.map(at),
        host: host.map(str::to_owned),
        datastore: host.map(|host| format!("dc1/{host}-ds")),
        ..NewJob::requested(JobKind::Copy, Trigger::Schedule, "service")
    }
}

fn due(id: &str, host: Option<&str>) -> NewJob {
    planned(id, host, Priority::CHANGED, None)
}

fn wanted(id: &str) -> NewJob {
    NewJob { volume: Some(vol(id)), ..NewJob::requested(JobKind::Copy, Trigger::Command, "root") }
}

fn claim(most: u32, per_host: u32) -> Claim<'static> {
    Claim { kinds: &[JobKind::Copy], most, per_host, per_datastore: None, planned: true, closed: &[], known: None }
}

fn ended(state: JobState) -> JobEnd {
    JobEnd { state, outcome: Some("copied".into()), error: None, result: Some(json!({"a": 1})) }
}

fn failed(code: &str) -> StatusReason {
    StatusReason { code: code.into(), text: format!("it is {code}") }
}

impl Bench {
    async fn claimed(&self, claim: &Claim<'_>) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(job) = self.catalog.claim_job(claim).await.unwrap() {
            all.push(job.volume.unwrap().to_string());
        }
        all
    }

    async fn queued(&self) -> Vec<Job> {
        let filter = JobFilter { states: vec![JobState::Queued], ..JobFilter::default() };
        self.catalog.jobs(&filter, 10_000).await.unwrap()
    }
}

#[tokio::test]
async fn an_equal_copy_takes_over_the_more_urgent_request() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    let planned = catalog.enqueue_job(&due("appstack/A", Some("h1"))).await.unwrap();
    assert_eq!(catalog.enqueue_job(&due("appstack/A", Some("h1"))).await.unwrap(), planned);
    let known = catalog.newest_job().await.unwrap();
    assert!(!catalog.is_copy_requested_after(known).await.unwrap());
    let by_hand = NewJob { detail: json!({"if_changed": false}), ..wanted("appstack/A") };
    let wish = catalog.enqueue_job(&by_hand).await.unwrap();
    assert!(wish > planned && catalog.job(planned).await.unwrap().is_none(), "it takes the planned one's place");
    assert!(
        catalog.is_copy_requested_after(known).await.unwrap() && !catalog.is_copy_requested_after(wish).await.unwrap()
    );
    assert_eq!(catalog.enqueue_job(&due("appstack/A", None)).await.unwrap(), wish);
    // Who wants a version in any case gets one, whatever is asked for later.
    let if_changed = json!({"if_changed": true});
    let api = NewJob { trigger: Trigger::Api, actor: "jo".into(), detail: if_changed, ..by_hand.clone() };
    assert_eq!(catalog.enqueue_job(&api).await.unwrap(), wish);
    let job = catalog.job(wish).await.unwrap().unwrap();
    assert_eq!((job.trigger, job.priority, job.actor.as_str()), (Trigger::Api, Priority::REQUESTED, "jo"));
    assert_eq!((job.host.as_deref(), &job.detail), (Some("h1"), &by_hand.detail));
    catalog.place_job(wish, None, Some("dc1/x")).await.unwrap();
    let job = catalog.job(wish).await.unwrap().unwrap();
    assert_eq!((job.host, job.datastore.as_deref()), (None, Some("dc1/x")));
    assert_ne!(catalog.enqueue_job(&wanted("appstack/B")).await.unwrap(), wish);
    assert_eq!(catalog.queued_copies().await.unwrap(), 2);
    let planned = wish;

    // What runs is no reason to leave out a later wish: the source may have changed since it began.
    let running = catalog.claim_job(&claim(9, 9)).await.unwrap().unwrap();
    assert_eq!(running.id, planned);
    let again = catalog.enqueue_job(&by_hand).await.unwrap();
    assert!(again > planned);
    assert_eq!(bench.claimed(&claim(9, 9)).await, ["appstack/B"], "one volume is copied once at a time");
    assert!(catalog.finish_job(planned, &ended(JobState::Done)).await.unwrap());
    assert_eq!(bench.claimed(&claim(9, 9)).await, ["appstack/A"]);
    assert_eq!(catalog.job_counts().await.unwrap(), [("done", 1), ("running", 2)].into());
    assert_eq!(catalog.job(JobId(4711)).await.unwrap(), None);
}

#[tokio::test]
async fn jobs_are_ordered_by_priority_then_by_oldest_attempt() {
    let bench = Bench::new().await;
    let jobs = [
        planned("appstack/changed", None, Priority::CHANGED, None),
        planned("appstack/late", None, Priority::OVERDUE, Some("2026-11-22T05:00:00Z")),
        planned("appstack/early", None, Priority::OVERDUE, Some("2026-11-22T04:00:00.5Z")),
        planned("appstack/never_tried", None, Priority::OVERDUE, None),
        planned("appstack/new", None, Priority::NEVER_COPIED, Some("2026-11-22T06:00:00Z")),
    ];
    assert_eq!(bench.catalog.plan_copies(&jobs, |_| true, |_| false).await.unwrap(), 5);
    bench.catalog.enqueue_job(&wanted("appstack/wanted")).await.unwrap();
    let order = bench.claimed(&claim(9, 9)).await;
    let order: Vec<&str> = order.iter().map(|id| id.trim_start_matches("appstack/")).collect();
    assert_eq!(order, ["wanted", "new", "never_tried", "early", "late", "changed"]);
}

#[tokio::test]
async fn caps_hold_for_all_for_each_host_and_for_each_datastore() {
    let bench = Bench::new().await;
    let jobs: Vec<NewJob> = [("a", Some("h1")), ("b", Some("h1")), ("c", Some("h2")), ("d", None), ("e", None)]
        .into_iter()
        .map(|(stem, host)| due(&format!("appstack/{stem}"), host))
        .collect();
    bench.catalog.plan_copies(&jobs, |_| true, |_| false).await.unwrap();
    assert_eq!(bench.claimed(&claim(3, 1)).await, ["appstack/a", "appstack/c", "appstack/d"]);
    let finish = async |id: i64| assert!(bench.catalog.finish_job(JobId(id), &ended(JobState::Done)).await.unwrap());
    finish(3).await;
    assert_eq!(bench.claimed(&claim(3, 1)).await, ["appstack/e"], "h1 is still busy");
    finish(1).await;
    let datastores = |most| Claim { per_datastore: Some(most), ..claim(9, 9) };
    bench.catalog.enqueue_job(&due("appstack/f", Some("h1"))).await.unwrap();
    assert_eq!(bench.claimed(&datastores(1)).await, ["appstack/b"]);
    assert_eq!(bench.claimed(&datastores(2)).await, ["appstack/f"]);

    // Other kinds have caps of their own.
    bench.catalog.enqueue_job(&NewJob::requested(JobKind::Verify, Trigger::Api, "jo")).await.unwrap();
    let others = Claim { kinds: &[JobKind::Verify, JobKind::Restore], ..claim(1, 1) };
    let verify = bench.catalog.claim_job(&others).await.unwrap().unwrap();
    assert_eq!((verify.kind, verify.actor.as_str(), verify.state), (JobKind::Verify, "jo", JobState::Running));
}

#[tokio::test]
async fn a_round_takes_out_what_is_not_due_any_more_and_keeps_delays() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    let jobs = ["appstack/a", "appstack/b", "writable/c"].map(|id| due(id, None));
    assert_eq!(catalog.plan_copies(&jobs, |_| true, |_| false).await.unwrap(), 3);
    catalog.enqueue_job(&wanted("appstack/w")).await.unwrap();
    let only = Claim { planned: true, ..claim(1, 1) };
    let wanted_one = catalog.claim_job(&only).await.unwrap().unwrap();
    catalog.finish_job(wanted_one.id, &ended(JobState::Done)).await.unwrap();
    catalog.enqueue_job(&wanted("appstack/w")).await.unwrap();

    // a fails and has to wait.
    let w = catalog.claim_job(&claim(2, 9)).await.unwrap().unwrap();
    let a = catalog.claim_job(&claim(2, 9)).await.unwrap().unwrap();
    assert_eq!((w.volume, a.volume), (Some(vol("appstack/w")), Some(vol("appstack/a"))));
    let later = bench.now() + seconds(60);
    assert!(catalog.requeue_job(a.id, Some(&failed("unreachable")), Some(later)).await.unwrap());
    assert!(catalog.requeue_job(w.id, None, None).await.unwrap());

    let is_appstack = |id: &stackferry_volume::VolumeId| id.kind() == stackferry_volume::Kind::Appstack;
    let next = [planned("appstack/a", Some("h9"), Priority::OVERDUE, None), due("appstack/n", None)];
    assert_eq!(catalog.plan_copies(&next, is_appstack, |_| false).await.unwrap(), 1);
    let mut left: Vec<String> = bench.queued().await.into_iter().map(|job| job.volume.unwrap().to_string()).collect();
    left.sort();
    assert_eq!(left, ["appstack/a", "appstack/n", "appstack/w", "writable/c"], "b is gone; c was not decided about");
    let job = catalog.job(a.id).await.unwrap().unwrap();
    assert_eq!((job.tries, job.not_before, job.host.as_deref()), (1, Some(later), Some("h9")));
    assert_eq!((job.error, job.priority), (Some(failed("unreachable")), Priority::OVERDUE));
    assert_eq!(bench.claimed(&claim(9, 9)).await, ["appstack/w", "writable/c", "appstack/n"]);
    bench.pass(60);
    assert_eq!(bench.claimed(&claim(9, 9)).await, ["appstack/a"]);
    assert_eq!(catalog.plan_copies(&[due("appstack/a", None)], |_| true, |_| false).await.unwrap(), 0, "it runs");
    assert!(catalog.requeue_job(a.id, None, None).await.unwrap());
    catalog.plan_copies(&[], |_| true, |_| true).await.unwrap();
    let job = catalog.job(a.id).await.unwrap().unwrap();
    assert_eq!((job.state, job.tries), (JobState::Queued, 1), "a window or a pause does not make a failure forgotten");
    catalog.plan_copies(&[], |_| true, |_| false).await.unwrap();
    let job = catalog.job(a.id).await.unwrap().unwrap();
    assert_eq!((job.state, job.outcome.as_deref()), (JobState::Deferred, Some("not_due")), "it had begun once");
}

#[tokio::test]
async fn retry_delays_can_be_ended_for_all_jobs() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    catalog.plan_copies(&[due("appstack/a", None), due("appstack/b", None)], |_| true, |_| false).await.unwrap();
    let later = bench.now() + seconds(3600);
    for _ in 0..2 {
        let job = catalog.claim_job(&claim(1, 1)).await.unwrap().unwrap();
        catalog.requeue_job(job.id, Some(&failed("login_refused")), Some(later)).await.unwrap();
    }
    assert_eq!(bench.claimed(&claim(9, 9)).await, [""; 0]);
    catalog.enqueue_job(&wanted("appstack/b")).await.unwrap();
    assert_eq!(bench.claimed(&claim(9, 9)).await, ["appstack/b"]);
    assert_eq!(catalog.end_job_delays().await.unwrap(), 1);
    assert_eq!(bench.claimed(&claim(9, 9)).await, ["appstack/a"]);
}

#[tokio::test]
async fn pauses_hold_what_the_schedule_brought() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    catalog.plan_copies(&[due("appstack/a", None), due("appstack/b", None)], |_| true, |_| false).await.unwrap();
    catalog.enqueue_job(&wanted("appstack/w")).await.unwrap();
    assert!(catalog.pause(None, "root").await.unwrap());
    assert!(!catalog.pause(None, "another").await.unwrap());
    assert!(catalog.pause(Some(&vol("appstack/b")), "root").await.unwrap());
    let pauses = bench.another().await.pauses().await.unwrap();
    let whose: Vec<_> = pauses.iter().map(|pause| (pause.volume.clone(), pause.actor.as_str())).collect();
    assert_eq!(whose, [(None, "root"), (Some(vol("appstack/b")), "root")]);
    assert_eq!(bench.claimed(&claim(9, 9)).await, ["appstack/w"]);
    assert!(catalog.resume(None).await.unwrap());
    assert!(!catalog.resume(None).await.unwrap());
    assert_eq!(bench.claimed(&claim(9, 9)).await, ["appstack/a"]);
    assert!(catalog.resume(Some(&vol("appstack/b"))).await.unwrap());
    assert_eq!(bench.claimed(&Claim { planned: false, ..claim(9, 9) }).await, [""; 0], "only what somebody wants");
    assert_eq!(bench.claimed(&claim(9, 9)).await, ["appstack/b"]);
}

#[tokio::test]
async fn a_requested_copy_waits_for_a_later_scan() {
    let bench = Bench::new().await;
    let known = Claim { known: Some(bench.catalog.newest_job().await.unwrap()), ..claim(9, 9) };
    let id = bench.catalog.enqueue_job(&wanted("appstack/w")).await.unwrap();
    bench.catalog.plan_copies(&[due("appstack/a", None)], |_| true, |_| false).await.unwrap();
    assert_eq!(bench.claimed(&known).await, ["appstack/a"]);
    assert_eq!(bench.claimed(&Claim { known: Some(id), ..claim(9, 9) }).await, ["appstack/w"]);
}

#[tokio::test]
async fn what_is_planned_waits_while_its_window_is_closed() {
    let bench = Bench::new().await;
    bench.catalog.plan_copies(&[due("appstack/a", None), due("writable/b", None)], |_| true, |_| false).await.unwrap();
    bench.catalog.enqueue_job(&wanted("writable/w")).await.unwrap();
    let closed = Claim { closed: &[stackferry_volume::Kind::Writable], ..claim(9, 9) };
    assert_eq!(bench.claimed(&closed).await, ["writable/w", "appstack/a"]);
    assert_eq!(bench.claimed(&claim(9, 9)).await, ["writable/b"]);
}

#[tokio::test]
async fn other_jobs_are_equal_where_all_that_they_say_is() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    let verify = |id: &str, trigger| NewJob {
        volume: Some(vol(id)),
        priority: if trigger == Trigger::Schedule { Priority::MAINTENANCE } else { Priority::REQUESTED },
        ..NewJob::requested(JobKind::Verify, trigger, "jo")
    };
    let planned = catalog.enqueue_job(&verify("appstack/a", Trigger::Schedule)).await.unwrap();
    assert_eq!(catalog.enqueue_job(&verify("appstack/a", Trigger::Schedule)).await.unwrap(), planned);
    assert_ne!(catalog.enqueue_job(&verify("appstack/b", Trigger::Schedule)).await.unwrap(), planned);
    let test = NewJob { kind: JobKind::RestoreTest, ..verify("appstack/a", Trigger::Schedule) };
    assert_ne!(catalog.enqueue_job(&test).await.unwrap(), planned);
    let all = NewJob { volume: None, ..verify("appstack/a", Trigger::Schedule) };
    let all = [catalog.enqueue_job(&all).await.unwrap(), catalog.enqueue_job(&all).await.unwrap()];
    assert_eq!(all[0], all[1]);
    let one =
        NewJob { version: Some(version("appstack/a", 1, bench.now()).version), ..verify("appstack/a", Trigger::Api) };
    assert_ne!(catalog.enqueue_job(&one).await.unwrap(), planned);

    let claim = Claim { kinds: &[JobKind::Verify], ..claim(9, 9) };
    let first = catalog.claim_job(&claim).await.unwrap().unwrap();
    assert_eq!(first.version, one.version, "a person goes first");
    catalog.finish_job(first.id, &ended(JobState::Done)).await.unwrap();
    assert_eq!(catalog.claim_job(&claim).await.unwrap().unwrap().id, planned);
    assert_eq!(catalog.enqueue_job(&verify("appstack/a", Trigger::Schedule)).await.unwrap(), planned, "it runs");
    let wish = catalog.enqueue_job(&verify("appstack/a", Trigger::Api)).await.unwrap();
    assert_ne!(wish, planned, "what somebody wants is done after it");
}

#[tokio::test]
async fn a_job_is_taken_back_at_once_or_asked_to_end() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    let (one, two) = (
        catalog.enqueue_job(&wanted("appstack/a")).await.unwrap(),
        catalog.enqueue_job(&wanted("appstack/b")).await.unwrap(),
    );
    assert_eq!(catalog.cancel_job(JobId(99)).await.unwrap(), None);
    assert_eq!(catalog.cancel_job(one).await.unwrap(), Some(Cancelled::AtOnce));
    assert_eq!(catalog.cancel_job(one).await.unwrap(), Some(Cancelled::Ended(JobState::Cancelled)));
    assert_eq!(bench.claimed(&claim(9, 9)).await, ["appstack/b"]);
    assert_eq!(catalog.jobs_to_cancel().await.unwrap(), []);
    assert_eq!(catalog.cancel_job(two).await.unwrap(), Some(Cancelled::Requested));
    assert_eq!(catalog.jobs_to_cancel().await.unwrap(), [two]);
    assert!(catalog.requeue_job(two, None, None).await.unwrap());
    let job = catalog.job(two).await.unwrap().unwrap();
    assert_eq!((job.state, job.ended.is_some()), (JobState::Cancelled, true), "nobody begins it again");
    assert!(!catalog.finish_job(two, &ended(JobState::Done)).await.unwrap());

    bench.pass(10);
    assert_eq!(catalog.trim_jobs(bench.now() - seconds(11)).await.unwrap(), 0);
    assert_eq!(catalog.trim_jobs(bench.now()).await.unwrap(), 2);
    let next = catalog.enqueue_job(&wanted("appstack/a")).await.unwrap();
    assert!(next > two, "a number is never given twice");
}

/// A process that can be ended.
struct Other(Child);

impl Other {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn process(&self) -> String {
        serde_json::to_string(&Process::of(self.0.id()).unwrap()).unwrap()
    }

    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn only_jobs_of_dead_processes_are_requeued() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    let mut ids = Vec::new();
    for stem in ["a", "b", "c", "d"] {
        ids.push(catalog.enqueue_job(&wanted(&format!("appstack/{stem}"))).await.unwrap());
    }
    assert_eq!(bench.claimed(&claim(9, 9)).await.len(), 4);
    let mut other = Other::start();
    bench.belongs(&[ids[0], ids[1]], &other.process()).await;
    let boot = other.process().replace(&Process::current().unwrap().boot_id, "another-boot");
    bench.belongs(&[ids[2]], &boot).await;
    assert_eq!(catalog.cancel_job(ids[1]).await.unwrap(), Some(Cancelled::Requested));
    assert!(!catalog.finish_job(ids[0], &ended(JobState::Done)).await.unwrap(), "it is another's");
    assert_eq!(catalog.requeue_abandoned_jobs().await.unwrap(), [ids[2]]);
    other.end();
    assert_eq!(catalog.requeue_abandoned_jobs().await.unwrap(), [ids[0], ids[1]]);
    assert_eq!(catalog.requeue_abandoned_jobs().await.unwrap(), []);
    let states = |jobs: Vec<Job>| jobs.into_iter().rev().map(|job| job.state).collect::<Vec<_>>();
    let all = catalog.jobs(&JobFilter::default(), 10).await.unwrap();
    assert_eq!(states(all), [JobState::Queued, JobState::Cancelled, JobState::Queued, JobState::Running]);

    // One in another container is seen by its lease only.
    let unseen = Process { pid_namespace: "pid:[1]".into(), ..Process::current().unwrap() };
    bench.belongs(&[ids[3]], &serde_json::to_string(&unseen).unwrap()).await;
    catalog.acquire_lease_as("service", "service", &unseen).await.unwrap();
    assert_eq!(catalog.requeue_abandoned_jobs().await.unwrap(), []);
    bench.pass(31);
    assert_eq!(catalog.requeue_abandoned_jobs().await.unwrap(), [ids[3]]);
}

#[tokio::test]
async fn pages_are_newest_first_and_filtered() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    for stem in ["a", "b", "c"] {
        catalog.enqueue_job(&wanted(&format!("appstack/{stem}"))).await.unwrap();
    }
    catalog.enqueue_job(&NewJob::requested(JobKind::Verify, Trigger::Api, "jo")).await.unwrap();
    let ids = |jobs: Vec<Job>| jobs.into_iter().map(|job| job.id.0).collect::<Vec<_>>();
    let list = async |filter: JobFilter, limit| ids(catalog.jobs(&filter, limit).await.unwrap());
    assert_eq!(list(JobFilter::default(), 2).await, [4, 3]);
    assert_eq!(list(JobFilter { before: Some(JobId(3)), ..JobFilter::default() }, 9).await, [2, 1]);
    assert_eq!(list(JobFilter { kinds: vec![JobKind::Copy], ..JobFilter::default() }, 9).await, [3, 2, 1]);
    assert_eq!(list(JobFilter { volume: Some(vol("appstack/b")), ..JobFilter::default() }, 9).await, [2]);
    catalog.claim_job(&claim(1, 1)).await.unwrap();
    let states = vec![JobState::Running, JobState::Done];
    assert_eq!(list(JobFilter { states, ..JobFilter::default() }, 9).await, [1]);
}

impl Bench {
    /// Makes jobs those of another process.
    async fn belongs(&self, ids: &[JobId], process: &str) {
        use sqlx::ConnectOptions as _;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&self.path);
        let mut conn = options.connect().await.unwrap();
        for id in ids {
            let update = sqlx::query("UPDATE jobs SET process = $2 WHERE id = $1").bind(id.0).bind(process);
            update.execute(&mut conn).await.unwrap();
        }
        sqlx::Connection::close(conn).await.unwrap();
    }
}

/// How many run of each host.
async fn running(catalog: &Catalog) -> std::collections::BTreeMap<Option<String>, usize> {
    let filter = JobFilter { states: vec![JobState::Running], ..JobFilter::default() };
    let mut hosts = std::collections::BTreeMap::new();
    for job in catalog.jobs(&filter, 100).await.unwrap() {
        *hosts.entry(job.host).or_default() += 1;
    }
    hosts
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_volumes_pass_and_no_cap_is_ever_exceeded() {
    const VOLUMES: usize = 5000;
    let bench = Bench::new().await;
    let host = |number: usize| ["h0", "h1", "h2", "h3", "h4", "h5", "h6", "h7"][number % 8];
    let jobs: Vec<NewJob> =
        (0..VOLUMES).map(|number| due(&format!("writable/u{number}"), Some(host(number)))).collect();
    assert_eq!(bench.catalog.plan_copies(&jobs, |_| true, |_| false).await.unwrap(), VOLUMES as u64);
    assert_eq!(
        bench.catalog.plan_copies(&jobs, |_| true, |_| false).await.unwrap(),
        0,
        "the next round finds them there"
    );
    let mut workers = tokio::task::JoinSet::new();
    // Told when one that ran made room.
    let room = std::sync::Arc::new(tokio::sync::Notify::new());
    for worker in 0..5 {
        let (catalog, room) = (bench.another().await, room.clone());
        workers.spawn(async move {
            let mut done = Vec::new();
            loop {
                let Some(job) = catalog.claim_job(&claim(4, 1)).await.unwrap() else {
                    if catalog.queued_copies().await.unwrap() == 0 {
                        room.notify_one();
                        return done;
                    }
                    room.notified().await;
                    continue;
                };
                if job.id.0 % 16 == worker {
                    let running = running(&catalog).await;
                    assert!(running.values().all(|number| *number <= 1), "{running:?}");
                    assert!(running.values().sum::<usize>() <= 4, "{running:?}");
                }
                assert!(catalog.finish_job(job.id, &ended(JobState::Done)).await.unwrap());
                room.notify_one();
                done.push(job.volume.unwrap());
            }
        });
    }
    let mut done: Vec<_> = workers.join_all().await.concat();
    done.sort();
    done.dedup();
    assert_eq!(done.len(), VOLUMES, "each was done once");
    assert_eq!(bench.catalog.job_counts().await.unwrap(), [("done", VOLUMES as u64)].into());
}
