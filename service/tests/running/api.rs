//! The API of the running service: who may call what, and what it answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use stackferry_catalog::Role;
use stackferry_service::api::ROUTES;
use stackferry_service::tokens;

use crate::bench::{Bench, LONG, Service, until};

/// An answer: status, head, body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.head, self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// That it is a problem of this status and code.
    pub(crate) fn is(&self, status: u16, code: &str) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}\n{}", self.head, self.body);
        let body = self.json();
        assert_eq!((self.status, &body["code"], &body["status"]), (status, &json!(code), &json!(status)), "{body}");
        assert!(body["detail"].is_string() && body["title"].is_string() && body["hint"].is_string(), "{body}");
        assert_eq!(body["type"], format!("/api/v1/problems#{code}"));
    }
}

fn talk(stream: &mut (impl Read + Write), head: &str, body: &str) -> Answer {
    // A server that has answered may close before all is written.
    let _ = stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes());
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
    let body =
        if head.to_lowercase().contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body }
}

fn unchunked(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((length, rest)) = text.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        body.push_str(&rest[..length]);
        text = rest[length..].trim_start_matches("\r\n");
        if length == 0 {
            break;
        }
    }
    body
}

fn head(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: stackferry\r\nConnection: close");
    for (name, value) in headers {
        head.push_str(&format!("\r\n{name}: {value}"));
    }
    if !body.is_empty() {
        head.push_str(&format!("\r\nContent-Length: {}", body.len()));
    }
    head
}

/// A request with these headers.
pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let (head, body) = (head(method, path, headers, body), body.to_owned());
    let talking = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        talk(&mut stream, &head, &body)
    };
    tokio::task::spawn_blocking(talking).await.unwrap()
}

/// A request as the bearer of a token.
pub(crate) async fn call(service: &Service, token: &str, method: &str, path: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("Authorization", bearer.as_str())];
    if !body.is_empty() {
        headers.push(("Content-Type", "application/json"));
    }
    ask(service.address, method, path, &headers, body).await
}

/// A token with this role, named like it.
pub(crate) async fn token(service: &Service, role: Role) -> String {
    token_of(&service.app, role).await
}

pub(crate) async fn token_of(app: &stackferry_service::app::App, role: Role) -> String {
    let (token, shown) = tokens::make(role.as_str(), role).unwrap();
    app.catalog().add_token(&token, "test").await.unwrap();
    shown.expose().to_owned()
}

/// A route's path with names of what does not exist.
fn filled(path: &str) -> String {
    path.replace("{kind}", "appstack").replace("{stem}", "Nothing").replace("{version}", "x").replace("{id}", "77")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_closed_to_strangers_and_to_roles_that_are_too_low() {
    let bench = Bench::new();
    let service = Service::start(&bench, "").await;
    let viewer = token(&service, Role::Viewer).await;
    let operator = token(&service, Role::Operator).await;
    for route in ROUTES {
        let path = filled(route.path);
        let none = ask(service.address, route.method, &path, &[], "").await;
        none.is(401, "unauthorized");
        assert_eq!(none.header("www-authenticate"), Some("Bearer"));
        for wrong in ["Bearer x", "Bearer sf_00000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "Basic cm9vdDo="] {
            ask(service.address, route.method, &path, &[("Authorization", wrong)], "").await.is(401, "unauthorized");
        }
        for (token, role) in [(&viewer, Role::Viewer), (&operator, Role::Operator)] {
            if role.covers(route.least) && path.ends_with("/events") {
                // Its answer has no end; another test reads it.
                continue;
            }
            let answer = call(&service, token, route.method, &path, "").await;
            if role.covers(route.least) {
                assert!(![401, 403].contains(&answer.status), "{} {path}: {}", route.method, answer.body);
            } else {
                // Whether it exists or not: nothing of this does.
                answer.is(403, "forbidden");
            }
        }
    }
    // What does not exist is told to nobody who may not know.
    ask(service.address, "GET", "/api/v1/nothing", &[], "").await.is(401, "unauthorized");
    call(&service, &viewer, "GET", "/api/v1/nothing", "").await.is(404, "no_such_page");
    let wrong = call(&service, &viewer, "DELETE", "/api/v1/status", "").await;
    wrong.is(405, "wrong_method");
    assert_eq!(wrong.header("allow"), Some("GET, HEAD"));
    call(&service, &viewer, "GET", "/api/v1/volumes/appstack/Nothing", "").await.is(404, "no_such_volume");
    call(&service, &viewer, "GET", "/api/v1/volumes/nothing/x", "").await.is(404, "no_such_volume");
    let denied = service.app.catalog().last_audit_records(1000).await.unwrap();
    let denied = denied.iter().filter(|record| record.action == "access_denied").count();
    assert!((1..10).contains(&denied), "refusals are audited, but not each: {denied}");
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_taken_back_opens_nothing() {
    let bench = Bench::new();
    let service = Service::start(&bench, "").await;
    let viewer = token(&service, Role::Viewer).await;
    let who = call(&service, &viewer, "GET", "/api/v1/whoami", "").await;
    assert_eq!((who.status, who.json()), (200, json!({ "name": "token viewer", "role": "viewer" })));
    let row = service.app.catalog().tokens().await.unwrap().remove(0);
    assert!(row.last_used.is_some());
    service.app.catalog().revoke_token("viewer", "test").await.unwrap();
    call(&service, &viewer, "GET", "/api/v1/whoami", "").await.is(401, "unauthorized");
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_knows_root_without_a_token() {
    let bench = Bench::new();
    let service = Service::start(&bench, "").await;
    let path = bench.dir.path().join("state/stackferry.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let by_socket = |headers: Vec<(&'static str, &'static str)>| {
        let path = path.clone();
        tokio::task::spawn_blocking(move || {
            let mut stream = UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            talk(&mut stream, &head("GET", "/api/v1/whoami", &headers, ""), "")
        })
    };
    let who = by_socket(vec![]).await.unwrap().json();
    assert_eq!(who["role"], "admin", "{who}");
    // A token that is wrong is not overlooked.
    by_socket(vec![("Authorization", "Bearer x")]).await.unwrap().is(401, "unauthorized");
    service.end().await;
    assert!(!path.exists());

    // One that was left behind is in nobody's way.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let service = Service::start(&bench, "").await;
    assert_eq!(by_socket(vec![]).await.unwrap().status, 200);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_found_paged_and_told_as_the_command_line_tells_them() {
    let bench = Bench::new();
    for stem in ["Office", "Visio", "Weird%20!21!@x"] {
        bench.appstack(stem, 1 << 20);
    }
    let service = Service::start(&bench, "").await;
    let viewer = token(&service, Role::Viewer).await;
    let get = async |path: &str| call(&service, &viewer, "GET", path, "").await;
    until("all are copied", async || get("/api/v1/status").await.json()["volumes"]["protected"] == 3).await;

    let all = get("/api/v1/volumes").await.json();
    assert_eq!((&all["total"], all["volumes"].as_array().unwrap().len()), (&json!(3), 3));
    let first = get("/api/v1/volumes?limit=1&order=name").await.json();
    assert_eq!((&first["total"], &first["volumes"][0]), (&json!(3), &all["volumes"][0]));
    let office =
        get("/api/v1/volumes?text=OFF&kind=appstack&state=ready&standing=protected&datastore=nfs01").await.json();
    assert_eq!((&office["total"], &office["volumes"][0]["id"]), (&json!(1), &json!("appstack/Office")));
    assert_eq!(get("/api/v1/volumes?failing=true").await.json()["total"], 0);
    for wrong in ["?kind=x", "?limit=-1", "?nothing=1", "?standing="] {
        get(&format!("/api/v1/volumes{wrong}")).await.is(400, "usage");
    }
    let one = get("/api/v1/volumes/appstack/Office").await.json();
    assert_eq!(one, office["volumes"][0]);
    let rows = service.app.catalog().volumes().await.unwrap();
    let told = serde_json::to_value(stackferry_service::output::VolumesView::new(&rows)).unwrap();
    for (key, value) in told[0].as_object().unwrap() {
        assert_eq!(&all["volumes"][0][key], value, "{key}");
    }
    let weird = get("/api/v1/volumes/appstack/Weird%2520!21!%40x").await;
    assert_eq!(weird.json()["id"], "appstack/Weird%20!21!@x", "{}", weird.body);

    let versions = get("/api/v1/volumes/appstack/Office/versions").await.json();
    assert_eq!((versions.as_array().unwrap().len(), &versions[0]["verified"]), (1, &json!(true)));
    let attempts = get("/api/v1/volumes/appstack/Office/attempts").await.json();
    assert_eq!((&attempts[0]["outcome"], &attempts[0]["version"]), (&json!("copied"), &versions[0]["version"]));

    let status = get("/api/v1/status").await.json();
    assert_eq!(status["kinds"]["appstack"]["total"], 3);
    assert!(status["space"]["free"].as_u64().unwrap() > 0);
    let audit = get("/api/v1/audit?limit=2").await.json();
    let [newest, second] = &audit.as_array().unwrap()[..] else { panic!("{audit}") };
    let page = get(&format!("/api/v1/audit?limit=1&before={}", newest["id"])).await.json();
    assert_eq!(&page[0], second);
    let copied = get("/api/v1/audit?action=copied&subject=appstack/Office").await;
    assert!(copied.json().as_array().unwrap().iter().all(|one| one["action"] == "copied"), "{}", copied.body);
    assert_eq!(get("/api/v1/incidents").await.json(), json!([]));
    assert!(get("/api/v1/reasons").await.json().as_array().unwrap().len() >= 18);
    assert!(get("/api/v1/problems").await.json().as_array().unwrap().iter().any(|row| row["status"] == 404));
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_show_no_secret() {
    let bench = Bench::new();
    let more = "[[vsphere]]\nname = \"vc1\"\nurl = \"https://127.0.0.1:1\"\nusername = \"u\"\n\
                password = { env = \"STACKFERRY_TEST_VC_PASSWORD\" }\n";
    let service = Service::start(&bench, more).await;
    let viewer = token(&service, Role::Viewer).await;
    let settings = call(&service, &viewer, "GET", "/api/v1/settings", "").await.json();
    assert_eq!(settings["vsphere"][0]["password"], json!({ "env": "STACKFERRY_TEST_VC_PASSWORD" }));
    assert_eq!(settings["limits"]["transfers"], 2, "defaults are filled in");
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_makes_a_browser_careful_and_no_other_origin_may_read_it() {
    let bench = Bench::new();
    let service = Service::start(&bench, "").await;
    let viewer = token(&service, Role::Viewer).await;
    let bearer = format!("Bearer {viewer}");
    let headers = [("Authorization", bearer.as_str()), ("Origin", "https://elsewhere.example")];
    for path in ["/healthz", "/metrics", "/api/v1/status", "/api/v1/nothing", "/", "/nothing"] {
        let answer = ask(service.address, "GET", path, &headers, "").await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
    }
    let asked = [("Origin", "https://elsewhere.example"), ("Access-Control-Request-Method", "POST")];
    let preflight = ask(service.address, "OPTIONS", "/api/v1/status", &asked, "").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (401, None));
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_slow_or_greedy_is_let_go() {
    let bench = Bench::new();
    let service = Service::start(&bench, "").await;
    let address = service.address;
    // A head without an end.
    let slow = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    });
    let endless = [("X-Long", "x".repeat(64 << 10))];
    let endless: Vec<_> = endless.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = ask(address, "GET", "/healthz", &endless, "").await;
    assert_eq!(answer.status, 431);
    let closed = tokio::time::timeout(Duration::from_secs(30), slow).await.unwrap().unwrap();
    assert!(!closed.contains("200 OK"), "{closed}");
    service.end().await;
}

/// Waits until a job ended, and gives it.
async fn ended(service: &Service, token: &str, job: &Value) -> Value {
    let path = format!("/api/v1/jobs/{}", job["id"]);
    until("the job ends", async || {
        let state = call(service, token, "GET", &path, "").await.json()["state"].clone();
        state != "queued" && state != "running"
    })
    .await;
    call(service, token, "GET", &path, "").await.json()
}

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
    assert!(actors.contains(&&json!("token operator")), "a person's copy is his: {audit}");

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

/// The whole of what a TLS client gets for a request.
async fn by_tls(
    address: SocketAddr,
    certificate: rustls::pki_types::CertificateDer<'static>,
    request: String,
) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions();
    let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut stream = connector.connect(address.ip().into(), stream).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // Some ends are not announced.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_it_speaks_tls_and_its_cookie_stays_there() {
    let bench = Bench::new();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let path = |name: &str| bench.dir.path().join(name).display().to_string();
    std::fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let more = format!("tls = {{ cert = \"{}\", key = \"{}\" }}\n", path("cert.pem"), path("key.pem"));
    let service = Service::start(&bench, &more).await;
    let viewer = token(&service, Role::Viewer).await;
    let certificate = made.cert.der().clone();
    let head = |method: &str, path: &str, more: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: backup1\r\nConnection: close\r\n{more}\r\n")
    };
    let ready = by_tls(service.address, certificate.clone(), head("GET", "/healthz", "")).await;
    assert!(ready.starts_with("HTTP/1.1 200 OK"), "{ready}");
    let body = format!("token={viewer}");
    let more = format!(
        "Origin: https://backup1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
        body.len()
    );
    let login = by_tls(service.address, certificate, head("POST", "/login", &more) + &body).await;
    assert!(login.contains("set-cookie: __Host-stackferry=") && login.contains("; Secure"), "{login}");

    let address = service.address;
    let plain = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        bytes
    });
    assert!(!plain.await.unwrap().starts_with(b"HTTP/1.1 200"));
    service.end().await;

    // What can't be used is told before the service begins.
    std::fs::write(path("key.pem"), "no key").unwrap();
    let more = format!("tls = {{ cert = \"{}\", key = \"{}\" }}\n", path("cert.pem"), path("key.pem"));
    let app = stackferry_service::app::App::open(bench.config(0, &more), <_>::default()).await.unwrap();
    let problem = stackferry_service::http::Server::bind(app.config()).await.err().unwrap();
    assert_eq!((problem.code.as_str(), problem.subject.as_deref()), ("bad_config", Some("http.tls.key")));
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
