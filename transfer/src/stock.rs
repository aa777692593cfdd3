//! The route `ssh`: files of a stock OpenSSH server, on which nothing of ours is installed.
//!
//! Every opened file has a connection of its own, with a new key and a certificate of our CA whose forced command is made
//! for that file. The command requested on a connection is therefore always the same word: the host runs the forced
//! command, or nothing. No key and no certificate is used twice.
//!
//! A host is read by the first of these methods that it has, which is probed once and remembered:
//!  1. SFTP, read-only, with many reads in flight. Where the host has Python, its hole map is requested first, by a
//!     certificate of its own, and is trusted only after a check. The host does not bind this certificate to the file.
//!  2. `scp -f` of that one file.
//!
//! Folders are listed by logins of their own that open no disk: SFTP without the right to open anything, or a forced
//! `find`. Descriptors are read by SFTP, or by a forced `head`.
//!
//! A restore writes new files, each by a certificate whose forced command makes that one file (`stock/upload.rs`).
//!
//! This module never changes an existing file, never requests a shell, a terminal or forwarding, and never trusts a name, a
//! size or a hole that the host reports without a check against something else.

pub mod certificate;

pub(crate) mod command;
pub(crate) mod fetch;
mod find;
mod folder;
mod listing;
mod login;
pub(crate) mod map;
mod run;
pub(crate) mod scp;
pub(crate) mod sftp;
mod upload;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use stackferry_config::SourceAddress;
use stackferry_volume::FolderError;
use stackferry_volume::fingerprint::is_known;
use stackferry_volume::io::Cancel;
use tokio::runtime::Handle;

use crate::context::{CopyContext, FileCopy, FileOutcome};
use crate::error::TransferError;
use crate::restore::{FileRestore, Written};
use crate::ssh::SshHost;
use crate::timeouts::Timeouts;
use crate::wait::unless_cancelled;
use certificate::{CLOCKS_DIFFER, CertAuthority, CertificateRequest};
use stackferry_config::Secret;

pub use folder::StockFolder;

/// How long a certificate of this route is valid for a login: five minutes in total, starting a minute ago, since clocks
/// differ.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(300);

/// After so long a host is probed again for what it lacked, which may have been installed since.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// A host of this route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockHost {
    /// Its address and host key.
    pub peer: SshHost,
    /// The user there, which is also the certificates' only principal.
    pub user: String,
    /// Where the datastore is mounted on that host: an absolute path.
    pub root: PathBuf,
    /// The file of the private key that signs the certificates.
    pub ca_key: PathBuf,
    /// The addresses from which a certificate may be used.
    pub source_address: SourceAddress,
}

/// A certificate's purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reading one file by SFTP.
    Sftp,
    /// Reading one file by `scp -f`.
    Scp,
    /// Reading one file's hole map.
    HoleMap,
    /// Writing one new file.
    Write,
}

impl Purpose {
    /// Its name in logs and the audit trail.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sftp => "sftp",
            Self::Scp => "scp",
            Self::HoleMap => "hole_map",
            Self::Write => "write",
        }
    }
}

/// An issued certificate, without its key.
#[derive(Debug, Clone)]
pub struct IssuedCert {
    /// Its public name, which the host's log shows: `sf-` and 16 hexadecimal digits.
    pub name: String,
    /// Its serial number.
    pub serial: u64,
    /// Its purpose.
    pub purpose: Purpose,
    /// When it expires.
    pub expires: Timestamp,
}

/// A key and a certificate for one file, for a person with OpenSSH's `scp -O`.
#[derive(Debug, Clone)]
pub struct FileGrant {
    /// The certificate's public name.
    pub name: String,
    /// The private key in OpenSSH's format: the content of the key file.
    pub key: Secret,
    /// The certificate: the content of the file beside it, with `-cert.pub` at the end of its name.
    pub certificate: String,
    /// The file's path on the host.
    pub path: String,
    /// When the certificate expires.
    pub expires: Timestamp,
}

/// How a host is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadMethod {
    /// SFTP, with listings by a login that can't open files.
    Sftp,
    /// SFTP of a version that can't restrict a login to some requests.
    PlainSftp,
    /// `scp -f`, and `find`.
    Scp,
}

/// A stock host. Its methods block, and must not be called on a thread that runs async tasks.
pub struct StockClient {
    inner: Arc<StockInner>,
}

struct StockInner {
    host: StockHost,
    root: String,
    authority: CertAuthority,
    runtime: Handle,
    timeouts: Timeouts,
    method: Mutex<Option<ReadMethod>>,
    /// Whether to request hole maps.
    python: Mutex<map::HoleMapBackoff>,
    key_types: Mutex<login::KeyTypes>,
    listing: folder::SessionSlot,
    reading: folder::SessionSlot,
}

impl StockClient {
    /// A client of this host. Nothing is connected yet.
    ///
    /// # Errors
    /// `Key` where the CA's key can't be used; `Folder` where the root is no plain absolute path.
    pub fn new(host: StockHost, runtime: Handle) -> Result<Self, TransferError> {
        Self::with_timeouts(host, runtime, Timeouts::default())
    }

    /// The same with other timeouts.
    ///
    /// # Errors
    /// As [`StockClient::new`].
    pub fn with_timeouts(host: StockHost, runtime: Handle, timeouts: Timeouts) -> Result<Self, TransferError> {
        let root = command::root(&host.root)?;
        let authority = CertAuthority::load(&host.ca_key)?;
        let inner = StockInner {
            host,
            root,
            authority,
            runtime,
            timeouts,
            method: Mutex::new(None),
            python: Mutex::default(),
            key_types: Mutex::default(),
            listing: folder::SessionSlot::default(),
            reading: folder::SessionSlot::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.inner.host.peer.address()
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &StockHost {
        &self.inner.host
    }

    /// The line that the host's administrator adds to the user's `authorized_keys`.
    #[must_use]
    pub fn authorized_keys_line(&self) -> String {
        self.inner.authority.authorized_keys_line(&self.inner.host.user)
    }

    /// Logs in as discovery does, and returns how this host is read: `sftp` or `scp`.
    ///
    /// # Errors
    /// See [`TransferError`]; `LoginRefused` with what to check, `Unfit` where the host has neither.
    pub fn probe(&self) -> Result<&'static str, TransferError> {
        let inner = &*self.inner;
        Ok(match inner.read_method(&Cancel::default())? {
            ReadMethod::Sftp | ReadMethod::PlainSftp => "sftp",
            ReadMethod::Scp => {
                // Without SFTP everything depends on the user's shell and `find`.
                inner.runtime.block_on(find::run_find(inner, "", &inner.path("")?, 0))?;
                "scp"
            }
        })
    }

    /// The datastore, for discovery.
    ///
    /// SFTP reports times in whole seconds, and neither a file's allocated size nor its inode; `find` reports all of these.
    /// A host is always read the same way, so that its answers can be compared.
    #[must_use]
    pub fn folder(&self) -> StockFolder {
        StockFolder::new(Arc::clone(&self.inner))
    }

    /// Copies one file; see [`FileCopy`]. `issued` gets each certificate before it is used, so that it can be
    /// recorded: one for the data, and before that one for the hole map where that is worthwhile.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub fn copy(
        &self,
        file: FileCopy<'_>,
        context: &CopyContext,
        issued: &mut dyn FnMut(&IssuedCert),
    ) -> Result<FileOutcome, TransferError> {
        let inner = &*self.inner;
        let path = inner.path(file.path)?;
        let outcome = match inner.read_method(&context.cancel)? {
            ReadMethod::Sftp | ReadMethod::PlainSftp => fetch::copy(inner, &path, file, context, issued),
            ReadMethod::Scp => scp::copy(inner, &path, file, context, issued),
        };
        inner.forget_method_if_gone(&outcome);
        outcome
    }

    /// Writes one new file onto the datastore; see [`FileRestore`]. `issued` gets its certificate before it is used, so
    /// that it can be recorded.
    ///
    /// # Errors
    /// See [`TransferError`]; `Unfit` where the host has no Python, `Exists`, `NoRoom`, `VersionDamaged`, `Arrived`.
    pub fn write(
        &self,
        file: &FileRestore<'_>,
        context: &CopyContext,
        issued: &mut dyn FnMut(&IssuedCert),
    ) -> Result<Written<'_>, TransferError> {
        upload::write(&self.inner, file, context, issued)
    }

    /// A certificate for one file, for a person with `scp -O`. `life` starts now, and with the minute before is at most
    /// [`CERTIFICATE_LIFE`]. `source` are the addresses it may be used from (a list as in [`SourceAddress::Given`]).
    ///
    /// # Errors
    /// `Folder` where the path can't be put into a command; `Key`.
    pub fn grant(&self, path: &str, life: Duration, source: Option<&str>) -> Result<FileGrant, TransferError> {
        let inner = &*self.inner;
        let path = inner.path(path)?;
        let request = CertificateRequest {
            user: &inner.host.user,
            command: &command::scp_for_a_person(&path),
            source_address: source,
            now: Timestamp::now(),
            life: life.saturating_add(CLOCKS_DIFFER).min(CERTIFICATE_LIFE),
        };
        let issued = inner.authority.issue_for(inner.key_type(), &request)?;
        let expires = issued.expires;
        let (key, certificate) = (issued.key_text()?, issued.certificate_line()?);
        Ok(FileGrant { name: issued.name, key, certificate, path, expires })
    }
}

impl StockInner {
    fn address(&self) -> String {
        self.host.peer.address()
    }

    /// The datastore, as errors name it.
    fn datastore(&self) -> String {
        format!("{} on {}", self.root, self.address())
    }

    /// A path on the host, of a path on the datastore.
    fn path(&self, path: &str) -> Result<String, FolderError> {
        command::path_below(&self.root, path)
    }

    fn known_method(&self) -> Option<ReadMethod> {
        *self.method.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_method(&self, method: Option<ReadMethod>) {
        *self.method.lock().unwrap_or_else(PoisonError::into_inner) = method;
    }

    /// Probes a host that lost its SFTP again, the next time.
    fn forget_method_if_gone<T>(&self, result: &Result<T, TransferError>) {
        if matches!(result, Err(TransferError::Refused { code, .. }) if code == "no_subsystem") {
            self.set_method(None);
        }
    }

    /// How this host is read: as remembered, or probed by a login for discovery. Blocks.
    fn read_method(&self, cancel: &Cancel) -> Result<ReadMethod, TransferError> {
        match self.known_method() {
            Some(method) => Ok(method),
            None => self.runtime.block_on(unless_cancelled(cancel, folder::probe_method(self))),
        }
    }

    fn python(&self) -> std::sync::MutexGuard<'_, map::HoleMapBackoff> {
        self.python.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time in whole seconds, as SFTP and SCP report it.
pub(crate) fn whole_seconds(time: Timestamp) -> i64 {
    time.as_nanosecond().div_euclid(1_000_000_000).try_into().unwrap_or(i64::MIN)
}

/// Whether two tools of a host report the same time, in seconds. SFTP has 32 bits for it, so times before 1970 or after 2106
/// appear as another year; `scp` reports 1970 for everything before. No change is missed by this: nothing is written twice
/// at times 136 years apart.
pub(crate) fn same_second(one: i64, other: i64) -> bool {
    let short = |seconds: i64| seconds.rem_euclid(1 << 32);
    short(one) == short(other) || (one == 0 && other < 0) || (one < 0 && other == 0)
}

/// The open file is the one that discovery saw.
pub(crate) fn check_unchanged(file: &FileCopy<'_>, bytes: u64, mtime_seconds: i64) -> Result<(), TransferError> {
    let what = if bytes != file.bytes {
        format!("its length was {} bytes and is {bytes}", file.bytes)
    } else if is_known(file.mtime) && !same_second(mtime_seconds, whole_seconds(file.mtime)) {
        let now =
            Timestamp::from_second(mtime_seconds).map_or_else(|_| mtime_seconds.to_string(), |now| now.to_string());
        format!("its time of last change was {} and is {now}", file.mtime)
    } else {
        return Ok(());
    };
    Err(TransferError::SourceChanged { file: file.path.to_owned(), what })
}
