//! What the tests share: a vCenter with two hosts and two datastores, and clients of it.

pub(crate) mod esxi;
#[path = "../../support/files.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
pub(crate) mod files;
#[path = "../../../../vsphere/tests/simulator/peer.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
pub(crate) mod peer;
#[path = "../../../../vsphere/tests/simulator/process.rs"]
mod process;
#[path = "../../support/sink.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
pub(crate) mod sink;
#[path = "../../support/time.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod time;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use stackferry_transfer::esxi::{CleanupLedger, EsxiClient, EsxiCredential, EsxiDatastore, HostAccess, HostCleanup};
use stackferry_transfer::{CopyContext, FileCopy, FileOutcome, TransferError};
use stackferry_volume::io::Cancel;
use stackferry_volume::{BlockMap, Folder};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use peer::Peer;
use sink::TestSink;
pub(crate) use time::Deadline;

pub(crate) const USER: &str = "svc@vsphere.local";
pub(crate) const PASSWORD: &str = "a pass & word";
pub(crate) const INSTALL: &str = "0a1b2c";
/// The datastore on all hosts, and the one on the second host only.
pub(crate) const SHARED: &str = "vmfs 01";
pub(crate) const FLAT: &str = "cloudvolumes/apps/Office!20!2021-flat.vmdk";

/// A ledger that remembers what was written in it.
#[derive(Default)]
pub(crate) struct Book {
    next: AtomicU64,
    pub(crate) open: Mutex<Vec<(u64, HostCleanup)>>,
    pub(crate) all: Mutex<Vec<HostCleanup>>,
    /// How much may be written before it fails; none: it never does.
    pub(crate) room: Mutex<Option<u64>>,
}

impl CleanupLedger for Book {
    fn record(&self, cleanup: &HostCleanup) -> Result<u64, TransferError> {
        if let Some(room) = &mut *self.room.lock().unwrap() {
            *room = room.checked_sub(1).ok_or_else(|| TransferError::Worker { file: "the ledger".to_owned() })?;
        }
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        self.open.lock().unwrap().push((number, cleanup.clone()));
        self.all.lock().unwrap().push(cleanup.clone());
        Ok(number)
    }

    fn resolve(&self, number: u64) {
        self.open.lock().unwrap().retain(|(open, _)| *open != number);
    }
}

/// A vCenter that runs, what its datastores hold, and where copies go.
pub(crate) struct Site {
    pub(crate) folder: TempDir,
    pub(crate) peer: Peer,
    pub(crate) runtime: Runtime,
    pub(crate) book: Arc<Book>,
}

impl Site {
    /// With some changes to its configuration. None where this machine can't run it.
    pub(crate) fn start_with(change: impl FnOnce(&mut Value)) -> Option<Self> {
        Self::start_in(Self::ground(), change)
    }

    /// A folder with the password and the content of the datastores.
    pub(crate) fn ground() -> TempDir {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        for name in ["shared/cloudvolumes/apps", "second", "vsan/cloudvolumes/apps", "copies"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
        folder
    }

    pub(crate) fn start_in(folder: TempDir, change: impl FnOnce(&mut Value)) -> Option<Self> {
        let mut config = json!({
            "mode": "vcenter",
            "users": [{ "name": USER, "password": PASSWORD }],
            "datacenters": [{
                "name": "Berlin 1",
                "folder": "EU",
                "hosts": [
                    { "name": "esx1", "shown_name": "esx1.example.com", "root_password": "Root-pass-1" },
                    { "name": "esx2", "shown_name": "esx2.example.com", "root_password": "Root-pass-2" },
                ],
                "datastores": [
                    { "name": SHARED, "dir": folder.path().join("shared") },
                    { "name": "local2", "dir": folder.path().join("second"), "hosts": ["esx2"] },
                    { "name": "vsan 01", "type": "vsan", "dir": folder.path().join("vsan") },
                ],
            }],
        });
        change(&mut config);
        let peer = Peer::start(&config)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Some(Self { folder, peer, runtime, book: Arc::default() })
    }

    pub(crate) fn start() -> Option<Self> {
        Self::start_with(|_| {})
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The file of this machine for one of the shared datastore.
    pub(crate) fn shared(&self, name: &str) -> PathBuf {
        self.path("shared").join(name)
    }

    pub(crate) fn vsphere(&self) -> stackferry_vsphere::Vsphere {
        self.peer.client(USER, &self.path("password"))
    }

    pub(crate) fn client_of(&self, name: &str, access: HostAccess) -> EsxiClient {
        let datastore = EsxiDatastore {
            vsphere: self.vsphere(),
            system: "vc1".to_owned(),
            name: name.to_owned(),
            access,
            install: INSTALL.to_owned(),
        };
        EsxiClient::new(datastore, self.book.clone(), self.runtime.handle().clone(), Cancel::default())
    }

    pub(crate) fn client(&self) -> EsxiClient {
        self.client_of(SHARED, HostAccess::Ticket)
    }

    pub(crate) fn obey(&self, command: Value) -> Value {
        self.peer.obey(command)
    }

    /// The requests of `/folder` so far.
    pub(crate) fn accesses(&self) -> Vec<Value> {
        self.obey(json!({ "do": "accesses" }))["accesses"].as_array().cloned().unwrap_or_default()
    }

    pub(crate) fn trouble(&self, trouble: Value) {
        let mut all = json!({ "datastore": SHARED, "path": FLAT });
        all.as_object_mut().unwrap().extend(trouble.as_object().unwrap().clone());
        self.obey(json!({ "do": "trouble", "trouble": all }));
    }
}

pub(crate) fn context() -> CopyContext {
    CopyContext::new(Cancel::default(), Arc::new(stackferry_transfer::NoProgress), 32 << 20)
}

/// A copy of one file, as it is made.
pub(crate) struct Copying {
    pub(crate) sink: TestSink,
    pub(crate) done: BlockMap,
    pub(crate) issued: Vec<EsxiCredential>,
}

impl Copying {
    pub(crate) fn of(source: &Path, copies: &Path, name: &str) -> Self {
        let bytes = std::fs::metadata(source).unwrap().len();
        Self { sink: TestSink::new(copies, name, bytes), done: BlockMap::new(bytes), issued: Vec::new() }
    }

    /// Copies the file as the datastore tells of it now.
    pub(crate) fn run(
        &mut self,
        client: &EsxiClient,
        path: &str,
        context: &CopyContext,
    ) -> Result<FileOutcome, TransferError> {
        let seen = client.folder().stat(path)?.expect("the file is there");
        let file = FileCopy {
            path,
            bytes: seen.bytes,
            mtime: seen.mtime,
            sink: &self.sink,
            done: self.done.clone(),
            base: None,
        };
        client.copy(file, context, &mut |credential| self.issued.push(credential.clone()))
    }
}

/// Whether two files hold the same bytes.
pub(crate) fn same(one: &File, two: &Path) -> bool {
    files::blocks_of(one) == files::blocks_of(&File::open(two).unwrap())
}
