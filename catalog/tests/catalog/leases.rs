//! Leases: one holder at a time, numbers that only grow, and a model that says so of any course of events.

use std::process::Command;

use proptest::prelude::*;
use stackferry_catalog::*;

use crate::bench::*;

/// A process of which only its lease's end tells whether it is there.
fn elsewhere(name: &str) -> Process {
    Process { host: name.into(), boot_id: name.into(), ..Process::current().unwrap() }
}

#[tokio::test]
async fn one_holds_it_and_the_other_is_told_who() {
    let bench = Bench::new().await;
    let other = bench.another().await;
    let lease = bench.catalog.acquire_lease("volume/appstack/Office", "service").await.unwrap();
    assert_eq!((lease.fence, lease.expires), (1, bench.now() + seconds(30)));
    let since = bench.now();
    bench.pass(10);
    let error = other.acquire_lease("volume/appstack/Office", "copy").await.unwrap_err();
    assert!(error.is_busy());
    let CatalogError::LeaseBusy(busy) = error else { panic!("{error:?}") };
    assert_eq!((busy.holder.as_str(), busy.pid, busy.since), ("service", std::process::id(), since));
    assert_eq!(busy.expires, lease.expires);
    assert_eq!(busy.host, Process::current().unwrap().host);
    other.acquire_lease("volume/appstack/Other", "copy").await.unwrap();

    assert!(bench.catalog.release_lease(&lease).await.unwrap());
    assert!(!bench.catalog.release_lease(&lease).await.unwrap());
    assert!(!other.check_fence(&lease).await.unwrap());
    let next = other.acquire_lease("volume/appstack/Office", "copy").await.unwrap();
    assert_eq!(next.fence, 2);
    let mut old = lease;
    assert!(!bench.catalog.renew_lease(&mut old).await.unwrap());
    assert!(!bench.catalog.release_lease(&old).await.unwrap(), "the new holder's is not touched");
    assert!(other.check_fence(&next).await.unwrap());
}

#[tokio::test]
async fn an_expired_lease_is_renewed_only_if_no_one_took_it() {
    let bench = Bench::new().await;
    let mut lease = bench.catalog.acquire_lease("v", "copy").await.unwrap();
    bench.pass(29);
    assert!(bench.catalog.check_fence(&lease).await.unwrap());
    bench.pass(1);
    assert!(!bench.catalog.check_fence(&lease).await.unwrap());
    assert!(bench.catalog.renew_lease(&mut lease).await.unwrap());
    assert!(bench.catalog.check_fence(&lease).await.unwrap());
    bench.pass(30);
    let next = bench.catalog.acquire_lease_as("v", "copy", &elsewhere("b")).await.unwrap();
    assert!(!bench.catalog.renew_lease(&mut lease).await.unwrap());
    assert!(!bench.catalog.check_fence(&lease).await.unwrap());
    assert!(bench.catalog.check_fence(&next).await.unwrap());
}

#[tokio::test]
async fn a_dead_processs_lease_is_free_at_once() {
    let bench = Bench::new().await;
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let process = Process::of(child.id()).unwrap();
    let lease = bench.catalog.acquire_lease_as("v", "copy", &process).await.unwrap();
    assert!(bench.catalog.acquire_lease("v", "service").await.unwrap_err().is_busy());

    // Killed, but not yet waited for: its number is still taken.
    child.kill().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let next = loop {
        match bench.catalog.acquire_lease("v", "service").await {
            Ok(next) => break next,
            Err(error) => assert!(error.is_busy() && std::time::Instant::now() < deadline, "{error}"),
        }
    };
    assert!(next.fence > lease.fence);
    assert!(!bench.catalog.check_fence(&lease).await.unwrap());
    child.wait().unwrap();
}

#[tokio::test]
async fn a_reused_process_number_is_another_process() {
    let bench = Bench::new().await;
    let here = Process::current().unwrap();
    let before = Process { started: here.started - 1, ..here };
    bench.catalog.acquire_lease_as("v", "copy", &before).await.unwrap();
    assert_eq!(bench.catalog.acquire_lease("v", "service").await.unwrap().fence, 2);
}

#[tokio::test]
async fn a_clock_set_back_does_not_hold_a_dead_boots_lease_for_ever() {
    let bench = Bench::new().await;
    bench.catalog.acquire_lease_as("theirs", "service", &elsewhere("before")).await.unwrap();
    bench.catalog.acquire_lease("ours", "service").await.unwrap();
    bench.pass(-3600);
    bench.catalog.acquire_lease("theirs", "service").await.unwrap();
    assert!(bench.catalog.acquire_lease("ours", "copy").await.unwrap_err().is_busy(), "its holder lives");
}

#[tokio::test]
async fn of_many_at_once_one_gets_it() {
    let bench = Bench::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let catalog = bench.another().await;
        tasks.spawn(async move { catalog.acquire_lease("v", "copy").await });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().filter_map(|result| result.as_ref().err()).all(CatalogError::is_busy));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Acquire(usize),
    Renew(usize),
    Release(usize),
    Pass(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..2usize).prop_map(Step::Acquire),
        2 => (0..2usize).prop_map(Step::Renew),
        1 => (0..2usize).prop_map(Step::Release),
        3 => (0..40i64).prop_map(Step::Pass),
    ]
}

/// What the catalog should do, in the fewest words.
#[derive(Default)]
struct Model {
    fence: u64,
    released: bool,
    expires: i64,
    now: i64,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_course_of_events_is_as_the_model_says(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new().await;
            let catalogs = [bench.catalog.clone(), bench.another().await];
            let holders = [Process::current().unwrap(), elsewhere("b")];
            let mut leases: [Option<Lease>; 2] = [None, None];
            let mut model = Model { released: true, ..Model::default() };
            for step in steps {
                match step {
                    Step::Pass(seconds) => {
                        bench.pass(seconds);
                        model.now += seconds;
                    }
                    Step::Acquire(who) => {
                        let got = catalogs[who].acquire_lease_as("v", "copy", &holders[who]).await;
                        if model.released || model.now >= model.expires {
                            let got = got.unwrap();
                            model = Model { fence: model.fence + 1, released: false, expires: model.now + 30, now: model.now };
                            assert_eq!(got.fence, model.fence);
                            leases[who] = Some(got);
                        } else {
                            assert!(matches!(got, Err(CatalogError::LeaseBusy(_))), "{got:?}");
                        }
                    }
                    Step::Renew(who) => if let Some(lease) = &mut leases[who] {
                        let held = lease.fence == model.fence && !model.released;
                        assert_eq!(catalogs[who].renew_lease(lease).await.unwrap(), held);
                        if held { model.expires = model.now + 30; }
                    },
                    Step::Release(who) => if let Some(lease) = &leases[who] {
                        let held = lease.fence == model.fence && !model.released;
                        assert_eq!(catalogs[who].release_lease(lease).await.unwrap(), held);
                        model.released |= held;
                    },
                }
                let mut current = 0;
                for (catalog, lease) in catalogs.iter().zip(&leases) {
                    let Some(lease) = lease else { continue };
                    let holds = lease.fence == model.fence && !model.released && model.now < model.expires;
                    assert_eq!(catalog.check_fence(lease).await.unwrap(), holds);
                    current += u32::from(holds);
                }
                assert!(current <= 1, "two hold it");
            }
        });
    }
}
