//! A running service with volumes, versions and tokens, and a check that it survived the requests.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use stackferry_tests::disk::{DiskContent, DiskSpec, TestDisk};
use stackferry_tests::lab::{Lab, RunningProcess, wait_for};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;

pub(crate) struct Setup {
    pub(crate) lab: Lab,
    pub(crate) address: SocketAddr,
    /// The one folder that the API may restore below.
    pub(crate) root: PathBuf,
    service: RunningProcess,
}

impl Setup {
    /// A service with two AppStacks and a writable, each with a version.
    pub(crate) fn new() -> Self {
        let mut lab = Lab::new(LAB).unwrap();
        for (folder, stem) in [
            ("cloudvolumes/apps", "Office"),
            ("cloudvolumes/apps", "R%20!26! @x"),
            ("cloudvolumes/writable", "CORP!5C!jdoe"),
        ] {
            let spec = DiskSpec::new(stem, 4 * MIB, 7).content(DiskContent::Plain { bytes: MIB });
            TestDisk::build(&lab.folder("nfs01", folder).unwrap(), spec).unwrap();
        }
        lab.add_local("nfs01").unwrap();
        let root = lab.path("restored");
        fs::create_dir(&root).unwrap();
        lab.config.set("restore.roots", vec![root.to_str().unwrap()]);
        lab.config.set("schedule.every", "2s");
        let mut service = lab.spawn(&["run"]).unwrap();
        let address = service
            .wait_line("the service's address", LIMIT, |line| {
                let (_, rest) = line.split_once("address")?;
                let start = rest.find("127.0.0.1:")?;
                let text = rest[start..].split(|one: char| !one.is_ascii_digit() && one != '.' && one != ':').next()?;
                text.parse().ok()
            })
            .unwrap();
        let setup = Self { lab, address, root, service };
        wait_for("every volume has a version", LIMIT, || {
            let volumes = setup.lab.run_json(&["volumes"])?;
            let volumes = volumes.as_array().unwrap();
            Ok(volumes.len() == 3 && volumes.iter().all(|one| one["versions"].as_u64() > Some(0)))
        })
        .unwrap();
        setup
    }

    /// A token with this role, named like it.
    pub(crate) fn token(&self, role: &str) -> String {
        let made = self.lab.run_json(&["token", "create", "--name", role, "--role", role]).unwrap();
        made["token"].as_str().unwrap().to_owned()
    }

    /// The newest version of a volume.
    pub(crate) fn version(&self, id: &str) -> String {
        let versions = self.lab.versions(id).unwrap();
        versions[0]["version"].as_str().unwrap().to_owned()
    }

    /// That the service took all of it: it answers, its log knows of no panic and no request that failed by its own fault,
    /// no secret is in it, and it ends as it should.
    pub(crate) fn must_be_unharmed(self, secrets: &[&str]) {
        let volumes: Value = self.lab.run_json(&["volumes"]).unwrap();
        assert_eq!(volumes.as_array().unwrap().len(), 3);
        let ended = self.service.terminate(LIMIT).unwrap().expect_code(0).unwrap();
        for bad in ["panicked", "a request failed"].iter().chain(secrets) {
            let lines: Vec<&str> = ended.stderr.lines().filter(|line| line.contains(bad)).collect();
            assert!(lines.is_empty(), "{lines:#?}");
        }
    }
}
