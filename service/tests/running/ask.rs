//! Asks the running service, as a client over TCP would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use stackferry_catalog::Role;
use stackferry_web::tokens;

use crate::bench::{LONG, Service, until};

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

pub(crate) fn talk(stream: &mut (impl Read + Write), head: &str, body: &str) -> Answer {
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

pub(crate) fn head(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
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

pub(crate) async fn token_of(app: &stackferry_engine::app::App, role: Role) -> String {
    let (token, shown) = tokens::make(role.as_str(), role).unwrap();
    app.catalog().add_token(&token, "test").await.unwrap();
    shown.expose().to_owned()
}

/// Waits until a job ended, and gives it.
pub(crate) async fn ended(service: &Service, token: &str, job: &Value) -> Value {
    let path = format!("/api/v1/jobs/{}", job["id"]);
    until("the job ends", async || {
        let state = call(service, token, "GET", &path, "").await.json()["state"].clone();
        state != "queued" && state != "running"
    })
    .await;
    call(service, token, "GET", &path, "").await.json()
}
