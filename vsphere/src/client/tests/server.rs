//! The server of these tests: a script decides what it answers over plain HTTP, and it records the requests.

use std::sync::Mutex as StdMutex;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

pub(super) const CONTENT: &str = r#"<returnval><rootFolder type="Folder">group-d1</rootFolder>
    <propertyCollector type="PropertyCollector">pc</propertyCollector><viewManager type="ViewManager">vm</viewManager>
    <about><fullName>scripted</fullName><apiVersion>6.5</apiVersion><apiType>HostAgent</apiType></about>
    <sessionManager type="SessionManager">sm</sessionManager></returnval>"#;

/// What a server says to a call: the inside of its response, a fault, or something else altogether.
pub(super) enum Say {
    Inside(String),
    Fault(&'static str),
    Raw(u16, &'static str),
}

/// A call that came: its method, its body, and how often the method was called before.
pub(super) struct Called<'a> {
    pub(super) method: &'a str,
    pub(super) body: &'a str,
    pub(super) before: usize,
}

pub(super) struct Server {
    url: String,
    pub(super) calls: Arc<StdMutex<Vec<(String, String)>>>,
    task: tokio::task::JoinHandle<()>,
    pub(super) folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers by `script`, and where that says nothing as a plain host without anything in it.
    pub(super) async fn start(script: impl Fn(&Called<'_>) -> Option<Say> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let calls = Arc::new(StdMutex::new(Vec::new()));
        let script = Arc::new(script);
        let task = tokio::spawn({
            let calls = Arc::clone(&calls);
            async move {
                while let Ok((tcp, _)) = listener.accept().await {
                    let (calls, script) = (Arc::clone(&calls), Arc::clone(&script));
                    tokio::spawn(async move {
                        let mut tcp = BufReader::new(tcp);
                        while let Some((head, body)) = read(&mut tcp).await {
                            let answer = answer(&head, &body, &calls, &*script);
                            if tcp.write_all(answer.as_bytes()).await.is_err() {
                                return;
                            }
                        }
                    });
                }
            }
        });
        Self { url, calls, task, folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn client(&self) -> Vsphere {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.folder.path().join("password");
        std::fs::write(&path, "secret").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        self.client_with(&path)
    }

    pub(super) fn client_with(&self, password: &std::path::Path) -> Vsphere {
        let config = json!({ "name": "vc1", "url": self.url, "username": "root", "password": { "file": password } });
        Vsphere::new(&serde_json::from_value(config).unwrap()).unwrap()
    }

    pub(super) fn count(&self, method: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|(called, _)| called == method).count()
    }
}

async fn read(tcp: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if tcp.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let length = head.to_ascii_lowercase();
    let length =
        length.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    tcp.read_exact(&mut body).await.ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}

fn answer(
    head: &str,
    body: &str,
    calls: &StdMutex<Vec<(String, String)>>,
    script: &dyn Fn(&Called<'_>) -> Option<Say>,
) -> String {
    let method = body.split_once("<soapenv:Body><").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or("GET");
    let before = {
        let mut calls = calls.lock().unwrap();
        let before = calls.iter().filter(|(called, _)| called == method).count();
        calls.push((method.to_owned(), format!("{head}{body}")));
        before
    };
    let said = script(&Called { method, body, before }).unwrap_or_else(|| match method {
        "GET" => Say::Raw(404, ""),
        "RetrieveServiceContent" => Say::Inside(CONTENT.to_owned()),
        "Login" => Say::Inside("<returnval><key>52ab</key></returnval>".to_owned()),
        "CreateContainerView" => Say::Inside(r#"<returnval type="ContainerView">view</returnval>"#.to_owned()),
        "RetrievePropertiesEx" | "CurrentTime" | "Logout" | "DestroyView" => Say::Inside(String::new()),
        _ => Say::Fault("MethodNotFound"),
    });
    let soap = |inside: &str| {
        format!(
            r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><s:Body>{inside}</s:Body></s:Envelope>"#
        )
    };
    let (status, body) = match said {
        Say::Inside(inside) => (200, soap(&format!("<{method}Response>{inside}</{method}Response>"))),
        Say::Fault(kind) => (
            500,
            soap(&format!(
                "<s:Fault><faultcode>c</faultcode><faultstring>t</faultstring><detail><f i:type=\"{kind}\"/></detail></s:Fault>"
            )),
        ),
        Say::Raw(status, body) => (status, body.to_owned()),
    };
    let cookie = if method == "Login" { "Set-Cookie: vmware_soap_session=\"abc\"; Path=/; HttpOnly\r\n" } else { "" };
    format!("HTTP/1.1 {status} Said\r\n{cookie}Content-Length: {}\r\n\r\n{body}", body.len())
}

pub(super) fn object(kind: &str, id: &str, inside: &str) -> String {
    format!("<objects><obj type=\"{kind}\">{id}</obj>{inside}</objects>")
}

pub(super) fn property(name: &str, value: &str) -> String {
    format!("<propSet><name>{name}</name><val>{value}</val></propSet>")
}

pub(super) fn denied(fault: &str) -> String {
    format!(
        "<missingSet><path>summary</path><fault><fault i:type=\"{fault}\"><privilegeId>System.Read</privilegeId></fault>\
         <localizedMessage>no</localizedMessage></fault></missingSet>"
    )
}

pub(super) fn page(objects: &str) -> Option<Say> {
    Some(Say::Inside(format!("<returnval>{objects}</returnval>")))
}

/// The inside of the last call of a method, without the object that it is for.
pub(super) fn arguments(server: &Server, method: &str) -> String {
    let calls = server.calls.lock().unwrap();
    let (_, call) = calls.iter().rfind(|(called, _)| called == method).unwrap();
    let (_, rest) = call.split_once("</_this>").unwrap();
    rest.split_once(&format!("</{method}>")).unwrap().0.to_owned()
}

/// A datastore to browse.
pub(super) fn browsed() -> Datastore {
    let id = |kind: &str| Moid { kind: kind.to_owned(), value: "1".to_owned() };
    Datastore {
        id: id("Datastore"),
        name: "ds".to_owned(),
        kind: "vsan".to_owned(),
        url: String::new(),
        capacity: 0,
        free: 0,
        accessible: true,
        maintenance: None,
        mounts: Vec::new(),
        browser: id("HostDatastoreBrowser"),
        datacenter: None,
    }
}
