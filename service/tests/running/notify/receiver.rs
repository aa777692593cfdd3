//! A receiver of webhooks over HTTPS that behaves as it is told, well or badly.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How a request is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// With this status.
    Status(u16),
    /// By leading to this address.
    Redirect(String),
    /// With 200 and a body that never ends.
    Endless,
    /// Not at all.
    Hang,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn event(&self) -> &str {
        self.body["event"].as_str().unwrap()
    }

    /// What it tells of, as `event code subject`.
    pub(crate) fn told(&self) -> Vec<String> {
        let problems = self.body["problems"].as_array().unwrap();
        let one = |problem: &Value| {
            let subjects = problem["subjects"].as_array().unwrap();
            let line = |subject: &Value| {
                format!(
                    "{} {} {}",
                    self.event(),
                    problem["code"].as_str().unwrap(),
                    subject["subject"].as_str().unwrap()
                )
            };
            subjects.iter().map(line).collect::<Vec<_>>()
        };
        problems.iter().flat_map(one).collect()
    }
}

#[derive(Default)]
struct State {
    /// How the next requests are answered; then with 200.
    answers: VecDeque<Answer>,
    requests: Vec<Request>,
}

/// The receiver. It ends with the test's runtime.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: PathBuf,
    state: Arc<Mutex<State>>,
}

/// A certificate for 127.0.0.1 and its key, as PEM files of this name.
pub(crate) fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf, ServerConfig) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], private)
        .unwrap();
    (cert, key, config)
}

impl Receiver {
    pub(crate) async fn start(folder: &Path) -> Self {
        let (certificate, _, config) = certificate(folder, "hook");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, acceptor) = (Arc::<Mutex<State>>::default(), TlsAcceptor::from(Arc::new(config)));
        let known = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), stream, Arc::clone(&known)));
            }
        });
        Self { address, certificate, state }
    }

    /// The section of the configuration, and more of it.
    pub(crate) fn section(&self, more: &str) -> String {
        format!(
            "[schedule]\nevery = \"1s\"\n[notify]\nsettle = \"0s\"\napart = \"0s\"\n[notify.webhook]\n\
             url = \"https://{}/hook\"\nca = \"{}\"\n{more}\n",
            self.address,
            self.certificate.display()
        )
    }

    pub(crate) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().unwrap().answers.extend(answers);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Every message once, as a receiver keeps them that drops what it has.
    pub(crate) fn messages(&self) -> Vec<Request> {
        let mut messages: Vec<Request> = Vec::new();
        for request in self.requests() {
            if messages.iter().all(|known| known.body["id"] != request.body["id"]) {
                messages.push(request);
            }
        }
        messages
    }

    /// What all messages told of, in their order.
    pub(crate) fn told(&self) -> Vec<String> {
        self.messages().iter().flat_map(Request::told).collect()
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, state: Arc<Mutex<State>>) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    while let Some(request) = read(&mut stream).await {
        let answer = {
            let mut state = state.lock().unwrap();
            state.requests.push(request);
            state.answers.pop_front().unwrap_or(Answer::Status(200))
        };
        let head = match &answer {
            Answer::Status(status) => format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok"),
            Answer::Redirect(to) => format!("HTTP/1.1 307 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"),
            Answer::Endless => "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n".to_owned(),
            Answer::Hang => return std::future::pending().await,
        };
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        if answer != Answer::Endless {
            continue;
        }
        // Until the client has had enough.
        loop {
            if stream.write_all(&[b'x'; 4096]).await.is_err() {
                return;
            }
        }
    }
}

/// One request; none when the client is gone.
async fn read(stream: &mut TlsStream<TcpStream>) -> Option<Request> {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let length: usize = length.unwrap();
            if bytes.len() >= at + 4 + length {
                let body = serde_json::from_slice(&bytes[at + 4..at + 4 + length]).unwrap();
                return Some(Request { head, body });
            }
        }
        let mut some = [0; 8192];
        let read = tokio::time::timeout(Duration::from_secs(120), stream.read(&mut some)).await.ok()?.ok()?;
        if read == 0 {
            return None;
        }
        bytes.extend_from_slice(&some[..read]);
    }
}
