//! Every failure is a code, a message that names its subject, a hint and the right exit code. And nothing is lost.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use stackferry_tests::LabError;
use stackferry_tests::check::same_files;
use stackferry_tests::disk::{Broken, DiskContent, DiskSpec, Foreign, Mix, Sidecar, TestDisk};
use stackferry_tests::lab::{EndpointProcess, Faults, Lab, Proxy, Tmpfs, new_key, wait_for};
use stackferry_tests::tools::have;

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const OFFICE: &str = "appstack/Office";
const APPS: &str = "cloudvolumes/apps";
const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(120);

fn build(lab: &Lab, stem: &str, data: u64, seed: u64) -> TestDisk {
    let spec =
        DiskSpec::new(stem, 2 * data, seed).content(DiskContent::Plain { bytes: data }).sidecar(Sidecar::Metadata);
    let spec = DiskSpec { mix: Mix { text: 0, zero: 0 }, ..spec };
    TestDisk::build(&lab.folder("nfs01", APPS).unwrap(), spec).unwrap()
}

fn remote() -> (EndpointProcess, Lab, TestDisk) {
    let mut lab = Lab::new(LAB).unwrap();
    let disk = build(&lab, "Office", 4 * MIB, 1);
    let endpoint = lab.serve(&["nfs01"]).unwrap();
    lab.add_endpoint("nfs01", &endpoint).unwrap();
    (endpoint, lab, disk)
}

/// An error with this code, and with advice.
fn has(error: &Value, code: &str) -> String {
    assert_eq!(error["code"], code, "{error}");
    let hint = error["hint"].as_str().unwrap_or_else(|| panic!("no hint in {error}"));
    assert!(!hint.is_empty());
    format!("{} | {hint}", error["message"].as_str().unwrap())
}

/// What `check` says of something.
fn checked(lab: &Lab, subject: &str) -> Value {
    let answer = lab.run(&["check"]).unwrap().json().unwrap();
    let found = answer["checks"].as_array().unwrap().iter().find(|one| one["subject"] == subject).cloned();
    found.unwrap_or_else(|| panic!("nothing about {subject} in {answer}"))
}

#[test]
fn a_host_with_an_unknown_key_is_refused() {
    let (endpoint, mut lab, disk) = remote();
    let known = lab.path("known_hosts");
    fs::write(&known, "").unwrap();
    lab.config.unset("nfs01", "host_key");
    lab.config.change("nfs01", "known_hosts", known.to_str().unwrap());
    for command in [&["copy", OFFICE][..], &["grant", OFFICE]] {
        let error = lab.run_err(command, 13).unwrap();
        let text = has(&error, "host_key_unknown");
        assert!(text.contains("127.0.0.1"), "{text}");
    }
    let round = lab.run(&["run", "--once"]).unwrap().expect_code(1).unwrap();
    assert!(round.stderr.contains("is not known"), "{round:?}");
    assert_eq!(checked(&lab, "datastore nfs01")["ok"], false);
    assert!(!endpoint.log().contains("a service logged in"));

    // Another key than the known one.
    let other = new_key(&lab.path("other"), "other").unwrap();
    let address = endpoint.address();
    fs::write(&known, format!("[{}]:{} {other}\n", address.ip(), address.port())).unwrap();
    has(&lab.run_err(&["copy", OFFICE], 13).unwrap(), "host_key_changed");
    lab.config.unset("nfs01", "known_hosts");
    lab.config.change("nfs01", "host_key", other.as_str());
    has(&lab.run_err(&["copy", OFFICE], 13).unwrap(), "host_key_changed");
    assert!(!endpoint.log().contains("a service logged in"));

    // As the hint says: with the right line it works.
    fs::write(&known, format!("[{}]:{} {}\n", address.ip(), address.port(), endpoint.host_key())).unwrap();
    lab.config.unset("nfs01", "host_key");
    lab.config.change("nfs01", "known_hosts", known.to_str().unwrap());
    lab.run_json(&["copy", OFFICE]).unwrap();
    same_files(&disk.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();

    // A key that changes later is no reason to wait, and costs nothing that is there.
    lab.config.unset("nfs01", "known_hosts");
    lab.config.change("nfs01", "host_key", other.as_str());
    for command in [&["copy", OFFICE][..], &["grant", OFFICE]] {
        has(&lab.run_err(command, 13).unwrap(), "host_key_changed");
    }
    assert_eq!(lab.versions(OFFICE).unwrap().len(), 1);
}

#[test]
fn an_endpoint_refuses_a_service_with_an_unknown_key() {
    let (endpoint, mut lab, _disk) = remote();
    let stranger = lab.path("stranger");
    new_key(&stranger, "stranger").unwrap();
    lab.config.change("nfs01", "key", stranger.to_str().unwrap());
    for command in [&["copy", OFFICE][..], &["grant", OFFICE]] {
        let text = has(&lab.run_err(command, 12).unwrap(), "login_refused");
        assert!(text.contains("issuers"), "{text}");
    }
    assert_eq!(checked(&lab, "datastore nfs01")["ok"], false);
    assert!(endpoint.log().contains("an unknown key was refused"));
    // A key that others may read is not even tried.
    fs::set_permissions(&stranger, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let text = has(&lab.run_err(&["copy", OFFICE], 2).unwrap(), "bad_key");
    assert!(text.contains("0600") || text.contains("chmod 600"), "{text}");
}

#[test]
fn an_unreachable_endpoint_is_reported_and_the_rest_works() {
    let (mut endpoint, lab, disk) = remote();
    lab.run_json(&["copy", OFFICE]).unwrap();
    endpoint.kill().unwrap();
    let copy = lab.run(&["copy", OFFICE]).unwrap().expect_code(3).unwrap().json().unwrap();
    assert_eq!((&copy["outcome"], &copy["reason"]["code"]), (&Value::from("deferred"), &Value::from("unreachable")));
    has(&lab.run_err(&["copy", "appstack/Other"], 1).unwrap(), "unreachable");
    same_files(&disk.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();
    assert_eq!(lab.run_json(&["verify"]).unwrap()["ok"], 1);
}

#[test]
fn too_little_space_is_reported_before_a_copy_starts() {
    if !have(Tmpfs::possible(), "the right to mount a tmpfs").unwrap() {
        return;
    }
    let mut lab = Lab::new(LAB).unwrap();
    let small = build(&lab, "Small", 2 * MIB, 2);
    lab.add_local("nfs01").unwrap();
    let _vault = Tmpfs::mount(&lab.vault(), 12 * MIB).unwrap();
    lab.run_json(&["copy", "appstack/Small"]).unwrap();
    build(&lab, "Office", 40 * MIB, 1);
    let text = has(&lab.run_err(&["copy", OFFICE], 15).unwrap(), "no_space");
    assert!(text.contains("vault"), "{text}");
    assert!(lab.versions(OFFICE).unwrap().is_empty());
    // In a round it is one failure among others.
    let round = lab.run(&["run", "--once"]).unwrap().expect_code(3).unwrap().json().unwrap();
    assert_eq!((&round["failed"], &round["unchanged"]), (&Value::from(1), &Value::from(1)), "{round}");
    // What is kept free is the administrator's word.
    lab.config.set("vault.reserve", "11MiB");
    has(&lab.run_err(&["copy", "appstack/Small"], 15).unwrap(), "no_space");
    lab.config.set("vault.reserve", "1MiB");
    lab.run_json(&["copy", "appstack/Small"]).unwrap();
    same_files(&small.files(), &lab.restore("appstack/Small", "restored").unwrap()).unwrap();
}

#[test]
fn a_vault_that_fills_up_during_a_copy_loses_nothing() {
    if !have(Tmpfs::possible(), "the right to mount a tmpfs").unwrap() {
        return;
    }
    let mut lab = Lab::new(LAB).unwrap();
    let small = build(&lab, "Small", 2 * MIB, 2);
    let office = build(&lab, "Office", 24 * MIB, 1);
    lab.add_local("nfs01").unwrap();
    let _vault = Tmpfs::mount(&lab.vault(), 64 * MIB).unwrap();
    lab.run_json(&["copy", "appstack/Small"]).unwrap();
    lab.config.set("limits.bandwidth", "16MiB/s");
    let mut copy = lab.spawn(&["copy", OFFICE]).unwrap();
    let incoming = lab.vault().join("incoming");
    wait_for("a copy that has begun", LIMIT, || {
        if copy.has_ended()? {
            return Err(LabError::Wrong(format!("it ended before: {}", copy.stderr())));
        }
        Ok(bytes_below(&incoming) > 2 * MIB)
    })
    .unwrap();
    // Somebody else fills the disk.
    let hog = lab.vault().join("hog");
    let mut file = fs::File::options().create_new(true).write(true).open(&hog).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    drop(file);
    let error = copy.wait(LIMIT).unwrap().expect_code(15).unwrap().error().unwrap();
    has(&error, "no_space");
    assert!(lab.versions(OFFICE).unwrap().is_empty());
    same_files(&small.files(), &lab.restore("appstack/Small", "small").unwrap()).unwrap();

    fs::remove_file(hog).unwrap();
    lab.config.set("limits.bandwidth", "10GB/s");
    lab.run_json(&["copy", OFFICE]).unwrap();
    same_files(&office.files(), &lab.restore(OFFICE, "office").unwrap()).unwrap();
    assert_eq!(lab.run_json(&["verify"]).unwrap()["ok"], 2);
}

fn bytes_below(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    });
    bytes.sum()
}

#[test]
fn a_restore_without_space_leaves_no_file() {
    if !have(Tmpfs::possible(), "the right to mount a tmpfs").unwrap() {
        return;
    }
    let mut lab = Lab::new(LAB).unwrap();
    build(&lab, "Office", 8 * MIB, 1);
    lab.add_local("nfs01").unwrap();
    lab.run_json(&["copy", OFFICE]).unwrap();
    let to = lab.path("small");
    let _mounted = Tmpfs::mount(&to, 4 * MIB).unwrap();
    let error = lab.run_err(&["restore".as_ref(), OFFICE.as_ref(), "--to".as_ref(), to.as_os_str()], 15).unwrap();
    has(&error, "no_space");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
}

#[test]
fn a_restore_overwrites_only_with_the_option() {
    let (_endpoint, lab, disk) = remote();
    lab.run_json(&["copy", OFFICE]).unwrap();
    let to = lab.path("restored");
    fs::create_dir(&to).unwrap();
    fs::write(to.join("Office.vmdk.metadata"), "mine").unwrap();
    let command = ["restore".as_ref(), OFFICE.as_ref(), "--to".as_ref(), to.as_os_str()];
    let text = has(&lab.run_err(&command, 1).unwrap(), "exists");
    assert!(text.contains("--overwrite"), "{text}");
    assert_eq!(fs::read_to_string(to.join("Office.vmdk.metadata")).unwrap(), "mine");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    lab.run_json(&[&command[..], &["--overwrite".as_ref()]].concat()).unwrap();
    same_files(&disk.files(), &to).unwrap();
}

#[test]
fn a_vault_without_write_permission_is_reported() {
    if !have(Tmpfs::possible(), "the right to mount a tmpfs").unwrap() {
        return;
    }
    let mut lab = Lab::new(LAB).unwrap();
    let disk = build(&lab, "Office", 2 * MIB, 1);
    lab.add_local("nfs01").unwrap();
    let vault = Tmpfs::mount(&lab.vault(), 64 * MIB).unwrap();
    lab.run_json(&["copy", OFFICE]).unwrap();
    vault.read_only(true).unwrap();
    for command in [&["copy", OFFICE][..], &["run", "--once"]] {
        let error = lab.run_err(command, 1).unwrap();
        let text = has(&error, "permission_denied");
        assert!(text.contains("vault"), "{text}");
    }
    vault.read_only(false).unwrap();
    lab.run_json(&["copy", OFFICE]).unwrap();
    same_files(&disk.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();
}

#[test]
fn every_disk_of_a_datastore_is_listed_with_its_remedy() {
    let mut lab = Lab::new(LAB).unwrap();
    let folder = lab.folder("nfs01", APPS).unwrap();
    let good = build(&lab, "Office", 2 * MIB, 1);
    let mut expected = Vec::new();
    for broken in Broken::ALL {
        let stem = format!("broken-{broken:?}");
        expected.push((stem.clone(), broken.build(&folder, &stem, 4 * MIB, 5).unwrap().expect));
    }
    for foreign in Foreign::ALL {
        let stem = format!("foreign-{foreign:?}");
        expected.push((stem.clone(), foreign.build(&folder, &stem, 4 * MIB, 5, false).unwrap().expect));
    }
    // Names that can't be stored, or would harm a terminal.
    let long = "x".repeat(210);
    let bad = ["new\nline", "esc\x1b[2Jape"];
    for stem in bad.into_iter().chain([long.as_str()]) {
        TestDisk::build(&folder, DiskSpec::new(stem, MIB, 9)).unwrap();
    }
    lab.add_local("nfs01").unwrap();

    let answer = lab.run(&["discover"]).unwrap();
    assert!(!answer.stderr.contains('\x1b'), "{}", answer.stderr);
    let listed = answer.json_ok().unwrap();
    let listed = listed.as_array().unwrap();
    let find = |stem: &str| {
        let path = format!("{APPS}/{stem}.vmdk");
        listed.iter().find(|one| one["locations"][0]["path"] == path.as_str())
    };
    for (stem, expect) in &expected {
        let one = find(stem).unwrap_or_else(|| panic!("{stem} is not listed"));
        assert_eq!(one["protectable"], expect.protectable(), "{one}");
        match expect.reason() {
            Some(code) => {
                assert_eq!(one["reason"]["code"], code, "{one}");
                assert!(one["reason"]["text"].as_str().unwrap().contains(stem), "{one}");
                let text = has(&lab.run_err(&["copy", one["id"].as_str().unwrap()], 1).unwrap(), "not_protectable");
                assert!(text.contains(stem), "{text}");
            }
            None => assert_eq!(one["state"], "ready", "{one}"),
        }
    }
    assert!(find(&long).is_some_and(|one| one["state"] == "ready"), "a long name is as good as any");
    for stem in bad {
        let one = listed.iter().find(|one| {
            one["reason"]["code"] == "bad_name" && one["locations"][0]["path"].as_str().unwrap().contains(&stem[..3])
        });
        assert!(one.is_some_and(|one| one["protectable"] == false), "{stem:?}: {listed:?}");
    }
    let table = {
        let mut command = lab.command(&["discover"]).unwrap();
        command.args(["--output", "table"]);
        stackferry_tests::lab::RunningProcess::start("discover".to_owned(), command)
            .unwrap()
            .wait(LIMIT)
            .unwrap()
            .expect_code(0)
            .unwrap()
    };
    assert!(!table.stdout.contains('\x1b'), "a name reached the terminal");

    // None of them keeps the others from being protected.
    let round = lab.run_json(&["run", "--once"]).unwrap();
    // And `Office`, and the one with the long name.
    let can = expected.iter().filter(|(_, expect)| expect.protectable()).count() + 2;
    assert_eq!((&round["copied"], &round["failed"]), (&Value::from(can), &Value::from(0)), "{round}");
    assert_eq!(round["unprotectable"], Value::from(listed.len() - can));
    same_files(&good.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();
}

#[test]
fn a_wrong_configuration_is_reported_with_line_and_column() {
    let lab = Lab::new(LAB).unwrap();
    let file = lab.path("wrong.toml");
    let run = |text: &str| {
        fs::write(&file, text).unwrap();
        let mut command = lab.command(&["discover"]).unwrap();
        command.arg("--config").arg(&file);
        let answer =
            stackferry_tests::lab::RunningProcess::start("discover".to_owned(), command).unwrap().wait(LIMIT).unwrap();
        answer.expect_code(2).unwrap().error().unwrap()
    };
    let state = lab.path("state");
    let good = format!("state_dir = {:?}\n[vault]\npath = {:?}\n", state, lab.vault());
    for (text, place, word) in [
        (format!("{good}[[datastore]]\nname = \"nfs01\"\nroute = \"lokal\"\n"), "6:9", "lokal"),
        (format!("{good}resrve = \"5%\"\n"), "4:1", "resrve"),
        (format!("{good}[limits]\ntransfers = 0\n"), "5:13", "transfers"),
        (format!("{good}[schedule\n"), "4:", "table"),
        ("state_dir = 5\n".to_owned(), "1:13", "state_dir"),
    ] {
        let error = run(&text);
        let text = error["message"].as_str().unwrap().to_owned();
        assert_eq!(error["code"], "bad_config", "{error}");
        let (line, column) = place.split_once(':').unwrap();
        let named = text.contains(&format!("wrong.toml:{place}"))
            || (text.contains(&format!("line {line}")) && text.contains(&format!("column {column}")));
        assert!(named, "{place}: {text}");
        assert!(text.contains(word), "{text}");
    }
    fs::remove_file(&file).unwrap();
    let mut command = lab.command(&["discover"]).unwrap();
    command.arg("--config").arg(&file);
    let answer =
        stackferry_tests::lab::RunningProcess::start("discover".to_owned(), command).unwrap().wait(LIMIT).unwrap();
    has(&answer.expect_code(2).unwrap().error().unwrap(), "bad_config");
    assert!(!state.exists());
}

#[test]
fn unknown_names_are_not_found_and_close_matches_suggested() {
    let (_endpoint, lab, _disk) = remote();
    lab.run_json(&["discover"]).unwrap();
    for command in [&["copy", "appstack/Offise"][..], &["versions", "nobody"], &["verify", "appstack/Nothing"]] {
        has(&lab.run_err(command, 10).unwrap(), "no_such_volume");
    }
    let text = has(&lab.run_err(&["copy", "appstack/office"], 10).unwrap(), "no_such_volume");
    assert!(text.contains(OFFICE), "{text}");
    has(&lab.run_err(&["restore", OFFICE, "--to", "/nonexistent/x"], 10).unwrap(), "no_such_version");
    lab.run_json(&["copy", OFFICE]).unwrap();
    let error = lab.run_err(&["verify", "appstack/Office@20200101T000000Z-9"], 10).unwrap();
    has(&error, "no_such_version");
    for command in [&["frobnicate"][..], &["copy"], &["restore", OFFICE], &["pin", OFFICE]] {
        has(&lab.run_err(command, 2).unwrap(), "usage");
    }
}

#[test]
fn a_busy_volume_names_the_process_that_holds_it() {
    let mut lab = Lab::new(LAB).unwrap();
    let disk = build(&lab, "Office", 32 * MIB, 1);
    let endpoint = lab.serve(&["nfs01"]).unwrap();
    let proxy = Proxy::new(endpoint.address()).unwrap();
    lab.add_endpoint_at("nfs01", &proxy.address().to_string(), endpoint.host_key()).unwrap();
    proxy.set(Faults { stall_after: Some(8 * MIB), ..Faults::default() });
    let mut copy = lab.spawn(&["copy", OFFICE]).unwrap();
    let incoming = lab.vault().join("incoming");
    wait_for("a copy that has begun", LIMIT, || Ok(copy.has_ended()? || bytes_below(&incoming) > 4 * MIB)).unwrap();

    // Discovery does not go through what stalls.
    lab.config.endpoint("nfs01", &endpoint.address().to_string(), endpoint.host_key(), &lab.key_file());
    let text = has(&lab.run_err(&["copy", OFFICE, "--wait", "0s"], 11).unwrap(), "busy");
    assert!(text.contains(OFFICE), "{text}");
    // In a round it is left alone.
    let round = lab.run(&["run", "--once"]).unwrap().expect_code(3).unwrap().json().unwrap();
    assert_eq!((&round["deferred"], &round["failed"]), (&Value::from(1), &Value::from(0)), "{round}");

    // Whoever waits gets their turn.
    let waiting = lab.spawn(&["copy", OFFICE, "--wait", "60s"]).unwrap();
    proxy.set(Faults::default());
    copy.wait(LIMIT).unwrap().json_ok().unwrap();
    waiting.wait(LIMIT).unwrap().json_ok().unwrap();
    assert_eq!(lab.versions(OFFICE).unwrap().len(), 2);
    same_files(&disk.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();
}

#[test]
fn a_dead_process_holds_no_lock() {
    let (endpoint, mut lab, _disk) = remote();
    let proxy = Proxy::new(endpoint.address()).unwrap();
    lab.add_endpoint_at("nfs01", &proxy.address().to_string(), endpoint.host_key()).unwrap();
    proxy.set(Faults { stall_after: Some(2 * MIB), ..Faults::default() });
    let mut copy = lab.spawn(&["copy", OFFICE]).unwrap();
    let incoming = lab.vault().join("incoming");
    wait_for("a copy that has begun", LIMIT, || Ok(copy.has_ended()? || bytes_below(&incoming) > MIB)).unwrap();
    copy.kill().unwrap();
    proxy.set(Faults::default());
    assert_eq!(lab.run_json(&["copy", OFFICE, "--wait", "0s"]).unwrap()["outcome"], "copied");
}
