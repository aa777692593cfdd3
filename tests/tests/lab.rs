//! The demonstration of README runs, and leaves nothing behind.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use stackferry_tests::lab::{CommandOutput, RunningProcess};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const LIMIT: Duration = Duration::from_secs(300);

fn start(temporary: &tempfile::TempDir, args: &[&str]) -> RunningProcess {
    let mut command = Command::new(LAB);
    command.args(args).env("TMPDIR", temporary.path());
    RunningProcess::start(format!("stackferry-lab {args:?}"), command).unwrap()
}

/// Nothing lies in the temporary folder, and no process has anything in it open or in its arguments.
fn nothing_is_left(temporary: &tempfile::TempDir, answer: &CommandOutput) {
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?} is left: {answer:?}");
    let name = temporary.path().to_str().unwrap().as_bytes();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let found = arguments.windows(name.len()).any(|part| part == name);
        assert!(!found, "{} still runs: {}", entry.path().display(), String::from_utf8_lossy(&arguments));
    }
}

#[test]
fn the_demonstration_succeeds_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let answer = start(&temporary, &["--once"]).wait(LIMIT).unwrap().expect_code(0).unwrap();
    for expected in [
        "stackferry discover",
        "appstack/Office",
        "vsan_only",
        "unsupported_disk",
        "endpoint ",
        "0 copied, 11 unchanged",
        "byte for byte the same",
        "the same as before",
    ] {
        assert!(answer.stdout.contains(expected), "{expected:?} is not in:\n{}", answer.stdout);
    }
    nothing_is_left(&temporary, &answer);
}

#[test]
fn the_keep_option_keeps_the_folder() {
    let temporary = tempfile::tempdir().unwrap();
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path().join("lab");
    let answer = start(&temporary, &["--once", "--keep", folder.to_str().unwrap()]).wait(LIMIT).unwrap();
    nothing_is_left(&temporary, &answer.expect_code(0).unwrap());
    for kept in ["stackferry.toml", "vault/stackferry-vault.json", "site/nfs01", "restored-0/Office.vmdk"] {
        assert!(folder.join(kept).exists(), "{kept}");
    }
    // A folder with something in it is nobody's to fill.
    let answer = start(&temporary, &["--once", "--keep", folder.to_str().unwrap()]).wait(LIMIT).unwrap();
    assert!(answer.code == 1 && answer.stderr.contains("not empty"), "{answer:?}");
}

#[test]
fn the_running_lab_protects_its_site_and_stops_on_request() {
    let temporary = tempfile::tempdir().unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let mut lab = start(&temporary, &[]);
        stackferry_tests::lab::wait_for("volumes that are protected", LIMIT, || {
            Ok(lab.stdout().matches("protected: ").count() >= 11 || lab.has_ended()?)
        })
        .unwrap();
        lab.signal(signal).unwrap();
        let answer = lab.wait(LIMIT).unwrap().expect_code(0).unwrap();
        nothing_is_left(&temporary, &answer);
    }
}

#[test]
fn a_killed_lab_leaves_no_process() {
    let temporary = tempfile::tempdir().unwrap();
    let mut lab = start(&temporary, &[]);
    stackferry_tests::lab::wait_for("a service that works", LIMIT, || {
        Ok(lab.stdout().contains("protected: ") || lab.has_ended()?)
    })
    .unwrap();
    let answer = lab.kill().unwrap();
    assert_eq!(answer.code, 128 + 9);
    stackferry_tests::lab::wait_for("the end of what it started", LIMIT, || {
        let name = temporary.path().to_str().unwrap();
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let mut arguments = processes.map(|entry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default());
        Ok(!arguments.any(|text| String::from_utf8_lossy(&text).contains(name)))
    })
    .unwrap();
}
