//! The shapes of all JSON output. Scripts read it: keys may be added, and are never renamed or removed.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use insta::assert_json_snapshot;
use serde_json::Value;
use stackferry_tests::disk::{Broken, DiskContent, DiskSpec, Sidecar, TestDisk};
use stackferry_tests::lab::{EndpointProcess, Lab};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const OFFICE: &str = "appstack/Office";
const MIB: u64 = 1 << 20;

/// A local datastore with an AppStack and a broken disk, and a writable behind an endpoint. Every byte of them is fixed.
fn place() -> (EndpointProcess, Lab, TestDisk) {
    let mut lab = Lab::new(LAB).unwrap();
    let spec = |stem: &str, seed| {
        DiskSpec::new(stem, 16 * MIB, seed).content(DiskContent::Plain { bytes: MIB }).sidecar(Sidecar::Metadata)
    };
    let apps = lab.folder("nfs01", "cloudvolumes/apps").unwrap();
    TestDisk::build(&apps, spec("Office", 1)).unwrap();
    Broken::Truncated.build(&apps, "Damaged", MIB, 1).unwrap();
    let jdoe =
        TestDisk::build(&lab.folder("nfs02", "cloudvolumes/writable").unwrap(), spec("CORP!5C!jdoe", 2)).unwrap();
    lab.add_local("nfs01").unwrap();
    let endpoint = lab.serve(&["nfs02"]).unwrap();
    lab.add_endpoint("nfs02", &endpoint).unwrap();
    (endpoint, lab, jdoe)
}

/// What differs from run to run.
fn steady() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    let word =
        |word: &'static str| insta::dynamic_redaction(move |value, _| if value.is_nil() { value } else { word.into() });
    for (key, shown) in [
        (".**.seconds", "[seconds]"),
        (".**.version", "[version]"),
        (".**.last_version", "[version]"),
        (".**.created", "[time]"),
        (".**.last_verified", "[time]"),
        (".**.last_success", "[time]"),
        (".**.deferred_since", "[time]"),
        (".**.expires", "[time]"),
        (".**.at", "[time]"),
        (".**.head", "[digest]"),
        (".**.digest", "[digest]"),
        (".**.port", "[port]"),
        (".**.user", "[user]"),
        (".**.password", "[password]"),
        (".**.command", "[command]"),
        (".**.to", "[folder]"),
        (".**.host", "[host]"),
        // How a file system rounds holes is its own affair.
        (".**.wire", "[bytes]"),
        (".**.read", "[bytes]"),
        (".**.zero", "[bytes]"),
        (".**.stored", "[bytes]"),
    ] {
        settings.add_redaction(key, word(shown));
    }
    settings
}

macro_rules! snapshot {
    ($name:literal, $value:expr) => {
        let value: Value = $value;
        steady().bind(|| assert_json_snapshot!($name, value));
    };
}

#[test]
fn json_output_keeps_its_shape() {
    let (_endpoint, lab, mut jdoe) = place();
    snapshot!("discover", lab.run_json(&["discover"]).unwrap());
    snapshot!("run", lab.run_json(&["run", "--once"]).unwrap());
    snapshot!("run_again", lab.run_json(&["run", "--once"]).unwrap());
    snapshot!("volumes", lab.run_json(&["volumes"]).unwrap());
    snapshot!("versions", lab.run_json(&["versions", OFFICE]).unwrap());
    snapshot!("verify", lab.run_json(&["verify"]).unwrap());
    snapshot!("copy_local", lab.run_json(&["copy", OFFICE]).unwrap());
    jdoe.overwrite(1, 8 * MIB, 4096).unwrap();
    snapshot!("copy_endpoint", lab.run_json(&["copy", "writable/CORP!5C!jdoe"]).unwrap());
    snapshot!("copy_if_changed", lab.run_json(&["copy", "writable/CORP!5C!jdoe", "--if-changed"]).unwrap());
    let to = lab.path("restored");
    let restore = ["restore".as_ref(), OFFICE.as_ref(), "--to".as_ref(), to.as_os_str()];
    snapshot!("restore", lab.run_json(&restore).unwrap());
    snapshot!("grant", lab.run_json(&["grant", "writable/CORP!5C!jdoe"]).unwrap());
    let version = lab.versions(OFFICE).unwrap()[0]["version"].as_str().unwrap().to_owned();
    let named = format!("{OFFICE}@{version}");
    snapshot!("pin", lab.run_json(&["pin", &named, "--note", "why"]).unwrap());
    snapshot!("unpin", lab.run_json(&["unpin", &named]).unwrap());
    snapshot!("rebuild", lab.run_json(&["rebuild"]).unwrap());
    snapshot!("audit_verify", {
        let mut answer = lab.run_json(&["audit", "verify"]).unwrap();
        assert!(answer["records"].as_u64().unwrap() > 10);
        answer["records"] = "[number]".into();
        answer
    });
    let records = lab.run_json(&["audit", "show", "--last", "1"]).unwrap();
    let keys: Vec<&String> = records[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["action", "actor", "at", "detail", "digest", "id", "subject"]);
}

#[test]
fn json_errors_keep_their_shape() {
    let (_endpoint, lab, _) = place();
    lab.run_json(&["discover"]).unwrap();
    snapshot!("error_no_such_volume", lab.run_err(&["copy", "appstack/Ofice"], 10).unwrap());
    snapshot!("error_not_protectable", lab.run_err(&["copy", "appstack/Damaged"], 1).unwrap());
    snapshot!("error_usage", lab.run_err(&["copy"], 2).unwrap());
    let answer = lab.run(&["copy", "appstack/Ofice"]).unwrap();
    assert_eq!(answer.stdout, "", "an error writes nothing to stdout");
    let line: Value = serde_json::from_str(answer.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(line.as_object().unwrap().keys().collect::<Vec<_>>(), ["error"]);
}

/// `check` names every part of the configuration, so its texts hold paths; its shape is what scripts read.
#[test]
fn json_of_check_keeps_its_shape() {
    let (_endpoint, lab, _) = place();
    let answer = lab.run_json(&["check"]).unwrap();
    assert_eq!(answer["ok"], true);
    let checks = answer["checks"].as_array().unwrap();
    let subjects: Vec<&str> = checks.iter().map(|one| one["subject"].as_str().unwrap()).collect();
    for subject in ["configuration", "catalog", "vault", "datastore nfs01", "datastore nfs02", "key of datastore nfs02"]
    {
        assert!(subjects.contains(&subject), "{subjects:?}");
    }
    for one in checks {
        assert_eq!(one.as_object().unwrap().keys().collect::<Vec<_>>(), ["code", "hint", "ok", "subject", "text"]);
        assert_eq!(one["ok"], true, "{one}");
    }
    let shown = lab.run(&["config", "show"]).unwrap().expect_code(0).unwrap().json().unwrap();
    assert_eq!(shown["datastore"][0]["name"], "nfs01");
}
