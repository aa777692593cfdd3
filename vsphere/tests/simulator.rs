//! Against govmomi's simulator, as `tests/peers/vcenter` completes it.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]
#![allow(missing_docs)]

#[path = "simulator/peer.rs"]
mod peer;
#[path = "simulator/process.rs"]
mod process;

use std::path::PathBuf;
use std::time::Duration;

use peer::{Peer, client};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use stackferry_config::Secret;
use stackferry_https::{HttpsClient, HttpsError, Request, Retry, Trust};
use stackferry_vsphere::{
    Change, Datastore, FolderListing, Lockdown, TicketMethod, Via, Vsphere, VsphereError, Watch, folder_path, privilege,
};
use tempfile::TempDir;

const USER: &str = "svc@vsphere.local";
const PASSWORD: &str = "pass<&>\"word'";
const APP: &str = "cloudvolumes/apps/Office 2021 #1.vmdk";

/// A folder with the passwords and the content of the datastores.
struct Ground {
    folder: TempDir,
}

impl Ground {
    fn new() -> Self {
        let ground = Self { folder: tempfile::tempdir().unwrap() };
        for store in ["vmfs", "nfs"] {
            ground.write(&format!("{store}/cloudvolumes/apps/Office 2021 #1.vmdk"), b"# Disk DescriptorFile\n");
            ground.write(&format!("{store}/cloudvolumes/apps/Office 2021 #1-flat.vmdk"), &[7; 5000]);
            ground.write(&format!("{store}/cloudvolumes/apps/Office 2021 #1.vmdk.metadata"), b"");
            ground.write(&format!("{store}/cloudvolumes/writable/CORP!5C!jd+o.vmdk"), b"# Disk DescriptorFile\n");
        }
        std::fs::create_dir(ground.path("vmfs/empty")).unwrap();
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn password(&self, password: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.write("password", password.as_bytes());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn config(&self) -> Value {
        json!({
            "mode": "vcenter",
            "users": [{ "name": USER, "password": PASSWORD }],
            "datacenters": [{
                "name": "Berlin 1",
                "folder": "EU",
                "hosts": [
                    { "name": "esx1", "root_password": "Root-pass-1" },
                    { "name": "esx2", "shown_name": "esx2.example.com", "lockdown": "lockdownNormal", "maintenance": true },
                ],
                "datastores": [
                    { "name": "vmfs 01", "dir": self.path("vmfs"), "id": "/tmp/<a>&b@folder-5" },
                    { "name": "nfs(02)", "type": "NFS", "dir": self.path("nfs"), "hosts": ["esx1"], "read_only": true,
                      "maintenance": "inMaintenance" },
                ],
                "vms": [
                    { "name": "vdi 1", "host": "esx1", "on": true, "disks": [
                        { "path": format!("[vmfs 01] {APP}"), "mode": "independent_nonpersistent" },
                        { "path": "[nfs(02)] vdi 1/vdi 1.vmdk" },
                    ] },
                    { "name": "vdi 2", "host": "esx2" },
                ],
            }],
        })
    }
}

async fn store(vsphere: &Vsphere, name: &str) -> Datastore {
    vsphere.datastores().await.unwrap().into_iter().find(|store| store.name == name).unwrap()
}

#[tokio::test]
async fn a_vcenter_inventory_is_read() {
    let ground = Ground::new();
    let Some(peer) = Peer::start(&ground.config()) else { return };
    let vsphere = peer.client(USER, &ground.password(PASSWORD));

    let about = vsphere.about().await.unwrap();
    assert!(about.is_vcenter, "{about:?}");
    assert_eq!(about.api_version, "8.0.2.0");
    assert_eq!(peer.logins(), 0, "what answers there is told to anybody");

    let hosts = vsphere.hosts().await.unwrap();
    let [one, two] = hosts.as_slice() else { panic!("{hosts:?}") };
    assert_eq!(one.addresses.first(), Some(&peer.ready()["hosts"][0]["address"].as_str().unwrap().to_owned()));
    assert!(one.is_usable() && one.lockdown == Lockdown::Disabled, "{one:?}");
    assert_eq!(two.name, "esx2.example.com");
    assert!(two.maintenance && !two.is_usable() && two.lockdown == Lockdown::Normal, "{two:?}");

    let stores = vsphere.datastores().await.unwrap();
    let [nfs, vmfs] = stores.as_slice() else { panic!("{stores:?}") };
    assert_eq!((nfs.name.as_str(), nfs.kind.as_str()), ("nfs(02)", "NFS"));
    assert_eq!(nfs.maintenance.as_deref(), Some("inMaintenance"));
    assert_eq!(nfs.mounts.len(), 1);
    assert!(nfs.mounts[0].host == one.id && nfs.mounts[0].accessible && !nfs.mounts[0].read_write, "{nfs:?}");
    assert_eq!((vmfs.name.as_str(), vmfs.kind.as_str(), vmfs.mounts.len()), ("vmfs 01", "VMFS", 2));
    assert_eq!(vmfs.id.value, "/tmp/<a>&b@folder-5");
    assert!(vmfs.accessible && vmfs.maintenance.is_none() && vmfs.capacity > 0, "{vmfs:?}");
    assert!(vmfs.mounts[0].read_write && vmfs.mounts[0].path.as_deref().unwrap().starts_with("/vmfs/volumes/"));
    assert_eq!(vmfs.datacenter.as_deref(), Some("EU/Berlin 1"));

    let disks = vsphere.attached_disks().await.unwrap().attached;
    let disk = disks.iter().find(|disk| disk.path == APP).unwrap();
    assert_eq!((disk.datastore.as_str(), disk.mode.as_str()), ("vmfs 01", "independent_nonpersistent"));
    assert_eq!((disk.vm_name.as_str(), disk.powered_on), ("vdi 1", true));
    assert_eq!(disk.host.as_ref(), Some(&one.id));
    assert!(disks.iter().any(|disk| disk.datastore == "nfs(02)" && disk.path == "vdi 1/vdi 1.vmdk"), "{disks:?}");

    assert_eq!(peer.logins(), 1, "one session serves all");
    vsphere.logout().await.unwrap();
    assert_eq!(peer.obey(json!({ "do": "sessions" }))["sessions"], json!([]));
}

#[tokio::test]
async fn folders_are_listed() {
    let ground = Ground::new();
    let Some(peer) = Peer::start(&ground.config()) else { return };
    let vsphere = peer.client(USER, &ground.password(PASSWORD));
    let vmfs = store(&vsphere, "vmfs 01").await;
    let names = |listing: &FolderListing| listing.entries.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>();

    let flat = vsphere.browse(&vmfs, "cloudvolumes/apps", false, None).await.unwrap();
    let [apps] = flat.as_slice() else { panic!("{flat:?}") };
    assert_eq!(apps.folder, "cloudvolumes/apps");
    assert_eq!(names(apps), ["Office 2021 #1-flat.vmdk", "Office 2021 #1.vmdk", "Office 2021 #1.vmdk.metadata"]);
    assert_eq!(apps.entries.iter().map(|entry| entry.bytes).collect::<Vec<_>>(), [5000, 22, 0]);
    assert!(apps.entries.iter().all(|entry| entry.mtime.is_some() && !entry.is_folder));

    let all = vsphere.browse(&vmfs, "", true, None).await.unwrap();
    let folders: Vec<_> = all.iter().map(|listing| listing.folder.as_str()).collect();
    assert_eq!(folders, ["", "cloudvolumes", "cloudvolumes/apps", "cloudvolumes/writable", "empty"]);
    assert!(all[0].entries.iter().any(|entry| entry.name == "cloudvolumes" && entry.is_folder), "{all:?}");

    let some = vsphere.browse(&vmfs, "cloudvolumes/", true, Some("*-FLAT.vmdk")).await.unwrap();
    let files: Vec<_> = some.iter().flat_map(names).filter(|name| name.ends_with("vmdk")).collect();
    assert_eq!(files, ["Office 2021 #1-flat.vmdk"]);

    let missing = vsphere.browse(&vmfs, "appvolumes/packages", true, None).await.unwrap_err();
    assert_eq!(missing.to_string(), "vSphere vc1 has no folder [vmfs 01] appvolumes/packages");
    assert!(matches!(missing, VsphereError::NotFound { .. }));

    peer.obey(json!({ "do": "revoke", "user": USER, "privilege": "Datastore.Browse" }));
    let denied = vsphere.browse(&vmfs, "", false, None).await.unwrap_err();
    assert!(matches!(&denied, VsphereError::NoPermission { privilege, .. } if privilege == "Datastore.Browse"));
    let missing = vsphere.missing_privileges(&vmfs.id, &[privilege::FILES, privilege::BROWSE]).await.unwrap();
    assert_eq!(missing, ["Datastore.Browse"]);
    let root = vsphere.root().await.unwrap();
    assert_eq!(vsphere.missing_privileges(&root, &[privilege::BROWSE]).await.unwrap(), ["Datastore.Browse"]);
}

#[tokio::test]
async fn a_refused_password_is_sent_once() {
    let ground = Ground::new();
    let Some(peer) = Peer::start(&ground.config()) else { return };
    let vsphere = peer.client(USER, &ground.password("wrong"));
    for _ in 0..2 {
        let error = vsphere.datastores().await.unwrap_err();
        assert_eq!(error.to_string(), format!("vSphere vc1 refused the login of {USER}"));
        assert_eq!(error.retry(), Retry::Permanent);
        let (one, two) = tokio::join!(vsphere.hosts(), vsphere.login());
        assert!(one.is_err() && two.is_err());
    }
    assert_eq!(peer.logins(), 1);

    let vsphere = peer.client(USER, &ground.password(PASSWORD));
    vsphere.login().await.unwrap();
    assert_eq!(peer.logins(), 2);
}

#[tokio::test]
async fn an_expired_session_is_renewed() {
    let ground = Ground::new();
    let Some(peer) = Peer::start(&ground.config()) else { return };
    let vsphere = peer.client(USER, &ground.password(PASSWORD));
    let before = vsphere.session_cookie().await.unwrap();
    peer.obey(json!({ "do": "expire_sessions" }));
    let (stores, disks) = tokio::join!(vsphere.datastores(), vsphere.attached_disks());
    assert_eq!((stores.unwrap().len(), disks.unwrap().attached.len()), (2, 2));
    assert_eq!(peer.logins(), 2, "who meets the same end at the same time shares the new session");
    let after = vsphere.session_cookie().await.unwrap();
    assert_ne!(before.expose(), after.expose());

    // Without the right password there is no new session either, and no second try.
    ground.password("wrong");
    peer.obey(json!({ "do": "expire_sessions" }));
    for _ in 0..2 {
        assert!(matches!(vsphere.session_cookie().await, Err(VsphereError::LoginRefused { .. })));
    }
    assert_eq!(peer.logins(), 3);
}

#[tokio::test]
async fn a_password_is_sent_to_trusted_certificates_only() {
    let ground = Ground::new();
    let Some(peer) = Peer::start(&ground.config()) else { return };
    let password = ground.password(PASSWORD);
    let other = format!("sha256:{}", "00".repeat(32));
    for more in [json!({}), json!({ "fingerprint": other })] {
        let error = client(&peer.text("url"), USER, &password, &more).login().await.unwrap_err();
        let VsphereError::Https(HttpsError::Certificate { presented: Some(shown), .. }) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(shown.to_string(), format!("sha256:{}", peer.text("sha256")));
        assert!(error.hint().contains(&shown.to_string()), "{}", error.hint());
    }
    assert_eq!(peer.obey(json!({ "do": "call_log" }))["calls"].as_array().map_or(0, Vec::len), 0);
}

#[tokio::test]
async fn a_configured_authority_is_trusted() {
    let ground = Ground::new();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "our authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let mut config = ground.config();
    config["cert"] = json!(ground.write("cert.pem", certificate.pem().as_bytes()));
    config["key"] = json!(ground.write("key.pem", key.serialize_pem().as_bytes()));
    let Some(peer) = Peer::start(&config) else { return };
    let password = ground.password(PASSWORD);
    let ca = ground.write("ca.pem", authority.pem().as_bytes());
    // The address of the SDK itself will do too.
    let url = format!("{}/sdk/", peer.text("url"));
    client(&url, USER, &password, &json!({ "ca": ca })).login().await.unwrap();
}

#[tokio::test]
async fn a_ticket_is_valid_for_one_request() {
    let ground = Ground::new();
    let Some(peer) = Peer::start(&ground.config()) else { return };
    let vsphere = peer.client(USER, &ground.password(PASSWORD));
    let vmfs = store(&vsphere, "vmfs 01").await;
    let hosts = vsphere.hosts().await.unwrap();
    let address = format!("https://{}", hosts[0].addresses[0]);
    let file = "cloudvolumes/apps/Office 2021 #1-flat.vmdk";
    let path = folder_path(&vmfs, file, Via::Host);

    let ticket = vsphere.ticket(TicketMethod::Get, &format!("{address}{path}")).await.unwrap();
    assert!(!format!("{ticket:?}").contains(ticket.id.expose()));
    assert_eq!(ticket.thumbprints.len(), 1, "SHA-256 alone where it is told: {ticket:?}");
    assert_eq!(
        ticket.thumbprints[0].to_string(),
        format!("sha256:{}", peer.ready()["hosts"][0]["sha256"].as_str().unwrap())
    );
    let host = HttpsClient::new("ESXi host esx1", &address, ticket.trust().unwrap()).unwrap();
    let range =
        || Request::get(path.as_str()).header("cookie", ticket.cookie().expose()).header("range", "bytes=1000-1999");
    let mut part = host.stream(range()).await.unwrap();
    assert_eq!((part.status(), part.content_length()), (206, Some(1000)));
    let mut bytes = 0;
    while let Some(chunk) = part.chunk().await.unwrap() {
        assert!(chunk.iter().all(|byte| *byte == 7));
        bytes += chunk.len();
    }
    assert_eq!(bytes, 1000);
    assert_eq!(host.send(range()).await.unwrap().status(), 401, "a second use");

    // By another host's certificate it is refused before the ticket is shown.
    let second = format!("https://{}", hosts[1].addresses[0]);
    let wrong = HttpsClient::new("ESXi host esx2", &second, ticket.trust().unwrap()).unwrap();
    assert!(matches!(wrong.send(range()).await, Err(HttpsError::Certificate { .. })));
    let stranger = HttpsClient::new("ESXi host esx1", &address, Trust::Certificates(Vec::new())).unwrap();
    assert!(matches!(stranger.send(range()).await, Err(HttpsError::Certificate { .. })));

    let through = folder_path(&vmfs, file, Via::Server);
    assert!(through.contains("dcPath=EU%2FBerlin%201&"), "{through}");
    let cookie = vsphere.session_cookie().await.unwrap();
    let whole = vsphere.https().send(Request::get(through).header("cookie", cookie.expose())).await.unwrap();
    assert_eq!((whole.status(), whole.body().len()), (200, 5000));
}

async fn create_and_remove_account(peer: &Peer, vsphere: &Vsphere, name: &str) {
    let host = vsphere.hosts().await.unwrap().remove(0).id;
    let password = Secret::new("aF9<x>&k2-mQ7tz".to_owned());
    vsphere.create_account(&host, name, &password, "one & only").await.unwrap();
    vsphere.grant_admin(&host, name).await.unwrap();
    assert!(vsphere.accounts(&host).await.unwrap().contains(&name.to_owned()));
    let told = peer.obey(json!({ "do": "accounts", "host": "esx1" })).to_string();
    assert!(told.contains(name) && told.contains("accessAdmin"), "{told}");

    let twice = vsphere.create_account(&host, name, &password, "").await.unwrap_err();
    assert!(matches!(&twice, VsphereError::Fault { name, .. } if name == "AlreadyExists"), "{twice:?}");
    let weak = vsphere.create_account(&host, "other", &Secret::new("short".to_owned()), "").await.unwrap_err();
    assert!(matches!(&weak, VsphereError::Fault { .. }), "{weak:?}");
    assert!(!format!("{weak} {weak:?}").contains("short"));

    assert!(vsphere.remove_account(&host, name).await.unwrap());
    assert!(!vsphere.remove_account(&host, name).await.unwrap(), "it is gone");
    assert!(!vsphere.accounts(&host).await.unwrap().contains(&name.to_owned()));
    let told = peer.obey(json!({ "do": "accounts", "host": "esx1" })).to_string();
    assert!(!told.contains(name), "{told}");
}

async fn start_and_stop_ssh(vsphere: &Vsphere) {
    let host = vsphere.hosts().await.unwrap().remove(0).id;
    for on in [true, true, false, false] {
        if on {
            vsphere.start_service(&host, "TSM-SSH").await.unwrap();
        } else {
            vsphere.stop_service(&host, "TSM-SSH").await.unwrap();
        }
        assert_eq!(vsphere.service_is_running(&host, "TSM-SSH").await.unwrap(), on);
    }
    let none = vsphere.start_service(&host, "nothing").await.unwrap_err();
    assert!(matches!(none, VsphereError::NotFound { .. }), "{none:?}");
}

#[tokio::test]
async fn accounts_and_services_work_through_vcenter() {
    let ground = Ground::new();
    let Some(peer) = Peer::start(&ground.config()) else { return };
    let vsphere = peer.client(USER, &ground.password(PASSWORD));
    start_and_stop_ssh(&vsphere).await;
    create_and_remove_account(&peer, &vsphere, "sf-123456-89abcdef").await;
    peer.obey(json!({ "do": "revoke", "user": USER, "privilege": "Host.Local.ManageUserGroups" }));
    let host = vsphere.hosts().await.unwrap().remove(0).id;
    let denied = vsphere.create_account(&host, "x", &Secret::new("y".to_owned()), "").await.unwrap_err();
    assert!(denied.hint().contains("Host.Local.ManageUserGroups"), "{denied:?}");
}

#[tokio::test]
async fn a_standalone_host_supports_everything() {
    let ground = Ground::new();
    let mut config = ground.config();
    config["mode"] = json!("esxi");
    config["users"] = json!([]);
    let datacenter = &mut config["datacenters"][0];
    datacenter["hosts"].as_array_mut().unwrap().truncate(1);
    datacenter["vms"].as_array_mut().unwrap().truncate(1);
    datacenter["folder"] = json!("");
    datacenter["name"] = json!("ha-datacenter");
    let Some(peer) = Peer::start(&config) else { return };
    let vsphere = peer.client("root", &ground.password("Root-pass-1"));
    assert!(!vsphere.about().await.unwrap().is_vcenter);
    let vmfs = store(&vsphere, "vmfs 01").await;
    assert_eq!(vmfs.datacenter, None);
    assert_eq!(vmfs.mounts.len(), 1);
    assert_eq!(vsphere.browse(&vmfs, "cloudvolumes", true, None).await.unwrap().len(), 3);
    assert!(vsphere.attached_disks().await.unwrap().attached.iter().any(|disk| disk.path == APP));
    let cookie = vsphere.session_cookie().await.unwrap();
    let request = Request::get(folder_path(&vmfs, APP, Via::Host)).header("cookie", cookie.expose());
    assert_eq!(vsphere.https().send(request).await.unwrap().status(), 200);
    start_and_stop_ssh(&vsphere).await;
    create_and_remove_account(&peer, &vsphere, "sf-123456-00000001").await;
}

#[tokio::test]
async fn changes_are_reported() {
    let ground = Ground::new();
    let Some(peer) = Peer::start(&ground.config()) else { return };
    let vsphere = peer.client(USER, &ground.password(PASSWORD));
    let mut watch = Watch::new(vsphere.clone());
    assert_eq!(watch.next(Duration::ZERO).await.unwrap(), Change::Quiet, "earlier changes are not reported");
    let long = Duration::from_secs(30);

    let attach = json!({ "do": "attach", "vm": "vdi 2", "path": "[vmfs 01] x/y.vmdk", "mode": "persistent" });
    let waiting = tokio::spawn(async move {
        let change = watch.next(long).await;
        (watch, change)
    });
    // It may come before or while it is waited for.
    peer.obey(attach);
    let (mut watch, change) = waiting.await.unwrap();
    assert_eq!(change.unwrap(), Change::Changed);

    for change in [
        json!({ "do": "power", "vm": "vdi 1", "on": false }),
        json!({ "do": "accessible", "datastore": "vmfs 01", "on": false }),
    ] {
        peer.obey(change);
        assert_eq!(watch.next(long).await.unwrap(), Change::Changed);
    }
    peer.obey(json!({ "do": "expire_sessions" }));
    assert_eq!(watch.next(long).await.unwrap(), Change::Changed, "something may have been missed");
    peer.obey(json!({ "do": "power", "vm": "vdi 1", "on": true }));
    assert_eq!(watch.next(long).await.unwrap(), Change::Changed);
}

#[tokio::test]
async fn a_client_can_be_used_from_any_thread() {
    let ground = Ground::new();
    let Some(peer) = Peer::start(&ground.config()) else { return };
    let vsphere = peer.client(USER, &ground.password(PASSWORD));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let vsphere = vsphere.clone();
            tokio::spawn(async move {
                let vmfs = store(&vsphere, "vmfs 01").await;
                vsphere.browse(&vmfs, "", true, None).await.map(|listings| listings.len())
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), 5);
    }
    assert_eq!(peer.logins(), 1);
    peer.obey(json!({ "do": "down" }));
    let error = vsphere.hosts().await.unwrap_err();
    assert!(matches!(&error, VsphereError::Https(_)) && error.retry() == Retry::Transient, "{error:?}");
}
