//! Malformed requests, byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::setup::Setup;

/// Longer than the service waits for anything by itself.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
const OFFICE: &str = "/api/v1/volumes/appstack/Office";

fn connect(setup: &Setup) -> TcpStream {
    let stream = TcpStream::connect(setup.address).unwrap();
    stream.set_read_timeout(Some(COMMAND_TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(COMMAND_TIMEOUT)).unwrap();
    stream
}

/// What comes until the service closes. It may close while we still write.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    match stream.take(1 << 20).read_to_end(&mut answer) {
        Ok(_) => answer,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => answer,
        Err(error) => panic!("no end after {COMMAND_TIMEOUT:?}: {error}, {}", String::from_utf8_lossy(&answer)),
    }
}

/// Sends a request, and gives the answer: its status (0 where the connection was only closed), and its text.
pub(crate) fn send(setup: &Setup, bytes: &[u8]) -> (u16, String) {
    let mut stream = connect(setup);
    let _ = stream.write_all(bytes);
    read(&rest(&mut stream))
}

/// The same for what is no whole request: nothing more will come.
fn send_part(setup: &Setup, bytes: &[u8]) -> (u16, String) {
    let mut stream = connect(setup);
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    read(&rest(&mut stream))
}

fn read(answer: &[u8]) -> (u16, String) {
    let text = String::from_utf8_lossy(answer).into_owned();
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok()).unwrap_or(0);
    assert!(status != 0 || text.is_empty(), "no HTTP: {text}");
    (status, text)
}

/// A request with a token; `more` are lines of its head.
pub(crate) fn request(token: &str, method: &str, target: &[u8], more: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} ").into_bytes();
    bytes.extend(target);
    bytes.extend(
        format!(" HTTP/1.1\r\nHost: stackferry\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{more}")
            .bytes(),
    );
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}

fn with_body(token: &str, method: &str, path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
    request(token, method, path.as_bytes(), &head, body)
}

/// That a request is refused as the caller's fault, in the words of the API where it came so far.
fn refused(setup: &Setup, what: &str, bytes: &[u8]) {
    let (status, text) = send(setup, bytes);
    assert!((400..500).contains(&status), "{what}: {text}");
    let reported = text.contains("application/problem+json") && text.contains("\"hint\"");
    // What is no HTTP is answered before anybody asks what it is about.
    let early = matches!(status, 400 | 414 | 431) && text.contains("content-length: 0");
    assert!(reported || early, "{what}: {text}");
}

fn addresses(setup: &Setup, token: &str) {
    let long = format!("/api/v1/volumes/appstack/{}", "x".repeat(20 << 10));
    let deep = format!("/api/v1/{}", "../".repeat(500));
    let targets: [&[u8]; 24] = [
        b"/api/v1/volumes/appstack/%00",
        b"/api/v1/volumes/appstack/%FF%FE",
        b"/api/v1/volumes/appstack/%C0%AE%C0%AE%2F",
        b"/api/v1/volumes/appstack/..",
        b"/api/v1/volumes/appstack/%2e%2e",
        b"/api/v1/volumes/appstack/..%2F..%2F..%2Fetc%2Fpasswd",
        b"/api/v1/volumes/appstack/../../../../etc/passwd",
        b"/api/v1/volumes/%2e%2e/%2e%2e",
        b"/api/v1/volumes/appstack/Office%2F..%2FOffice",
        b"/api/v1/volumes/appstack/%252e%252e%252f",
        b"/api/v1/volumes/appstack/Office%0d%0aX-Evil:%201",
        b"/api/v1/volumes/appstack/%zz%",
        b"/api/v1/volumes/appstack//",
        b"/api/v1//volumes",
        b"/api/v1/volumes/APPSTACK/Office",
        b"/api/v1/volumes/appstack/Office@20261122T041500Z-1",
        b"/api/v1/volumes/appstack/\xff\xfe",
        "/api/v1/volumes/appstack/\u{202e}\u{0}".as_bytes(),
        b"/api/v1/jobs/9223372036854775808",
        b"/api/v1/jobs/0x1",
        b"/api/v1/jobs/%2d1",
        b"/api/v1/jobs/1e3",
        long.as_bytes(),
        deep.as_bytes(),
    ];
    for target in targets {
        refused(setup, &String::from_utf8_lossy(target), &request(token, "GET", target, "", b""));
    }
    for query in [
        "limit=99999999999999999999",
        "limit=-1",
        "limit=1.5",
        "limit=",
        "limit=%00",
        "limit=1&limit=2",
        "kind=%FF",
        "kind[]=x",
        "offset=-1",
        "offset=9223372036854775808",
        "before=x",
        "failing=perhaps",
        "order=id;drop",
        "nothing=1",
    ] {
        let target = format!("/api/v1/volumes?{query}");
        refused(setup, query, &request(token, "GET", target.as_bytes(), "", b""));
    }
    // What can be understood is answered, however odd.
    for target in [
        "/api/v1/volumes?offset=9223372036854775807&limit=4294967295",
        "/api/v1/volumes?text=%25_%27%22%5c%00%C3%A9&reason=%00&datastore=%F0%9F%92%A5",
        "/api/v1/jobs?before=-9223372036854775808&limit=0",
        "/api/v1/audit?before=9223372036854775807&limit=4294967295&action=%27%20OR%201=1",
        "/api/v1/audit?before=0&subject=%00",
        "/api/v1/volumes?",
        "http://elsewhere.example/api/v1/volumes",
    ] {
        let (status, text) = send(setup, &request(token, "GET", target.as_bytes(), "", b""));
        assert_eq!(status, 200, "{target}: {text}");
    }
}

fn heads(setup: &Setup, token: &str) {
    let status = b"/api/v1/status";
    for method in ["POST", "PATCH", "TRACE", "OPTIONS", "PROPFIND", "get", "X!#$"] {
        refused(setup, method, &request(token, method, status, "", b""));
    }
    let many = "X-Many: 1\r\n".repeat(300);
    let long = format!("X-Long: {}\r\n", "x".repeat(64 << 10));
    for (what, more) in [
        ("too many headers", many.as_str()),
        ("a long header", &long),
        ("a name with a space", "X Space: 1\r\n"),
        ("a line without a colon", "nothing\r\n"),
        ("NUL in a value", "X-Nul: \0\r\n"),
        ("two lengths", "Content-Length: 1\r\nContent-Length: 2\r\n"),
        ("a negative length", "Content-Length: -1\r\n"),
        ("a length beyond counting", "Content-Length: 99999999999999999999999\r\n"),
        ("an unknown coding", "Transfer-Encoding: gzip\r\n"),
        ("a second token", "Authorization: Bearer sf_x\r\n"),
    ] {
        let (status, text) = send(setup, &request(token, "GET", status, more, b""));
        // A client that shows two tokens is taken by its first.
        assert!((400..500).contains(&status) || what == "a second token" && status == 200, "{what}: {text}");
    }
    for (what, value) in [
        ("no UTF-8", b"Bearer \xff\xfe".as_slice()),
        ("no end", b"Bearer sf_".repeat(2000).as_slice()),
        ("nothing", b""),
        ("another sort", b"Negotiate YII="),
    ] {
        let mut bytes = b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: ".to_vec();
        bytes.extend(value);
        bytes.extend(b"\r\n\r\n");
        let (status, text) = send(setup, &bytes);
        assert_eq!(status, 401, "{what}: {text}");
    }
    for (what, bytes) in [
        ("nothing", b"".as_slice()),
        ("an end", b"\r\n\r\n\r\n"),
        ("half a line", b"GET /api"),
        ("no version", b"GET /api/v1/status\r\n\r\n"),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("HTTP/9", b"GET / HTTP/9.9\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("zeros", &[0; 4096]),
        ("no line's end", &[b'A'; 100_000]),
        ("a proxy's request", b"CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("a star", b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    ] {
        let (status, text) = send_part(setup, bytes);
        assert!(status == 0 || (400..500).contains(&status), "{what}: {text}");
    }
}

fn bodies(setup: &Setup, admin: &str) {
    let restore = format!("{OFFICE}/restore");
    let json = |body: &[u8]| with_body(admin, "POST", &restore, "application/json", body);
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let deep_key = format!("{{\"to\":{}1{}}}", "{\"a\":".repeat(9_000), "}".repeat(9_000));
    let large = format!("{{\"to\":\"{}\"}}", "x".repeat(10 << 20));
    let long = format!("{{\"to\":\"{}/{}\",\"version\":\"x\"}}", setup.root.display(), "n".repeat(60_000));
    let nul = format!("{{\"to\":\"{}/a\\u0000b\",\"version\":\"x\"}}", setup.root.display());
    let above = format!("{{\"to\":\"{}/../elsewhere\"}}", setup.root.display());
    for (what, body) in [
        ("nothing", b"".as_slice()),
        ("no UTF-8", b"{\"to\":\"\xff\"}"),
        ("half a surrogate", b"{\"to\":\"\\ud800\"}"),
        ("a mark", b"\xef\xbb\xbf{\"to\":\"/x\"}"),
        ("two keys", b"{\"to\":\"/x\",\"to\":\"/y\"}"),
        ("no object", b"null"),
        ("another type", b"{\"to\":{}}"),
        ("no number", b"{\"to\":NaN}"),
        ("more behind", b"{\"to\":\"/x\"} {}"),
        ("elsewhere", b"{\"to\":\"/etc\"}"),
        ("relative", b"{\"to\":\"restored/x\"}"),
        ("nowhere", b"{\"to\":\"\"}"),
        ("above", above.as_bytes()),
        ("a deep list", deep.as_bytes()),
        ("a deep object", deep_key.as_bytes()),
        ("too much", large.as_bytes()),
        ("a long name", long.as_bytes()),
        ("NUL", nul.as_bytes()),
    ] {
        refused(setup, what, &json(body));
    }
    let good = b"{\"to\":\"/x\"}";
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/xml", "multipart/form-data", "x", ""] {
        refused(setup, kind, &with_body(admin, "POST", &restore, kind, good));
    }
    let chunked = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
    let mut endless = b"10000\r\n".to_vec();
    endless.extend([b' '; 0x10000]);
    endless.extend(b"\r\n");
    let endless = endless.repeat(64);
    for (what, body) in [
        ("chunks without end", endless.as_slice()),
        ("a chunk of no size", b"x\r\n"),
        ("a chunk beyond counting", b"fffffffffffffffff\r\n"),
        ("a chunk that is shorter", b"ff\r\n{}"),
        ("no chunk", b""),
    ] {
        let (status, text) = send_part(setup, &request(admin, "POST", restore.as_bytes(), chunked, body));
        assert!(status == 0 || (400..500).contains(&status), "{what}: {text}");
    }
    let both = format!("{chunked}Content-Length: 3\r\n");
    let (status, text) = send(setup, &request(admin, "POST", restore.as_bytes(), &both, b"0\r\n\r\n"));
    assert!((400..500).contains(&status), "two ways to end: {text}");
    // A client that promises more than it sends.
    let short = "Content-Type: application/json\r\nContent-Length: 1000\r\n";
    let (status, text) = send_part(setup, &request(admin, "POST", restore.as_bytes(), short, b"{"));
    assert!(status == 0 || (400..500).contains(&status), "{text}");

    // What is odd but right is kept as it is.
    let note = format!("{{\"note\":\"\\u0000\\u202e'; -- {}\"}}", "\u{1f4a5}".repeat(400));
    let pin = format!("{OFFICE}/versions/{}/pin", setup.version("appstack/Office"));
    let (status, text) =
        send(setup, &with_body(admin, "PUT", &pin, "application/json; charset=utf-8", note.as_bytes()));
    assert_eq!(status, 200, "{text}");
    let long = format!("{{\"note\":\"{}\"}}", "\u{1f4a5}".repeat(10_000));
    let (status, text) = send(setup, &with_body(admin, "PUT", &pin, "application/json", long.as_bytes()));
    assert_eq!(status, 400, "{text}");
    let (status, text) = send(setup, &request(admin, "DELETE", pin.as_bytes(), "", b""));
    assert_eq!(status, 200, "{text}");
}

#[test]
fn no_raw_bytes_fail_the_service() {
    let setup = Setup::new();
    let (viewer, admin) = (setup.token("viewer"), setup.token("admin"));
    addresses(&setup, &viewer);
    heads(&setup, &viewer);
    bodies(&setup, &admin);
    setup.must_be_unharmed(&[&viewer, &admin]);
}

#[test]
fn slow_clients_delay_nobody_else() {
    let setup = Setup::new();
    let admin = setup.token("admin");
    // Connections that say nothing, that never end their head, and that never send their body.
    let mut idle: Vec<TcpStream> = (0..120).map(|_| connect(&setup)).collect();
    for stream in &mut idle[40..80] {
        stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nX-Slow: ").unwrap();
    }
    let head = "Content-Type: application/json\r\nContent-Length: 20\r\n";
    let half = request(&admin, "POST", format!("{OFFICE}/restore").as_bytes(), head, b"{");
    for stream in &mut idle[80..] {
        stream.write_all(&half).unwrap();
    }
    // Streams of events whose readers do not read.
    let mut watching: Vec<TcpStream> = (0..8).map(|_| connect(&setup)).collect();
    for stream in &mut watching {
        stream.write_all(&request(&admin, "GET", b"/api/v1/events", "", b"")).unwrap();
    }
    let mut first = [0; 15];
    watching[0].read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    for _ in 0..20 {
        let (status, text) = send(&setup, &request(&admin, "GET", b"/api/v1/status", "", b""));
        assert_eq!(status, 200, "{text}");
    }
    // Each of them is let go by itself: who said nothing without a word, who began with one.
    for (number, stream) in idle.iter_mut().enumerate() {
        let (status, text) = read(&rest(stream));
        let reported = status == 408 && text.contains("\"too_slow\"");
        assert!(if number < 80 { matches!(status, 0 | 408) } else { reported }, "{number}: {text}");
    }
    drop(watching);
    setup.must_be_unharmed(&[&admin]);
}
