//! The API of the running service: who may call what, and what it answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::json;
use stackferry_catalog::Role;
use stackferry_web::api::ROUTES;

use crate::ask::{ask, call, head, talk, token};
use crate::bench::{Bench, LONG, Service, until};

/// A route's path with names of what does not exist.
fn filled(path: &str) -> String {
    path.replace("{kind}", "appstack").replace("{stem}", "Nothing").replace("{version}", "x").replace("{id}", "77")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_refuses_strangers_and_lower_roles() {
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
async fn a_stream_of_events_ends_with_its_token() {
    let bench = Bench::new();
    let service = Service::start(&bench, "").await;
    let (viewer, admin) = (token(&service, Role::Viewer).await, token(&service, Role::Admin).await);
    let open = |token: &str| {
        let mut stream = TcpStream::connect(service.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let bearer = format!("Bearer {token}");
        let head = head("GET", "/api/v1/events", &[("Authorization", &bearer)], "");
        stream.write_all(format!("{head}\r\n\r\n").as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (String::from_utf8_lossy(&status[9..]).into_owned(), stream)
    };
    let mut streams: Vec<TcpStream> = Vec::new();
    let refused = loop {
        match open(&viewer) {
            (status, stream) if status == "200" => streams.push(stream),
            (status, _) => break status,
        }
        assert!(streams.len() < 40, "a viewer has as many as they like");
    };
    assert_eq!(refused, "503");
    let (status, of_admin) = open(&admin);
    assert_eq!(status, "200", "who watches too much keeps nobody else from it");

    service.app.catalog().revoke_token("viewer", "test").await.unwrap();
    for mut stream in streams {
        // Read to its end: it has one.
        tokio::task::spawn_blocking(move || stream.read_to_end(&mut Vec::new()).unwrap()).await.unwrap();
    }
    of_admin.set_nonblocking(true).unwrap();
    let mut buffer = [0; 1 << 16];
    let read = (&of_admin).read(&mut buffer);
    assert!(read.is_ok_and(|bytes| bytes > 0), "the admin's goes on");
    drop(of_admin);
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
async fn volumes_are_searched_paged_and_shown_as_by_commands() {
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
    let told = serde_json::to_value(stackferry_engine::views::VolumesView::new(&rows)).unwrap();
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
async fn every_answer_has_the_headers_against_other_origins() {
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
    let app = stackferry_engine::app::App::open(bench.config(0, &more), <_>::default()).await.unwrap();
    let problem = stackferry_web::http::Server::bind(app.config()).await.err().unwrap();
    assert_eq!((problem.code.as_str(), problem.subject.as_deref()), ("bad_config", Some("http.tls.key")));
}
