//! Starts the stand-in of `tests/peers/esxi`, the SSH side of a host, and a vCenter whose only host it is.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};
use stackferry_transfer::esxi::{EsxiClient, HostAccess};
use tempfile::TempDir;

use super::process::{Process, build, have};
use super::{SHARED, Site};

const UUID: &str = "5f3c1a2b-0d4e6f80-1a2b-005056aabbcc";

/// The program, built once per run; none where this machine lacks something and tests may be left out.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            let wrapper = |name: &str| Path::new("/usr/lib/x86_64-linux-gnu").join(name).exists();
            let there = ["/usr/sbin/sshd", "/usr/bin/ssh-keygen"].iter().all(|path| Path::new(path).exists())
                && wrapper("libnss_wrapper.so")
                && wrapper("libpam_wrapper.so")
                && rustix::process::geteuid().is_root();
            have(there, "root, sshd, libnss-wrapper or libpam-wrapper").then(|| build("esxi"))
        })
        .as_deref()
}

/// A host's SSH side that runs.
pub(crate) struct Shell {
    // In this order: the process ends before its folder goes.
    process: Process,
    _folder: TempDir,
}

impl Shell {
    fn start(config: &Value) -> Option<Self> {
        let program = program()?;
        let folder = tempfile::tempdir().unwrap();
        let mut config = config.clone();
        config["dir"] = json!(folder.path());
        Some(Self { process: Process::start(program, &config), _folder: folder })
    }

    fn ready(&self) -> &Value {
        &self.process.ready
    }

    pub(crate) fn obey(&self, command: Value) -> Value {
        self.process.obey(command)
    }

    /// What happened so far.
    pub(crate) fn told(&self) -> Value {
        self.obey(json!({ "do": "told" }))
    }
}

/// A vCenter with one host that has an SSH side.
pub(crate) struct Hosted {
    // In this order: the host's processes end before the folder goes.
    pub(crate) shell: Shell,
    pub(crate) site: Site,
    known_hosts: PathBuf,
}

impl Hosted {
    /// With these settings of its SSH side. None where this machine can't run it.
    pub(crate) fn start(settings: &Value) -> Option<Self> {
        Self::start_with(settings, |_| {})
    }

    pub(crate) fn start_with(settings: &Value, change: impl FnOnce(&mut Value)) -> Option<Self> {
        let ground = Site::ground();
        let data = ground.path().join("shared");
        let mut config = json!({ "root_password": "Root-pass-1", "sftp": true, "vmkfstools": "map" });
        config["stores"] = json!([{ "name": SHARED, "uuid": UUID, "dir": data }]);
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let shell = Shell::start(&config)?;
        let address = shell.ready()["address"].as_str().unwrap().to_owned();
        let site = Site::start_in(ground, |site| {
            let dc = &mut site["datacenters"][0];
            dc["hosts"] = json!([{
                "name": "esx1",
                "shown_name": "esx1.example.com",
                "listen": format!("{address}:443"),
                "root_password": "Root-pass-1",
                "hook": shell.ready()["hook"],
            }]);
            dc["datastores"] = json!([{ "name": SHARED, "uuid": UUID, "dir": data }]);
            change(site);
        })?;
        let known_hosts = site.path("known_hosts");
        let hosted = Self { site, shell, known_hosts };
        hosted.know("esx1.example.com");
        Some(hosted)
    }

    /// Writes the host's keys into the list, under this name.
    pub(crate) fn know(&self, name: &str) {
        let keys = self.shell.ready()["host_keys"].as_array().unwrap().iter();
        let port = self.port();
        let lines: String = keys.map(|key| format!("[{name}]:{port} {}\n", key.as_str().unwrap())).collect();
        std::fs::write(&self.known_hosts, lines).unwrap();
    }

    pub(crate) fn write_known_hosts(&self, text: &str) {
        std::fs::write(&self.known_hosts, text).unwrap();
    }

    pub(crate) fn port(&self) -> u16 {
        u16::try_from(self.shell.ready()["port"].as_u64().unwrap()).unwrap()
    }

    pub(crate) fn address(&self) -> &str {
        self.shell.ready()["address"].as_str().unwrap()
    }

    pub(crate) fn client(&self) -> EsxiClient {
        let access = HostAccess::Account { known_hosts: self.known_hosts.clone(), ssh_port: self.port() };
        self.site.client_of(SHARED, access)
    }

    /// Accounts besides root, and the services that run, as vSphere has it.
    pub(crate) fn state(&self) -> (Vec<String>, bool) {
        let state = self.site.obey(json!({ "do": "accounts", "host": "esx1" }));
        let accounts = state["accounts"].as_object().unwrap().keys().filter(|name| name.starts_with("sf-")).cloned();
        let running = state["running"].as_array().unwrap().iter().any(|key| key == "TSM-SSH");
        (accounts.collect(), running)
    }

    /// The host is as it was: no account, the SSH service off, nothing owed.
    pub(crate) fn is_as_it_was(&self) {
        assert_eq!(self.state(), (Vec::new(), false));
        assert!(self.site.book.open.lock().unwrap().is_empty(), "{:?}", self.site.book.open.lock().unwrap());
    }
}
