//! The route `ssh` from end to end, with Debian's own sshd set up as in `docs/hosts.md`: by SFTP with and without a
//! hole map, by SCP, for a grant, and when the host fails.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use stackferry_tests::check::{allocated_bytes, same_bytes, same_files};
use stackferry_tests::disk::{DiskContent, DiskSpec, Mix, Sidecar, TestDisk, mount_and_digest};
use stackferry_tests::lab::{
    CommandOutput, Faults, Lab, Offers, Proxy, RunningProcess, SSH_USER, Sshd, SshdLogin, new_key, wait_for,
};
use stackferry_tests::tools::{available, find, have, qemu_img_compare};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const APPS: &str = "cloudvolumes/apps";
const WRITABLES: &str = "cloudvolumes/writable";
const OFFICE: &str = "appstack/Office";
const JDOE: &str = "writable/CORP!5C!jdoe";
const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(120);

/// Whether this machine can run a stock host as its administrator would set it up.
fn hosts() -> bool {
    have(Sshd::possible(), "sshd, setpriv, unshare, or the right to mount").unwrap()
}

/// A service, a stock host, and two volumes on it.
struct Setup {
    host: Sshd,
    lab: Lab,
    office: TestDisk,
    jdoe: TestDisk,
}

fn setup(offers: Offers) -> Setup {
    let mut lab = Lab::new(LAB).unwrap();
    let tools = available();
    let bytes = 12 * MIB;
    let ntfs = tools.makes_ntfs() && tools.mounts_ntfs();
    let content = if ntfs { DiskContent::Ntfs { bytes } } else { DiskContent::Plain { bytes } };
    let office = DiskSpec::new("Office", 192 * MIB, 1).content(content).sidecar(Sidecar::Metadata);
    let office = TestDisk::build(&lab.folder("nfs03", APPS).unwrap(), office).unwrap();
    let jdoe = DiskSpec::new("CORP!5C!jdoe", 64 * MIB, 2).content(DiskContent::Plain { bytes: 3 * MIB });
    let jdoe = TestDisk::build(&lab.folder("nfs03", WRITABLES).unwrap(), jdoe.sidecar(Sidecar::Metadata)).unwrap();
    let host = lab.sshd("host", offers, &["nfs03"]).unwrap();
    lab.add_ssh("nfs03", &host).unwrap();
    Setup { host, lab, office, jdoe }
}

/// A dense disk that does not compress, alone on a datastore.
fn dense(lab: &Lab, datastore: &str, data: u64) -> TestDisk {
    let spec = DiskSpec::new("Office", data + 16 * MIB, 4).content(DiskContent::Plain { bytes: data });
    let spec = DiskSpec { mix: Mix { text: 0, zero: 0 }, ..spec }.sidecar(Sidecar::Metadata);
    TestDisk::build(&lab.folder(datastore, APPS).unwrap(), spec).unwrap()
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The names of the credentials that the audit tells of with this action.
fn audit(lab: &Lab, action: &str) -> Vec<String> {
    let records = lab.run_json(&["audit", "show", "--last", "1000"]).unwrap();
    let records = records.as_array().unwrap().iter().filter(|record| record["action"] == action);
    records.map(|record| record["subject"].as_str().unwrap().to_owned()).collect()
}

/// The logins of the host's log that were with certificates for files, not for looking.
fn for_files(setup: &Setup) -> Vec<SshdLogin> {
    let issued: BTreeSet<String> = audit(&setup.lab, "credential_issued").into_iter().collect();
    setup.host.logins().into_iter().filter(|login| issued.contains(&login.name)).collect()
}

/// No login used a key, a serial number or a name that another used.
fn each_is_new(logins: &[SshdLogin]) {
    let parts: [fn(&SshdLogin) -> String; 3] =
        [|login| login.key.clone(), |login| login.serial.to_string(), |login| login.name.clone()];
    for part in parts {
        let different: BTreeSet<String> = logins.iter().map(part).collect();
        assert_eq!(different.len(), logins.len(), "{logins:?}");
    }
}

/// What one round did: how many volumes were copied and how many are unchanged.
fn round(lab: &Lab) -> (u64, u64) {
    let answer = lab.run_json(&["run", "--once"]).unwrap();
    (number(&answer, "copied"), number(&answer, "unchanged"))
}

/// The newest version's manifest.
fn manifest(lab: &Lab, id: &str) -> Value {
    let versions = lab.versions(id).unwrap();
    let path = lab.vault_volume(id).join(versions[0]["version"].as_str().unwrap()).join("manifest.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn taken(disk: &TestDisk, folder: &Path) -> u64 {
    disk.files().iter().map(|file| allocated_bytes(&folder.join(file.file_name().unwrap())).unwrap()).sum()
}

/// Nothing is being written, and the volume has so many versions.
fn nothing_is_left(lab: &Lab, id: &str, versions: usize) {
    assert_eq!(lab.versions(id).unwrap().len(), versions);
    let kept = fs::read_dir(lab.vault().join("volumes").join(id)).map_or(0, |entries| {
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("20")).count()
    });
    assert_eq!(kept, versions);
    let top: BTreeSet<String> = fs::read_dir(lab.vault())
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    let allowed = ["incoming", "trash", "volumes", "stackferry-vault.json"];
    assert!(top.iter().all(|name| allowed.contains(&name.as_str())), "{top:?}");
}

/// Copies, looks again, changes, restores: by one way to read the host.
fn journey(offers: Offers) {
    if !hosts() {
        return;
    }
    let mut setup = setup(offers);
    let lab = &setup.lab;
    let (sftp, mapped) = (offers != Offers::NoSftp, offers == Offers::All);

    let check = lab.run_json(&["check"]).unwrap();
    let items = check["checks"].as_array().unwrap();
    let datastore = items.iter().find(|item| item["subject"] == "datastore nfs03").unwrap();
    assert_eq!(datastore["ok"], true, "{check}");
    let listed = lab.run_json(&["discover"]).unwrap();
    let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [OFFICE, JDOE]);
    assert!(listed.as_array().unwrap().iter().all(|one| one["protectable"] == true), "{listed}");
    assert!(for_files(&setup).is_empty(), "discovery opens no disk");

    // What is told of the copy is what the host's log shows.
    let copy = lab.run_json(&["copy", OFFICE]).unwrap();
    assert_eq!((&copy["outcome"], &copy["route"], &copy["verified"]), (&"copied".into(), &"ssh".into(), &true.into()));
    let logins = for_files(&setup);
    each_is_new(&logins);
    each_is_new(&setup.host.logins());
    let commands: Vec<&str> = logins.iter().filter_map(|login| login.command.as_deref()).collect();
    assert_eq!(commands.len(), logins.len(), "each login is for a forced command: {logins:?}");
    let maps = commands.iter().filter(|command| command.starts_with("python3 ")).count();
    assert_eq!(maps, usize::from(sftp), "the one file worth it was asked for its holes: {commands:?}");
    // Where there is no Python, the certificate for the map opened nothing.
    let opened = logins.len() - usize::from(sftp && !mapped);
    assert_eq!(number(&copy, "credentials"), opened as u64, "{copy} {commands:?}");
    assert_eq!(opened, setup.office.files().len() + usize::from(mapped));
    for file in setup.office.files() {
        let path = format!("/mnt/nfs03/{APPS}/{}", file.file_name().unwrap().to_str().unwrap());
        let forced = if sftp { "internal-sftp -R".to_owned() } else { format!("scp -f -p -- '{path}'") };
        let times = commands.iter().filter(|command| **command == forced).count();
        assert_eq!(times, if sftp { 3 } else { 1 }, "{forced}: {commands:?}");
    }
    let issued = audit(lab, "credential_issued").len();
    assert_eq!((issued, audit(lab, "credential_used").len()), (logins.len(), logins.len()));

    // What it read, sent and stored.
    let source = taken(&setup.office, setup.office.path().parent().unwrap());
    let bytes = |key: &str| number(&copy["bytes"], key);
    let logical: u64 = setup.office.files().iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(bytes("logical"), logical);
    if mapped {
        assert!((source - source / 10..=source + 2 * MIB).contains(&bytes("read")), "{copy}");
    } else {
        assert_eq!(bytes("read"), logical, "{copy}");
    }
    assert!(bytes("wire") >= bytes("read") && bytes("wire") <= bytes("read") + bytes("read") / 50 + 128 * 1024);
    assert!(bytes("stored") <= source, "{copy}");
    let manifest = manifest(lab, OFFICE);
    assert_eq!(manifest["route"], "ssh");
    let text = manifest.to_string();
    assert_eq!(text.contains("\"hole_map\":\"host\""), mapped, "{text}");

    // It comes back as it was.
    let restored = lab.restore(OFFICE, "restored").unwrap();
    same_files(&setup.office.files(), &restored).unwrap();
    let version = lab.vault_volume(OFFICE).join(copy["version"].as_str().unwrap());
    for folder in [&version, &restored] {
        let taken = taken(&setup.office, folder);
        assert!(taken <= source + source / 100 + 64 * 1024, "{} takes {taken}, its source {source}", folder.display());
    }
    let tools = available();
    if have(tools.qemu_img, "qemu-img").unwrap() {
        assert!(qemu_img_compare(&setup.office.path(), &restored.join("Office.vmdk")).unwrap());
    }
    if have(tools.makes_ntfs() && tools.mounts_ntfs(), "mkntfs, ntfs-3g or /dev/fuse").unwrap() {
        let inside = mount_and_digest(&setup.office.path()).unwrap();
        assert!(!inside.is_empty());
        assert_eq!(mount_and_digest(&restored.join("Office.vmdk")).unwrap(), inside);
    }

    // The other one is copied by a round; a second one opens nothing.
    assert_eq!(round(lab).0, 1);
    let before = for_files(&setup).len();
    assert_eq!(round(lab), (0, 2));
    assert_eq!(for_files(&setup).len(), before, "a quiet round opens no file");
    each_is_new(&setup.host.logins());

    // A change is copied, and the others are left alone.
    setup.jdoe.append_file("report.docx", 5, MIB).unwrap();
    setup.jdoe.overwrite(6, 40 * MIB, 5000).unwrap();
    assert_eq!(round(&setup.lab), (1, 1));
    assert_eq!(setup.lab.versions(JDOE).unwrap().len(), 2);
    assert_eq!(setup.lab.versions(OFFICE).unwrap().len(), 1);
    same_files(&setup.jdoe.files(), &setup.lab.restore(JDOE, "now").unwrap()).unwrap();
    let verified = setup.lab.run_json(&["verify"]).unwrap();
    assert_eq!((number(&verified, "checked"), number(&verified, "ok")), (3, 3));
    assert_eq!(setup.lab.run_json(&["audit", "verify"]).unwrap()["ok"], true);
}

#[test]
fn sftp_with_a_hole_map_restores_the_same_disk() {
    journey(Offers::All);
}

#[test]
fn sftp_without_a_hole_map_restores_the_same_disk() {
    journey(Offers::NoPython);
}

#[test]
fn scp_restores_the_same_disk_from_a_host_without_sftp() {
    journey(Offers::NoSftp);
}

/// Runs a stock client with what `grant` gave, and nothing of this machine's own settings.
fn client(setup: &Setup, program: &str, args: &[String]) -> CommandOutput {
    let known = setup.lab.path("client_known_hosts");
    let address = setup.host.address();
    fs::write(&known, format!("[{}]:{} {}\n", address.ip(), address.port(), setup.host.host_key())).unwrap();
    let mut command = Command::new(find(program).unwrap());
    command.args(["-F/dev/null", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oIdentitiesOnly=yes"]);
    command.arg(format!("-oUserKnownHostsFile={}", known.display()));
    command.args(args).current_dir(setup.lab.path("client")).env_remove("SSH_AUTH_SOCK");
    RunningProcess::start(program.to_owned(), command).unwrap().wait(LIMIT).unwrap()
}

/// The words of a printed command, after the program's name.
fn words(grant: &Value) -> Vec<String> {
    let command = grant["command"].as_str().unwrap().strip_prefix("scp ").unwrap();
    let mut sh = Command::new("/bin/sh");
    sh.arg("-c").arg(format!("printf '%s\\n' {command}"));
    let printed = RunningProcess::start("sh".to_owned(), sh).unwrap().wait(LIMIT).unwrap();
    printed.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn a_grant_lets_scp_fetch_a_file_until_it_expires() {
    if !hosts() || !have(find("scp").is_some(), "OpenSSH's scp").unwrap() {
        return;
    }
    let setup = setup(Offers::All);
    fs::create_dir(setup.lab.path("client")).unwrap();
    let flat = &setup.jdoe.extents()[0];
    let arrived = setup.lab.path("client").join(flat.file_name().unwrap());

    let grant = setup.lab.run_json(&["grant", JDOE, "--for", "2m"]).unwrap();
    assert_eq!((&grant["file"], &grant["user"]), (&"CORP!5C!jdoe-flat.vmdk".into(), &SSH_USER.into()));
    let expires: jiff::Timestamp = grant["expires"].as_str().unwrap().parse().unwrap();
    let left = expires.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((60..=120).contains(&left), "it was asked for two minutes, and lives for {left} s");
    let key = PathBuf::from(grant["key_file"].as_str().unwrap());
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions()) & 0o777, 0o600);
    client(&setup, "scp", &words(&grant)).expect_code(0).unwrap();
    assert!(same_bytes(flat, &arrived).unwrap());
    fs::remove_file(&arrived).unwrap();

    // It opens nothing else, whatever is asked for.
    let port = grant["port"].to_string();
    let key = key.to_str().unwrap().to_owned();
    let at = |what: &str| format!("{SSH_USER}@127.0.0.1:{what}");
    let scp =
        |from: String, to: &str| client(&setup, "scp", &["-O", "-i", &key, "-P", &port, &from, to].map(str::to_owned));
    let other = scp(at("/mnt/nfs03/cloudvolumes/apps/Office-flat.vmdk"), "other");
    let got = setup.lab.path("client").join("other");
    assert!(other.code != 0 || same_bytes(flat, &got).unwrap(), "{other:?}");
    for asked in ["cat /etc/passwd", "touch /mnt/nfs03/mine", "scp -t /mnt/nfs03"] {
        let shell = client(&setup, "ssh", &["-i", &key, "-p", &port, "backup@127.0.0.1", asked].map(str::to_owned));
        assert!(!shell.stdout.contains("root:"), "{shell:?}");
    }
    let folder = setup.lab.folder("nfs03", "").unwrap();
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "nothing but `cloudvolumes` is there");

    // What it was for is on record, and the key is not.
    let name = setup.host.logins().last().unwrap().name.clone();
    assert!(audit(&setup.lab, "credential_issued").contains(&name));
    let secret = fs::read_to_string(&key).unwrap();
    let secret = secret.lines().nth(2).unwrap();
    assert!(!setup.lab.run(&["audit", "show"]).unwrap().stdout.contains(secret));

    // After its time it is refused, and the next start removes the key.
    let grant = setup.lab.run_json(&["grant", JDOE, "--for", "2s"]).unwrap();
    let expires: jiff::Timestamp = grant["expires"].as_str().unwrap().parse().unwrap();
    client(&setup, "scp", &words(&grant)).expect_code(0).unwrap();
    fs::remove_file(&arrived).unwrap();
    wait_for("the end of the grant", LIMIT, || Ok(jiff::Timestamp::now() > expires)).unwrap();
    let late = client(&setup, "scp", &words(&grant));
    assert!(late.code != 0 && late.stderr.contains("Permission denied"), "{late:?}");
    assert!(!arrived.exists());
    setup.lab.run_json(&["volumes"]).unwrap();
    assert!(!Path::new(grant["key_file"].as_str().unwrap()).exists());
}

/// One host goes silent in the middle of a file, another takes connections and never says a word: both are given up within
/// 30 seconds, and what can be protected is protected in the same round.
#[test]
fn dead_hosts_are_detected_and_delay_no_other_host() {
    if !hosts() {
        return;
    }
    let mut lab = Lab::new(LAB).unwrap();
    let disk = dense(&lab, "nfs03", 24 * MIB);
    let visio = DiskSpec::new("Visio", 64 * MIB, 9).content(DiskContent::Plain { bytes: 3 * MIB });
    let visio = TestDisk::build(&lab.folder("nfs01", APPS).unwrap(), visio).unwrap();
    let host = lab.sshd("host", Offers::All, &["nfs03"]).unwrap();
    let proxy = Proxy::new(host.address()).unwrap();
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    lab.add_ssh_at("nfs02", hanging.local_addr().unwrap(), host.host_key()).unwrap();
    lab.add_ssh_at("nfs03", proxy.address(), host.host_key()).unwrap();
    lab.add_local("nfs01").unwrap();
    proxy.set(Faults { stall_after: Some(8 * MIB), ..Faults::default() });

    let mut run = lab.spawn(&["run", "--once"]).unwrap();
    wait_for("a copy that stalls", LIMIT, || Ok(run.has_ended()? || proxy.passed() > 7 * MIB)).unwrap();
    let stalled = Instant::now();
    let answer = run.wait(LIMIT).unwrap().expect_code(3).unwrap();
    assert!(stalled.elapsed() < Duration::from_secs(35), "{:?}", stalled.elapsed());
    let round = answer.json().unwrap();
    assert_eq!((&round["copied"], &round["failed"]), (&1.into(), &1.into()), "{round}");
    let failed = round["volumes"].as_array().unwrap().iter().find(|one| one["outcome"] == "failed").unwrap();
    assert_eq!((&failed["volume"], &failed["reason"]["code"]), (&OFFICE.into(), &"silent".into()), "{failed}");
    assert!(answer.stderr.contains("nfs02"), "the silent host is reported: {}", answer.stderr);
    same_files(&visio.files(), &lab.restore("appstack/Visio", "visio").unwrap()).unwrap();
    nothing_is_left(&lab, OFFICE, 0);

    // Well again, it goes on where it was.
    proxy.set(Faults::default());
    lab.config.change("nfs02", "route", "local");
    for key in ["host", "user", "known_hosts", "ca_key"] {
        lab.config.unset("nfs02", key);
    }
    lab.config.change("nfs02", "path", lab.folder("nfs02", "").unwrap().to_str().unwrap());
    let copy = lab.run_json(&["copy", OFFICE]).unwrap();
    assert!(number(&copy, "resumed_bytes") >= MIB, "{copy}");
    same_files(&disk.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();
}

#[test]
fn a_host_with_another_key_is_refused() {
    if !hosts() {
        return;
    }
    let setup = setup(Offers::All);
    let known = setup.lab.path("known_hosts-nfs03");
    let right = fs::read_to_string(&known).unwrap();
    let address = setup.host.address();
    let other = new_key(&setup.lab.path("other"), "other").unwrap();
    let wrong = format!("[{}]:{} {other}\n", address.ip(), address.port());
    for (list, code) in [(String::new(), "host_key_unknown"), (wrong, "host_key_changed")] {
        fs::write(&known, list).unwrap();
        for command in ["copy", "grant"] {
            let error = setup.lab.run_err(&[command, OFFICE], 13).unwrap();
            assert_eq!(error["code"], code, "{error}");
            assert!(error["hint"].as_str().unwrap().contains("console"), "{error}");
        }
        let round = setup.lab.run(&["run", "--once"]).unwrap();
        assert_eq!(round.code, 1, "{round:?}");
        nothing_is_left(&setup.lab, OFFICE, 0);
    }
    assert!(setup.host.logins().is_empty());
    fs::write(&known, right).unwrap();
    assert_eq!(round(&setup.lab), (2, 0));
}

#[test]
fn a_host_without_the_ca_is_reported_with_the_missing_line() {
    if !hosts() {
        return;
    }
    let setup = setup(Offers::All);
    setup.host.trust(None).unwrap();
    let error = setup.lab.run_err(&["copy", OFFICE], 12).unwrap();
    assert_eq!(error["code"], "login_refused", "{error}");
    let hint = error["hint"].as_str().unwrap();
    let line = hint.lines().find_map(|line| line.find("cert-authority,").and_then(|at| line.get(at..)));
    let line = line.unwrap_or_else(|| panic!("{hint}"));
    assert!(line.starts_with("cert-authority,restrict,principals=\"backup\" ssh-ed25519 AAAA"), "{line}");
    let check = setup.lab.run(&["check"]).unwrap();
    assert_ne!(check.code, 0);
    assert!(check.json().unwrap()["checks"].as_array().unwrap().iter().any(|item| {
        item["ok"] == false && item["subject"] == "datastore nfs03" && item["hint"].as_str().unwrap().contains(line)
    }));
    nothing_is_left(&setup.lab, OFFICE, 0);
    assert!(audit(&setup.lab, "credential_used").is_empty());

    // As the hint says: with that line it works.
    let key = line.split_once(" ssh-ed25519 ").unwrap().1;
    setup.host.trust(Some(&format!("ssh-ed25519 {key}"))).unwrap();
    assert_eq!(round(&setup.lab), (2, 0));
    same_files(&setup.jdoe.files(), &setup.lab.restore(JDOE, "restored").unwrap()).unwrap();
}

/// How much of the disk is in the vault's incoming folder.
fn arrived(lab: &Lab) -> u64 {
    let transfers = fs::read_dir(lab.vault().join("incoming")).into_iter().flatten();
    let files = transfers.map(|entry| entry.unwrap().path().join("files").join("Office-flat.vmdk"));
    files.filter(|file| file.exists()).map(|file| allocated_bytes(&file).unwrap_or(0)).sum()
}

#[test]
fn a_restarted_service_resumes_its_copy() {
    if !hosts() {
        return;
    }
    const DATA: u64 = 128 * MIB;
    for offers in [Offers::All, Offers::NoSftp] {
        let mut lab = Lab::new(LAB).unwrap();
        let disk = dense(&lab, "nfs03", DATA);
        let host = lab.sshd("host", offers, &["nfs03"]).unwrap();
        let proxy = Proxy::new(host.address()).unwrap();
        lab.add_ssh_at("nfs03", proxy.address(), host.host_key()).unwrap();
        proxy.set(Faults { rate: Some(64 * MIB), ..Faults::default() });
        let mut service = lab.spawn(&["run"]).unwrap();
        wait_for("a copy in its middle", LIMIT, || Ok(service.has_ended()? || arrived(&lab) >= 80 * MIB)).unwrap();
        let answer = service.terminate(Duration::from_secs(20)).unwrap().expect_code(0).unwrap();
        assert!(answer.stderr.contains("interrupted"), "{}", answer.stderr);
        let written = arrived(&lab);
        nothing_is_left(&lab, OFFICE, 0);

        proxy.set(Faults::default());
        let copy = lab.run_json(&["copy", OFFICE]).unwrap();
        let (read, resumed) = (number(&copy["bytes"], "read"), number(&copy, "resumed_bytes"));
        if offers == Offers::All {
            assert!(resumed >= written.saturating_sub(64 * MIB).max(MIB), "{written}: {copy}");
            // Places of the holes are read too, to see whether the host's map can be believed.
            assert!(read + resumed <= number(&copy["bytes"], "logical") + 2 * MIB, "{copy}");
        } else {
            // SCP can't begin in the middle.
            assert!(read >= DATA, "{copy}");
        }
        nothing_is_left(&lab, OFFICE, 1);
        assert_eq!(arrived(&lab), 0);
        same_files(&disk.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();
    }
}

/// Two rounds at once on one state folder: each volume is copied once.
#[test]
fn two_concurrent_rounds_copy_no_volume_twice() {
    if !hosts() {
        return;
    }
    let setup = setup(Offers::All);
    let one = setup.lab.spawn(&["run", "--once"]).unwrap();
    let other = setup.lab.spawn(&["run", "--once"]).unwrap();
    let answers = [one, other].map(|run| run.wait(LIMIT).unwrap());
    let copied: u64 = answers.iter().map(|answer| number(&answer.json().unwrap(), "copied")).sum();
    assert_eq!(copied, 2, "{answers:?}");
    for answer in &answers {
        assert!(matches!(answer.code, 0 | 3), "{answer:?}");
        assert_eq!(number(&answer.json().unwrap(), "failed"), 0, "{answer:?}");
    }
    for id in [OFFICE, JDOE] {
        nothing_is_left(&setup.lab, id, 1);
    }
    let opened = for_files(&setup).into_iter().filter(|login| login.command.as_deref() == Some("internal-sftp -R"));
    assert_eq!(opened.count(), setup.office.files().len() + setup.jdoe.files().len());
    assert_eq!(round(&setup.lab), (0, 2));
}
