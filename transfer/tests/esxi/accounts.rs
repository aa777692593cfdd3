//! Copies by accounts, at a host whose SSH server is set up as ESXi's: keyboard-interactive only, one channel for each
//! connection, NIST curves.

use serde_json::{Value, json};
use stackferry_https::Retry;
use stackferry_transfer::TransferError;
use stackferry_transfer::esxi::{HostCleanup, clean_up, foreign_accounts};
use stackferry_volume::{BlockIndex, BlockState, HoleMapSource};

use crate::support::esxi::Hosted;
use crate::support::files::{MIB, sparse};
use crate::support::{Copying, Deadline, FLAT, INSTALL, context, same};

const BYTES: u64 = 20 * MIB + 777;
const DESCRIPTOR: &str = "cloudvolumes/apps/Office!20!2021.vmdk";

fn hosted(settings: Value) -> Option<Hosted> {
    let hosted = Hosted::start(&settings)?;
    sparse(&hosted.site.shared(FLAT), BYTES, &[0..2 * MIB, 9 * MIB..11 * MIB, 20 * MIB..BYTES]);
    let descriptor =
        format!("# Disk DescriptorFile\nversion=1\nRW {} VMFS \"Office!20!2021-flat.vmdk\"\n", BYTES / 512);
    std::fs::write(hosted.site.shared(DESCRIPTOR), descriptor).unwrap();
    Some(hosted)
}

fn copying(hosted: &Hosted, name: &str) -> Copying {
    Copying::of(&hosted.site.shared(FLAT), &hosted.site.path("copies"), name)
}

#[test]
fn accounts_exist_for_one_connection_and_are_removed() {
    let _deadline = Deadline::seconds(300);
    let Some(hosted) = hosted(json!({})) else { return };
    hosted.is_as_it_was();
    let mut copying = copying(&hosted, "sftp");
    let outcome = copying.run(&hosted.client(), FLAT, &context()).unwrap();
    assert!(same(copying.sink.file(), &hosted.site.shared(FLAT)));
    hosted.is_as_it_was();

    assert_eq!(outcome.hole_map, HoleMapSource::Host, "the map of vmkfstools was used");
    assert!(outcome.counts.read < 8 * MIB, "holes are not read: {:?}", outcome.counts);
    assert_eq!(outcome.credentials, 2, "one for the map, one for the data");
    let names: Vec<&str> = copying.issued.iter().map(|issued| issued.name.as_str()).collect();
    assert!(copying.issued.iter().all(|issued| issued.standing && issued.host == "host esx1.example.com"));
    assert!(names.iter().all(|name| name.starts_with(&format!("sf-{INSTALL}-"))) && names[0] != names[1]);
    let told = hosted.shell.told();
    let logins: Vec<(&str, bool)> = told["logins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|login| (login["user"].as_str().unwrap(), login["ok"].as_bool().unwrap()))
        .collect();
    assert_eq!(logins, [(names[0], true), (names[1], true)], "each logged in once");
    // Every change was recorded before.
    let owed = hosted.site.book.all.lock().unwrap().clone();
    assert!(matches!(&owed[0], HostCleanup::SshService { system, .. } if system == "vc1"), "{owed:?}");
    assert!(
        matches!(&owed[1], HostCleanup::Account { name, host_name, .. } if name == names[0] && host_name == "esx1.example.com")
    );
    assert_eq!(owed.len(), 3);
}

#[test]
fn a_just_started_service_gets_time() {
    let _deadline = Deadline::seconds(300);
    let settings = json!({ "listens_after_ms": 3000, "knows_after_logins": 1, "vmkfstools": "absent" });
    let Some(hosted) = hosted(settings) else { return };
    let mut copying = copying(&hosted, "slow");
    copying.run(&hosted.client(), FLAT, &context()).unwrap();
    assert!(same(copying.sink.file(), &hosted.site.shared(FLAT)));
    let told = hosted.shell.told();
    let logins = told["logins"].as_array().unwrap();
    assert!(logins.iter().any(|login| login["ok"] == false) && logins.iter().all(|login| login["locked"] == false));
    hosted.is_as_it_was();
}

#[test]
fn an_ssh_service_that_ran_keeps_running() {
    let _deadline = Deadline::seconds(300);
    let Some(hosted) = hosted(json!({})) else { return };
    hosted.site.obey(json!({ "do": "service", "host": "esx1", "name": "TSM-SSH", "on": true }));
    copying(&hosted, "on").run(&hosted.client(), FLAT, &context()).unwrap();
    assert_eq!(hosted.state(), (Vec::new(), true));
}

#[test]
fn the_service_stops_with_the_last_copy() {
    let _deadline = Deadline::seconds(300);
    let Some(hosted) = hosted(json!({})) else { return };
    let (one, two) = (hosted.client(), hosted.client());
    let mut first = copying(&hosted, "first");
    // The second copy runs from start to end while the first one is held.
    let inner = std::sync::Mutex::new(Some(copying(&hosted, "second")));
    let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
    std::thread::scope(|scope| {
        let (ask, asked) = std::sync::mpsc::channel::<()>();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let (ask, wait) = (std::sync::Mutex::new(Some(ask)), std::sync::Mutex::new(wait));
        first.sink.before_write = Some(Box::new(move |_| {
            if let Some(ask) = ask.lock().unwrap().take() {
                ask.send(()).unwrap();
                let _ = wait.lock().unwrap().recv();
            }
        }));
        let (hosted, seen, inner) = (&hosted, seen.clone(), &inner);
        scope.spawn(move || {
            asked.recv().unwrap();
            let mut second = inner.lock().unwrap().take().unwrap();
            second.run(&two, FLAT, &context()).unwrap();
            *seen.lock().unwrap() = Some(hosted.state());
            done.send(()).unwrap();
        });
        first.run(&one, FLAT, &context()).unwrap();
    });
    let (accounts, running) = seen.lock().unwrap().clone().unwrap();
    assert!(running, "the first copy still needs it");
    assert_eq!(accounts.len(), 1, "{accounts:?}");
    hosted.is_as_it_was();
}

#[test]
fn dd_is_used_without_sftp() {
    let _deadline = Deadline::seconds(300);
    let Some(hosted) = hosted(json!({ "sftp": false })) else { return };
    let client = hosted.client();
    let mut by_map = copying(&hosted, "dd");
    let outcome = by_map.run(&client, FLAT, &context()).unwrap();
    assert!(same(by_map.sink.file(), &hosted.site.shared(FLAT)));
    assert_eq!(outcome.hole_map, HoleMapSource::Host);
    assert!(outcome.counts.read < 8 * MIB, "{:?}", outcome.counts);
    hosted.is_as_it_was();

    // Existing blocks are not read again.
    let mut rest = copying(&hosted, "rest");
    rest.done = outcome.blocks.clone();
    rest.done.set(BlockIndex(10), BlockState::Unknown);
    rest.done.set(BlockIndex(20), BlockState::Unknown);
    let again = rest.run(&client, FLAT, &context()).unwrap();
    assert_eq!(again.blocks, outcome.blocks);
    assert!(again.counts.read < 2 * MIB, "{:?}", again.counts);
    hosted.is_as_it_was();
}

#[test]
fn scp_is_used_without_sftp_and_dd() {
    let _deadline = Deadline::seconds(300);
    let Some(hosted) = hosted(json!({ "sftp": false, "scp": true, "without": ["dd"] })) else { return };
    let mut copying = copying(&hosted, "scp");
    let outcome = copying.run(&hosted.client(), FLAT, &context()).unwrap();
    assert!(same(copying.sink.file(), &hosted.site.shared(FLAT)));
    assert_eq!((outcome.hole_map, outcome.counts.read), (HoleMapSource::None, BYTES));
    hosted.is_as_it_was();
}

#[test]
fn what_can_not_be_recorded_is_not_changed() {
    let _deadline = Deadline::seconds(300);
    let Some(hosted) = hosted(json!({})) else { return };
    for most in [0, 1] {
        *hosted.site.book.room.lock().unwrap() = Some(most);
        let mut copying = copying(&hosted, &format!("full {most}"));
        let error = copying.run(&hosted.client(), FLAT, &context()).unwrap_err();
        assert!(matches!(error, TransferError::Worker { .. }), "{error:?}");
        assert!(copying.issued.is_empty());
        hosted.is_as_it_was();
    }
    let calls = hosted.site.obey(json!({ "do": "calls" }))["calls"].clone();
    assert_eq!((&calls["CreateUser"], &calls["StartService"]), (&Value::Null, &json!(1)), "{calls}");
}

#[test]
fn a_wrong_hole_map_is_not_trusted() {
    let _deadline = Deadline::seconds(300);
    let Some(hosted) = hosted(json!({ "vmkfstools": "lies" })) else { return };
    let client = hosted.client();
    for mode in ["lies", "garbage", "short", "locked", "absent"] {
        hosted.shell.obey(json!({ "do": "vmkfstools", "mode": mode }));
        let mut copying = copying(&hosted, mode);
        let outcome = copying.run(&client, FLAT, &context()).unwrap();
        assert!(same(copying.sink.file(), &hosted.site.shared(FLAT)), "{mode}");
        assert_eq!(outcome.hole_map, HoleMapSource::None, "{mode}");
        assert_eq!(outcome.counts.read, BYTES, "{mode}");
        hosted.is_as_it_was();
    }
}

#[test]
fn a_failed_copy_leaves_nothing_behind() {
    let _deadline = Deadline::seconds(300);
    let Some(hosted) = hosted(json!({})) else { return };
    let client = hosted.client();
    // Our own disk is full.
    let mut full = copying(&hosted, "full");
    full.sink.room = MIB;
    assert!(matches!(full.run(&client, FLAT, &context()), Err(TransferError::Write { .. })));
    hosted.is_as_it_was();

    // The copy is cancelled in the middle.
    let mut ended = copying(&hosted, "ended");
    let context = context();
    let cancel = context.cancel.clone();
    ended.sink.before_write = Some(Box::new(move |_| cancel.cancel()));
    assert!(matches!(ended.run(&client, FLAT, &context), Err(TransferError::Cancelled)));
    hosted.is_as_it_was();
}

#[test]
fn a_broken_connection_leaves_nothing_behind() {
    let _deadline = Deadline::seconds(300);
    let Some(hosted) = hosted(json!({ "vmkfstools": "absent" })) else { return };
    let mut broken = copying(&hosted, "broken");
    // Small enough a memory that not all of the file is on the way when the first block is written.
    let mut context = context();
    context.memory = 8 << 20;
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let (ask, wait) = (std::sync::Mutex::new(Some(ask)), std::sync::Mutex::new(wait));
    broken.sink.before_write = Some(Box::new(move |_| {
        if let Some(ask) = ask.lock().unwrap().take() {
            ask.send(()).unwrap();
            let _ = wait.lock().unwrap().recv();
        }
    }));
    let error = std::thread::scope(|scope| {
        let hosted = &hosted;
        scope.spawn(move || {
            asked.recv().unwrap();
            hosted.shell.obey(json!({ "do": "cut" }));
            done.send(()).unwrap();
        });
        broken.run(&hosted.client(), FLAT, &context).unwrap_err()
    });
    assert_eq!(error.retry(), Retry::Transient, "{error:?}");
    hosted.is_as_it_was();
}

#[test]
fn an_unknown_host_gets_no_account() {
    let _deadline = Deadline::seconds(300);
    let Some(hosted) = hosted(json!({})) else { return };
    let client = hosted.client();
    let refused = |name: &str| {
        let mut copying = copying(&hosted, name);
        let error = copying.run(&client, FLAT, &context()).unwrap_err();
        assert!(copying.issued.is_empty(), "no account was made");
        hosted.is_as_it_was();
        error
    };
    hosted.write_known_hosts("");
    let error = refused("unknown");
    assert!(
        matches!(&error, TransferError::HostKeyUnknown { key, .. } if key.starts_with("[esx1.example.com]:")),
        "{error:?}"
    );
    let other = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=";
    hosted.write_known_hosts(&format!("[esx1.example.com]:{} {other}\n", hosted.port()));
    let error = refused("changed");
    assert!(matches!(error, TransferError::HostKeyChanged { .. }), "{error:?}");
    assert_eq!(error.retry(), Retry::Permanent);
    // By its address it is known as well.
    hosted.know(hosted.address());
    copying(&hosted, "known").run(&client, FLAT, &context()).unwrap();
}

#[test]
fn lockdown_mode_refuses_accounts() {
    let _deadline = Deadline::seconds(300);
    let Some(hosted) = hosted(json!({})) else { return };
    hosted.site.obey(json!({ "do": "lockdown", "host": "esx1", "mode": "lockdownNormal" }));
    let error = copying(&hosted, "locked").run(&hosted.client(), FLAT, &context()).unwrap_err();
    assert!(matches!(&error, TransferError::Unfit { hint, .. } if hint.contains("ticket")), "{error:?}");
    hosted.is_as_it_was();
}

#[test]
fn a_host_with_stricter_rules_gets_a_longer_password() {
    let _deadline = Deadline::seconds(300);
    let strict = |site: &mut Value| {
        site["datacenters"][0]["hosts"][0]["minimum_length"] = json!(30);
        site["datacenters"][0]["hosts"][0]["minimum_classes"] = json!(4);
    };
    let Some(hosted) = Hosted::start_with(&json!({}), strict) else { return };
    sparse(&hosted.site.shared(FLAT), MIB, &[0..MIB]);
    let mut copying = copying(&hosted, "strict");
    copying.run(&hosted.client(), FLAT, &context()).unwrap();
    assert!(same(copying.sink.file(), &hosted.site.shared(FLAT)));
    hosted.is_as_it_was();
}

#[test]
fn a_crash_is_cleaned_up_and_other_installations_are_untouched() {
    let _deadline = Deadline::seconds(300);
    let Some(hosted) = hosted(json!({})) else { return };
    let (runtime, vsphere) = (&hosted.site.runtime, hosted.site.vsphere());
    let host = runtime.block_on(vsphere.hosts()).unwrap().remove(0);
    let (ours, theirs) = (format!("sf-{INSTALL}-00000001"), "sf-ffffff-00000001".to_owned());
    for name in [&ours, &theirs] {
        hosted.site.obey(json!({ "do": "add_account", "host": "esx1", "name": name }));
    }
    hosted.site.obey(json!({ "do": "service", "host": "esx1", "name": "TSM-SSH", "on": true }));
    let foreign = runtime.block_on(foreign_accounts(&vsphere, &host.id.value, INSTALL)).unwrap();
    assert_eq!(foreign.join(" "), theirs);
    let (system, host_id, host_name) = ("vc1".to_owned(), host.id.value.clone(), host.name.clone());
    let account = HostCleanup::Account {
        system: system.clone(),
        host_id: host_id.clone(),
        host_name: host_name.clone(),
        name: ours,
    };
    let service = HostCleanup::SshService { system, host_id, host_name };
    // Twice: what is done already is fine.
    for _ in 0..2 {
        runtime.block_on(clean_up(&account, &vsphere)).unwrap();
        runtime.block_on(clean_up(&service, &vsphere)).unwrap();
        assert_eq!(hosted.state(), (vec![theirs.clone()], false));
    }
}
