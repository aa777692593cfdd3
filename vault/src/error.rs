//! What can go wrong with a vault, each with its operation and its subject.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::io::Errno;
use stackferry_volume::{Generation, ManifestError, TransferId, VersionId, VolumeId};

use crate::{Damage, VaultId};

/// A cause that another crate gives.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why the vault could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The vault that is known is not there: the folder is missing or empty.
    #[error("vault {expected} is not at {}", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// Which one.
        expected: VaultId,
    },
    /// There is no vault, and none may be made.
    #[error("there is no vault at {}", path.display())]
    NoVault {
        /// Where it was expected.
        path: PathBuf,
    },
    /// The folder holds something, but not a vault's marker.
    #[error("{} holds other files and is no vault", path.display())]
    NotAVault {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds another vault.
    #[error("{} holds vault {found}, not {expected}", path.display())]
    OtherVault {
        /// The folder.
        path: PathBuf,
        /// The vault that is there.
        found: VaultId,
        /// The vault that is known.
        expected: VaultId,
    },
    /// A newer program wrote it.
    #[error("{} has format {found}, this program knows formats up to {known}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that is known here.
        known: u32,
    },
    /// Parts of the vault lie on different file systems, so that nothing could be committed at once.
    #[error("{} and {} must be on one file system", one.display(), other.display())]
    TwoFileSystems {
        /// One folder.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// The group that was configured is not known here.
    #[error("there is no group {group}")]
    NoGroup {
        /// Its name.
        group: String,
        /// Why the lookup failed.
        #[source]
        source: Option<io::Error>,
    },
    /// The system does not let us.
    #[error("user id {uid} may not {op} {}", path.display())]
    Denied {
        /// What was tried.
        op: &'static str,
        /// With what.
        path: PathBuf,
        /// By whom: the effective user id.
        uid: u32,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
    /// The vault was opened for reading only.
    #[error("can't {op}: the vault is open for reading only")]
    ReadOnly {
        /// What was tried.
        op: &'static str,
    },
    /// Too little would be left free.
    #[error("{needed} bytes are needed at {}, {free} are free, of which {reserve} are kept in reserve", path.display())]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes of these that must stay free.
        reserve: u64,
    },
    /// The vault does not know the volume.
    #[error("the vault holds no volume {volume}")]
    NoVolume {
        /// Its id.
        volume: VolumeId,
    },
    /// The volume has no such version.
    #[error("{volume} has no version {version}")]
    NoVersion {
        /// The volume.
        volume: VolumeId,
        /// The version.
        version: VersionId,
    },
    /// The version has no such file.
    #[error("{volume}@{version} has no file {file}")]
    NoFile {
        /// The volume.
        volume: VolumeId,
        /// The version.
        version: VersionId,
        /// The file's name.
        file: String,
    },
    /// What the vault knows of a volume, a transfer or itself can't be believed.
    #[error("{} is damaged: {why}", path.display())]
    RecordDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A version's manifest can't be believed.
    #[error("the manifest of {volume}@{version} can't be used")]
    ManifestDamaged {
        /// The volume.
        volume: VolumeId,
        /// The version.
        version: VersionId,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
    /// A version's bytes are not what its manifest says.
    #[error("{volume}@{version} is damaged: {damage}")]
    Damaged {
        /// The volume.
        volume: VolumeId,
        /// The version.
        version: VersionId,
        /// The file and block, and what is wrong with it.
        damage: Box<Damage>,
    },
    /// Somebody else is using it just now.
    #[error("{subject} is in use: {why}")]
    Busy {
        /// What.
        subject: String,
        /// By whom, or for what.
        why: &'static str,
    },
    /// A pinned version is not deleted.
    #[error("{volume}@{version} is pinned")]
    Pinned {
        /// The volume.
        volume: VolumeId,
        /// The version.
        version: VersionId,
    },
    /// A locked version is not deleted.
    #[error("{volume}@{version} is locked until {until}")]
    Locked {
        /// The volume.
        volume: VolumeId,
        /// The version.
        version: VersionId,
        /// Until when.
        until: Timestamp,
    },
    /// The last good version of a generation is not deleted.
    #[error("{volume}@{version} is the last good version of generation {generation}")]
    LastGood {
        /// The volume.
        volume: VolumeId,
        /// The version.
        version: VersionId,
        /// The generation.
        generation: Generation,
    },
    /// A version whose manifest can't be read is not deleted while no other version of its volume can be read.
    #[error("no other version of {volume} can be read than {version}, whose manifest can't be read either")]
    NoneReadable {
        /// The volume.
        volume: VolumeId,
        /// The version.
        version: VersionId,
    },
    /// A volume is known as something else than what it is now said to be.
    #[error("{volume} is known otherwise: {why}")]
    Conflict {
        /// The volume.
        volume: VolumeId,
        /// What does not agree.
        why: String,
    },
    /// What is to be committed is not what was written.
    #[error("transfer {transfer} can't be committed: {why}")]
    Incomplete {
        /// The transfer.
        transfer: TransferId,
        /// What does not agree.
        why: String,
    },
    /// The fence was not passed: somebody else holds the volume's lease now.
    #[error("transfer {transfer} may no longer commit")]
    Fenced {
        /// The transfer.
        transfer: TransferId,
        /// What the fence said.
        #[source]
        source: Cause,
    },
    /// A file that is there is not overwritten.
    #[error("{} exists", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file stands where a folder has to be.
    #[error("{} is no folder", path.display())]
    NotAFolder {
        /// What is there.
        path: PathBuf,
    },
    /// The work was cancelled.
    #[error("{op} was cancelled")]
    Cancelled {
        /// Which work.
        op: &'static str,
    },
    /// Any other failure of the system.
    #[error("can't {op} {}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's own words.
        #[source]
        source: io::Error,
    },
}

/// What to do where a file is too long.
const TOO_LONG: &str = "its file system can't hold files so long (FAT ends at 4 GiB, ext4 with blocks of 1 KiB at 4 TiB, ext4 \
    at 16 TiB), or the process may not write them: name a place on another file system, and see `ulimit -f` or LimitFSIZE=";

impl VaultError {
    /// The error of a failed system call.
    pub(crate) fn system(op: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.to_owned(), source.into());
        let errno = Errno::from_io_error(&source);
        if matches!(errno, Some(Errno::ACCESS | Errno::PERM | Errno::ROFS)) {
            let uid = rustix::process::geteuid().as_raw();
            return Self::Denied { op, path, uid, source };
        }
        Self::Io { op, path, source }
    }

    /// Whether there is too little space.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::NoSpace { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    /// Whether a file is longer than its file system, or a limit of the process, allows.
    #[must_use]
    pub fn is_file_too_long(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::FileTooLarge)
    }

    /// Whether a version, or what is recorded of it, is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::ManifestDamaged { .. } | Self::RecordDamaged { .. })
    }

    /// Whether there is no such volume, version or file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NoVolume { .. } | Self::NoVersion { .. } | Self::NoFile { .. })
    }

    /// Whether it can't be written to, for want of rights or of space, or since it was opened for reading: reading may work.
    #[must_use]
    pub fn is_not_writable(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::ReadOnly { .. }) || self.is_no_space()
    }

    /// Whether somebody else is using it just now, so that the same call may succeed later.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }

    /// Whether the work was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled { .. })
    }

    /// Whether the vault refuses because of its own rules (pinned, locked, last good version).
    #[must_use]
    pub fn is_protected(&self) -> bool {
        matches!(self, Self::Pinned { .. } | Self::Locked { .. } | Self::LastGood { .. } | Self::NoneReadable { .. })
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Missing { .. } => "is it mounted? Mount the vault's file system and try again",
            Self::NoVault { .. } => {
                "give the folder of a vault; an empty one becomes a vault at the service's first start"
            }
            Self::NotAVault { .. } => "give an empty folder, or the folder that holds stackferry-vault.json",
            Self::OtherVault { .. } => {
                "give the path of the vault that this catalog knows, or start with a new catalog to adopt this vault"
            }
            Self::NewerFormat { .. } => "use the newer stackferry that wrote it",
            Self::TwoFileSystems { .. } => {
                "mount the file system at the vault's folder itself, not at a folder in it: a version is committed by one rename"
            }
            Self::NoGroup { .. } => "make the group, or take `group` out of [vault]",
            Self::Denied { source, .. } => match Errno::from_io_error(source) {
                Some(Errno::ROFS) => "the file system is mounted read-only",
                _ => "give the folder to the user that stackferry runs as, or run it as the folder's owner",
            },
            Self::ReadOnly { .. } => "use the user and the configuration of the service",
            Self::NoSpace { .. } => "free some space, prune versions, or lower `reserve` in [vault]",
            Self::RecordDamaged { .. } => {
                "put the file back from another backup, or move it away: it is then rebuilt from the versions"
            }
            Self::ManifestDamaged { .. } | Self::Damaged { .. } => {
                "use another version; the file system or the disk below it may be failing"
            }
            Self::Busy { .. } => "try again when that has ended",
            Self::Pinned { .. } => "unpin it first",
            Self::LastGood { .. } | Self::NoneReadable { .. } => {
                "copy the volume once more first; the last good version of a generation is never deleted"
            }
            Self::Exists { .. } => "restore into an empty folder, or allow overwriting",
            Self::NotAFolder { .. } => "name a folder; one that is missing is made",
            Self::Fenced { .. } => "another process took over this volume; it makes the version",
            Self::Io { .. } if self.is_file_too_long() => TOO_LONG,
            Self::Io { .. } if self.is_no_space() => "free some space, or prune versions",
            _ => return None,
        })
    }
}

/// An error with its causes, on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self.0, f)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
