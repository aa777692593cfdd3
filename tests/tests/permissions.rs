//! The permissions that commands need: those that only read need none to write, and what root creates belongs to the
//! service's user.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stackferry_tests::check::same_files;
use stackferry_tests::disk::{DiskContent, DiskSpec, Mix, Sidecar, TestDisk};
use stackferry_tests::lab::{CommandOutput, Lab, RunningProcess, Tmpfs};
use stackferry_tests::tools::have;

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const OFFICE: &str = "appstack/Office";
const APPS: &str = "cloudvolumes/apps";
const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(120);
/// A user and group that no machine gives to anybody.
const USER: u32 = 54_711;

fn may_mount() -> bool {
    have(Tmpfs::possible(), "the right to mount a tmpfs").unwrap()
}

fn build(lab: &Lab, stem: &str, seed: u64) -> TestDisk {
    let spec = DiskSpec::new(stem, 4 * MIB, seed).content(DiskContent::Plain { bytes: MIB }).sidecar(Sidecar::Metadata);
    let spec = DiskSpec { mix: Mix { text: 0, zero: 0 }, ..spec };
    TestDisk::build(&lab.folder("nfs01", APPS).unwrap(), spec).unwrap()
}

/// A lab that other users can reach, its program included.
fn open_lab() -> (Lab, TestDisk) {
    let mut lab = Lab::new(LAB).unwrap();
    fs::set_permissions(lab.root(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = lab.path("program");
    if fs::hard_link(LAB, &program).is_err() {
        fs::copy(LAB, &program).unwrap();
    }
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    lab.set_program(&program);
    fs::create_dir(lab.path("tmp")).unwrap();
    fs::set_permissions(lab.path("tmp"), PermissionsExt::from_mode(0o777)).unwrap();
    lab.add_local("nfs01").unwrap();
    let disk = build(&lab, "Office", 1);
    for entry in walk(&lab.path("site")) {
        let mode = if entry.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(&entry, PermissionsExt::from_mode(mode)).unwrap();
    }
    (lab, disk)
}

fn walk(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_owned()];
    let mut next = 0;
    while let Some(path) = all.get(next).cloned() {
        next += 1;
        if path.is_dir() && !path.is_symlink() {
            all.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    all
}

/// Runs a command as a user, who is of no other group.
fn run(lab: &Lab, user: u32, args: &[&str]) -> CommandOutput {
    let mut command = lab.command(args).unwrap();
    command.uid(user).gid(user).env("TMPDIR", lab.path("tmp"));
    RunningProcess::start(args.join(" "), command).unwrap().wait(LIMIT).unwrap()
}

/// Everything that only reads works, and whoever restores is told once that nothing is recorded.
fn reads(lab: &Lab, user: u32, disk: &TestDisk, what: &str) {
    let done = |args: &[&str]| {
        let answer = run(lab, user, args);
        assert_eq!(answer.code, 0, "{what}: {args:?} {answer:?}");
        answer
    };
    let versions = done(&["versions", OFFICE]).json().unwrap();
    assert_eq!(versions.as_array().unwrap().len(), 1, "{what}: {versions}");
    let volumes = done(&["volumes"]).json().unwrap();
    assert!(volumes.as_array().unwrap().iter().any(|volume| volume["id"] == OFFICE), "{what}: {volumes}");
    let verified = done(&["verify"]).json().unwrap();
    assert_eq!((&verified["checked"], &verified["ok"]), (&1.into(), &1.into()), "{what}");
    let to = lab.path(&format!("restored to {what}"));
    fs::create_dir(&to).unwrap();
    chown(&to, Some(user), Some(user)).unwrap();
    let restored = done(&["restore", OFFICE, "--to", to.to_str().unwrap()]);
    assert_eq!(restored.stderr.matches("nothing is recorded").count(), 1, "{what}: {restored:?}");
    same_files(&disk.files(), &to).unwrap();
    done(&["discover"]);
    let checked = run(lab, user, &["check"]).json().unwrap();
    let checks = checked["checks"].as_array().unwrap();
    assert!(checks.iter().any(|one| one["subject"] == "datastore nfs01" && one["ok"] == true), "{what}: {checked}");
    assert_eq!(walk(&lab.path("tmp")).len(), 1, "{what}: nothing temporary is left");
}

#[test]
fn commands_that_read_need_no_write_permission() {
    if !may_mount() {
        return;
    }
    // What is done after the copy; and who then reads.
    type Change = fn(&mut Lab, &Tmpfs, &Tmpfs);
    let situations: [(&str, u32, Change); 7] = [
        ("a vault that is read-only", 0, |_, vault, _| vault.read_only(true).unwrap()),
        ("a state folder that is read-only", 0, |_, _, state| state.read_only(true).unwrap()),
        ("a state folder that is full", 0, |lab, _, _| {
            let mut file = fs::File::create_new(lab.path("state/filler")).unwrap();
            while file.write_all(&[1; 4096]).is_ok() {}
            while file.write_all(&[1]).is_ok() {}
        }),
        ("both read-only, and no catalog", 0, |lab, vault, state| {
            for entry in walk(&lab.path("state")).iter().filter(|entry| entry.is_file()) {
                fs::remove_file(entry).unwrap();
            }
            vault.read_only(true).unwrap();
            state.read_only(true).unwrap();
        }),
        ("a state folder that can't be made", 0, |lab, vault, _| {
            lab.config.set("state_dir", "/proc/stackferry");
            vault.read_only(true).unwrap();
        }),
        ("a user of the vault's group", USER, |_, _, _| {}),
        ("a user who reads the catalog, too", USER, |lab, _, _| {
            for entry in walk(&lab.path("state")) {
                let mode = if entry.is_dir() { 0o755 } else { 0o644 };
                fs::set_permissions(&entry, PermissionsExt::from_mode(mode)).unwrap();
            }
        }),
    ];
    for (what, user, change) in situations {
        let (mut lab, disk) = open_lab();
        let vault = Tmpfs::mount(&lab.vault(), 32 * MIB).unwrap();
        let state = Tmpfs::mount(&lab.path("state"), 4 * MIB).unwrap();
        lab.config.set("vault.group", USER.to_string());
        // The mount point itself is the administrator's.
        chown(lab.vault(), None, Some(USER)).unwrap();
        fs::set_permissions(lab.vault(), PermissionsExt::from_mode(0o750)).unwrap();
        lab.run_json(&["copy", OFFICE]).unwrap();
        change(&mut lab, &vault, &state);
        reads(&lab, user, &disk, what);
    }
}

/// Everything that can be done by one command, in an order in which each has something to do.
fn verbs(lab: &Lab, round: &str) -> Vec<Vec<String>> {
    let version = lab.versions(OFFICE).unwrap().last().unwrap()["version"].as_str().unwrap().to_owned();
    let one = format!("{OFFICE}@{version}");
    let to = lab.path(&format!("restored {round}"));
    let name = format!("token {round}");
    let list: Vec<Vec<&str>> = vec![
        vec!["check"],
        vec!["discover"],
        vec!["copy", OFFICE],
        vec!["run", "--once"],
        vec!["volumes"],
        vec!["versions", OFFICE],
        vec!["verify"],
        vec!["restore", OFFICE, "--to", to.to_str().unwrap()],
        vec!["pin", &one],
        vec!["unpin", &one],
        vec!["prune", "--dry-run"],
        vec!["prune"],
        vec!["jobs"],
        vec!["pause"],
        vec!["resume"],
        vec!["token", "create", "--name", &name, "--role", "viewer"],
        vec!["token", "list"],
        vec!["audit", "show"],
        vec!["audit", "verify"],
        vec!["rebuild"],
    ];
    list.into_iter().map(|verb| verb.into_iter().map(str::to_owned).collect()).collect()
}

/// That everything in vault and state folder is the user's.
fn is_theirs(lab: &Lab, after: &str) {
    for path in walk(&lab.vault()).into_iter().chain(walk(&lab.path("state"))) {
        let about = path.symlink_metadata().unwrap();
        assert_eq!((about.uid(), about.gid()), (USER, USER), "{} after {after}", path.display());
        assert_eq!(about.mode() & 0o077, 0, "{} after {after}", path.display());
    }
}

#[test]
fn files_made_by_root_belong_to_the_service_user() {
    if !have(rustix::process::geteuid().is_root(), "root's rights").unwrap() {
        return;
    }
    // Who is first makes the vault.
    for first in [USER, 0] {
        let (mut lab, _disk) = open_lab();
        lab.config.set("retention.last", 2);
        for folder in [lab.path("state"), lab.vault()] {
            fs::create_dir(&folder).unwrap();
            chown(&folder, Some(USER), Some(USER)).unwrap();
            fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
        }
        assert_eq!(run(&lab, first, &["copy", OFFICE]).code, 0, "user {first}");
        is_theirs(&lab, "the first copy");
        for (at, user) in [0, USER, 0].into_iter().enumerate() {
            for verb in verbs(&lab, &format!("{first} {at}")) {
                let args: Vec<&str> = verb.iter().map(String::as_str).collect();
                if args[0] == "restore" {
                    fs::create_dir(args[3]).unwrap();
                    chown(args[3], Some(user), Some(user)).unwrap();
                }
                let answer = run(&lab, user, &args);
                assert_eq!(answer.code, 0, "user {user}: {args:?}: {answer:?}");
                is_theirs(&lab, &format!("user {user}: {args:?}"));
            }
        }
    }
}

#[test]
fn check_creates_no_file() {
    let (lab, _disk) = open_lab();
    let before = walk(lab.root());
    let answer = lab.run(&["check"]).unwrap();
    assert_eq!(answer.code, 0, "{answer:?}");
    let new: Vec<PathBuf> = walk(lab.root()).into_iter().filter(|path| !before.contains(path)).collect();
    assert_eq!(new, [lab.path("stackferry.toml")], "only the lab's own configuration");
}
