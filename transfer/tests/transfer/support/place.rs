//! A datastore, and an endpoint in this process that serves it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stackferry_transfer::endpoint::{EndpointConfig, EndpointServer};
use stackferry_transfer::known_hosts::HostKeys;
use stackferry_transfer::remote::{EndpointClient, IssuedCredential};
use stackferry_transfer::ssh::{SshHost, new_key};
use stackferry_transfer::{CopyContext, FileCopy, FileOutcome, Progress, TransferError, local};
use stackferry_volume::io::Cancel;
use stackferry_volume::local::LocalFolder;
use stackferry_volume::{BlockMap, Folder};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::sink::TestSink;

/// The name of the one datastore.
pub(crate) const DATASTORE: &str = "nfs01";

/// Which way a file is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Local,
    Endpoint,
}

pub(crate) const BOTH: [Via; 2] = [Via::Local, Via::Endpoint];

pub(crate) struct Place {
    pub(crate) home: TempDir,
    pub(crate) runtime: Runtime,
    pub(crate) address: SocketAddr,
    pub(crate) host_key: String,
    pub(crate) key: PathBuf,
    pub(crate) serving: JoinHandle<()>,
    client: EndpointClient,
}

/// Writes a fresh service key; gives the line for `issuers`.
pub(crate) fn service_key(path: &Path, comment: &str) -> String {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let key = new_key(comment);
    let text = key.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap();
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    key.public_key().to_openssh().unwrap()
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub(crate) fn context() -> CopyContext {
    CopyContext::new(Cancel::default(), Arc::new(stackferry_transfer::NoProgress), 32 << 20)
}

/// Counts the progress.
#[derive(Default)]
pub(crate) struct Counted(pub(crate) AtomicU64);

impl Progress for Counted {
    fn done(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::SeqCst);
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with_issuers(|line| vec![line.to_owned()])
    }

    /// An endpoint to which nothing may be restored.
    pub(crate) fn closed() -> Self {
        Self::start(|line| vec![line.to_owned()], &[])
    }

    /// `issuers` makes the lines of the configuration of the service's key.
    pub(crate) fn with_issuers(issuers: impl FnOnce(&str) -> Vec<String>) -> Self {
        Self::start(issuers, &[DATASTORE])
    }

    fn start(issuers: impl FnOnce(&str) -> Vec<String>, restore: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("ds/apps")).unwrap();
        let key = home.path().join("service_key");
        let line = service_key(&key, "stackferry@test");
        let runtime = runtime();
        let config = EndpointConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            host_key: home.path().join("host_key"),
            issuers: issuers(&line),
            datastores: BTreeMap::from([(DATASTORE.to_owned(), home.path().join("ds"))]),
            restore: restore.iter().map(|name| (*name).to_owned()).collect(),
        };
        let endpoint = runtime.block_on(EndpointServer::bind(config)).unwrap();
        let address = endpoint.local_addr().unwrap();
        let host_key = endpoint.public_host_key();
        let serving = runtime.spawn(endpoint.run(std::future::pending()));
        let peer = peer(address, &host_key);
        let client = EndpointClient::new(peer, &key, runtime.handle().clone()).unwrap();
        Self { home, runtime, address, host_key, key, serving, client }
    }

    pub(crate) fn peer(&self) -> SshHost {
        peer(self.address, &self.host_key)
    }

    pub(crate) fn client(&self) -> &EndpointClient {
        &self.client
    }

    /// A client of its own.
    pub(crate) fn new_client(&self, peer: SshHost) -> EndpointClient {
        EndpointClient::new(peer, &self.key, self.runtime.handle().clone()).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join("ds").join(name)
    }

    pub(crate) fn folder(&self) -> LocalFolder {
        LocalFolder::open(&self.home.path().join("ds")).unwrap()
    }

    pub(crate) fn sink(&self, name: &str, bytes: u64) -> TestSink {
        TestSink::new(self.home.path(), name, bytes)
    }

    /// The file as discovery would see it now.
    pub(crate) fn file<'a>(&self, path: &'a str, sink: &'a TestSink) -> FileCopy<'a> {
        let entry = self.folder().stat(path).unwrap().unwrap();
        let done = BlockMap::new(entry.bytes);
        FileCopy { path, bytes: entry.bytes, mtime: entry.mtime, sink, done, base: None }
    }

    pub(crate) fn copy(
        &self,
        via: Via,
        file: FileCopy<'_>,
        context: &CopyContext,
    ) -> Result<FileOutcome, TransferError> {
        match via {
            Via::Local => local::copy(&self.folder(), file, context),
            Via::Endpoint => self.client.copy(DATASTORE, file, context, &mut |_| {}),
        }
    }

    /// A credential for a file, as a service gets it.
    pub(crate) fn credential(&self, path: &str) -> IssuedCredential {
        self.client.issue(DATASTORE, path, std::time::Duration::from_secs(60)).unwrap()
    }
}

pub(crate) fn peer(address: SocketAddr, host_key: &str) -> SshHost {
    SshHost { host: address.ip().to_string(), port: address.port(), host_keys: HostKeys::Line(host_key.to_owned()) }
}
