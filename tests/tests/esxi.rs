//! A site of App Volumes, vCenter and ESXi hosts without manual setup: only their addresses are configured.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;
use stackferry_tests::avm::{AppVolumesDouble, AvmSite, AvmVersion};
use stackferry_tests::check::same_files;
use stackferry_tests::disk::{DiskContent, DiskSpec, Sidecar, TestDisk};
use stackferry_tests::lab::esxi::{Settings, Store};
use stackferry_tests::lab::vcenter::{self, Datacenter, InventoryUser, ServerKind, VCenterInventory, VirtualMachine};
use stackferry_tests::lab::{EsxiDouble, Lab, VCenter, wait_for};
use stackferry_tests::tools::{find, have};
use toml::{Table, Value};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const USER: &str = "svc-stackferry@vsphere.local";
const PASSWORD: &str = "a pass & <word>";
const ADMIN: &str = "CORP\\svc-stackferry";
const MIB: u64 = 1 << 20;
const OFFICE: &str = "appstack/Office";
const JDOE: &str = "writable/CORP!5C!jdoe";
const JDOE_AT: &str = "cloudvolumes/writable/CORP!5C!jdoe.vmdk";
const LONG: Duration = Duration::from_secs(60);

/// A vCenter with one host, an App Volumes Manager, and a lab that knows their addresses.
struct Site {
    lab: Lab,
    vcenter: VCenter,
    host: EsxiDouble,
    manager: AppVolumesDouble,
    office: TestDisk,
    jdoe: TestDisk,
}

fn secret(lab: &Lab, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = lab.path(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// `[[key]]` with these texts and a password in a file.
fn system(lab: &mut Lab, key: &str, texts: &[(&str, &str)], password: &Path) {
    let mut table: Table = texts.iter().map(|(key, text)| ((*key).to_owned(), Value::from(*text))).collect();
    let file = Table::from_iter([("file".to_owned(), Value::from(password.to_str().unwrap()))]);
    table.insert("password".to_owned(), Value::Table(file));
    lab.config.set(key, Value::Array(vec![Value::Table(table)]));
}

fn build(lab: &Lab, datastore: &str, path: &str, seed: u64) -> TestDisk {
    let (folder, file) = path.rsplit_once('/').unwrap();
    let spec = DiskSpec::new(file.strip_suffix(".vmdk").unwrap(), 96 * MIB, seed);
    let spec = spec.content(DiskContent::Plain { bytes: 5 * MIB }).sidecar(Sidecar::Metadata);
    TestDisk::build(&lab.folder(datastore, folder).unwrap(), spec).unwrap()
}

/// None where this machine can't run it.
fn site(access: &str, version: AvmVersion) -> Option<Site> {
    let there = find("go").is_some() && stackferry_tests::lab::esxi::can_run();
    if !have(there, "root, Go with govmomi, OpenSSH, BusyBox, and the wrappers of NSS and PAM").unwrap() {
        return None;
    }
    let mut lab = Lab::new(LAB).unwrap();
    let office = build(&lab, "vmfs01", "cloudvolumes/apps/Office.vmdk", 1);
    let jdoe = build(&lab, "vmfs01", JDOE_AT, 2);
    let vmfs = lab.folder("vmfs01", "").unwrap();
    let store = Store { name: "vmfs01".to_owned(), uuid: "5f3c1a2b-0d4e6f80".to_owned(), dir: vmfs };
    let host =
        EsxiDouble::start(Settings { root_password: PASSWORD.to_owned(), stores: vec![store], ..Settings::default() })
            .unwrap();
    let mut datastores = host.datastores();
    datastores.push(vcenter::InventoryDatastore {
        name: "vsan01".to_owned(),
        kind: "vsan".to_owned(),
        dir: lab.folder("vsan01", "").unwrap(),
        ..vcenter::InventoryDatastore::default()
    });
    let vdi = VirtualMachine { name: "VDI-042".to_owned(), on: true, ..VirtualMachine::default() };
    let vcenter = VCenter::start(&VCenterInventory {
        mode: ServerKind::Vcenter,
        users: vec![InventoryUser { name: USER.to_owned(), password: PASSWORD.to_owned(), missing: Vec::new() }],
        datacenters: vec![Datacenter {
            name: "Berlin".to_owned(),
            hosts: vec![host.host("esx1")],
            datastores,
            vms: vec![vdi],
            ..Datacenter::default()
        }],
        ..VCenterInventory::default()
    })
    .unwrap();

    let mut avm = AvmSite::new(version);
    avm.user(ADMIN, PASSWORD, true);
    avm.storage("vmfs01", "VMFS", true);
    avm.storage("vsan01", "vsan", true);
    avm.appstack("Office", "vmfs01", "cloudvolumes/apps/Office.vmdk", "11111111-0000-0000-0000-000000000001")
        .also_at("vsan01", "cloudvolumes/apps/Office.vmdk");
    avm.appstack("Zip", "vsan01", "cloudvolumes/apps/Zip.vmdk", "11111111-0000-0000-0000-000000000002");
    avm.writable("CORP\\jdoe", "vmfs01", JDOE_AT, "11111111-0000-0000-0000-000000000003");
    let manager = AppVolumesDouble::start(avm).unwrap();

    let password = secret(&lab, "vc1.pass", PASSWORD);
    let known_hosts = lab.path("known_hosts");
    fs::write(&known_hosts, host.known_hosts()).unwrap();
    let (url, fingerprint) = (vcenter.url().to_owned(), format!("sha256:{}", vcenter.sha256()));
    let texts = [("name", "vc1"), ("url", &url), ("username", USER), ("fingerprint", &fingerprint)];
    system(&mut lab, "vsphere", &texts, &password);
    let (url, fingerprint) = (manager.url(), format!("sha256:{}", manager.fingerprint().trim_start_matches("sha256:")));
    let texts = [("name", "avm1"), ("url", &*url), ("username", ADMIN), ("fingerprint", &*fingerprint)];
    system(&mut lab, "app_volumes", &texts, &password);
    let keys = [
        ("route", Value::from("esxi")),
        ("vsphere", Value::from("vc1")),
        ("access", Value::from(access)),
        ("known_hosts", Value::from(known_hosts.to_str().unwrap())),
        ("ssh_port", Value::from(i64::from(host.port()))),
    ];
    lab.config.datastore("vmfs01", keys);
    Some(Site { lab, vcenter, host, manager, office, jdoe })
}

impl Site {
    fn round(&self, code: i32) -> Json {
        let answer = self.lab.run(&["run", "--once"]).unwrap();
        assert_eq!(answer.code, code, "{}\n{}", answer.stdout, answer.stderr);
        answer.json().unwrap()
    }

    fn restored(&self, id: &str, disk: &TestDisk, name: &str) {
        let to = self.lab.restore(id, name).unwrap();
        same_files(&disk.files(), &to).unwrap();
    }

    fn is_clean(&self) {
        let state = self.vcenter.state("esx1").unwrap();
        let ours: Vec<_> = state.accounts.keys().filter(|name| name.starts_with("sf-")).collect();
        assert!(ours.is_empty(), "{ours:?} is left");
        assert!(!state.running.contains(&"TSM-SSH".to_owned()), "the SSH service was stopped before");
    }
}

fn outcome<'a>(round: &'a Json, id: &str) -> (&'a str, &'a str) {
    let found = round["volumes"].as_array().unwrap().iter().find(|one| one["volume"] == id);
    let found = found.unwrap_or_else(|| panic!("no {id} in {round}"));
    (found["outcome"].as_str().unwrap(), found["reason"]["code"].as_str().unwrap_or_default())
}

#[test]
fn tickets_find_copy_and_restore_every_disk() {
    let Some(site) = site("ticket", AvmVersion::V2_17) else { return };
    let round = site.round(0);
    assert_eq!(outcome(&round, OFFICE), ("copied", ""));
    assert_eq!(outcome(&round, JDOE), ("copied", ""));
    assert_eq!(outcome(&round, "appstack/Zip"), ("unprotectable", "vsan_only"));
    site.restored(OFFICE, &site.office, "office");
    site.restored(JDOE, &site.jdoe, "jdoe");
    site.is_clean();
    let calls = site.vcenter.calls().unwrap();
    for call in ["CreateUser", "StartService", "ChangeAccessMode"] {
        assert_eq!(calls.get(call), None, "{call}");
    }
    let accesses = site.vcenter.folder_requests().unwrap();
    let mut tickets: Vec<_> = accesses.iter().filter(|one| one.auth == "ticket").map(|one| &one.ticket).collect();
    let requests = tickets.len();
    tickets.sort();
    tickets.dedup();
    assert!(requests > 0 && tickets.len() == requests, "a ticket for each request: {requests}");
    assert!(site.manager.writes().is_empty());

    let volumes = site.lab.run_json(&["volumes"]).unwrap();
    let office = volumes.as_array().unwrap().iter().find(|one| one["id"] == OFFICE).unwrap();
    assert_eq!(office["locations"].as_array().unwrap().len(), 2);
    assert_eq!(office["guid"], "11111111-0000-0000-0000-000000000001");
    let again = site.round(0);
    assert_eq!(outcome(&again, OFFICE), ("unchanged", ""));
    assert_eq!(outcome(&again, JDOE), ("unchanged", ""));
    assert!(site.vcenter.sessions().unwrap().is_empty(), "no session is left");
}

#[test]
fn each_file_has_its_own_account_and_none_is_left() {
    let Some(site) = site("account", AvmVersion::V4_15) else { return };
    let round = site.round(0);
    assert_eq!(outcome(&round, OFFICE), ("copied", ""));
    assert_eq!(outcome(&round, JDOE), ("copied", ""));
    site.restored(OFFICE, &site.office, "office");
    site.restored(JDOE, &site.jdoe, "jdoe");
    site.is_clean();
    let calls = site.vcenter.calls().unwrap();
    let files = (site.office.files().len() + site.jdoe.files().len()) as u64;
    assert!(calls["CreateUser"] >= files, "{calls:?}");
    assert_eq!(calls["CreateUser"], calls["RemoveUser"]);
    let logins = site.host.activity().unwrap().logins;
    let mut names: Vec<_> = logins.iter().map(|login| &login.user).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "no account logs in twice");
}

#[test]
fn a_writable_attached_to_a_machine_waits_for_its_detach() {
    let Some(site) = site("ticket", AvmVersion::V2_17) else { return };
    let path = format!("[vmfs01] {JDOE_AT}");
    site.vcenter.attach("VDI-042", &path, "persistent").unwrap();
    let round = site.round(3);
    assert_eq!(outcome(&round, JDOE), ("deferred", "attached"));
    assert_eq!(outcome(&round, OFFICE), ("copied", ""));
    assert!(round.to_string().contains("VDI-042"));
    site.vcenter.detach("VDI-042", &path).unwrap();
    assert_eq!(outcome(&site.round(0), JDOE), ("copied", ""));
}

#[test]
fn the_next_start_cleans_up_a_killed_copy_at_the_host() {
    let Some(mut site) = site("account", AvmVersion::V2_17) else { return };
    site.vcenter.add_account("esx1", "sf-ffffff-00000001").unwrap();
    site.lab.config.set("limits.bandwidth", "1MiB/s");
    let running = site.lab.spawn(&["copy", OFFICE]).unwrap();
    let foreign = |name: &String| name.starts_with("sf-") && name != "sf-ffffff-00000001";
    wait_for("an account on the host", LONG, || Ok(site.vcenter.state("esx1")?.accounts.keys().any(foreign))).unwrap();
    drop(running.kill().unwrap());
    let left = site.vcenter.state("esx1").unwrap();
    assert!(left.accounts.keys().any(foreign), "the kill came in time");
    assert!(left.running.contains(&"TSM-SSH".to_owned()));

    site.lab.config.set("limits.bandwidth", "1GiB/s");
    let round = site.round(0);
    assert_eq!(outcome(&round, OFFICE), ("copied", ""));
    let state = site.vcenter.state("esx1").unwrap();
    assert!(!state.accounts.keys().any(foreign), "{:?}", state.accounts.keys());
    assert!(state.accounts.contains_key("sf-ffffff-00000001"), "another installation's is left alone");
    assert!(!state.running.contains(&"TSM-SSH".to_owned()));
    let check = site.lab.run(&["check"]).unwrap();
    assert!(check.stdout.contains("sf-ffffff-00000001"), "and shown: {}", check.stdout);
    site.restored(OFFICE, &site.office, "office");
}

#[test]
fn a_copy_that_is_stopped_cleans_up_at_the_host_before_it_ends() {
    for (args, code, has_ssh) in [(&["copy", OFFICE][..], 130, false), (&["run"], 0, false), (&["run"], 0, true)] {
        let Some(mut site) = site("account", AvmVersion::V2_17) else { return };
        site.vcenter.set_service("esx1", "TSM-SSH", has_ssh).unwrap();
        site.lab.config.set("limits.bandwidth", "1MiB/s");
        let running = site.lab.spawn(args).unwrap();
        let state = || site.vcenter.state("esx1");
        let is_ours = |name: &String| name.starts_with("sf-");
        wait_for("an account on the host", LONG, || Ok(state()?.accounts.keys().any(is_ours))).unwrap();
        running.terminate(LONG).unwrap().expect_code(code).unwrap();
        let left = state().unwrap();
        assert!(!left.accounts.keys().any(is_ours), "{args:?} left {:?}", left.accounts.keys());
        assert_eq!(left.running.contains(&"TSM-SSH".to_owned()), has_ssh, "{args:?}: the SSH service is as it was");
        assert!(site.vcenter.sessions().unwrap().is_empty(), "{args:?} left a session");

        site.lab.config.set("limits.bandwidth", "1GiB/s");
        assert_eq!(outcome(&site.round(0), OFFICE), ("copied", ""), "{args:?}");
        site.restored(OFFICE, &site.office, "office");
    }
}

#[test]
fn an_unreachable_or_refusing_vcenter_is_named() {
    let Some(mut site) = site("ticket", AvmVersion::V2_17) else { return };
    site.vcenter.down(None).unwrap();
    let answer = site.lab.run(&["run", "--once"]).unwrap();
    assert_eq!(answer.code, 1, "{}", answer.stderr);
    assert!(answer.stderr.contains("vc1"), "{}", answer.stderr);
    site.vcenter.up(None).unwrap();
    let wrong = secret(&site.lab, "wrong.pass", "not it");
    let (url, fingerprint) = (site.vcenter.url().to_owned(), format!("sha256:{}", site.vcenter.sha256()));
    let texts = [("name", "vc1"), ("url", &url), ("username", USER), ("fingerprint", &fingerprint)];
    system(&mut site.lab, "vsphere", &texts, &wrong);
    site.vcenter.clear().unwrap();
    let answer = site.lab.run(&["run", "--once"]).unwrap();
    assert_eq!(answer.code, 1, "{}", answer.stderr);
    assert!(answer.stderr.contains("refused the login"), "{}", answer.stderr);
    assert!(!answer.stderr.contains("not it"));
    let refused = site.vcenter.logins().unwrap();
    assert_eq!(refused.len(), 1, "a refused password is not tried again: {refused:?}");
    // Nor by the next process, as a timer would start it, until somebody looks or corrects it.
    let answer = site.lab.run(&["run", "--once"]).unwrap();
    assert!(answer.stderr.contains("refused the login"), "{}", answer.stderr);
    assert_eq!(site.vcenter.logins().unwrap().len(), 1);
    assert_eq!(site.lab.run(&["check"]).unwrap().code, 1);
    assert_eq!(site.vcenter.logins().unwrap().len(), 2);
    secret(&site.lab, "wrong.pass", PASSWORD);
    assert_eq!(outcome(&site.round(0), OFFICE), ("copied", ""));
}

#[test]
fn a_running_service_reacts_to_a_detach_before_its_round() {
    let Some(mut site) = site("ticket", AvmVersion::V2_17) else { return };
    let path = format!("[vmfs01] {JDOE_AT}");
    site.vcenter.attach("VDI-042", &path, "persistent").unwrap();
    // Changes bring about rounds at most every fifth of this; none comes by the clock while the test runs.
    site.lab.config.set("schedule.every", "75s");
    let running = site.lab.spawn(&["run"]).unwrap();
    let versions = |id: &str| {
        fs::read_dir(site.lab.vault_volume(id)).map_or(0, |all| {
            all.filter(|one| one.as_ref().is_ok_and(|one| one.path().join("manifest.json").exists())).count()
        })
    };
    wait_for("the AppStack to be copied", LONG, || Ok(versions(OFFICE) == 1)).unwrap();
    assert_eq!(versions(JDOE), 0, "a machine has it");
    site.vcenter.detach("VDI-042", &path).unwrap();
    wait_for("the writable to be copied", LONG, || Ok(versions(JDOE) == 1)).unwrap();
    running.terminate(LONG).unwrap().expect_code(0).unwrap();
}

#[test]
fn a_renamed_datastore_keeps_its_volumes() {
    let Some(mut site) = site("ticket", AvmVersion::V2_17) else { return };
    // App Volumes gives it no id: where it lies is all that is known of it.
    build(&site.lab, "vmfs01", "cloudvolumes/apps/Plain.vmdk", 3);
    let ids = |round: &Json| -> Vec<String> {
        let volumes = round["volumes"].as_array().unwrap().iter();
        volumes.map(|one| format!("{} {}", one["volume"].as_str().unwrap(), one["outcome"].as_str().unwrap())).collect()
    };
    let all = |what: &str| {
        [OFFICE, "appstack/Plain", "appstack/Zip", JDOE].map(|id| match id {
            "appstack/Zip" => format!("{id} unprotectable"),
            _ => format!("{id} {what}"),
        })
    };
    assert_eq!(ids(&site.round(0)), all("copied"));

    site.vcenter.rename_datastore("vmfs01", "gold").unwrap();
    site.manager.change(|avm| {
        avm.storage("gold", "VMFS", true);
        for place in avm.volumes.iter_mut().flat_map(|volume| &mut volume.places) {
            if place.datastore == "vmfs01" {
                "gold".clone_into(&mut place.datastore);
            }
        }
    });
    let answer = site.lab.run(&["run", "--once"]).unwrap();
    assert_eq!(answer.code, 1, "the datastore of the configuration is not to be found: {}", answer.stdout);
    assert!(answer.stderr.contains("vSphere calls datastore vmfs01 gold now"), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("name = \"gold\"") || answer.stderr.contains(r#"name = \"gold\""#),
        "{}",
        answer.stderr
    );
    let known = site.lab.run_json(&["volumes"]).unwrap();
    assert_eq!(known.as_array().unwrap().len(), 4, "nothing is taken for new: {known}");

    site.lab.config.change("vmfs01", "name", "gold");
    let round = site.round(0);
    assert_eq!(ids(&round), all("unchanged"));
    let known = site.lab.run_json(&["volumes"]).unwrap();
    for one in known.as_array().unwrap().iter().filter(|one| one["id"] != "appstack/Zip") {
        assert_eq!((&one["versions"], &one["generation"]), (&1.into(), &1.into()), "{one}");
        let places = one["locations"].as_array().unwrap();
        assert!(places.iter().any(|place| place["datastore"] == "gold" && place["reachable"] == true), "{one}");
        assert!(places.iter().all(|place| place["datastore"] != "vmfs01"), "{one}");
    }
    let audit = site.lab.run_json(&["audit", "show", "--last", "100"]).unwrap().to_string();
    assert!(audit.contains("datastore_renamed"), "{audit}");
}
