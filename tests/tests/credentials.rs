//! One credential for one file: what a copy uses, what a grant contains, and everything a credential refuses.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use stackferry_tests::check::same_bytes;
use stackferry_tests::disk::{DiskContent, DiskSpec, Sidecar, TestDisk};
use stackferry_tests::lab::{CommandOutput, EndpointProcess, Faults, Lab, Proxy, RunningProcess, new_key, wait_for};
use stackferry_tests::tools::{find, have};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(60);

/// A lab with two volumes behind an endpoint.
struct Setup {
    endpoint: EndpointProcess,
    lab: Lab,
    office: TestDisk,
    jdoe: TestDisk,
}

fn setup() -> Setup {
    let mut lab = Lab::new(LAB).unwrap();
    let spec = |stem: &str, seed| {
        DiskSpec::new(stem, 64 * MIB, seed).content(DiskContent::Plain { bytes: 3 * MIB }).sidecar(Sidecar::Metadata)
    };
    let office = TestDisk::build(&lab.folder("nfs02", "cloudvolumes/apps").unwrap(), spec("Office", 1)).unwrap();
    let jdoe =
        TestDisk::build(&lab.folder("nfs02", "cloudvolumes/writable").unwrap(), spec("CORP!5C!jdoe", 2)).unwrap();
    let endpoint = lab.serve(&["nfs02"]).unwrap();
    lab.add_endpoint("nfs02", &endpoint).unwrap();
    Setup { endpoint, lab, office, jdoe }
}

/// The audit records of an action, oldest first.
fn audit(lab: &Lab, action: &str) -> Vec<Value> {
    let records = lab.run_json(&["audit", "show", "--last", "1000"]).unwrap();
    let records = records.as_array().unwrap().iter().rev();
    records.filter(|record| record["action"] == action).cloned().collect()
}

/// What an endpoint has logged for the record, in order: message, user, path.
fn endpoint_audit(endpoint: &EndpointProcess, message: &str) -> Vec<(String, String)> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let lines = endpoint.log();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).map(|line| (text(&line, "user"), text(&line, "path"))).collect()
}

#[test]
fn a_copy_uses_one_credential_for_each_file() {
    let mut setup = setup();
    let copy = setup.lab.run_json(&["copy", "appstack/Office"]).unwrap();
    assert_eq!(copy["credentials"], 3);
    let copy = setup.lab.run_json(&["copy", "writable/CORP!5C!jdoe"]).unwrap();
    assert_eq!(copy["credentials"], 3);
    // A second copy of the same files takes new ones.
    setup.lab.run_json(&["copy", "appstack/Office"]).unwrap();

    let issued = audit(&setup.lab, "credential_issued");
    let names: BTreeSet<&str> = issued.iter().map(|record| record["subject"].as_str().unwrap()).collect();
    assert_eq!((issued.len(), names.len()), (9, 9), "{issued:?}");
    let used: Vec<Value> =
        audit(&setup.lab, "credential_used").iter().map(|record| record["subject"].clone()).collect();
    let issued_names: Vec<Value> = issued.iter().map(|record| record["subject"].clone()).collect();
    assert_eq!(used, issued_names, "each was used, once, in order");
    let mut files: BTreeMap<&str, u32> = BTreeMap::new();
    for record in &issued {
        assert_eq!(record["detail"]["direction"], "read");
        *files.entry(record["detail"]["file"].as_str().unwrap()).or_default() += 1;
    }
    let expected = [
        ("CORP!5C!jdoe-flat.vmdk", 1),
        ("CORP!5C!jdoe.vmdk", 1),
        ("CORP!5C!jdoe.vmdk.metadata", 1),
        ("Office-flat.vmdk", 2),
        ("Office.vmdk", 2),
        ("Office.vmdk.metadata", 2),
    ];
    assert_eq!(files.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(setup.lab.run_json(&["audit", "verify"]).unwrap()["ok"], true);

    // The other side says the same, file by file.
    let used = endpoint_audit(&setup.endpoint, "credential used");
    let users: BTreeSet<&str> = used.iter().map(|(user, _)| user.as_str()).collect();
    assert_eq!(users, names);
    assert!(used.iter().all(|(_, path)| path.starts_with("/nfs02/cloudvolumes/")), "{used:?}");
    setup.endpoint.terminate().unwrap().expect_code(0).unwrap();
}

/// A credential lives a minute, a copy may take hours: its use is on record when it logs in, not when the copy ends.
#[test]
fn credential_use_is_recorded_during_the_copy() {
    let mut setup = setup();
    let proxy = Proxy::new(setup.endpoint.address()).unwrap();
    let (address, host_key) = (proxy.address().to_string(), setup.endpoint.host_key().to_owned());
    setup.lab.add_endpoint_at("nfs02", &address, &host_key).unwrap();
    proxy.set(Faults { stall_after: Some(MIB), ..Faults::default() });
    let mut copy = setup.lab.spawn(&["copy", "appstack/Office"]).unwrap();
    wait_for("the use of the disk's credential", LIMIT, || {
        let used = audit(&setup.lab, "credential_used").len();
        Ok(copy.has_ended()? || used == 2)
    })
    .unwrap();
    assert!(!copy.has_ended().unwrap(), "{}", copy.stderr());
    let issued = audit(&setup.lab, "credential_issued");
    assert_eq!(issued[1]["detail"]["file"], "Office-flat.vmdk");
    assert_eq!(audit(&setup.lab, "credential_used")[1]["subject"], issued[1]["subject"]);
    proxy.set(Faults::default());
    assert_eq!(copy.wait(LIMIT).unwrap().json_ok().unwrap()["credentials"], 3);
    assert_eq!(audit(&setup.lab, "credential_used").len(), 3);

    // One whose connection never came about was not used.
    setup.endpoint.kill().unwrap();
    let copy = setup.lab.run(&["copy", "appstack/Office"]).unwrap();
    assert_ne!(copy.code, 0);
    assert_eq!(audit(&setup.lab, "credential_used").len(), 3);
}

/// A stock client with a password that it asks a script for.
struct Client {
    folder: PathBuf,
    options: Vec<String>,
}

impl Client {
    fn new(setup: &Setup, name: &str, grant: &Value) -> Self {
        let folder = setup.lab.path(name);
        fs::create_dir_all(&folder).unwrap();
        let (ask, secret, known) = (folder.join("ask"), folder.join("secret"), folder.join("known_hosts"));
        fs::write(&secret, grant["password"].as_str().unwrap()).unwrap();
        fs::write(&ask, format!("#!/bin/sh\ncat '{}'\necho\n", secret.display())).unwrap();
        fs::set_permissions(&ask, fs::Permissions::from_mode(0o700)).unwrap();
        let address = setup.endpoint.address();
        let line = format!("[{}]:{} {}\n", address.ip(), address.port(), setup.endpoint.host_key());
        fs::write(&known, line).unwrap();
        let options = [
            "-F/dev/null".to_owned(),
            "-oStrictHostKeyChecking=yes".to_owned(),
            format!("-oUserKnownHostsFile={}", known.display()),
            "-oPubkeyAuthentication=no".to_owned(),
            "-oNumberOfPasswordPrompts=1".to_owned(),
        ];
        Self { folder, options: options.into() }
    }

    /// As somebody's whose agent or folder has more keys than a server takes tries.
    fn with_many_keys(mut self) -> Self {
        self.options.retain(|option| option != "-oPubkeyAuthentication=no");
        for number in 0..7 {
            let key = self.folder.join(format!("key-{number}"));
            new_key(&key, "person").unwrap();
            self.options.push(format!("-oIdentityFile={}", key.display()));
        }
        self
    }

    fn run(&self, program: &str, args: &[&str]) -> CommandOutput {
        let mut command = Command::new(find(program).unwrap());
        command.args(&self.options).args(args).current_dir(&self.folder);
        command.env("SSH_ASKPASS", self.folder.join("ask")).env("SSH_ASKPASS_REQUIRE", "force").env("DISPLAY", ":0");
        command.env_remove("SSH_AUTH_SOCK");
        RunningProcess::start(program.to_owned(), command).unwrap().wait(LIMIT).unwrap()
    }

    fn has(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The words of the command that `grant` prints, after the program's name.
fn words(grant: &Value) -> Vec<String> {
    let command = grant["command"].as_str().unwrap().strip_prefix("scp ").unwrap();
    let printed = RunningProcess::start("sh".to_owned(), {
        let mut sh = Command::new("/bin/sh");
        sh.arg("-c").arg(format!("printf '%s\\n' {command}"));
        sh
    });
    printed.unwrap().wait(LIMIT).unwrap().stdout.lines().map(str::to_owned).collect()
}

fn grant(setup: &Setup, args: &[&str]) -> Value {
    let grant = setup.lab.run_json(&[&["grant"], args].concat()).unwrap();
    assert_eq!(grant["port"], setup.endpoint.address().port());
    assert!(grant["password"].as_str().unwrap().len() >= 32, "{}", grant["password"]);
    grant
}

fn sftp_batch(client: &Client, grant: &Value, batch: &str) -> CommandOutput {
    fs::write(client.has("batch"), batch).unwrap();
    let to = format!("{}@{}", grant["user"].as_str().unwrap(), grant["host"].as_str().unwrap());
    let port = grant["port"].to_string();
    // `-b` alone would set BatchMode, which never asks for a password.
    client.run("sftp", &["-oBatchMode=no", "-b", "batch", "-P", &port, &to])
}

#[test]
fn a_grant_lets_a_stock_client_fetch_a_file_once() {
    if !have(find("scp").is_some() && find("sftp").is_some(), "OpenSSH's scp and sftp").unwrap() {
        return;
    }
    let setup = setup();
    let flat = &setup.office.extents()[0];

    // As printed, with scp (which speaks SFTP), and with the SCP of old.
    for (number, extra) in [&[][..], &["-O"]].into_iter().enumerate() {
        let grant = grant(&setup, &["appstack/Office"]);
        assert_eq!(grant["file"], "Office-flat.vmdk");
        let client = Client::new(&setup, &format!("scp-{number}"), &grant).with_many_keys();
        let words = words(&grant);
        let mut args: Vec<&str> = extra.to_vec();
        args.extend(words.iter().map(String::as_str));
        client.run("scp", &args).expect_code(0).unwrap();
        assert!(same_bytes(flat, &client.has("Office-flat.vmdk")).unwrap());

        // A second time it opens nothing.
        fs::remove_file(client.has("Office-flat.vmdk")).unwrap();
        let again = client.run("scp", &args);
        assert!(again.code != 0 && again.stderr.contains("Permission denied"), "{again:?}");
        assert!(!client.has("Office-flat.vmdk").exists());
    }

    let grant = grant(&setup, &["writable/CORP!5C!jdoe", "--file", "CORP!5C!jdoe.vmdk", "--for", "2m"]);
    let client = Client::new(&setup, "sftp", &grant);
    let path = grant["path"].as_str().unwrap();
    sftp_batch(&client, &grant, &format!("get \"{path}\" got\n")).expect_code(0).unwrap();
    assert!(same_bytes(&setup.jdoe.path(), &client.has("got")).unwrap());
    let refused = endpoint_audit(&setup.endpoint, "credential refused");
    // The client tries all the methods that it knows.
    let refused: BTreeSet<&str> = refused.iter().map(|(user, _)| user.as_str()).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    // The record names whom and what, and never the secret.
    let records = setup.lab.run(&["audit", "show"]).unwrap().stdout;
    assert!(records.contains(grant["user"].as_str().unwrap()));
    assert!(!records.contains(grant["password"].as_str().unwrap()));
    assert!(!setup.endpoint.log().contains(grant["password"].as_str().unwrap()));
}

#[test]
fn a_credential_opens_no_other_file_and_writes_nothing() {
    if !have(find("scp").is_some() && find("sftp").is_some(), "OpenSSH's scp and sftp").unwrap() {
        return;
    }
    let setup = setup();
    let before = listing(&setup.lab.folder("nfs02", "").unwrap());
    let other = "/nfs02/cloudvolumes/writable/CORP!5C!jdoe-flat.vmdk";

    // Each by itself, since each login uses a credential up.
    let forbidden = [
        format!("get \"{other}\" stolen"),
        "get /nfs02/cloudvolumes/apps/Office.vmdk stolen".to_owned(),
        "get /nfs02/cloudvolumes/apps/../writable/CORP!5C!jdoe-flat.vmdk stolen".to_owned(),
        "get /etc/passwd stolen".to_owned(),
        "put mine /nfs02/cloudvolumes/apps/Office-flat.vmdk".to_owned(),
        "put mine /nfs02/cloudvolumes/apps/new.vmdk".to_owned(),
        "rm /nfs02/cloudvolumes/apps/Office-flat.vmdk".to_owned(),
        "rename /nfs02/cloudvolumes/apps/Office-flat.vmdk /nfs02/cloudvolumes/apps/moved.vmdk".to_owned(),
        "mkdir /nfs02/cloudvolumes/apps/new".to_owned(),
        "ln -s /etc/passwd /nfs02/cloudvolumes/apps/link".to_owned(),
        "chmod 777 /nfs02/cloudvolumes/apps/Office-flat.vmdk".to_owned(),
    ];
    for (number, line) in forbidden.iter().enumerate() {
        let grant = grant(&setup, &["appstack/Office"]);
        let client = Client::new(&setup, &format!("forbidden-{number}"), &grant);
        fs::write(client.has("mine"), "mine").unwrap();
        let answer = sftp_batch(&client, &grant, &format!("{line}\n"));
        assert!(answer.code != 0, "{line}: {answer:?}");
        assert!(!client.has("stolen").exists(), "{line}");
    }
    let grant_two = grant(&setup, &["appstack/Office"]);
    let client = Client::new(&setup, "scp-other", &grant_two);
    let user_host = format!("{}@{}", grant_two["user"].as_str().unwrap(), grant_two["host"].as_str().unwrap());
    let port = grant_two["port"].to_string();
    let stolen = client.run("scp", &["-O", "-P", &port, &format!("{user_host}:{other}"), "stolen"]);
    assert!(stolen.code != 0 && !client.has("stolen").exists(), "{stolen:?}");

    let grant_three = grant(&setup, &["appstack/Office"]);
    let client = Client::new(&setup, "scp-write", &grant_three);
    fs::write(client.has("mine"), "mine").unwrap();
    let user_host = format!("{}@{}", grant_three["user"].as_str().unwrap(), grant_three["host"].as_str().unwrap());
    let target = format!("{user_host}:/nfs02/cloudvolumes/apps/new.vmdk");
    assert!(client.run("scp", &["-O", "-P", &port, "mine", &target]).code != 0);

    // No shell, no command.
    let grant_four = grant(&setup, &["appstack/Office"]);
    let client = Client::new(&setup, "ssh", &grant_four);
    let user_host = format!("{}@{}", grant_four["user"].as_str().unwrap(), grant_four["host"].as_str().unwrap());
    let shell = client.run("ssh", &["-p", &port, &user_host, "cat /etc/passwd"]);
    assert!(shell.code != 0 && shell.stdout.is_empty(), "{shell:?}");
    assert_eq!(listing(&setup.lab.folder("nfs02", "").unwrap()), before);
}

#[test]
fn an_expired_credential_is_refused() {
    if !have(find("scp").is_some(), "OpenSSH's scp").unwrap() {
        return;
    }
    let setup = setup();
    let grant = grant(&setup, &["appstack/Office", "--for", "1s"]);
    let client = Client::new(&setup, "late", &grant);
    let expires: jiff::Timestamp = grant["expires"].as_str().unwrap().parse().unwrap();
    // The endpoint counts from when it issued it, which was before it was told.
    wait_for("the end of a credential's life", LIMIT, || Ok(jiff::Timestamp::now() > expires)).unwrap();
    let words = words(&grant);
    let late = client.run("scp", &words.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(late.code != 0 && late.stderr.contains("Permission denied"), "{late:?}");
    assert!(!client.has("Office-flat.vmdk").exists());
}

#[test]
fn an_invalid_grant_is_refused_with_a_hint() {
    let setup = setup();
    let error = setup.lab.run_err(&["grant", "appstack/Office", "--file", "passwd"], 10).unwrap();
    assert_eq!(error["code"], "no_such_file");
    assert!(error["hint"].as_str().unwrap().contains("Office-flat.vmdk"), "{error}");
    let error = setup.lab.run_err(&["grant", "appstack/Nothing"], 10).unwrap();
    assert_eq!(error["code"], "no_such_volume");
    setup.lab.run_err(&["grant", "appstack/Office", "--for", "0s"], 2).unwrap();
    let error = setup.lab.run_err(&["grant", "appstack/Office", "--for", "2h"], 1).unwrap();
    assert!(error["message"].as_str().unwrap().contains("3600"), "{error}");
    assert_eq!(audit(&setup.lab, "credential_issued").len(), 0);
}

/// Every path below a folder, with length and time of last change.
fn listing(root: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, (meta.len(), meta.modified().unwrap()));
        }
    }
    found
}
