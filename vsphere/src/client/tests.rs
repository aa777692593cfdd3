//! Against a server that says what a test wants: answers in pages, denials, and what no vSphere says.

mod requests;
mod server;
mod watched;

use super::*;
use server::{CONTENT, Say, Server, arguments, browsed, denied, object, page, property};
use stackferry_https::Retry;

#[tokio::test]
async fn pages_are_merged() {
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
async fn endless_pages_are_an_error() {
    let server = Server::start(|called| match called.method {
        "RetrievePropertiesEx" | "ContinueRetrievePropertiesEx" => page("<token>again</token>"),
        _ => None,
    })
    .await;
    let error = server.client().hosts().await.unwrap_err();
    assert!(matches!(error, VsphereError::InvalidResponse { .. }), "{error:?}");
}

#[tokio::test]
async fn denied_disks_are_an_error() {
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
async fn a_machine_with_unreadable_disks_is_reported() {
    let disk = |file: &str| {
        format!(
            "<VirtualDevice i:type=\"VirtualDisk\"><backing><fileName>{file}</fileName><diskMode>persistent</diskMode></backing></VirtualDevice>"
        )
    };
    let state = |state: &str| property("runtime.connectionState", state);
    let fault = |path: &str, name: &str| {
        format!("<missingSet><path>{path}</path><fault><fault i:type=\"{name}\"/></fault></missingSet>")
    };
    let devices = |inside: &str| property("config.hardware.device", inside);
    let machines = [
        ("healthy", format!("{}{}", state("connected"), devices(&disk("[ssd [fast] 01] a//b.vmdk")))),
        ("off", format!("{}{}", property("runtime.powerState", "poweredOff"), devices(""))),
        ("odd] name", format!("{}{}", state("connected"), devices(&disk("[odd] name] c.vmdk")))),
        ("bare", state("connected")),
        ("lost", format!("{}{}", state("inaccessible"), devices(""))),
        ("away", format!("{}{}", state("disconnected"), devices(&disk("[ds] d.vmdk")))),
        ("broken", format!("{}{}", state("connected"), fault("config.hardware.device", "SystemError"))),
        ("half", format!("{}{}", state("connected"), fault("config", "HostNotConnected"))),
        ("unreadable", format!("{}{}", state("connected"), devices(&disk("")))),
        ("removed", fault("config.hardware.device", "ManagedObjectNotFound")),
    ];
    let mut objects: String = machines
        .iter()
        .map(|(name, inside)| object("VirtualMachine", name, &format!("{}{inside}", property("name", name))))
        .collect();
    for name in ["ds", "ssd [fast] 01", "odd] name"] {
        objects.push_str(&object("Datastore", name, &property("name", name)));
    }
    let server = Server::start(move |called| match called.method {
        "RetrievePropertiesEx" => page(&objects),
        _ => None,
    })
    .await;
    let disks = server.client().attached_disks().await.unwrap();
    let attached: Vec<_> = disks.attached.iter().map(|disk| (disk.datastore.as_str(), disk.path.as_str())).collect();
    assert_eq!(attached, [("ssd [fast] 01", "a/b.vmdk"), ("odd] name", "c.vmdk"), ("ds", "d.vmdk")]);
    let unreadable: Vec<_> =
        disks.unreadable.iter().map(|machine| (machine.name.as_str(), machine.why.as_str())).collect();
    assert_eq!(
        unreadable,
        [
            ("bare", "it has no configuration"),
            ("lost", "it is inaccessible"),
            ("away", "it is disconnected"),
            ("broken", "vSphere reports SystemError for its configuration"),
            ("half", "vSphere reports HostNotConnected for its configuration"),
            ("unreadable", "the path of one of its disks can't be parsed"),
        ]
    );
    assert_eq!(server.count("RetrievePropertiesEx"), 1, "the names of datastores come with the machines");
}

#[tokio::test]
async fn an_operation_renews_the_session_once() {
    let server = Server::start(|called| match called.method {
        "RetrievePropertiesEx" => page(&object("HostSystem", "host-1", &denied("NotAuthenticated"))),
        _ => None,
    })
    .await;
    let client = server.client();
    for _ in 0..3 {
        let error = client.hosts().await.unwrap_err();
        assert!(error.is_expired(), "{error:?}");
        assert_eq!(error.retry(), Retry::Transient);
        assert_eq!(server.count("Login"), 2, "a new session that is of no use is not replaced again and again");
    }
}

#[tokio::test]
async fn a_server_that_is_not_vsphere_is_an_error() {
    for (status, body) in [(200, "<html><body>Welcome</body></html>"), (404, ""), (200, "{\"a\": 1}"), (301, "")] {
        let server = Server::start(move |called| match called.method {
            "RetrieveServiceContent" => Some(Say::Raw(status, body)),
            _ => None,
        })
        .await;
        let error = server.client().about().await.unwrap_err();
        assert!(matches!(error, VsphereError::InvalidResponse { .. }), "{error:?}");
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
async fn a_login_without_any_permission_is_not_retried() {
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
async fn a_missing_password_is_fetched_again() {
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
async fn concurrent_calls_share_a_failed_login() {
    let server = Server::start(|called| match called.method {
        "RetrieveServiceContent" => Some(Say::Raw(502, "")),
        _ => None,
    })
    .await;
    let vsphere = server.client();
    let (a, b, c) = tokio::join!(vsphere.hosts(), vsphere.login(), vsphere.datastores());
    assert!(a.is_err() && b.is_err() && c.is_err());
    assert_eq!(server.count("RetrieveServiceContent"), 1);
    vsphere.hosts().await.unwrap_err();
    assert_eq!(server.count("RetrieveServiceContent"), 2, "who comes later tries again");
}

#[tokio::test]
async fn a_task_is_polled_until_it_ends() {
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
async fn the_error_of_a_task_is_reported() {
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
async fn a_removed_datastore_is_not_a_missing_folder() {
    let server = Server::start(|called| match called.method {
        "SearchDatastore_Task" => Some(Say::Fault("ManagedObjectNotFound")),
        _ => None,
    })
    .await;
    let error = server.client().browse(&browsed(), "a", false, None).await.unwrap_err();
    assert!(matches!(error, VsphereError::Gone { .. }), "{error:?}");
}
