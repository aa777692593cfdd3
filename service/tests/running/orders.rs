//! What the API is asked to do: jobs in the name of who asked, watched, cancelled, and on record.

use std::io::Write;
use std::net::TcpStream;

use serde_json::json;
use stackferry_catalog::Role;

use crate::ask::{ask, call, ended, head, token};
use crate::bench::{Bench, LONG, Service, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_done_by_jobs_in_the_name_of_who_asked() {
    let bench = Bench::new();
    bench.appstack("Office", 1 << 20);
    let root = bench.dir.path().join("restored");
    std::fs::create_dir(&root).unwrap();
    let (all, other) = (bench.dir.path(), bench.dir.path().join("nfs02"));
    std::fs::create_dir(&other).unwrap();
    let more = format!(
        "[restore]\nroots = [\"{}\", \"{}\"]\ndatastores = [\"nfs01\"]\n\
         [[datastore]]\nname = \"nfs02\"\nroute = \"local\"\npath = \"{}\"\n",
        root.display(),
        all.display(),
        other.display()
    );
    let service = Service::start(&bench, &more).await;
    let viewer = token(&service, Role::Viewer).await;
    let operator = token(&service, Role::Operator).await;
    let admin = token(&service, Role::Admin).await;
    let office = "/api/v1/volumes/appstack/Office";
    let known = async || call(&service, &viewer, "GET", office, "").await.status == 200;
    until("it is found", known).await;

    let asked = call(&service, &operator, "POST", &format!("{office}/copy"), "").await;
    assert_eq!(asked.status, 202, "{}", asked.body);
    let job = asked.json();
    assert_eq!(asked.header("location"), Some(format!("/api/v1/jobs/{}", job["id"]).as_str()));
    let job = ended(&service, &viewer, &job).await;
    assert_eq!((&job["state"], &job["outcome"]), (&json!("done"), &json!("copied")), "{job}");
    assert_eq!((&job["actor"], &job["cause"]), (&json!("token operator"), &json!("api")));
    assert_eq!(job["result"]["volume"], "appstack/Office", "what the command would print: {job}");
    let version = job["result"]["version"].as_str().unwrap().to_owned();
    let unchanged = call(&service, &operator, "POST", &format!("{office}/copy"), "{\"if_changed\":true}").await.json();
    assert_eq!(ended(&service, &viewer, &unchanged).await["outcome"], "unchanged");
    let listed =
        call(&service, &viewer, "GET", "/api/v1/jobs?kind=copy&state=done&volume=appstack/Office&limit=1", "").await;
    assert_eq!(listed.json()[0]["id"], unchanged["id"], "{}", listed.body);

    let audit = call(&service, &viewer, "GET", "/api/v1/audit?action=copied", "").await.json();
    let actors: Vec<_> = audit.as_array().unwrap().iter().map(|record| &record["actor"]).collect();
    assert!(actors.contains(&&json!("token operator")), "a person's copy has their name: {audit}");

    let verify = call(&service, &operator, "POST", &format!("{office}/versions/{version}/verify"), "").await.json();
    let verify = ended(&service, &viewer, &verify).await;
    assert_eq!((&verify["state"], &verify["result"]["ok"]), (&json!("done"), &json!(1)), "{verify}");

    let pin = format!("{office}/versions/{version}/pin");
    let pinned = call(&service, &operator, "PUT", &pin, "{\"note\":\"before the update\"}").await.json();
    assert_eq!((&pinned["pinned"], &pinned["note"]), (&json!(true), &json!("before the update")));
    call(&service, &operator, "DELETE", &pin, "").await.is(403, "forbidden");
    assert_eq!(call(&service, &admin, "DELETE", &pin, "").await.json()["pinned"], false);
    call(&service, &admin, "PUT", &format!("{office}/versions/20000101T000000Z-9/pin"), "")
        .await
        .is(404, "no_such_version");
    let audit = call(&service, &viewer, "GET", "/api/v1/audit?action=pinned", "").await.json();
    assert_eq!(audit[0]["actor"], "token operator");

    let restore = async |token: &str, to: &str| {
        call(&service, token, "POST", &format!("{office}/restore"), &json!({ "to": to }).to_string()).await
    };
    restore(&operator, &format!("{}/a", root.display())).await.is(403, "forbidden");
    restore(&admin, "/etc/stackferry-test").await.is(403, "forbidden");
    restore(&admin, &format!("{}/../a", root.display())).await.is(400, "usage");
    restore(&admin, "a").await.is(400, "usage");
    let job = restore(&admin, &format!("{}/a", root.display())).await;
    assert_eq!(job.status, 202, "{}", job.body);
    let job = ended(&service, &viewer, &job.json()).await;
    assert_eq!(job["state"], "done", "{job}");
    let original = std::fs::read(bench.dir.path().join("nfs01/cloudvolumes/apps/Office-flat.vmdk")).unwrap();
    assert!(std::fs::read(root.join("a/Office-flat.vmdk")).unwrap() == original);
    let audit = call(&service, &viewer, "GET", "/api/v1/audit?action=restored", "").await.json();
    assert_eq!(audit[0]["actor"], "token admin", "not the command line's: {audit}");

    // Onto a datastore, as the command does it: new names only.
    let onto = "datastore:nfs01/restored/office";
    restore(&operator, onto).await.is(403, "forbidden");
    restore(&admin, "datastore:nfs09/x").await.is(400, "usage");
    restore(&admin, "datastore:nfs02/x").await.is(403, "forbidden");
    for own in ["vault/volumes/appstack/Office", "vault", "state/x"] {
        restore(&admin, all.join(own).to_str().unwrap()).await.is(400, "usage");
    }
    let live = json!({ "to": all.join("nfs01/cloudvolumes/apps"), "overwrite": true }).to_string();
    call(&service, &admin, "POST", &format!("{office}/restore"), &live).await.is(403, "forbidden");
    restore(&admin, "datastore:nfs01").await.is(400, "usage");
    restore(&admin, "datastore:nfs01/../x").await.is(400, "usage");
    let over = json!({ "to": onto, "overwrite": true }).to_string();
    call(&service, &admin, "POST", &format!("{office}/restore"), &over).await.is(400, "usage");
    let job = restore(&admin, onto).await;
    assert_eq!(job.status, 202, "{}", job.body);
    let job = ended(&service, &viewer, &job.json()).await;
    assert_eq!((&job["state"], &job["result"]["to"]), (&json!("done"), &json!("[nfs01] restored/office")), "{job}");
    let there = bench.dir.path().join("nfs01/restored/office/Office-flat.vmdk");
    assert!(std::fs::read(&there).unwrap() == original);
    let again = restore(&admin, onto).await.json();
    let again = ended(&service, &viewer, &again).await;
    assert_eq!((&again["state"], &again["error"]["code"]), (&json!("failed"), &json!("exists")), "{again}");
    // What was asked for is on record before it is done, and what failed after it.
    let again = format!("{{\"to\":\"{}\"}}", root.join("a").display());
    let again = call(&service, &admin, "POST", &format!("{office}/restore"), &again).await.json();
    assert_eq!(again["detail"]["overwrite"], false, "{again}");
    assert_eq!(ended(&service, &viewer, &again).await["state"], "failed");
    let failed = call(&service, &viewer, "GET", "/api/v1/audit?action=restore_failed", "").await.json();
    assert_eq!((&failed[0]["actor"], &failed[0]["detail"]["code"]), (&json!("token admin"), &json!("exists")));
    let wanted = call(&service, &viewer, "GET", "/api/v1/audit?action=job_wanted", "").await.json();
    let newest = &wanted[0];
    assert_eq!((&newest["detail"]["job"], &newest["detail"]["wanted"]), (&again["id"], &again["detail"]));
    let note = format!("{{\"note\":\"{}\"}}", "x".repeat(501));
    call(&service, &operator, "PUT", &pin, &note).await.is(400, "usage");

    for (path, body) in [("copy", "{\"nothing\":1}"), ("restore", "{}"), ("restore", "no json")] {
        call(&service, &admin, "POST", &format!("{office}/{path}"), body).await.is(400, "usage");
    }
    let form = [("Authorization", &*format!("Bearer {admin}")), ("Content-Type", "text/plain")];
    ask(service.address, "POST", &format!("{office}/restore"), &form, "{\"to\":\"/x\"}").await.is(400, "usage");
    call(&service, &operator, "POST", "/api/v1/jobs/9999/cancel", "").await.is(404, "no_such_job");
    call(&service, &operator, "POST", "/api/v1/volumes/appstack/Nothing/copy", "").await.is(404, "no_such_volume");
    let large = format!("{{\"to\":\"{}\"}}", "x".repeat(70 << 10));
    call(&service, &admin, "POST", &format!("{office}/restore"), &large).await.is(413, "too_large");

    let paused = call(&service, &operator, "PUT", &format!("{office}/pause"), "").await.json();
    assert_eq!((&paused["paused"], &paused["pauses"][0]["actor"]), (&json!(false), &json!("token operator")));
    assert_eq!(call(&service, &operator, "PUT", "/api/v1/pause", "").await.json()["paused"], true);
    call(&service, &operator, "DELETE", "/api/v1/pause", "").await;
    call(&service, &operator, "DELETE", &format!("{office}/pause"), "").await;
    let paused = call(&service, &viewer, "GET", "/api/v1/pauses", "").await.json();
    assert_eq!(paused, json!({ "paused": false, "pauses": [] }));
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_watched_by_its_events_and_can_be_cancelled() {
    let bench = Bench::new();
    bench.appstack("Office", 32 << 20);
    let service = Service::start(&bench, "[limits]\nbandwidth = \"4MB/s\"\n").await;
    let operator = token(&service, Role::Operator).await;
    let (address, bearer) = (service.address, format!("Bearer {operator}"));
    let office = "/api/v1/volumes/appstack/Office";
    let running = async || {
        let jobs = call(&service, &operator, "GET", "/api/v1/jobs?state=running&kind=copy", "").await.json();
        jobs.as_array().unwrap().first().cloned()
    };
    until("it is being copied", async || running().await.is_some()).await;
    let job = running().await.unwrap();
    assert_eq!(job["volume"], "appstack/Office");
    let watching = tokio::task::spawn_blocking(move || {
        use std::io::BufRead;
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let head = head("GET", "/api/v1/events", &[("Authorization", &bearer)], "");
        stream.write_all(format!("{head}\r\n\r\n").as_bytes()).unwrap();
        let (mut seen, began) = (Vec::new(), std::time::Instant::now());
        for line in std::io::BufReader::new(stream).lines() {
            seen.push(line.unwrap());
            let has = |what: &str| seen.iter().any(|line| line.contains(what));
            assert!(began.elapsed() < LONG, "{seen:?}");
            if has("event: progress") && has("\"done\":") && has("\"state\":\"cancelled\"") {
                return seen;
            }
        }
        panic!("the events ended: {seen:?}");
    });
    until("its progress is told", async || {
        let job = call(&service, &operator, "GET", &format!("/api/v1/jobs/{}", job["id"]), "").await.json();
        job["progress"]["done"].as_u64().is_some_and(|done| done > 0)
            && job["progress"]["expected"].as_u64() >= Some(32 << 20)
    })
    .await;
    let cancelled = call(&service, &operator, "POST", &format!("/api/v1/jobs/{}/cancel", job["id"]), "").await.json();
    assert_eq!(cancelled, json!({ "id": job["id"], "was": "running" }));
    let seen = watching.await.unwrap();
    assert!(seen.iter().any(|line| line.contains("\"state\":\"running\"")), "what runs is told first: {seen:?}");
    let job = ended(&service, &operator, &job).await;
    assert_eq!((&job["state"], &job["cancel_wanted"]), (&json!("cancelled"), &json!(true)), "{job}");
    assert_eq!(call(&service, &operator, "GET", &format!("{office}/versions"), "").await.json(), json!([]));
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_is_planned_and_carried_out_for_an_admin() {
    let bench = Bench::new();
    bench.appstack("Office", 1 << 20);
    let service = Service::start(&bench, "[schedule]\nevery = \"1h\"\n").await;
    let operator = token(&service, Role::Operator).await;
    let admin = token(&service, Role::Admin).await;
    let office = "/api/v1/volumes/appstack/Office";
    until("it is found", async || call(&service, &operator, "GET", office, "").await.status == 200).await;
    for _ in 0..3 {
        let job = call(&service, &operator, "POST", &format!("{office}/copy"), "").await.json();
        assert_eq!(ended(&service, &operator, &job).await["state"], "done");
    }
    for method in ["GET", "POST"] {
        call(&service, &operator, method, "/api/v1/prune", "").await.is(403, "forbidden");
        call(&service, &admin, method, "/api/v1/prune", "").await.is(409, "refused");
    }
    service.end().await;

    let service = Service::start(&bench, "[schedule]\nevery = \"1h\"\n[retention]\nlast = 1\n").await;
    let versions = async || call(&service, &admin, "GET", &format!("{office}/versions"), "").await.json();
    let plan = call(&service, &admin, "GET", "/api/v1/prune", "").await.json();
    assert_eq!((&plan["dry_run"], &plan["deleted"]), (&json!(true), &json!(0)), "{plan}");
    let job = call(&service, &admin, "POST", "/api/v1/prune", "").await;
    assert_eq!(job.status, 202, "{}", job.body);
    let job = ended(&service, &admin, &job.json()).await;
    assert_eq!(
        (&job["kind"], &job["state"], &job["actor"]),
        (&json!("prune"), &json!("done"), &json!("token admin")),
        "{job}"
    );
    let left = versions().await;
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    let plan = call(&service, &admin, "GET", "/api/v1/prune", "").await.json();
    assert_eq!((&plan["planned"], &plan["versions"]), (&json!(0), &json!([])), "{plan}");
    service.end().await;
}
