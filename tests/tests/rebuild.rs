//! The vault is the truth: without its catalog everything is still there, and no other folder is taken for the vault.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use stackferry_tests::check::same_files;
use stackferry_tests::disk::{DiskContent, DiskSpec, Sidecar, TestDisk};
use stackferry_tests::lab::{Lab, Tmpfs, wait_for};
use stackferry_tests::tools::{find, have};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const OFFICE: &str = "appstack/Office";
const JDOE: &str = "writable/CORP!5C!jdoe";
const MIB: u64 = 1 << 20;

/// A lab with two volumes, one with two versions and a pin.
fn place() -> (Lab, TestDisk, TestDisk) {
    let mut lab = Lab::new(LAB).unwrap();
    let spec = |stem: &str, seed| {
        DiskSpec::new(stem, 64 * MIB, seed).content(DiskContent::Plain { bytes: 2 * MIB }).sidecar(Sidecar::Metadata)
    };
    let office = TestDisk::build(&lab.folder("nfs01", "cloudvolumes/apps").unwrap(), spec("Office", 1)).unwrap();
    let mut jdoe =
        TestDisk::build(&lab.folder("nfs01", "cloudvolumes/writable").unwrap(), spec("CORP!5C!jdoe", 2)).unwrap();
    lab.add_local("nfs01").unwrap();
    lab.run_json(&["run", "--once"]).unwrap();
    jdoe.overwrite(1, 10 * MIB, MIB).unwrap();
    lab.run_json(&["run", "--once"]).unwrap();
    let oldest = lab.versions(JDOE).unwrap().pop().unwrap();
    let oldest = format!("{JDOE}@{}", oldest["version"].as_str().unwrap());
    lab.run_json(&["pin", &oldest, "--note", "before the update"]).unwrap();
    (lab, office, jdoe)
}

/// The versions of both volumes, without what only the catalog knows: when they were last read back.
fn versions(lab: &Lab) -> Vec<Value> {
    let mut all: Vec<Value> = [OFFICE, JDOE].iter().flat_map(|id| lab.versions(id).unwrap()).collect();
    for one in &mut all {
        one.as_object_mut().unwrap().remove("last_verified");
    }
    all
}

/// Every path below a folder, with the length of files.
fn listing(root: &Path) -> BTreeSet<(PathBuf, u64)> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                folders.push(path.clone());
            }
            found.insert((path, if meta.is_file() { meta.len() } else { 0 }));
        }
    }
    found
}

fn forget(lab: &Lab) {
    fs::remove_dir_all(lab.path("state")).unwrap();
}

/// Copies a folder of files.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn a_state_folder_older_than_the_vault_is_updated_from_it() {
    let (lab, _office, mut jdoe) = place();
    let (state, old) = (lab.path("state"), lab.path("old"));
    copy_folder(&state, &old);
    jdoe.overwrite(2, 20 * MIB, MIB).unwrap();
    lab.run_json(&["run", "--once"]).unwrap();
    let before = versions(&lab);
    fs::remove_dir_all(&state).unwrap();
    copy_folder(&old, &state);
    jdoe.overwrite(3, 30 * MIB, MIB).unwrap();
    lab.run_json(&["run", "--once"]).unwrap();
    assert_eq!(versions(&lab).len(), before.len() + 1);
    let checked = lab.run_json(&["verify"]).unwrap();
    assert_eq!(checked["checked"], before.len() as u64 + 1);
}

/// Runs a statement past Stackferry, and gives what it found.
fn sql(lab: &Lab, statement: &str) -> String {
    const RUN: &str = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); print(db.execute(sys.argv[2]).fetchall()); \
                       db.commit()";
    let catalog = lab.path("state/catalog.sqlite");
    let ran = Command::new("python3").args(["-c", RUN]).arg(catalog).arg(statement).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn a_row_that_cannot_be_read_concerns_its_volume_only() {
    if !have(find("python3").is_some(), "python3").unwrap() {
        return;
    }
    let (lab, mut office, _jdoe) = place();
    let (state, old) = (lab.path("state"), lab.path("old"));
    copy_folder(&state, &old);
    office.overwrite(2, 20 * MIB, MIB).unwrap();
    lab.run_json(&["run", "--once"]).unwrap();
    // The catalog is older than the vault, and a row of the other volume says what no row can say.
    fs::remove_dir_all(&state).unwrap();
    copy_folder(&old, &state);
    sql(&lab, &format!("UPDATE versions SET pinned = 'x' WHERE volume = '{JDOE}'"));
    let rows = || sql(&lab, &format!("SELECT count(*) FROM versions WHERE volume = '{OFFICE}'"));
    assert_eq!(rows().trim(), "[(1,)]");

    let verified = lab.run(&["verify"]).unwrap().expect_code(14).unwrap().json().unwrap();
    assert_eq!(verified["checked"], 4, "whatever the vault has is read back: {verified}");
    let unreadable = verified["unreadable"].to_string();
    assert!(unreadable.contains("jdoe") && !unreadable.contains("Office"), "{verified}");
    assert_eq!(rows().trim(), "[(2,)]", "the other volume is in line again");
}

#[test]
fn the_first_command_rebuilds_or_adopts_a_lost_catalog() {
    let (lab, office, jdoe) = place();
    let before = versions(&lab);
    assert_eq!(before.len(), 3);
    let pins: Vec<_> = before.iter().map(|one| one["pinned"].as_bool().unwrap()).collect();
    assert_eq!(pins.iter().filter(|pinned| **pinned).count(), 1);
    let volumes = |lab: &Lab| -> Vec<(Value, Value, Value)> {
        let all = lab.run_json(&["volumes"]).unwrap();
        let all = all.as_array().unwrap().iter();
        all.map(|one| (one["id"].clone(), one["versions"].clone(), one["last_version"].clone())).collect()
    };
    let known = volumes(&lab);
    assert_eq!(known.len(), 2);

    let commands: [&[&str]; 5] = [&["rebuild"], &["versions", OFFICE], &["volumes"], &["verify"], &["run", "--once"]];
    for command in commands {
        forget(&lab);
        let answer = lab.run_json(command).unwrap();
        if command == ["rebuild"] {
            let expected = [("volumes", 2), ("versions", 3), ("damaged", 0)];
            assert!(expected.iter().all(|(key, number)| answer[key] == *number), "{answer}");
        }
        if command == ["run", "--once"] {
            assert_eq!(answer["copied"], 0, "a round after it copies everything again: {answer}");
        }
        assert_eq!(versions(&lab), before, "after {command:?}");
        assert_eq!(volumes(&lab), known, "after {command:?}");
    }

    // A lost catalog is no reason to ask again what may be done: restore and copy come first just as well.
    forget(&lab);
    same_files(&office.files(), &lab.restore(OFFICE, "office").unwrap()).unwrap();
    forget(&lab);
    assert_eq!(lab.run_json(&["copy", JDOE]).unwrap()["outcome"], "copied");
    same_files(&jdoe.files(), &lab.restore(JDOE, "jdoe").unwrap()).unwrap();
    assert_eq!(lab.run_json(&["verify"]).unwrap()["ok"], 4);
}

/// The order in which disks were found has given them their ids; found again in another order, they keep them.
#[test]
fn a_lost_catalog_never_mixes_up_two_users_disks() {
    let mut lab = Lab::new(LAB).unwrap();
    let folder = "cloudvolumes/writable";
    let spec = |seed| DiskSpec::new("CORP!5C!jdoe", 16 * MIB, seed).content(DiskContent::Plain { bytes: MIB });
    let second = TestDisk::build(&lab.folder("nfs02", folder).unwrap(), spec(2)).unwrap();
    lab.add_local("nfs02").unwrap();
    lab.run_json(&["run", "--once"]).unwrap();
    // From now on the other datastore comes first.
    lab.config.unset_all();
    lab.add_local("nfs01").unwrap();
    lab.add_local("nfs02").unwrap();
    let first = TestDisk::build(&lab.folder("nfs01", folder).unwrap(), spec(1)).unwrap();
    lab.run_json(&["run", "--once"]).unwrap();
    let place = |id: &str| -> String {
        let all = lab.run_json(&["volumes"]).unwrap();
        let one = all.as_array().unwrap().iter().find(|one| one["id"] == id).unwrap();
        one["locations"][0]["datastore"].as_str().unwrap().to_owned()
    };
    assert_eq!(place(JDOE), "nfs02");
    for command in [&["discover"][..], &["volumes"], &["run", "--once"], &["copy", JDOE]] {
        forget(&lab);
        lab.run_json(command).unwrap();
        assert_eq!(lab.run_json(&["run", "--once"]).unwrap()["copied"], 0, "after {command:?}");
        assert_eq!(place(JDOE), "nfs02", "after {command:?}");
    }
    same_files(&second.files(), &lab.restore(JDOE, "second").unwrap()).unwrap();
    let other = lab.run_json(&["volumes"]).unwrap()[1]["id"].as_str().unwrap().to_owned();
    same_files(&first.files(), &lab.restore(&other, "first").unwrap()).unwrap();
}

#[test]
fn a_rebuild_changes_nothing_if_nothing_was_lost() {
    let (lab, ..) = place();
    let before = (versions(&lab), lab.run_json(&["volumes"]).unwrap());
    let vault = listing(&lab.vault());
    for _ in 0..2 {
        lab.run_json(&["rebuild"]).unwrap();
        assert_eq!(versions(&lab), before.0);
    }
    assert_eq!(listing(&lab.vault()), vault);
    let answer = lab.run_json(&["run", "--once"]).unwrap();
    assert_eq!((&answer["copied"], &answer["unchanged"]), (&Value::from(0), &Value::from(2)), "{answer}");
}

/// Every command that works with the vault.
const COMMANDS: [&[&str]; 6] =
    [&["run", "--once"], &["copy", OFFICE], &["versions", OFFICE], &["verify"], &["rebuild"], &["restore", OFFICE]];

/// Every command is refused with this code, and writes nothing into the vault's folder or anywhere else.
fn all_refused(lab: &Lab, code: &str) {
    let before = listing(&lab.vault());
    let restored = lab.path("never");
    for command in COMMANDS {
        let mut command = command.to_vec();
        if command[0] == "restore" {
            command.extend(["--to", restored.to_str().unwrap()]);
        }
        let error = lab.run_err(&command, 1).unwrap();
        assert_eq!(error["code"], code, "{command:?}: {error}");
        assert!(!error["hint"].as_str().unwrap_or_default().is_empty(), "{command:?}: {error}");
    }
    assert_eq!(listing(&lab.vault()), before);
    assert!(!restored.exists());
    let check = lab.run(&["check"]).unwrap().expect_code(1).unwrap().json().unwrap();
    let vault = check["checks"].as_array().unwrap().iter().find(|one| one["subject"] == "vault").unwrap();
    assert_eq!(vault["ok"], false, "{check}");
}

#[test]
fn an_unmounted_vault_is_not_reinitialized() {
    let (lab, ..) = place();
    let before = versions(&lab);
    let (vault, away) = (lab.vault(), lab.path("away"));
    fs::rename(&vault, &away).unwrap();
    fs::create_dir(&vault).unwrap();
    all_refused(&lab, "vault_missing");
    assert_eq!(fs::read_dir(&vault).unwrap().count(), 0);
    // Without even the mount point it is the same.
    fs::remove_dir(&vault).unwrap();
    let error = lab.run_err(&["run", "--once"], 1).unwrap();
    assert_eq!(error["code"], "vault_missing");
    assert!(!vault.exists());
    // Back again, nothing is lost.
    fs::rename(&away, &vault).unwrap();
    assert_eq!(versions(&lab), before);
    assert_eq!(lab.run_json(&["run", "--once"]).unwrap()["unchanged"], 2);
}

#[test]
fn a_different_vault_is_refused() {
    let (lab, ..) = place();
    let (other, _, _) = place();
    fs::rename(lab.vault(), lab.path("away")).unwrap();
    fs::rename(other.vault(), lab.vault()).unwrap();
    all_refused(&lab, "other_vault");
    // A known vault without its marker is no vault.
    fs::remove_file(lab.vault().join("stackferry-vault.json")).unwrap();
    let error = lab.run_err(&["run", "--once"], 1).unwrap();
    assert!(["vault_missing", "not_a_vault"].contains(&error["code"].as_str().unwrap()), "{error}");
}

#[test]
fn a_folder_with_other_files_does_not_become_a_vault() {
    let mut lab = Lab::new(LAB).unwrap();
    TestDisk::build(&lab.folder("nfs01", "cloudvolumes/apps").unwrap(), DiskSpec::new("Office", MIB, 1)).unwrap();
    lab.add_local("nfs01").unwrap();
    fs::create_dir(lab.vault()).unwrap();
    fs::write(lab.vault().join("holiday.jpg"), "mine").unwrap();
    let error = lab.run_err(&["run", "--once"], 1).unwrap();
    assert_eq!(error["code"], "not_a_vault");
    assert_eq!(fs::read_dir(lab.vault()).unwrap().count(), 1);
    fs::remove_file(lab.vault().join("holiday.jpg")).unwrap();
    assert_eq!(lab.run_json(&["run", "--once"]).unwrap()["copied"], 1);
}

#[test]
fn a_vault_on_two_file_systems_is_refused() {
    if !have(Tmpfs::possible(), "the right to mount a tmpfs").unwrap() {
        return;
    }
    let (lab, ..) = place();
    let mounted = Tmpfs::mount(&lab.vault().join("incoming"), 64 << 20).unwrap();
    all_refused(&lab, "two_file_systems");
    drop(mounted);
    assert_eq!(lab.run_json(&["run", "--once"]).unwrap()["unchanged"], 2);
    // As a new vault it is refused as well.
    let mut fresh = Lab::new(LAB).unwrap();
    fresh.add_local("nfs01").unwrap();
    let _mounted = Tmpfs::mount(&fresh.vault().join("volumes"), 64 << 20).unwrap();
    let code = fresh.run_err(&["run", "--once"], 1).unwrap()["code"].clone();
    assert!(code == "two_file_systems" || code == "not_a_vault", "{code}");
}

/// Takes all that is free of a file system.
fn fill(path: &Path) {
    let mut file = fs::File::create_new(path).unwrap();
    for piece in [vec![1; 64 << 10], vec![1; 512], vec![1]] {
        while file.write_all(&piece).is_ok() {}
    }
}

/// The vault commits a version and the catalog can't write its row; once there is room again nothing has to be done by hand.
#[test]
fn a_full_state_folder_loses_no_version_and_no_copy() {
    if !have(Tmpfs::possible(), "the right to mount a tmpfs").unwrap() {
        return;
    }
    let limit = Duration::from_secs(120);
    let mut lab = Lab::new(LAB).unwrap();
    let _state = Tmpfs::mount(&lab.path("state"), 8 * MIB).unwrap();
    let filling = lab.path("state/filling");
    let spec = DiskSpec::new("Office", 32 * MIB, 1).content(DiskContent::Plain { bytes: 12 * MIB });
    let mut office = TestDisk::build(&lab.folder("nfs01", "cloudvolumes/apps").unwrap(), spec).unwrap();
    lab.add_local("nfs01").unwrap();
    lab.config.set("schedule.every", "1s");
    lab.config.set("limits.bandwidth", "4MB/s");
    lab.run_json(&["run", "--once"]).unwrap();
    let committed = || -> BTreeSet<String> {
        let names = fs::read_dir(lab.vault_volume(OFFICE)).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with('2')).collect()
    };
    let listed = || -> BTreeSet<String> {
        let all = lab.versions(OFFICE).unwrap().into_iter();
        all.map(|one| one["version"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(committed().len(), 1);
    office.overwrite(2, MIB, MIB).unwrap();
    let service = lab.spawn(&["run"]).unwrap();
    let began = || Ok(fs::read_dir(lab.vault().join("incoming")).is_ok_and(|mut all| all.next().is_some()));
    wait_for("the copy begins", limit, began).unwrap();
    fill(&filling);
    wait_for("the version is committed", limit, || Ok(committed().len() == 2)).unwrap();
    fs::remove_file(&filling).unwrap();
    wait_for("the version is listed", limit, || Ok(listed() == committed())).unwrap();
    assert_eq!(lab.run_json(&["copy", OFFICE, "--if-changed"]).unwrap()["outcome"], "unchanged");
    assert_eq!(committed().len(), 2, "it is not copied twice");
    same_files(&office.files(), &lab.restore(OFFICE, "office").unwrap()).unwrap();
    service.terminate(limit).unwrap();

    // A command that needs to write says what is full and what to do.
    fill(&filling);
    let error = lab.run_err(&["copy", OFFICE], 15).unwrap();
    assert_eq!(error["code"], "no_space", "{error}");
    assert!(error["hint"].as_str().unwrap().contains("state_dir"), "{error}");
    fs::remove_file(&filling).unwrap();
    lab.run_json(&["copy", OFFICE]).unwrap();
    assert_eq!(listed(), committed());
}
