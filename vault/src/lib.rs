//! Where versions live: commit, list, open, verify, restore, delete.
//!
//! The vault is the truth about versions, pins, locks, generations and incidents; whatever else is known of them is an
//! index of it. It survives the end of its process and of its machine at any moment: each path that writes durably
//! documents its order and why a crash at any point of it is safe.
//!
//! This is the `plain` kind: a version is a folder with the volume's own files.
//!
//! ```text
//! <vault>/stackferry-vault.json                       marker: format, UUID
//! <vault>/volumes/<kind>/<folder>/volume.json         id, generations, pins, locks, marks of damage
//! <vault>/volumes/<kind>/<folder>/<version>/          the volume's files, and manifest.json
//! <vault>/incoming/<transfer>/transfer.json           whose it is
//! <vault>/incoming/<transfer>/files/                  what is being written; this folder becomes the version
//! <vault>/incoming/<transfer>/journal/                which blocks of each file are on the disk
//! <vault>/trash/                                      what is being deleted
//! ```
//!
//! All of it blocks; nothing here knows of async, networks or databases.

mod access;
mod commit;
mod damage;
mod delete;
mod dir;
mod error;
mod id;
mod incoming;
mod list;
mod open;
mod outline;
mod rebuilt;
mod record;
mod restore;
mod seal;
mod steps;
mod sweep;
#[cfg(test)]
mod tests;
mod verify;
mod version;
mod volumes;
mod walk;
mod whole;

use std::path::Path;
use std::sync::{Arc, Mutex, Weak};

pub use damage::{Damage, MAX_DAMAGE};
pub use delete::{DeleteOutcome, DeleteRequest, FoundVersion};
pub use error::{Cause, VaultError};
pub use id::VaultId;
pub use incoming::{Incoming, IncomingSpec, MAX_AGE, VaultFile};
pub use list::{VersionEntry, VersionSummary};
pub use open::VaultOptions;
pub use outline::{FolderStamp, Outline, Stamps};
pub use rebuilt::Marks;
pub use record::{DamageMark, FolderLocation, GenerationRecord, Pin, VolumeRecord, VolumeSpec};
pub use restore::RestoreReport;
pub use sweep::Swept;
pub use version::{Version, VersionFile};
pub use volumes::{VaultProblem, Volumes};

use access::Permissions;
use dir::Dir;

/// What is kept free of the vault's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// Percent of its size, up to 100.
    Percent(u8),
    /// Bytes.
    Bytes(u64),
}

impl Default for Reserve {
    fn default() -> Self {
        Self::Percent(5)
    }
}

impl Reserve {
    /// In bytes, of a file system of `total` bytes.
    #[must_use]
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => {
                let percent = u64::from(percent.min(100));
                total / 100 * percent + total % 100 * percent / 100
            }
        }
    }
}

/// The space of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Its size.
    pub total: u64,
    /// What this user may still write; the most there can be where it is not known.
    pub free: u64,
}

impl Space {
    /// Whether the file system reports its size: some of those in user space and of those over a network do not.
    #[must_use]
    pub fn is_known(self) -> bool {
        self.total > 0
    }
}

pub(crate) fn space_of(dir: &Dir) -> Result<Space, VaultError> {
    let stat = rustix::fs::fstatvfs(dir).map_err(|errno| VaultError::system("measure", dir.path(), errno))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    // A file system without a single block holds no file either: it reports none. That is no reason to refuse.
    if stat.f_blocks == 0 {
        return Ok(Space { total: 0, free: u64::MAX });
    }
    Ok(Space { total: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
}

/// An open vault. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Vault(pub(crate) Arc<VaultInner>);

#[derive(Debug)]
pub(crate) struct VaultInner {
    pub(crate) root: Dir,
    pub(crate) volumes: Dir,
    pub(crate) writable: Option<Writable>,
    pub(crate) id: VaultId,
    pub(crate) access: Permissions,
    pub(crate) reserve: Reserve,
    pub(crate) program: String,
    /// The transfers that are being written, and the bytes that each takes in the end.
    pub(crate) reserved: Mutex<Vec<(Weak<incoming::OpenTransfer>, u64)>>,
}

/// The parts that only a writer needs.
#[derive(Debug)]
pub(crate) struct Writable {
    pub(crate) incoming: Dir,
    pub(crate) trash: Dir,
}

impl VaultInner {
    pub(crate) fn writable(&self, op: &'static str) -> Result<&Writable, VaultError> {
        self.writable.as_ref().ok_or(VaultError::ReadOnly { op })
    }
}

impl Vault {
    /// Which vault it is.
    #[must_use]
    pub fn id(&self) -> VaultId {
        self.0.id
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.root.path()
    }

    /// The space of its file system.
    ///
    /// # Errors
    /// The system's.
    pub fn space(&self) -> Result<Space, VaultError> {
        space_of(&self.0.root)
    }

    /// Whether `needed` bytes more leave the reserve free.
    ///
    /// # Errors
    /// `NoSpace` if not; else the system's.
    pub fn check_space(&self, needed: u64) -> Result<(), VaultError> {
        let Space { total, free } = self.space()?;
        let reserve = self.0.reserve.of(total);
        if needed.checked_add(reserve).is_some_and(|all| all <= free) {
            return Ok(());
        }
        Err(VaultError::NoSpace { path: self.path().to_owned(), needed, free, reserve })
    }
}

/// 64 random bits as 16 hexadecimal digits, for names that nobody else takes.
pub(crate) fn random_name() -> String {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    format!("{high:016x}")
}
