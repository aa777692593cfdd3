//! Who is told what is wrong: by a webhook over HTTPS, and by mail through a real SMTP server.

mod mail;
mod receiver;
mod smtp;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::Value;
use stackferry_catalog::{AuditAction, Channel, Clock};

use crate::bench::{Bench, Service, free_port, sample, try_get, until};
use crate::program::{Program, address, command};
use receiver::{Answer, Receiver};

/// Another datastore, which can be taken away and put back.
struct Datastore(std::path::PathBuf);

impl Datastore {
    fn new(bench: &Bench, name: &str) -> Self {
        let path = bench.dir.path().join(name);
        std::fs::create_dir_all(path.join("cloudvolumes/apps")).unwrap();
        Self(path)
    }

    fn section(&self) -> String {
        let name = self.0.file_name().unwrap().to_string_lossy();
        format!("[[datastore]]\nname = \"{name}\"\nroute = \"local\"\npath = \"{}\"\n", self.0.display())
    }

    fn hidden(&self) -> std::path::PathBuf {
        self.0.with_extension("away")
    }

    fn take_away(&self) {
        std::fs::rename(&self.0, self.hidden()).unwrap();
    }

    fn put_back(&self) {
        std::fs::rename(self.hidden(), &self.0).unwrap();
    }
}

/// A clock that can be put forward.
fn clock() -> (Clock, Arc<AtomicI64>) {
    let ahead = Arc::new(AtomicI64::new(0));
    let known = Arc::clone(&ahead);
    let now = move || Timestamp::now().checked_add(SignedDuration::from_secs(known.load(Ordering::SeqCst))).unwrap();
    (Clock::from_fn(now), ahead)
}

/// Runs another command by the same configuration.
fn ask(config: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stackferry"));
    command.arg("--config").arg(config).args(words).args(["--output", "json"]).stdin(Stdio::null());
    command.output().unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_once_also_by_a_service_that_was_killed() {
    let bench = Bench::new();
    let hook = Receiver::start(bench.dir.path()).await;
    let (one, two) = (Datastore::new(&bench, "nfs02"), Datastore::new(&bench, "nfs03"));
    let more = format!("{}{}{}", one.section(), two.section(), hook.section(""));
    one.take_away();
    let program = Program::start(command(&bench, free_port(), &more));
    until("the one that is away is told", async || !hook.told().is_empty()).await;
    // Killed: nothing is put in order.
    drop(program);
    let program = Program::start(command(&bench, free_port(), &more));
    program.logs("a round has ended").await;
    two.take_away();
    until("the other one is told", async || hook.told().len() > 1).await;
    one.put_back();
    until("the end of the first is told", async || hook.told().len() > 2).await;
    two.put_back();
    until("the end of the second is told", async || hook.told().len() > 3).await;
    program.signal(Signal::TERM);
    assert_eq!(program.end().await.0, Some(0));
    assert_eq!(
        hook.told(),
        [
            "problem datastore_away default/nfs02",
            "problem datastore_away default/nfs03",
            "resolved datastore_away default/nfs02",
            "resolved datastore_away default/nfs03",
        ]
    );
    let first = &hook.requests()[0];
    assert!(first.head.starts_with("POST /hook HTTP/1.1\r\n"), "{}", first.head);
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.header("idempotency-key"), first.body["id"].as_str());
    assert_eq!((&first.body["format"], &first.body["problems"][0]["severity"]), (&1.into(), &"warning".into()));
    let text = first.body["text"].as_str().unwrap();
    assert!(text.contains("1 datastore can't be looked at: default/nfs02"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_service_that_leads_tells() {
    let bench = Bench::new();
    let hook = Receiver::start(bench.dir.path()).await;
    let away = Datastore::new(&bench, "nfs02");
    let more = format!("{}{}", away.section(), hook.section(""));
    let (one, two) = (free_port(), free_port());
    let sample_of = async |port: u16, series: &'static str| {
        let told = tokio::task::spawn_blocking(move || try_get(address(port), "/metrics")).await.unwrap();
        told.ok().and_then(|(_, text)| sample(&text, series))
    };
    let leads = async |port| sample_of(port, "stackferry_leader").await == Some(1.0);
    let leader = Program::start(command(&bench, one, &more));
    until("the first leads", async || leads(one).await).await;
    let other = Program::start(command(&bench, two, &more));
    until("the other one looks, too", async || sample_of(two, "stackferry_leader").await == Some(0.0)).await;
    away.take_away();
    let failures = "stackferry_discovery_failures_total{source=\"default/nfs02\"}";
    for port in [one, two] {
        until("it has seen it twice", async || sample_of(port, failures).await.is_some_and(|count| count >= 2.0)).await;
    }
    until("it is told", async || !hook.messages().is_empty()).await;
    // The one that leads is gone: the other one knows what was told.
    drop(leader);
    until("the other one leads", async || leads(two).await).await;
    away.put_back();
    until("the end is told", async || hook.messages().len() == 2).await;
    other.signal(Signal::TERM);
    assert_eq!(other.end().await.0, Some(0));
    assert_eq!(hook.told(), ["problem datastore_away default/nfs02", "resolved datastore_away default/nfs02"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_before_the_configuration_says_so() {
    let bench = Bench::new();
    let hook = Receiver::start(bench.dir.path()).await;
    let away = Datastore::new(&bench, "nfs02");
    away.take_away();
    let port = free_port();
    let off = format!("{}[schedule]\nevery = \"1s\"\n", away.section());
    let program = Program::start(command(&bench, port, &off));
    program.logs("a round has ended").await;
    let catalog = bench.catalog().await;
    assert_eq!(catalog.reported_problems().await.unwrap(), []);
    assert!(catalog.waiting_messages().await.unwrap().is_empty() && hook.requests().is_empty());
    // A round more, with the section.
    bench.config_file(port, &format!("{}{}", away.section(), hook.section("")));
    program.signal(Signal::HUP);
    until("it is told", async || hook.told() == ["problem datastore_away default/nfs02"]).await;
    // And off again: what is known stays, nobody is told.
    bench.config_file(port, &off);
    program.signal(Signal::HUP);
    until("it was read again", async || {
        let records = catalog.last_audit_records(100).await.unwrap();
        records.iter().filter(|record| record.action == AuditAction::ConfigReloaded.as_str()).count() == 2
    })
    .await;
    away.put_back();
    program.signal(Signal::TERM);
    let (code, log) = program.end().await;
    assert_eq!((code, hook.messages().len()), (Some(0), 1), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_receiver_gets_the_message_later() {
    let bench = Bench::new();
    let hook = Receiver::start(bench.dir.path()).await;
    let elsewhere = Receiver::start(&bench.dir.path().join("nfs01")).await;
    let away = Datastore::new(&bench, "nfs02");
    let more = format!("{}{}", away.section(), hook.section(""));
    let to = format!("https://{}/hook", elsewhere.address);
    hook.answer([Answer::Status(500), Answer::Redirect(to), Answer::Hang]);
    let (time, ahead) = clock();
    let service = Service::start_at(&bench, &more, time.clone()).await;
    away.take_away();
    for tries in 1..=2 {
        until("it was tried", async || hook.requests().len() == tries).await;
        until("that is written down", async || {
            let waiting = service.app.catalog().next_message(Channel::Webhook).await.unwrap();
            waiting.is_some_and(|waiting| waiting.tries == tries as u64)
        })
        .await;
        let waiting = service.app.catalog().next_message(Channel::Webhook).await.unwrap().unwrap();
        let wait = waiting.not_before.unwrap().duration_since(service.app.now()).as_secs();
        let (words, least, most) = match tries {
            1 => ("500", 0, 5),
            _ => ("leads elsewhere", 60, 600),
        };
        assert!(
            waiting.last_error.as_deref().unwrap().contains(words) && (least..=most).contains(&wait),
            "{waiting:?}"
        );
        ahead.fetch_add(most, Ordering::SeqCst);
    }
    until("it hangs", async || hook.requests().len() == 3).await;
    // Copies go on, rounds go on.
    let office = bench.appstack("Office", 1 << 20);
    until("it is copied", async || !service.app.catalog().versions(&office).await.unwrap().is_empty()).await;
    assert_eq!(service.sample("stackferry_notifications_waiting{channel=\"webhook\"}").await, Some(1.0));
    let failed = "stackferry_notifications_total{channel=\"webhook\",result=\"failed\"}";
    assert_eq!(service.sample(failed).await, Some(2.0));
    let asked = Instant::now();
    service.end().await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());

    // Nobody is there; then the body of its answer has no end.
    let service = Service::start_at(&bench, &more, time).await;
    until("it is taken", async || {
        service.sample("stackferry_notifications_total{channel=\"webhook\",result=\"sent\"}").await == Some(1.0)
    })
    .await;
    hook.answer([Answer::Endless]);
    away.put_back();
    until("the end is taken", async || {
        service.sample("stackferry_notifications_total{channel=\"webhook\",result=\"sent\"}").await == Some(2.0)
    })
    .await;
    assert_eq!(service.sample("stackferry_notifications_waiting{channel=\"webhook\"}").await, Some(0.0));
    service.end().await;
    let requests = hook.requests();
    let ids: Vec<&Value> = requests.iter().map(|request| &request.body["id"]).collect();
    assert!(ids.len() == 5 && ids[..4].iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(requests.iter().map(receiver::Request::event).collect::<Vec<_>>()[3..], ["problem", "resolved"]);
    assert!(elsewhere.requests().is_empty(), "a redirect was followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_itself_is_given_up_and_on_record() {
    let bench = Bench::new();
    let hook = Receiver::start(bench.dir.path()).await;
    let away = Datastore::new(&bench, "nfs02");
    hook.answer(vec![Answer::Status(422); 5]);
    let (time, ahead) = clock();
    let service = Service::start_at(&bench, &format!("{}{}", away.section(), hook.section("")), time).await;
    away.take_away();
    let given_up = "stackferry_notifications_total{channel=\"webhook\",result=\"given_up\"}";
    for tries in 1..=4 {
        let waiting = async || service.app.catalog().next_message(Channel::Webhook).await.unwrap();
        until("it is to be tried again", async || waiting().await.is_some_and(|one| one.tries == tries)).await;
        let until = waiting().await.unwrap().not_before.unwrap();
        let wait = until.duration_since(service.app.now()).as_secs() + 1;
        assert!((200..=2401).contains(&wait), "{wait} s after try {tries}");
        ahead.fetch_add(wait, Ordering::SeqCst);
    }
    until("it is given up", async || service.sample(given_up).await == Some(1.0)).await;
    let id = hook.requests()[0].body["id"].as_str().unwrap().to_owned();
    let given_up_record = async || {
        let records = service.app.catalog().last_audit_records(100).await.unwrap();
        records.into_iter().find(|record| record.action == AuditAction::NotificationGivenUp.as_str())
    };
    // It is counted before it is recorded.
    until("its end is recorded", async || given_up_record().await.is_some()).await;
    let record = given_up_record().await.unwrap();
    assert_eq!((record.subject.as_str(), &record.detail["tries"]), (id.as_str(), &4.into()));
    // Others have their turn: that nothing arrived for an hour, and that it is right again.
    away.put_back();
    for told in ["problem notifications_fail webhook", "resolved datastore_away default/nfs02"] {
        until(told, async || hook.told().iter().any(|one| one == told)).await;
    }
    service.end().await;
    let tries = hook.requests().iter().filter(|request| request.body["id"] == id.as_str()).count();
    assert_eq!(tries, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_problems_of_one_kind_are_one_message() {
    let bench = Bench::new();
    let hook = Receiver::start(bench.dir.path()).await;
    for number in 0..1000 {
        let path = bench.dir.path().join(format!("nfs01/cloudvolumes/apps/Broken{number:04}.vmdk"));
        std::fs::write(path, "# Disk DescriptorFile\nversion=1\n").unwrap();
    }
    let service = Service::start(&bench, &hook.section("")).await;
    until("they are told", async || !hook.requests().is_empty()).await;
    bench.appstack("Office", 1 << 20);
    let rounds = "stackferry_discovery_rounds_total{source=\"default/nfs01\"}";
    let before = service.sample(rounds).await.unwrap();
    until("some rounds more", async || service.sample(rounds).await.unwrap() > before + 2.0).await;
    service.end().await;
    let requests = hook.requests();
    let [message] = requests.as_slice() else { panic!("{} messages", requests.len()) };
    let problem = &message.body["problems"][0];
    assert_eq!((&problem["code"], &problem["count"]), (&"unprotectable".into(), &1000.into()));
    assert_eq!(problem["subjects"].as_array().unwrap().len(), 20);
    assert!(message.body.to_string().len() < 16 << 10, "{}", message.body.to_string().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_comes_once_a_day_also_over_a_restart() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let hook = Receiver::start(bench.dir.path()).await;
    let more = hook.section("at = \"07:00\"").replace("settle = \"0s\"", "settle = \"30d\"");
    let (time, ahead) = clock();
    let service = Service::start_at(&bench, &more, time.clone()).await;
    let catalog = bench.catalog().await;
    until("the day is noted", async || catalog.last_digest(Channel::Webhook).await.unwrap().is_some()).await;
    until("it is copied", async || !catalog.versions(&office).await.unwrap().is_empty()).await;
    assert!(hook.messages().is_empty(), "the first one comes at its time");
    ahead.fetch_add(24 * 3600, Ordering::SeqCst);
    until("the digest is told", async || hook.messages().len() == 1).await;
    service.end().await;
    let service = Service::start_at(&bench, &more, time).await;
    let rounds = "stackferry_discovery_rounds_total{source=\"default/nfs01\"}";
    until("some rounds", async || service.sample(rounds).await.unwrap_or_default() > 2.0).await;
    assert_eq!(hook.messages().len(), 1, "it was told before the restart");
    ahead.fetch_add(24 * 3600, Ordering::SeqCst);
    until("the next one is told", async || hook.messages().len() == 2).await;
    service.end().await;
    for request in hook.messages() {
        assert_eq!((request.event(), &request.body["volumes"]["total"]), ("digest", &1.into()), "{}", request.body);
        let text = request.body["text"].as_str().unwrap();
        assert!(text.contains("of 1 volumes") || text.contains("the only volume is safe"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_and_the_token_are_secrets() {
    let bench = Bench::new();
    let hook = Receiver::start(bench.dir.path()).await;
    let secret = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = bench.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let url = secret("url", &format!("https://{}/services/tulip?sig=tulip\n", hook.address));
    let token = secret("token", "rose\n");
    let section = |ca: &str| {
        format!("[notify.webhook]\nsecret_url = {{ file = \"{url}\" }}\ntoken = {{ file = \"{token}\" }}\n{ca}\n")
    };
    let trusting = bench.config_file(1, &section(&format!("ca = \"{}\"", hook.certificate.display())));
    let good = ask(&trusting, &["notify", "test"]);
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stderr));
    let answer = json(&good);
    assert_eq!((&answer["sent"][0]["channel"], &answer["sent"][0]["ok"]), (&"webhook".into(), &true.into()));
    let requests = hook.requests();
    assert!(requests[0].head.starts_with("POST /services/tulip?sig=tulip HTTP/1.1\r\n"), "{}", requests[0].head);
    assert_eq!((requests[0].header("authorization"), requests[0].event()), (Some("Bearer rose"), "test"));
    assert_eq!(answer["id"], requests[0].body["id"]);

    // Refused, not trusted, not there: each says what to do, and no secret.
    hook.answer([Answer::Status(401)]);
    let refused = ask(&trusting, &["-vv", "notify", "test"]);
    assert_eq!((refused.status.code(), &json(&refused)["sent"][0]["code"]), (Some(12), &"login_refused".into()));
    let strange = ask(&bench.config_file(2, &section("")), &["-vv", "notify", "test"]);
    let item = json(&strange)["sent"][0].clone();
    assert_eq!((strange.status.code(), &item["code"]), (Some(13), &"certificate_refused".into()), "{item}");
    assert!(item["hint"].as_str().unwrap().contains("fingerprint = \"sha256:"), "{item}");
    assert_eq!(hook.requests().len(), 2, "it was told nothing");
    let shown = ask(&trusting, &["config", "show"]);
    let check = ask(&trusting, &["check", "--config-only"]);
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stdout));
    std::fs::write(&token, "").unwrap();
    let missing = ask(&trusting, &["check", "--config-only"]);
    let checks = json(&missing)["checks"].clone();
    let found = checks.as_array().unwrap().iter().find(|check| check["subject"] == "notify.webhook").unwrap();
    assert_eq!((missing.status.code(), &found["code"]), (Some(1), &"secret_unavailable".into()), "{found}");
    for output in [good, refused, strange, shown, check, missing] {
        for text in [output.stdout, output.stderr] {
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains("tulip") && !text.contains("rose"), "{text}");
        }
    }
    let nobody = ask(&bench.config_file(3, ""), &["notify", "test"]);
    assert_eq!(nobody.status.code(), Some(2));
}
