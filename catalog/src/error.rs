//! What can go wrong with the catalog.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use stackferry_volume::{VersionId, VolumeId};

/// A failure of the catalog: what was being done, to what, and why it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The file could not be made.
    #[error("the catalog {path} can't be made", path = path.display())]
    Create {
        /// The catalog's file.
        path: PathBuf,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
    /// There is no such file, and none may be made.
    #[error("there is no catalog at {path}", path = path.display())]
    Missing {
        /// The catalog's file.
        path: PathBuf,
    },
    /// The file is no database, or a damaged one.
    #[error("the catalog {path} is damaged: {why}", path = path.display())]
    Corrupt {
        /// The catalog's file.
        path: PathBuf,
        /// What the database found.
        why: String,
    },
    /// A newer program has changed the schema.
    #[error("the catalog {path} was written by a newer stackferry (schema {schema}, this program knows up to {known})", path = path.display())]
    TooNew {
        /// The catalog's file.
        path: PathBuf,
        /// The newest migration in the file.
        schema: i64,
        /// The newest migration in the program.
        known: i64,
    },
    /// An older program's file, opened for reading only.
    #[error("the catalog {path} has an older schema, which can't be brought up to date when it is opened for reading only", path = path.display())]
    TooOld {
        /// The catalog's file.
        path: PathBuf,
    },
    /// A migration failed, or the file says that another migration of the same number was applied.
    #[error("the schema of the catalog {path} can't be brought up to date: {why}", path = path.display())]
    Schema {
        /// The catalog's file.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// The database refused or failed.
    #[error("{operation} failed for {subject}")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// What it was done to.
        subject: String,
        /// The database's own words.
        #[source]
        source: DatabaseCause,
    },
    /// A row holds what this program never writes.
    #[error("{operation} failed for {subject}: column `{column}` can't be read: {why}")]
    Row {
        /// What was being done.
        operation: &'static str,
        /// What it was done to.
        subject: String,
        /// The column.
        column: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A number is larger than the database can hold.
    #[error("{operation} failed for {subject}: {field} is {value}, the catalog holds at most {most}", most = i64::MAX)]
    Range {
        /// What was being done.
        operation: &'static str,
        /// What it was done to.
        subject: String,
        /// Which number.
        field: &'static str,
        /// The number.
        value: u128,
    },
    /// A value can't be written as JSON.
    #[error("{operation} failed for {subject}: {field} can't be written as JSON")]
    Json {
        /// What was being done.
        operation: &'static str,
        /// What it was done to.
        subject: String,
        /// Which value.
        field: &'static str,
        /// The writer's own words.
        #[source]
        source: serde_json::Error,
    },
    /// The catalog belongs to another vault.
    #[error("the catalog belongs to vault {known}, not to vault {other}")]
    OtherVault {
        /// The vault that the catalog knows.
        known: String,
        /// The vault that was named.
        other: String,
    },
    /// No such volume is known.
    #[error("no volume {0} is known")]
    NoSuchVolume(VolumeId),
    /// No such version is known.
    #[error("no version {version} of {volume} is known")]
    NoSuchVersion {
        /// The volume.
        volume: VolumeId,
        /// The version.
        version: VersionId,
    },
    /// The version is in the catalog already.
    #[error("version {version} of {volume}, or another with its number, is known already")]
    VersionExists {
        /// The volume.
        volume: VolumeId,
        /// The version.
        version: VersionId,
    },
    /// The attempt does not exist, or has ended.
    #[error("attempt {0} is not open")]
    AttemptNotOpen(i64),
    /// One round or one rebuild names a thing twice.
    #[error("{operation} failed: {subject} is named twice")]
    Twice {
        /// What was being done.
        operation: &'static str,
        /// What was named twice.
        subject: String,
    },
    /// A descriptor longer than the cache takes.
    #[error("{path} on datastore {datastore} is no descriptor: {bytes} bytes, at most {most} are taken")]
    DescriptorTooLong {
        /// The datastore.
        datastore: String,
        /// The path on it.
        path: String,
        /// Its length in bytes.
        bytes: usize,
        /// The most taken, in bytes.
        most: usize,
    },
    /// No credential of that name was issued.
    #[error("no credential {0} was issued")]
    NoSuchCredential(String),
    /// The name was given to a credential before.
    #[error("a credential {0} was issued before")]
    CredentialExists(String),
    /// The credential was used, has expired or was revoked.
    #[error("credential {name} can't be used: it {why}")]
    CredentialSpent {
        /// Its public name.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// A token of that name is in use.
    #[error("a token named {0} is in use")]
    TokenExists(String),
    /// No token of that name or id is in use.
    #[error("no token named {0} is in use")]
    NoSuchToken(String),
    /// Another holds the lease.
    #[error(transparent)]
    LeaseBusy(#[from] LeaseBusy),
    /// A process could not be read in `/proc`.
    #[error("process {pid} can't be identified by {file}")]
    Process {
        /// The process.
        pid: u32,
        /// The file that was read.
        file: &'static str,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
}

impl CatalogError {
    /// Whether another process is in the way (it holds the lease, or kept the database locked), so that the same call
    /// may succeed a little later.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match self {
            Self::LeaseBusy(_) => true,
            Self::Database { source, .. } => source.class == Class::Busy,
            _ => false,
        }
    }

    /// Whether there is no space left for the catalog.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Database { source, .. } => source.class == Class::Full,
            Self::Create { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }

    /// Whether the catalog's folder or file lets this process not write, for want of rights or of space: then a copy of
    /// it can still be read.
    #[must_use]
    pub fn is_not_writable(&self) -> bool {
        match self {
            Self::Create { source, .. } => source.kind() != io::ErrorKind::NotADirectory,
            Self::Database { source, .. } => matches!(source.class, Class::Full | Class::Access | Class::Io),
            _ => false,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Corrupt { path, .. } | Self::Schema { path, .. } => format!(
                "stop the service, move {path}, {path}-wal and {path}-shm away, and run `stackferry rebuild`: versions are in the vault and are not touched",
                path = path.display()
            ),
            Self::TooNew { .. } => {
                "use the newer stackferry, or move the catalog away and run `stackferry rebuild`".into()
            }
            Self::TooOld { .. } => "start the service once, or run the command as the catalog's owner".into(),
            Self::OtherVault { .. } => "point `vault.path` at the vault that belongs to this `state_dir`".into(),
            Self::TokenExists(_) => {
                "name it otherwise, or take the other one back with `stackferry token revoke`".into()
            }
            Self::NoSuchToken(_) => "`stackferry token list` lists them".into(),
            Self::LeaseBusy(_) => "wait for it to end, or give `--wait`".into(),
            Self::Create { .. } => "check that `state_dir` exists, and who owns it".into(),
            Self::Database { source, .. } => match source.class {
                Class::Busy => "another process keeps the catalog locked: try again".into(),
                Class::Full => "make space on the file system of `state_dir`".into(),
                Class::Access => "check who owns `state_dir` and the files in it".into(),
                Class::Io | Class::Other => return None,
            },
            _ => return None,
        })
    }
}

/// Another holds the lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is busy: locked by {holder} (PID {pid} on {host}) since {since:.0}, expires {expires:.0}")]
pub struct LeaseBusy {
    /// What the lease is on.
    pub name: String,
    /// What the holder said that it is.
    pub holder: String,
    /// The holder's machine.
    pub host: String,
    /// The holder's process number on it.
    pub pid: u32,
    /// Since when it has the lease.
    pub since: Timestamp,
    /// When the lease ends, unless it is renewed.
    pub expires: Timestamp,
}

/// The database's own words on a failure, and what kind of failure it is.
pub struct DatabaseCause {
    class: Class,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Busy,
    Full,
    Access,
    Io,
    Other,
}

impl DatabaseCause {
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        // https://www.sqlite.org/rescode.html
        let class = match sqlite_code(error) {
            Some(5 | 6) => Class::Busy,
            Some(13) => Class::Full,
            Some(3 | 8 | 14 | 23) => Class::Access,
            Some(10) => Class::Io,
            _ if matches!(error, sqlx::Error::PoolTimedOut) => Class::Busy,
            _ => Class::Other,
        };
        // SQLite's own words, without the wrapper's.
        let text = error.as_database_error().map_or_else(|| error.to_string(), ToString::to_string);
        Self { class, text }
    }

    /// The same for the database at this path. SQLite says "disk I/O error" or "unable to open database file" where the
    /// shared memory or the journal beside the file can't grow: if there is no space left, that is the cause.
    pub(crate) fn at(path: &Path, error: &sqlx::Error) -> Self {
        let mut cause = Self::of(error);
        if matches!(sqlite_code(error), Some(10 | 14)) && has_no_space(path) {
            cause.class = Class::Full;
        }
        cause
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.class == Class::Busy
    }
}

/// Less than this free is none for a database: its shared memory grows by 32 KiB.
const NO_SPACE: u64 = 64 << 10;

/// Whether the file system of a file has no space left for this user.
fn has_no_space(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    rustix::fs::statvfs(folder).is_ok_and(|stat| {
        let free = if rustix::process::geteuid().is_root() { stat.f_bfree } else { stat.f_bavail };
        // A file system without a size does not say how full it is.
        stat.f_blocks > 0 && free.saturating_mul(stat.f_frsize) < NO_SPACE
    })
}

/// The primary SQLite result code of an error, where it is one of SQLite's.
pub(crate) fn sqlite_code(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// Whether SQLite says that the file is damaged or no database (`SQLITE_CORRUPT`, `SQLITE_NOTADB`).
pub(crate) fn is_corrupt(error: &sqlx::Error) -> bool {
    matches!(sqlite_code(error), Some(11 | 26))
}

impl fmt::Display for DatabaseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for DatabaseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.class, self.text)
    }
}

impl std::error::Error for DatabaseCause {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_the_operation_and_the_subject() {
        let at: Timestamp = "2026-11-22T04:15:00.123Z".parse().unwrap();
        let volume: VolumeId = "appstack/Office".parse().unwrap();
        let errors = [
            CatalogError::Corrupt {
                path: "/var/lib/stackferry/catalog.sqlite".into(),
                why: "file is not a database".into(),
            },
            CatalogError::TooNew { path: "/c".into(), schema: 7, known: 1 },
            CatalogError::Database {
                operation: "pinning a version",
                subject: "appstack/Office".into(),
                source: DatabaseCause { class: Class::Busy, text: "(code: 5) database is locked".into() },
            },
            CatalogError::NoSuchVersion { volume: volume.clone(), version: VersionId::new(at, 3) },
            CatalogError::CredentialSpent { name: "sf-1a2b3c".into(), why: "was used" },
            CatalogError::LeaseBusy(LeaseBusy {
                name: "volume/appstack/Office".into(),
                holder: "copy".into(),
                host: "backup1".into(),
                pid: 12,
                since: at,
                expires: at,
            }),
        ];
        let texts: Vec<String> = errors
            .iter()
            .map(|error| format!("{error}\n  busy: {}\n  hint: {}", error.is_busy(), error.hint().unwrap_or_default()))
            .collect();
        insta::assert_snapshot!(texts.join("\n"));
    }
}
