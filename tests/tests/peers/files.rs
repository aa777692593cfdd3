//! `/folder`: authentication and responses.

use stackferry_tests::lab::VCenter;
use stackferry_tests::lab::vcenter::{FolderFault, ServerKind};

use super::soap::{Client, PASSWORD, can_run, curl, site};

fn with_ticket(ticket: &str, url: &str, more: &[&str]) -> u16 {
    let cookie = format!("Cookie: vmware_cgi_ticket={ticket}");
    curl(&[&["-H", &cookie, url], more].concat(), "").status
}

#[test]
fn a_ticket_is_valid_for_one_request_of_its_file() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = VCenter::start(&site(folder.path())).unwrap();
    let client = Client::logged_in(&server);
    let host = server.host("esx1").unwrap();
    let url = format!("https://{}/folder/app/a-flat.vmdk?dsName=ds", host.address);
    let reply = client.ticket("httpGet", &url);
    assert_eq!(reply.between("<hostName>", "<"), host.address);
    assert_eq!(reply.between("<sslThumbprint>", "<"), host.sha1);
    assert_eq!(reply.between("<thumbprint>", "<").replace(':', "").to_lowercase(), host.sha256);
    let ticket = reply.between("<id>", "<");

    let other = url.replace("a-flat.vmdk", "a.vmdk");
    assert_eq!(with_ticket(&ticket, &other, &[]), 401, "another file");
    assert_eq!(with_ticket(&ticket, &url.replace("dsName=ds", "dsName=other"), &[]), 401, "another datastore");
    assert_eq!(with_ticket(&ticket, &url, &["-I"]), 401, "another method");
    let through = format!("{}/folder/app/a-flat.vmdk?dsName=ds", server.url());
    assert_eq!(with_ticket(&ticket, &through, &[]), 401, "another server");
    assert_eq!(with_ticket(&ticket, &url, &["-r", "0-9"]), 206, "what it is for, in part");
    assert_eq!(with_ticket(&ticket, &url, &["-r", "0-9"]), 401, "a second time");
    assert_eq!(server.tickets_issued().unwrap(), 1);

    let ticket = client.ticket("httpGet", &url).between("<id>", "<");
    server.expire_tickets().unwrap();
    assert_eq!(with_ticket(&ticket, &url, &[]), 401, "one whose time is over");
    assert_eq!(client.ticket("httpGet", "https://192.0.2.1/folder/a?dsName=ds").status, 500, "no such host");
    let accesses = server.folder_requests().unwrap();
    assert_eq!(accesses.iter().filter(|access| access.status == 206).count(), 1);
    assert!(accesses.iter().all(|access| access.auth == "ticket"), "{accesses:?}");
}

#[test]
fn reading_files_needs_a_session_or_an_account() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = VCenter::start(&site(folder.path())).unwrap();
    let client = Client::logged_in(&server);
    let path = "/folder/app/a-flat.vmdk?dsName=ds&dcPath=DC";
    let url = format!("{}{path}", server.url());
    let cookie = format!("Cookie: {}", client.cookie);
    assert_eq!(curl(&[&url], "").status, 401);
    let reply = curl(&["-H", &cookie, &url], "");
    assert_eq!((reply.status, reply.body.len()), (200, 1 << 20));
    assert!(!curl(&["-I", "-H", &cookie, &url], "").headers.contains("Last-Modified"));
    assert_eq!(curl(&["-H", &cookie, &url.replace("DC", "elsewhere")], "").status, 404);
    assert_eq!(curl(&["-r", "2000000-", "-H", &cookie, &url], "").status, 416);
    assert_eq!(curl(&["-X", "PUT", "-H", &cookie, &url], "").status, 405, "nothing may be written");

    // The host does not know vCenter's session, nor its datacenters, but has accounts of its own.
    let at_host = format!("https://{}/folder/app/a-flat.vmdk?dsName=ds", server.host("esx1").unwrap().address);
    assert_eq!(curl(&["-H", &cookie, &at_host], "").status, 401);
    assert_eq!(curl(&["-u", &format!("root:{PASSWORD}"), &at_host], "").status, 200);
    assert_eq!(curl(&["-u", "root:wrong", &at_host], "").status, 401);
    server.set_lockdown("esx1", "lockdownNormal", &[]).unwrap();
    assert_eq!(curl(&["-u", &format!("root:{PASSWORD}"), &at_host], "").status, 401, "in lockdown");

    server.revoke("root", "Datastore.FileManagement").unwrap();
    assert_eq!(curl(&["-H", &cookie, &url], "").status, 403);
    server.restore("root", "Datastore.FileManagement").unwrap();
    server.expire_sessions().unwrap();
    assert_eq!(curl(&["-H", &cookie, &url], "").status, 401);
}

#[test]
fn faults_fire_where_and_as_often_as_configured() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut site = site(folder.path());
    site.mode = ServerKind::Esxi;
    let server = VCenter::start(&site).unwrap();
    let client = Client::logged_in(&server);
    let cookie = format!("Cookie: {}", client.cookie);
    let url = format!("{}/folder/app/a-flat.vmdk?dsName=ds", server.url());
    let get = || curl(&["-H", &cookie, &url], "");
    let trouble =
        FolderFault { datastore: "ds".to_owned(), path: "app/a-flat.vmdk".to_owned(), ..FolderFault::default() };
    server.fail_folder(&FolderFault { status: 500, times: 1, ..trouble.clone() }).unwrap();
    assert_eq!(get().status, 500);
    assert_eq!(get().status, 200);
    server.fail_folder(&FolderFault { cut_after: 5000, ..trouble }).unwrap();
    assert_eq!(get().body.len(), 5000);
    server.clear_faults().unwrap();
    assert_eq!(get().body.len(), 1 << 20);
    server.down(None).unwrap();
    assert_eq!(get().status, 0);
    server.up(None).unwrap();
    assert_eq!(get().status, 200);
    assert!(server.end().unwrap().success());
}
