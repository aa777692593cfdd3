//! Sessions, the inventory, and listings of a datastore.

use stackferry_tests::lab::VCenter;
use stackferry_tests::lab::vcenter::{InventoryDatastore, InventoryDisk, ServerKind};

use super::soap::{Client, PASSWORD, can_run, escape, site};

const DISKS: &str = r#"<query xsi:type="VmDiskFileQuery"><details><diskType>true</diskType><capacityKb>true</capacityKb><hardwareVersion>true</hardwareVersion><controllerType>true</controllerType><diskExtents>true</diskExtents><thin>true</thin></details></query><details><fileType>true</fileType><fileSize>true</fileSize><modification>true</modification></details>"#;

#[test]
fn too_many_failed_logins_lock_an_account() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = VCenter::start(&site(folder.path())).unwrap();
    let mut client = Client::new(&server);
    assert!(client.properties("Datastore", "datastore-1", &["name"]).text().contains("NotAuthenticatedFault"));
    for _ in 0..5 {
        assert!(client.login("root", "wrong").text().contains("InvalidLoginFault"));
    }
    assert!(client.login("root", PASSWORD).text().contains("InvalidLoginFault"), "locked out");
    let logins = server.logins().unwrap();
    assert_eq!(logins.len(), 6);
    assert!(logins[5].locked && !logins[4].locked, "{logins:?}");
    server.unlock().unwrap();
    assert_eq!(client.login("root", PASSWORD).status, 200);
    assert_eq!(server.sessions().unwrap(), ["root"]);
    assert_eq!(client.manager("Logout", "SessionManager", "sessionManager", "").status, 200);
    assert!(server.sessions().unwrap().is_empty());
    assert!(client.all_refused());
    assert_eq!(server.calls().unwrap()["Login"], 7);
}

#[test]
fn disks_are_listed_as_in_their_descriptors() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut site = site(folder.path());
    let disk = InventoryDisk { path: "[ds] app/a.vmdk".to_owned(), mode: "independent_nonpersistent".to_owned() };
    site.datacenters[0].vms[0].disks.push(disk);
    let server = VCenter::start(&site).unwrap();
    let client = Client::logged_in(&server);
    let stores = client.all("Datastore", &["browser", "summary"]);
    assert_eq!(stores.between("<type>", "<"), "VMFS");
    let browser = stores.between("type=\"HostDatastoreBrowser\">", "<");
    let found = client.browse(&browser, "[ds] app", DISKS);
    for expected in
        ["<path>a.vmdk<", "<capacityKb>1024<", "<thin>true<", "<hardwareVersion>19<", "a-flat.vmdk</diskExtents"]
    {
        assert!(found.text().contains(expected), "{expected} is not in {}", found.text());
    }
    assert!(!found.text().contains("<path>a-flat.vmdk"), "{}", found.text());
    // What the extent takes up, and not how long it is.
    let size: u64 = found.between("<fileSize>", "<").parse().unwrap();
    assert!(size < 1 << 17, "{size}");
    let found = client.browse(
        &browser,
        "[ds] app",
        "<details><fileType>false</fileType><fileSize>true</fileSize><modification>true</modification></details>",
    );
    assert!(found.text().contains("<path>a-flat.vmdk</path><fileSize>1048576<"), "{}", found.text());
    assert!(client.browse(&browser, "[ds] nowhere", "").text().contains("FileNotFound"));
    assert!(client.browse(&browser, "[ds] ../..", "").text().contains("FileNotFound"));

    let machines = |client: &Client| client.all("VirtualMachine", &["config.hardware.device"]).text();
    assert!(machines(&client).contains("[ds] app/a.vmdk</fileName>"));
    server.detach("vm", "[ds] app/a.vmdk").unwrap();
    assert!(!machines(&client).contains("a.vmdk"));
    server.attach("vm", "[ds] app/a.vmdk", "persistent").unwrap();
    assert!(machines(&client).contains("<diskMode>persistent<"));
    server.rename_datastore("ds", "other").unwrap();
    assert!(machines(&client).contains("[other] app/a.vmdk</fileName>"));
    assert!(client.browse(&browser, "[ds]", "").text().contains("InvalidDatastore"));
    server.set_accessible("other", false).unwrap();
    assert!(client.browse(&browser, "[other]", "").text().contains("InaccessibleDatastore"));
}

#[test]
fn ids_hold_any_text_and_vsan_top_folders_are_uuids() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut site = site(folder.path());
    site.mode = ServerKind::Esxi;
    let id = "/tmp/a b@folder<5>&\"";
    site.datacenters[0].datastores[0] = InventoryDatastore {
        name: "vsanDatastore".to_owned(),
        kind: "vsan".to_owned(),
        dir: folder.path().to_owned(),
        id: id.to_owned(),
        ..InventoryDatastore::default()
    };
    let server = VCenter::start(&site).unwrap();
    let client = Client::logged_in(&server);
    let properties = client.properties("Datastore", id, &["summary.url", "browser"]);
    assert!(properties.text().contains("ds:///vmfs/volumes/vsan:"), "{}", properties.text());
    // The ids come with entities of XML, which `call` would escape again.
    let browser = format!("datastoreBrowser-{id}");
    assert!(escape(&browser).starts_with("datastoreBrowser-/tmp"));
    let found = client.browse(&browser, "[vsanDatastore]", DISKS);
    assert!(found.text().contains("<path>a.vmdk<"), "{}", found.text());
    let query = "<query xsi:type=\"FolderFileQuery\"/><matchPattern>app</matchPattern>";
    let found = client.browse(&browser, "[vsanDatastore]", query);
    assert_eq!(found.between("<friendlyName>", "<"), "app");
    let uuid = found.between("<path>", "<");
    assert_eq!(uuid.len(), 36, "{uuid}");
    for name in ["app", &uuid] {
        let found = client.browse(&browser, &format!("[vsanDatastore] {name}"), DISKS);
        assert_eq!(found.between("<folderPath>", "<"), format!("[vsanDatastore] {name}/"));
    }
}
