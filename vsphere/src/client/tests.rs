//! Against a server that says what a test wants: answers in pages, denials, and what no vSphere says.

use std::sync::Mutex as StdMutex;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::watch::Change;
use crate::web::Retry;

const CONTENT: &str = r#"<returnval><rootFolder type="Folder">group-d1</rootFolder>
    <propertyCollector type="PropertyCollector">pc</propertyCollector><viewManager type="ViewManager">vm</viewManager>
    <about><fullName>scripted</fullName><apiVersion>6.5</apiVersion><apiType>HostAgent</apiType></about>
    <sessionManager type="SessionManager">sm</sessionManager></returnval>"#;

/// What a server says to a call: the inside of its response, a fault, or something else altogether.
enum Say {
    Inside(String),
    Fault(&'static str),
    Raw(u16, &'static str),
}

/// A call that came: its method, its body, and how often the method was called before.
struct Called<'a> {
    method: &'a str,
    body: &'a str,
    before: usize,
}

struct Server {
    url: String,
    calls: Arc<StdMutex<Vec<(String, String)>>>,
    task: tokio::task::JoinHandle<()>,
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers by `script`, and where that says nothing as a plain host without anything in it.
    async fn start(script: impl Fn(&Called<'_>) -> Option<Say> + Send + Sync + 'static) -> Self {
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

    fn client(&self) -> Vsphere {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.folder.path().join("password");
        std::fs::write(&path, "secret").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        self.client_with(&path)
    }

    fn client_with(&self, password: &std::path::Path) -> Vsphere {
        let config = json!({ "name": "vc1", "url": self.url, "username": "root", "password": { "file": password } });
        Vsphere::new(&serde_json::from_value(config).unwrap()).unwrap()
    }

    fn count(&self, method: &str) -> usize {
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

fn object(kind: &str, id: &str, inside: &str) -> String {
    format!("<objects><obj type=\"{kind}\">{id}</obj>{inside}</objects>")
}

fn property(name: &str, value: &str) -> String {
    format!("<propSet><name>{name}</name><val>{value}</val></propSet>")
}

fn denied(fault: &str) -> String {
    format!(
        "<missingSet><path>summary</path><fault><fault i:type=\"{fault}\"><privilegeId>System.Read</privilegeId></fault>\
         <localizedMessage>no</localizedMessage></fault></missingSet>"
    )
}

fn page(objects: &str) -> Option<Say> {
    Some(Say::Inside(format!("<returnval>{objects}</returnval>")))
}

#[tokio::test]
async fn pages_are_put_together() {
    let server = Server::start(|called| {
        let host = |n: usize| object("HostSystem", &format!("host-{n}"), &property("name", &format!("esx{n}")));
        match called.method {
            "RetrievePropertiesEx" => page(&format!("<token>0&lt;</token>{}", host(3))),
            "ContinueRetrievePropertiesEx" if called.before == 0 => {
                assert!(called.body.contains("<token>0&lt;</token>"), "{}", called.body);
                page(&format!("<token>1</token>{}", host(1)))
            }
            "ContinueRetrievePropertiesEx" => page(&host(2)),
            _ => None,
        }
    })
    .await;
    let hosts = server.client().hosts().await.unwrap();
    assert_eq!(hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(), ["esx1", "esx2", "esx3"]);
    assert_eq!(server.count("DestroyView"), 1);
    let calls = server.calls.lock().unwrap();
    let (_, login) = calls.iter().find(|(method, _)| method == "Login").unwrap();
    assert!(login.contains("soapaction: \"urn:vim25/6.0\"\r\n"), "{login}");
    let (_, view) = calls.iter().find(|(method, _)| method == "CreateContainerView").unwrap();
    assert!(view.contains("cookie: vmware_soap_session=\"abc\"\r\n"), "{view}");
}

#[tokio::test]
async fn pages_without_end_are_given_up() {
    let server = Server::start(|called| match called.method {
        "RetrievePropertiesEx" | "ContinueRetrievePropertiesEx" => page("<token>again</token>"),
        _ => None,
    })
    .await;
    let error = server.client().hosts().await.unwrap_err();
    assert!(matches!(error, VsphereError::BadAnswer { .. }), "{error:?}");
}

#[tokio::test]
async fn hidden_disks_are_no_missing_disks() {
    let server = Server::start(|called| match called.method {
        "RetrievePropertiesEx" => {
            page(&object("VirtualMachine", "vm-7", &format!("{}{}", property("name", "vdi"), denied("NoPermission"))))
        }
        _ => None,
    })
    .await;
    let error = server.client().attached_disks().await.unwrap_err();
    let VsphereError::NoPermission { privilege, object, .. } = &error else { panic!("{error:?}") };
    assert_eq!((privilege.as_str(), object.as_str()), ("System.Read", "vm-7"));
    // One datastore that is hidden does not hide the others.
    assert!(server.client().datastores().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_session_is_made_anew_once_for_an_operation() {
    let server = Server::start(|called| match called.method {
        "RetrievePropertiesEx" => page(&object("HostSystem", "host-1", &denied("NotAuthenticated"))),
        _ => None,
    })
    .await;
    let error = server.client().hosts().await.unwrap_err();
    assert!(error.is_expired(), "{error:?}");
    assert_eq!(error.retry(), Retry::Transient);
    assert_eq!(server.count("Login"), 2);
}

#[tokio::test]
async fn no_vsphere_at_all() {
    for (status, body) in [(200, "<html><body>Welcome</body></html>"), (404, ""), (200, "{\"a\": 1}"), (301, "")] {
        let server = Server::start(move |called| match called.method {
            "RetrieveServiceContent" => Some(Say::Raw(status, body)),
            _ => None,
        })
        .await;
        let error = server.client().about().await.unwrap_err();
        assert!(matches!(error, VsphereError::BadAnswer { .. }), "{error:?}");
        assert_eq!(server.count("Login"), 0, "no stranger gets the password");
    }
    let server = Server::start(|called| match called.method {
        "RetrieveServiceContent" => Some(Say::Raw(503, "no healthy upstream")),
        _ => None,
    })
    .await;
    let error = server.client().login().await.unwrap_err();
    assert!(matches!(error, VsphereError::NotReady { status: 503, .. }), "{error:?}");
    assert_eq!(error.retry(), Retry::Transient);
}

#[tokio::test]
async fn who_is_let_in_nowhere_is_not_tried_again() {
    let server = Server::start(|called| match called.method {
        "Login" => Some(Say::Fault("NoPermission")),
        _ => None,
    })
    .await;
    let vsphere = server.client();
    for _ in 0..3 {
        let error = vsphere.hosts().await.unwrap_err();
        assert!(matches!(error, VsphereError::Lockdown { .. }), "{error:?}");
    }
    assert_eq!(server.count("Login"), 1);
}

#[tokio::test]
async fn a_password_that_is_not_there_is_looked_for_again() {
    let server = Server::start(|_| None).await;
    let path = server.folder.path().join("later");
    let vsphere = server.client_with(&path);
    let error = vsphere.login().await.unwrap_err();
    assert!(matches!(error, VsphereError::Secret { .. }), "{error:?}");
    assert_eq!(server.count("Login"), 0);
    drop(server.client());
    std::fs::rename(server.folder.path().join("password"), &path).unwrap();
    vsphere.login().await.unwrap();
    vsphere.logout().await.unwrap();
    assert_eq!(server.count("Logout"), 1);
}

#[tokio::test]
async fn who_waits_for_a_login_shares_its_failure() {
    let server = Server::start(|called| match called.method {
        "RetrieveServiceContent" => Some(Say::Raw(502, "")),
        _ => None,
    })
    .await;
    let vsphere = server.client();
    let (a, b, c) = tokio::join!(vsphere.hosts(), vsphere.keep_alive(), vsphere.datastores());
    assert!(a.is_err() && b.is_err() && c.is_err());
    assert_eq!(server.count("RetrieveServiceContent"), 1);
    vsphere.hosts().await.unwrap_err();
    assert_eq!(server.count("RetrieveServiceContent"), 2, "who comes later tries again");
}

fn browsed() -> Datastore {
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

#[tokio::test]
async fn a_task_is_waited_for() {
    let server = Server::start(|called| match called.method {
        "SearchDatastoreSubFolders_Task" => Some(Say::Inside(r#"<returnval type="Task">task-1</returnval>"#.to_owned())),
        "RetrievePropertiesEx" => {
            let info = match called.before {
                0 => "<state>queued</state>".to_owned(),
                1 => "<state>running</state>".to_owned(),
                _ => "<state>success</state><result i:type=\"ArrayOfHostDatastoreBrowserSearchResults\">\
                      <HostDatastoreBrowserSearchResults><folderPath>[ds] b/</folderPath></HostDatastoreBrowserSearchResults>\
                      <HostDatastoreBrowserSearchResults><folderPath>[ds] </folderPath><file i:type=\"FolderFileInfo\">\
                      <path>b</path></file></HostDatastoreBrowserSearchResults></result>"
                    .to_owned(),
            };
            page(&object("Task", "task-1", &property("info", &info)))
        }
        _ => None,
    })
    .await;
    let listings = server.client().browse(&browsed(), "", true, None).await.unwrap();
    assert_eq!(listings.iter().map(|listing| listing.folder.as_str()).collect::<Vec<_>>(), ["", "b"]);
    assert!(listings[0].entries[0].is_folder);
    assert_eq!(server.count("RetrievePropertiesEx"), 3);
}

#[tokio::test]
async fn a_task_s_error_is_told() {
    let failed = |fault: &'static str| {
        Server::start(move |called| match called.method {
            "SearchDatastore_Task" => Some(Say::Inside(r#"<returnval type="Task">task-1</returnval>"#.to_owned())),
            "RetrievePropertiesEx" => {
                let info = format!(
                    "<state>error</state><error><fault i:type=\"{fault}\"/><localizedMessage>words</localizedMessage></error>"
                );
                page(&object("Task", "task-1", &property("info", &info)))
            }
            _ => None,
        })
    };
    let browse = async |server: Server| server.client().browse(&browsed(), "a", false, None).await.unwrap_err();
    let missing = browse(failed("FileNotFound").await).await;
    assert_eq!(missing.to_string(), "vSphere vc1 has no folder [ds] a");
    let other = browse(failed("InaccessibleDatastore").await).await;
    assert_eq!(other.to_string(), "SearchDatastore_Task failed on vSphere vc1: InaccessibleDatastore (words)");
    assert_eq!(other.retry(), Retry::Transient);
}

#[tokio::test]
async fn a_datastore_that_is_gone_is_no_missing_folder() {
    let server = Server::start(|called| match called.method {
        "SearchDatastore_Task" => Some(Say::Fault("ManagedObjectNotFound")),
        _ => None,
    })
    .await;
    let error = server.client().browse(&browsed(), "a", false, None).await.unwrap_err();
    assert!(matches!(error, VsphereError::Gone { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_without_updates_is_looked_at() {
    let server = Server::start(|called| match called.method {
        // A look asks twice: for datastores and for machines. The third look sees another disk.
        "RetrievePropertiesEx" => {
            let device = "<VirtualDevice i:type=\"VirtualDisk\"><backing><fileName>[ds] a.vmdk</fileName></backing></VirtualDevice>";
            let device = if called.before < 4 { "" } else { device };
            page(&object("VirtualMachine", "vm-1", &property("config.hardware.device", device)))
        }
        _ => None,
    })
    .await;
    let mut watch = server.client().watch();
    watch.look = Duration::from_millis(20);
    assert_eq!(watch.next(Duration::ZERO).await.unwrap(), Change::Quiet);
    assert!(!watch.is_told());
    assert_eq!(watch.next(Duration::from_secs(20)).await.unwrap(), Change::Changed);
    assert_eq!(watch.next(Duration::from_millis(50)).await.unwrap(), Change::Quiet);
}

#[tokio::test]
async fn a_first_state_in_pieces_is_no_change() {
    let server = Server::start(|called| {
        let update = |truncated: bool| {
            page(&format!(
                "<version>-</version><filterSet><objectSet><kind>enter</kind></objectSet></filterSet><truncated>{truncated}</truncated>"
            ))
        };
        match called.method {
            "CreatePropertyCollector" => Some(Say::Inside(r#"<returnval type="PropertyCollector">own</returnval>"#.to_owned())),
            "CreateFilter" => Some(Say::Inside(r#"<returnval type="PropertyFilter">filter</returnval>"#.to_owned())),
            "WaitForUpdatesEx" => match called.before {
                0 => {
                    assert!(called.body.contains("<version></version>"), "{}", called.body);
                    update(true)
                }
                1 => {
                    assert!(called.body.contains("<version>-</version>"), "{}", called.body);
                    update(false)
                }
                2 => Some(Say::Inside(String::new())),
                3 => page("<version>-</version>"),
                _ => update(false),
            },
            _ => None,
        }
    })
    .await;
    let mut watch = server.client().watch();
    for _ in 0..2 {
        assert_eq!(watch.next(Duration::ZERO).await.unwrap(), Change::Quiet);
    }
    assert!(watch.is_told());
    assert_eq!(watch.next(Duration::ZERO).await.unwrap(), Change::Changed);
}

#[tokio::test]
async fn a_server_that_does_not_wait_is_not_asked_without_pause() {
    let server = Server::start(|called| match called.method {
        "CreatePropertyCollector" => {
            Some(Say::Inside(r#"<returnval type="PropertyCollector">own</returnval>"#.to_owned()))
        }
        "CreateFilter" | "WaitForUpdatesEx" => Some(Say::Inside(String::new())),
        _ => None,
    })
    .await;
    let mut watch = server.client().watch();
    assert_eq!(watch.next(Duration::from_millis(200)).await.unwrap(), Change::Quiet);
    assert_eq!(server.count("WaitForUpdatesEx"), 2, "the first state, and one wait");
    let calls = server.calls.lock().unwrap();
    assert!(calls.last().unwrap().1.contains("<maxWaitSeconds>1</maxWaitSeconds>"), "{calls:?}");
}
