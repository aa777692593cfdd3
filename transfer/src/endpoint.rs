//! The endpoint: our own SSH server on a machine that mounts datastores.
//!
//! It has two kinds of client. A *service* logs in with a known key, may list folders, read small files and request
//! grants, and transfers no volume. A *credential* logs in once with a user name and password that a service received for
//! one file, and reads that file: with the block subsystem, SFTP or SCP. Everything else is refused: shells, terminals,
//! forwarding, other commands, a second channel, a second file.
//!
//! It writes only to the datastores that its configuration allows, and there only new files, each by a credential of its
//! own: existing files are never changed. Grants live in memory only: a restart ends them all.

pub mod issuer;

pub(crate) mod channel;
mod control;
pub(crate) mod grants;
pub(crate) mod listener;
pub(crate) mod receive;
mod scp;
pub(crate) mod send;
mod session;
pub(crate) mod sftp;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::PrivateKey;
use stackferry_volume::FolderError;
use stackferry_volume::local::LocalFolder;
use tokio::net::TcpListener;

use crate::error::TransferError;
use crate::ssh;
use issuer::Issuer;

/// An endpoint's settings.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its host key, in OpenSSH's format; generated where it is missing.
    pub host_key: PathBuf,
    /// The services that may log in, as lines of `authorized_keys` with at most the options `from` and `restrict`.
    pub issuers: Vec<String>,
    /// Its datastores: name and mount point.
    pub datastores: BTreeMap<String, PathBuf>,
    /// The datastores to which new files may be written.
    pub restore: BTreeSet<String>,
}

/// Why an endpoint does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// It can't listen.
    #[error("can't listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its host key can't be read or generated.
    #[error(transparent)]
    HostKey(#[from] TransferError),
    /// A line of `issuers` is invalid.
    #[error("issuer {number}: {why}")]
    Issuer {
        /// Which line, from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// The state that all connections of an endpoint share.
pub(crate) struct EndpointState {
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) datastores: BTreeMap<String, PathBuf>,
    pub(crate) restore: BTreeSet<String>,
    pub(crate) grants: grants::Grants,
    pub(crate) workers: usize,
}

impl EndpointState {
    /// A datastore that this endpoint has.
    pub(crate) fn folder(&self, datastore: &str) -> Result<LocalFolder, FolderError> {
        let path = self.datastores.get(datastore).ok_or_else(|| FolderError::Unreachable {
            datastore: datastore.to_owned(),
            why: "this endpoint has no datastore of that name".to_owned(),
        })?;
        LocalFolder::open(path)
    }
}

/// An endpoint that listens.
pub struct EndpointServer {
    listener: TcpListener,
    key: PrivateKey,
    shared: Arc<EndpointState>,
}

impl EndpointServer {
    /// Reads or generates the host key, reads the issuers, and listens.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub async fn bind(config: EndpointConfig) -> Result<Self, EndpointError> {
        let key = host_key(&config.host_key)?;
        let issuers = config
            .issuers
            .iter()
            .enumerate()
            .map(|(at, line)| issuer::parse(line).map_err(|why| EndpointError::Issuer { number: at + 1, why }));
        let issuers = issuers.collect::<Result<Vec<_>, _>>()?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| EndpointError::Listen { address: config.listen, source })?;
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
        let shared = Arc::new(EndpointState {
            issuers,
            datastores: config.datastores,
            restore: config.restore,
            grants: grants::Grants::default(),
            workers,
        });
        Ok(Self { listener, key, shared })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Its host key as a line for a configuration: `ssh-ed25519 AAAA…`.
    #[must_use]
    pub fn public_host_key(&self) -> String {
        let mut key = self.key.public_key().clone();
        key.set_comment("");
        key.to_openssh().unwrap_or_default()
    }

    /// Serves until `stop` is done; then ends all connections.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        listener::run(self.listener, self.key, self.shared, stop).await;
    }
}

/// Reads the host key, or generates it. A key that changes by itself would lock out every client, so:
///  1. the key is written completely to a temporary name beside its own, and synced;
///  2. it is linked to its own name, which fails where another process was first: then that one's key counts;
///  3. the temporary name is removed, and the folder is synced before the key is used.
///
/// A crash before 2 leaves no key, after it a whole one; at worst an unused temporary file is left over.
fn host_key(path: &Path) -> Result<PrivateKey, TransferError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let bad = |why: String| TransferError::Key { path: path.display().to_string(), why };
    let failed = |error: std::io::Error| bad(error.to_string());
    if !path.try_exists().map_err(failed)? {
        let key = ssh::new_key("stackferry endpoint");
        let text = key.to_openssh(russh::keys::ssh_key::LineEnding::LF).map_err(|error| bad(error.to_string()))?;
        let mut other = path.as_os_str().to_owned();
        other.push(format!(".{:016x}", rand::random::<u64>()));
        let other = PathBuf::from(other);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&other).map_err(failed)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let owned = stackferry_volume::local::give_to_owner(&file, folder);
        let written = owned.and_then(|()| file.write_all(text.as_bytes())).and_then(|()| file.sync_all());
        let linked = written.and_then(|()| match std::fs::hard_link(&other, path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        });
        std::fs::remove_file(&other).map_err(failed)?;
        linked.map_err(failed)?;
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    ssh::load_key(path).map(|key| (*key).clone())
}
