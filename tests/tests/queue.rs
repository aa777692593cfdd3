//! The queue with real parts: endpoints, proxies between, and services that are killed.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use stackferry_tests::disk::{DiskContent, DiskSpec, Mix, TestDisk};
use stackferry_tests::lab::{EndpointProcess, Faults, Lab, Proxy, new_key, wait_for};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(120);
/// Hosts, and volumes on each.
const HOSTS: usize = 3;
const EACH: u64 = 4;

struct Setup {
    lab: Lab,
    _hosts: Vec<(EndpointProcess, Proxy)>,
    ids: Vec<String>,
}

/// Three endpoints with four AppStacks each, over links on which a copy takes a moment.
fn setup() -> Setup {
    let mut lab = Lab::new(LAB).unwrap();
    let (mut hosts, mut ids) = (Vec::new(), Vec::new());
    for host in 0..HOSTS {
        let name = format!("nfs0{host}");
        for number in 0..EACH {
            let stem = format!("App{host}{number}");
            let spec = DiskSpec::new(&stem, 16 * MIB, host as u64 * 100 + number);
            let spec = spec.content(DiskContent::Plain { bytes: 8 * MIB });
            let spec = DiskSpec { mix: Mix { text: 0, zero: 0 }, ..spec };
            TestDisk::build(&lab.folder(&name, "cloudvolumes/apps").unwrap(), spec).unwrap();
            ids.push(format!("appstack/{stem}"));
        }
        let endpoint = lab.serve_as(&format!("host{host}"), &[&name], &[lab.public_key().unwrap().to_owned()]).unwrap();
        let proxy = Proxy::new(endpoint.address()).unwrap();
        proxy.set(Faults { rate: Some(8 * MIB), ..Faults::default() });
        lab.add_endpoint_at(&name, &proxy.address().to_string(), endpoint.host_key()).unwrap();
        hosts.push((endpoint, proxy));
    }
    lab.config.set("limits.transfers", 2);
    lab.config.set("limits.per_host", 1);
    lab.config.set("schedule.every", "2s");
    lab.config.set("verify.restore_test", "0s");
    Setup { lab, _hosts: hosts, ids }
}

fn versions(lab: &Lab, id: &str) -> usize {
    fs::read_dir(lab.vault_volume(id)).map_or(0, |all| {
        all.filter(|one| one.as_ref().is_ok_and(|one| one.path().join("manifest.json").exists())).count()
    })
}

fn jobs(lab: &Lab, more: &[&str]) -> Vec<Value> {
    lab.run_json(&[&["jobs"], more].concat()).unwrap().as_array().unwrap().clone()
}

/// The volumes that are copied now; the caps hold.
fn running(lab: &Lab) -> Vec<String> {
    let all = jobs(lab, &[]).into_iter().filter(|job| job["state"] == "running");
    let ids: Vec<String> = all.map(|job| job["volume"].as_str().unwrap().to_owned()).collect();
    assert!(ids.len() <= 2, "more than `transfers`: {ids:?}");
    let mut hosts: BTreeMap<char, usize> = BTreeMap::new();
    for id in &ids {
        *hosts.entry(id.chars().nth("appstack/App".len()).unwrap()).or_default() += 1;
    }
    assert!(hosts.values().all(|number| *number == 1), "more than `per_host`: {ids:?}");
    ids
}

#[test]
fn killed_services_copy_each_volume_once_within_the_caps() {
    let setup = setup();
    let (lab, ids) = (&setup.lab, &setup.ids);
    let done = || ids.iter().map(|id| versions(lab, id)).sum::<usize>();
    let mut kills = 0;
    while done() < ids.len() {
        assert!(kills < 40, "it does not get on");
        let before = done();
        let (one, other) = (lab.spawn(&["run"]).unwrap(), lab.spawn(&["run"]).unwrap());
        wait_for("two copies that run after some were done", LIMIT, || {
            let now = done();
            Ok(now == ids.len() || (now >= before + 2 && running(lab).len() == 2))
        })
        .unwrap();
        one.kill().unwrap();
        other.kill().unwrap();
        kills += 1;
    }
    assert!(kills >= 3, "it was killed {kills} times only");
    let service = lab.spawn(&["run"]).unwrap();
    let empty = wait_for("an empty queue", LIMIT, || Ok(jobs(lab, &[]).is_empty()));
    assert!(empty.is_ok(), "{:#?}\n{}", jobs(lab, &[]), service.stderr());
    service.terminate(LIMIT).unwrap().expect_code(0).unwrap();
    for id in ids {
        assert_eq!(versions(lab, id), 1, "{id}");
        lab.run_json(&["verify", id]).unwrap();
    }
    let all = jobs(lab, &["--all"]);
    assert_eq!(all.len(), ids.len(), "each volume was one job: {all:?}");
}

#[test]
fn service_and_command_report_the_same_errors() {
    let mut lab = Lab::new(LAB).unwrap();
    let spec = DiskSpec::new("Office", 16 * MIB, 1).content(DiskContent::Plain { bytes: MIB });
    let mut disk = TestDisk::build(&lab.folder("nfs01", "cloudvolumes/apps").unwrap(), spec).unwrap();
    let endpoint = lab.serve(&["nfs01"]).unwrap();
    lab.add_endpoint("nfs01", &endpoint).unwrap();
    lab.config.set("schedule.every", "1h");
    lab.config.set("verify.restore_test", "0s");
    lab.run_json(&["copy", "appstack/Office"]).unwrap();
    let other = new_key(&lab.path("other"), "another host").unwrap();
    let right = endpoint.host_key().to_owned();
    lab.config.change("nfs01", "host_key", other);
    let by_itself = lab.run_err(&["copy", "appstack/Office"], 13).unwrap();

    let mut service = lab.spawn(&["run"]).unwrap();
    let started = |line: &str| line.contains("a round has ended").then_some(());
    service.wait_line("a round", LIMIT, started).unwrap();
    let by_service = lab.run_err(&["copy", "appstack/Office"], 13).unwrap();
    assert_eq!(by_service, by_itself);
    let failed = jobs(&lab, &["--all"]);
    assert_eq!((failed.len(), &failed[0]["state"]), (1, &"failed".into()));

    // The configuration is put right, and read again.
    lab.config.change("nfs01", "host_key", right);
    lab.write_config().unwrap();
    service.signal(Signal::HUP).unwrap();
    wait_for("the new configuration", LIMIT, || Ok(service.stderr().contains("the configuration was read again")))
        .unwrap();
    let done = lab.run_json(&["copy", "appstack/Office"]).unwrap();
    assert_eq!((&done["outcome"], &done["route"]), (&"copied".into(), &"endpoint".into()));
    assert_eq!(versions(&lab, "appstack/Office"), 2);

    // A waiting command that is interrupted cancels its job.
    let rounds = |log: String| log.matches("a round has ended").count();
    lab.config.set("limits.bandwidth", "300kB/s");
    lab.write_config().unwrap();
    let before = rounds(service.stderr());
    service.signal(Signal::HUP).unwrap();
    let reloads = |log: String| log.matches("the configuration was read again").count();
    wait_for("the next configuration", LIMIT, || Ok(reloads(service.stderr()) == 2)).unwrap();
    // A round follows a new configuration: it must not find the change, and copy it by itself.
    wait_for("its round", LIMIT, || Ok(rounds(service.stderr()) > before)).unwrap();
    disk.overwrite(7, 4 * MIB, 8 * MIB).unwrap();
    let mut waiting = lab.spawn(&["copy", "appstack/Office"]).unwrap();
    let is_ours = |job: &Value| job["state"] == "running" && job["cause"] != "schedule";
    wait_for("the copy to run", LIMIT, || Ok(jobs(&lab, &[]).iter().any(is_ours))).unwrap();
    waiting.signal(Signal::INT).unwrap();
    waiting.wait(LIMIT).unwrap().expect_code(130).unwrap();
    wait_for("the job to end", LIMIT, || Ok(jobs(&lab, &[]).is_empty())).unwrap();
    assert_eq!(jobs(&lab, &["--all"])[0]["state"], "cancelled");
    assert_eq!(versions(&lab, "appstack/Office"), 2);
    service.terminate(LIMIT).unwrap().expect_code(0).unwrap();
}
