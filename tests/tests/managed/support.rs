//! What the tests of a managed site share: its disks, and the expected outcome of a round.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use stackferry_tests::avm::{AppVolumesDouble, AvmSite};
use stackferry_tests::disk::{DiskContent, DiskSpec, Mix, Sidecar, TestDisk};
use stackferry_tests::lab::{CommandOutput, EndpointProcess, Lab, RunningProcess};

pub(crate) const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const MIB: u64 = 1 << 20;
/// How much data is on each disk, in bytes. It does not compress.
pub(crate) const DATA: u64 = 3 * MIB;
/// So slow that a copy can be met in its middle.
pub(crate) const SLOW: &str = "1MiB/s";

pub(crate) const OFFICE: &str = "appstack/Office";
pub(crate) const OFFICE_AT: &str = "cloudvolumes/apps/Office.vmdk";
pub(crate) const JDOE: &str = "writable/CORP!5C!jdoe";
pub(crate) const JDOE_AT: &str = "cloudvolumes/writable/CORP!5C!jdoe.vmdk";

/// App Volumes' id of the disk of this number.
pub(crate) fn guid(number: u32) -> String {
    format!("9b1b40b0-e2f8-4fe6-b743-{number:012}")
}

/// A disk at a path of a datastore.
pub(crate) fn build(lab: &Lab, datastore: &str, path: &str, seed: u64) -> TestDisk {
    let (folder, file) = path.rsplit_once('/').unwrap();
    let spec = DiskSpec::new(file.strip_suffix(".vmdk").unwrap(), 64 * MIB, seed);
    let spec = spec.content(DiskContent::Plain { bytes: DATA }).sidecar(Sidecar::Metadata);
    let spec = DiskSpec { mix: Mix { text: 0, zero: 0 }, ..spec };
    TestDisk::build(&lab.folder(datastore, folder).unwrap(), spec).unwrap()
}

/// Deletes a disk's files.
pub(crate) fn delete(disk: &TestDisk) {
    for file in disk.files() {
        fs::remove_file(file).unwrap();
    }
}

/// A lab with the datastore `nfs01` by a route, and a manager of this site.
pub(crate) fn place(route: &str, site: AvmSite) -> (Option<EndpointProcess>, Lab, AppVolumesDouble) {
    let mut lab = Lab::new(LAB).unwrap();
    let endpoint = match route {
        "local" => {
            lab.add_local("nfs01").unwrap();
            None
        }
        _ => {
            let endpoint = lab.serve(&["nfs01"]).unwrap();
            lab.add_endpoint("nfs01", &endpoint).unwrap();
            Some(endpoint)
        }
    };
    let double = AppVolumesDouble::start(site).unwrap();
    lab.add_app_volumes("avm1", None, &double).unwrap();
    (endpoint, lab, double)
}

/// What one round said.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) code: i32,
    pub(crate) answer: Value,
    pub(crate) stderr: String,
}

impl Round {
    pub(crate) fn of(lab: &Lab) -> Self {
        Self::from(start(lab).wait(LIMIT).unwrap())
    }

    pub(crate) fn from(answer: CommandOutput) -> Self {
        Self { code: answer.code, answer: answer.json().unwrap(), stderr: answer.stderr }
    }

    fn find(&self, id: &str) -> Option<&Value> {
        self.answer["volumes"].as_array().unwrap().iter().find(|one| one["volume"] == id)
    }

    /// What became of each volume, by id: the outcome, and the reason's code after a blank.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let volumes = self.answer["volumes"].as_array().unwrap().iter();
        let line = |one: &Value| format!("{} {}", text(&one["outcome"]), text(&one["reason"]["code"]));
        volumes.map(|one| (text(&one["volume"]), line(one).trim().to_owned())).collect()
    }

    /// Fails unless this became of exactly these volumes, in the order of their ids.
    pub(crate) fn is(&self, code: i32, expected: &[(&str, &str)]) -> &Self {
        let all = self.all();
        let found: Vec<(&str, &str)> = all.iter().map(|(id, what)| (id.as_str(), what.as_str())).collect();
        assert_eq!(found, expected, "{}", self.stderr);
        assert_eq!(self.code, code, "{}{}", self.answer, self.stderr);
        self
    }

    pub(crate) fn reason(&self, id: &str) -> &str {
        self.find(id).and_then(|one| one["reason"]["text"].as_str()).unwrap_or_default()
    }

    /// The warning that names a subject: its text, and what to do.
    pub(crate) fn warning(&self, subject: &str) -> (String, String) {
        let mut lines = self.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = lines.find(|line| line["subject"] == subject);
        let found = found.unwrap_or_else(|| panic!("nothing about {subject} in: {}", self.stderr));
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (text("message"), text("hint"))
    }
}

/// Starts a round, with a log in JSON.
pub(crate) fn start(lab: &Lab) -> RunningProcess {
    let mut command = lab.command(&["run", "--once"]).unwrap();
    command.env("STACKFERRY_LOG_FORMAT", "json");
    RunningProcess::start("stackferry run --once".to_owned(), command).unwrap()
}

/// A volume as `volumes` shows it.
pub(crate) fn volume(lab: &Lab, id: &str) -> Value {
    let volumes = lab.run_json(&["volumes"]).unwrap();
    let found = volumes.as_array().unwrap().iter().find(|volume| volume["id"] == id).cloned();
    found.unwrap_or_else(|| panic!("no {id} in {volumes}"))
}

/// The datastores of a volume's locations.
pub(crate) fn datastores(volume: &Value) -> Vec<&str> {
    volume["locations"].as_array().unwrap().iter().map(|place| place["datastore"].as_str().unwrap()).collect()
}

/// The manifest of a volume's newest version.
pub(crate) fn manifest(lab: &Lab, id: &str) -> Value {
    let version = volume(lab, id)["last_version"].as_str().unwrap().to_owned();
    let path = lab.vault_volume(id).join(version).join("manifest.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// What is being written in the vault.
pub(crate) fn incoming(vault: &Path) -> Vec<PathBuf> {
    fs::read_dir(vault.join("incoming")).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

/// Whether the extent of a disk is being written in the vault.
pub(crate) fn is_under_way(vault: &Path, disk: &TestDisk) -> bool {
    let name = disk.extents()[0].file_name().unwrap().to_owned();
    incoming(vault).iter().any(|transfer| transfer.join("files").join(&name).exists())
}

/// What `check` says of a subject.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) ok: bool,
    /// The problem's code; empty if it is good.
    pub(crate) code: String,
    pub(crate) text: String,
    pub(crate) hint: String,
}

/// What `check` says of a subject.
pub(crate) fn checked(answer: &CommandOutput, subject: &str) -> Checked {
    let checks = answer.json().unwrap();
    let found = checks["checks"].as_array().unwrap().iter().find(|one| one["subject"] == subject).cloned();
    let found = found.unwrap_or_else(|| panic!("no {subject} in {checks}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Checked { ok: found["ok"] == true, code: text("code"), text: text("text"), hint: text("hint") }
}
