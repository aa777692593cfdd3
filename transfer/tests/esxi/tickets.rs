//! Copies by tickets.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stackferry_https::Retry;
use stackferry_transfer::DownloadFault;
use stackferry_transfer::esxi::HostAccess;
use stackferry_transfer::{Throttle, TransferError};
use stackferry_volume::{BlockIndex, BlockState, Folder, HoleMapSource};
use stackferry_vsphere::VsphereError;

use crate::support::files::{MIB, blocks_of, sparse};
use crate::support::{Copying, Deadline, FLAT, INSTALL, SHARED, Site, context, same};

/// The bytes of the file that most tests copy: not a whole number of blocks.
const BYTES: u64 = 40 * MIB + 12345;

fn site() -> Option<Site> {
    let site = Site::start()?;
    sparse(&site.shared(FLAT), BYTES, &[0..3 * MIB, 7 * MIB + 100..20 * MIB, 39 * MIB..BYTES]);
    Some(site)
}

fn gets(site: &Site) -> Vec<Value> {
    site.accesses().into_iter().filter(|access| access["method"] == "GET").collect()
}

#[test]
fn a_file_is_downloaded_in_parts_with_a_ticket_each() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = site() else { return };
    let client = site.client();
    let mut copying = Copying::of(&site.shared(FLAT), &site.path("copies"), "whole");
    let logged_in = Arc::new(Mutex::new(Vec::new()));
    let mut context = context();
    let seen = Arc::clone(&logged_in);
    context.used = Some(Arc::new(move |name| seen.lock().unwrap().push(name.to_owned())));
    let outcome = copying.run(&client, FLAT, &context).unwrap();

    assert!(same(copying.sink.file(), &site.shared(FLAT)));
    assert_eq!(outcome.blocks, blocks_of(copying.sink.file()));
    assert_eq!(outcome.hole_map, HoleMapSource::None);
    assert_eq!((outcome.counts.logical, outcome.counts.read, outcome.counts.wire), (BYTES, BYTES, BYTES));

    let gets = gets(&site);
    assert!(gets.len() >= 4, "{gets:?}");
    let mut tickets: Vec<&str> = gets.iter().map(|get| get["ticket"].as_str().unwrap()).collect();
    tickets.sort_unstable();
    tickets.dedup();
    assert_eq!(tickets.len(), gets.len(), "a ticket for each request");
    assert!(gets.iter().all(|get| get["status"] == 206 && get["auth"] == "ticket" && get["dc_path"] == ""));
    assert!(gets.iter().all(|get| get["host"] == gets[0]["host"] && get["host"] != ""), "directly from one host");
    assert_eq!(gets.iter().map(|get| get["bytes"].as_u64().unwrap()).sum::<u64>(), BYTES, "nothing came twice");
    let left = site.obey(json!({ "do": "accesses" }));
    assert_eq!((&left["tickets_issued"], &left["tickets_left"]), (&json!(gets.len()), &json!(0)));

    assert_eq!(outcome.credentials, gets.len() as u64);
    let mut names: Vec<String> = copying.issued.iter().map(|issued| issued.name.clone()).collect();
    assert!(copying.issued.iter().all(|issued| !issued.standing && issued.host.starts_with("host esx")));
    let mut used = logged_in.lock().unwrap().clone();
    names.sort_unstable();
    used.sort_unstable();
    assert_eq!(names, used);
    for name in &names {
        let number = name.strip_prefix(&format!("sf-{INSTALL}-")).unwrap();
        assert!(number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        assert!(!tickets.contains(&number) && tickets.iter().all(|ticket| !ticket.contains(number)));
    }
    site.runtime.block_on(client.datastore().vsphere.logout()).unwrap();
    assert_eq!(site.obey(json!({ "do": "sessions" }))["sessions"], json!([]), "no session is left");
    assert!(site.book.all.lock().unwrap().is_empty(), "a ticket leaves nothing to clean up");
}

#[test]
fn a_copy_continues_although_sessions_expire() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = site() else { return };
    let client = site.client();
    let copying = Copying::of(&site.shared(FLAT), &site.path("copies"), "sessions");
    let found = client.folder().stat(FLAT).unwrap().unwrap();
    let file = stackferry_transfer::FileCopy {
        path: FLAT,
        bytes: BYTES,
        mtime: found.mtime,
        sink: &copying.sink,
        done: copying.done.clone(),
        base: None,
    };
    // Each part has a ticket of its own. Nothing keeps the session alive between two of them.
    let mut expired = 0;
    client
        .copy(file, &context(), &mut |_| {
            site.obey(json!({ "do": "expire_sessions" }));
            expired += 1;
        })
        .unwrap();
    assert!(same(copying.sink.file(), &site.shared(FLAT)));
    assert!(expired >= 4, "{expired} parts");
    assert!(site.peer.logins() >= expired, "{} logins for {expired} parts", site.peer.logins());
}

#[test]
fn existing_blocks_are_not_read_again() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = site() else { return };
    let client = site.client();
    let mut copying = Copying::of(&site.shared(FLAT), &site.path("copies"), "rest");
    let whole = copying.run(&client, FLAT, &context()).unwrap();
    site.obey(json!({ "do": "forget" }));
    copying.issued.clear();
    // Two gaps: one of a block in the middle, and the end.
    copying.done = whole.blocks.clone();
    copying.done.set(BlockIndex(9), BlockState::Unknown);
    copying.done.set(BlockIndex(40), BlockState::Unknown);
    let rest = copying.run(&client, FLAT, &context()).unwrap();
    assert_eq!(rest.blocks, whole.blocks);
    assert_eq!(rest.counts.read, MIB + 12345);
    assert_eq!(rest.credentials, 2);
    let mut ranges: Vec<String> = gets(&site).iter().map(|get| get["range"].as_str().unwrap().to_owned()).collect();
    ranges.sort();
    assert_eq!(ranges, [format!("bytes={}-{}", 40 * MIB, BYTES - 1), format!("bytes={}-{}", 9 * MIB, 10 * MIB - 1)]);

    site.obey(json!({ "do": "forget" }));
    copying.done = whole.blocks.clone();
    let nothing = copying.run(&client, FLAT, &context()).unwrap();
    assert_eq!((nothing.credentials, gets(&site).len()), (0, 0));
}

#[test]
fn an_empty_file_takes_no_ticket() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = Site::start() else { return };
    std::fs::write(site.shared("empty.vmdk"), b"").unwrap();
    let mut copying = Copying::of(&site.shared("empty.vmdk"), &site.path("copies"), "empty");
    let outcome = copying.run(&site.client(), "empty.vmdk", &context()).unwrap();
    assert_eq!((outcome.credentials, outcome.blocks.blocks()), (0, 0));
}

#[test]
fn a_refused_ticket_is_replaced_once() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = site() else { return };
    let mut copying = Copying::of(&site.shared(FLAT), &site.path("copies"), "again");
    site.trouble(json!({ "status": 401, "times": 1 }));
    let outcome = copying.run(&site.client(), FLAT, &context()).unwrap();
    assert!(same(copying.sink.file(), &site.shared(FLAT)));
    let gets = gets(&site);
    assert_eq!(gets.iter().filter(|get| get["status"] == 401).count(), 1);
    assert_eq!(copying.issued.len(), gets.len(), "the second try has a ticket of its own");
    assert_eq!(outcome.credentials, gets.len() as u64 - 1, "one did not open the file");
    assert!(gets.iter().all(|get| get["host"] == gets[0]["host"]));

    site.obey(json!({ "do": "forget" }));
    site.trouble(json!({ "status": 401 }));
    let mut copying = Copying::of(&site.shared(FLAT), &site.path("copies"), "never");
    let error = copying.run(&site.client(), FLAT, &context()).unwrap_err();
    assert!(matches!(error, TransferError::Download { fault: DownloadFault::TicketRefused, .. }), "{error:?}");
    assert!(!stackferry_transfer::describe(&error).contains(gets[0]["ticket"].as_str().unwrap()));
}

#[test]
fn the_next_host_serves_what_one_can_not() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = site() else { return };
    let client = site.client();
    site.trouble(json!({ "host": "esx1", "status": 500 }));
    let mut copying = Copying::of(&site.shared(FLAT), &site.path("copies"), "locked");
    copying.run(&client, FLAT, &context()).unwrap();
    assert!(same(copying.sink.file(), &site.shared(FLAT)));
    let served: Vec<Value> = gets(&site).into_iter().filter(|get| get["status"] == 206).collect();
    assert!(served.iter().all(|get| get["host"] == "esx2"), "{served:?}");

    // It is remembered which one does.
    site.obey(json!({ "do": "forget" }));
    let mut copying = Copying::of(&site.shared(FLAT), &site.path("copies"), "next");
    copying.run(&client, FLAT, &context()).unwrap();
    assert!(gets(&site).iter().all(|get| get["host"] == "esx2"));

    site.trouble(json!({ "status": 500 }));
    let mut copying = Copying::of(&site.shared(FLAT), &site.path("copies"), "nowhere");
    let error = copying.run(&client, FLAT, &context()).unwrap_err();
    assert!(matches!(error, TransferError::Download { fault: DownloadFault::Locked, .. }), "{error:?}");
    assert_eq!(error.retry(), Retry::Transient);
    assert!(error.to_string().contains(FLAT), "{error}");
}

#[test]
fn unreachable_hosts_are_skipped_and_vcenter_is_the_last() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = site() else { return };
    site.obey(json!({ "do": "down", "host": "esx1" }));
    let client = site.client();
    assert_eq!(client.hosts().unwrap(), ["esx1.example.com", "esx2.example.com"]);
    let mut copying = Copying::of(&site.shared(FLAT), &site.path("copies"), "second");
    copying.run(&client, FLAT, &context()).unwrap();
    assert!(gets(&site).iter().all(|get| get["host"] == "esx2"));

    site.obey(json!({ "do": "forget" }));
    site.obey(json!({ "do": "host_maintenance", "host": "esx2", "on": true }));
    assert_eq!(client.hosts().unwrap(), ["esx1.example.com"]);
    let mut copying = Copying::of(&site.shared(FLAT), &site.path("copies"), "through");
    copying.run(&client, FLAT, &context()).unwrap();
    assert!(same(copying.sink.file(), &site.shared(FLAT)));
    let gets = gets(&site);
    assert!(gets.iter().all(|get| get["host"] == "" && get["dc_path"] == "EU/Berlin 1" && get["auth"] == "ticket"));
}

#[test]
fn a_broken_download_continues_where_it_was() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = site() else { return };
    site.trouble(json!({ "cut_after": 3 * MIB + 5, "times": 3 }));
    let mut copying = Copying::of(&site.shared(FLAT), &site.path("copies"), "broken");
    let outcome = copying.run(&site.client(), FLAT, &context()).unwrap();
    assert!(same(copying.sink.file(), &site.shared(FLAT)));
    assert!(outcome.counts.read < BYTES + 3 * MIB, "only the block that broke is read again: {:?}", outcome.counts);
    assert_eq!(outcome.credentials, gets(&site).len() as u64);
}

#[test]
fn a_changed_file_is_not_copied() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = site() else { return };
    let client = site.client();
    let source = site.shared(FLAT);
    // Longer than discovery saw it.
    let mut copying = Copying::of(&source, &site.path("copies"), "longer");
    let grown = std::fs::File::options().write(true).open(&source).unwrap();
    let seen = client.folder().stat(FLAT).unwrap().unwrap();
    grown.set_len(BYTES + 1).unwrap();
    let mut copy = |mtime| {
        let file = stackferry_transfer::FileCopy {
            path: FLAT,
            bytes: BYTES,
            mtime,
            sink: &copying.sink,
            done: copying.done.clone(),
            base: None,
        };
        client.copy(file, &context(), &mut |issued| copying.issued.push(issued.clone()))
    };
    let error = copy(seen.mtime).unwrap_err();
    assert!(matches!(&error, TransferError::SourceChanged { what, .. } if what.contains("its length")), "{error:?}");
    // Written to meanwhile, at the same length.
    grown.set_len(BYTES).unwrap();
    let error = copy("2001-02-03T04:05:06Z".parse().unwrap()).unwrap_err();
    assert!(matches!(&error, TransferError::SourceChanged { what, .. } if what.contains("time")), "{error:?}");
}

#[test]
fn a_missing_privilege_is_reported_by_name() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = site() else { return };
    site.obey(json!({ "do": "revoke", "user": crate::support::USER, "privilege": "Datastore.FileManagement" }));
    let mut copying = Copying::of(&site.shared(FLAT), &site.path("copies"), "denied");
    let error = copying.run(&site.client(), FLAT, &context()).unwrap_err();
    let TransferError::Download { fault: DownloadFault::Denied(missing), .. } = &error else { panic!("{error:?}") };
    assert_eq!(missing, &["Datastore.FileManagement"]);
    assert_eq!(error.retry(), Retry::Permanent);
    assert!(gets(&site).len() <= 4, "no other host is asked in vain: {:?}", gets(&site));
}

#[test]
fn a_refused_password_is_sent_once_and_reported() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = Site::start_with(|config| config["users"][0]["password"] = json!("another")) else { return };
    let client = site.client();
    for _ in 0..3 {
        let error = client.hosts().unwrap_err();
        assert!(matches!(error, TransferError::Vsphere(VsphereError::LoginRefused { .. })), "{error:?}");
        assert_eq!(error.retry(), Retry::Permanent);
    }
    assert_eq!(site.peer.logins(), 1);
}

#[test]
fn cancellation_and_the_rate_limit_are_honoured() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = site() else { return };
    let client = site.client();
    let mut copying = Copying::of(&site.shared(FLAT), &site.path("copies"), "cancelled");
    let mut context = context();
    context.throttle = Some(Arc::new(Throttle::new(MIB)));
    let cancel = context.cancel.clone();
    copying.sink.before_write = Some(Box::new(move |written| {
        if written >= 2 * MIB {
            cancel.cancel();
        }
    }));
    let began = Instant::now();
    let error = copying.run(&client, FLAT, &context).unwrap_err();
    assert!(matches!(error, TransferError::Cancelled), "{error:?}");
    assert!(began.elapsed() > Duration::from_millis(1500), "the limit held it back: {:?}", began.elapsed());
    assert!(copying.sink.records().len() < 10);
    assert_eq!(copying.issued.len(), 1, "with so low a limit parts come one after the other");
}

#[test]
fn a_bare_host_is_read_as_well() {
    let _deadline = Deadline::seconds(300);
    let bare = |config: &mut Value| {
        config["mode"] = json!("esxi");
        let dc = &mut config["datacenters"][0];
        dc["hosts"].as_array_mut().unwrap().truncate(1);
        dc["datastores"].as_array_mut().unwrap().truncate(1);
    };
    let Some(site) = Site::start_with(bare) else { return };
    sparse(&site.shared(FLAT), BYTES, &[MIB..3 * MIB]);
    let client = site.client();
    assert_eq!(client.folder().read(FLAT, 9).unwrap(), [0; 9]);
    let mut copying = Copying::of(&site.shared(FLAT), &site.path("copies"), "bare");
    copying.run(&client, FLAT, &context()).unwrap();
    assert!(same(copying.sink.file(), &site.shared(FLAT)));
    let gets = gets(&site);
    assert!(gets.iter().all(|get| get["status"] == 206 && get["dc_path"] == ""), "{gets:?}");
    assert_eq!(gets.iter().filter(|get| get["auth"] == "ticket").count(), copying.issued.len());
}

#[test]
fn only_hosts_that_mount_the_datastore_are_used() {
    let _deadline = Deadline::seconds(300);
    let Some(site) = site() else { return };
    let client = site.client_of("local2", HostAccess::Ticket);
    assert_eq!(client.hosts().unwrap(), ["esx2.example.com"]);
    let missing = site.client_of("vmfs01", HostAccess::Ticket).hosts().unwrap_err().to_string();
    assert!(missing.contains("knows no datastore of that name") && missing.contains(SHARED), "{missing}");
}
