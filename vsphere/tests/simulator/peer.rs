//! Starts the stand-in of `tests/peers/vcenter`, tells it what to do, and ends it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};
use stackferry_vsphere::Vsphere;

use super::process::{LIBRARIES, Process, build, have};

/// The program, built once per run; none where Go or the library is missing and tests may be left out.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            let library = Path::new(LIBRARIES).join("src/github.com/vmware/govmomi/simulator");
            let go = Command::new("go").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            let there = library.is_dir() && go.is_ok_and(|status| status.success());
            let needed = "Go or govmomi's simulator (golang-go, golang-github-vmware-govmomi-dev)";
            have(there, needed).then(|| build("vcenter"))
        })
        .as_deref()
}

/// A stand-in that runs.
pub(crate) struct Peer(Process);

impl Peer {
    /// None where this machine can't run it.
    pub(crate) fn start(config: &Value) -> Option<Self> {
        Some(Self(Process::start(program()?, config)))
    }

    /// What it said first: where it listens, by which certificate.
    pub(crate) fn ready(&self) -> &Value {
        &self.0.ready
    }

    /// Gives a command, which has to succeed.
    pub(crate) fn obey(&self, command: Value) -> Value {
        self.0.obey(command)
    }

    pub(crate) fn text(&self, key: &str) -> String {
        self.0.ready[key].as_str().unwrap().to_owned()
    }

    /// How many logins were tried.
    pub(crate) fn logins(&self) -> usize {
        self.obey(json!({ "do": "logins" }))["logins"].as_array().map_or(0, Vec::len)
    }

    /// A client that knows the certificate.
    pub(crate) fn client(&self, user: &str, password_file: &Path) -> Vsphere {
        let fingerprint = format!("sha256:{}", self.text("sha256"));
        client(&self.text("url"), user, password_file, &json!({ "fingerprint": fingerprint }))
    }
}

/// A client with some more keys in its configuration.
pub(crate) fn client(url: &str, user: &str, password_file: &Path, more: &Value) -> Vsphere {
    let mut config = json!({ "name": "vc1", "url": url, "username": user, "password": { "file": password_file } });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Vsphere::new(&serde_json::from_value(config).unwrap()).unwrap()
}
