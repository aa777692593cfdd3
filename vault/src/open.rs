//! Opening a vault, and making one.
//!
//! The marker `stackferry-vault.json` says that a folder is a vault, and which. A vault that is known is never made
//! anew where its folder is empty: most likely its file system is not mounted.
//!
//! A vault is made in this order, under the lock of its folder:
//! 1. Make `volumes`, `incoming` and `trash`; each is durable before the next step.
//! 2. Write the marker under a temporary name, wait until it is on the disk, rename it, sync the folder.
//!
//! A crash before the rename leaves empty folders and perhaps a temporary marker. Such a folder still counts as
//! empty, so the next start begins again. After the rename the vault is whole.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use rustix::fs::{Access as AccessMode, AtFlags, Gid, StatxFlags, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::access::Permissions;
use crate::dir::Dir;
use crate::id::VaultId;
use crate::seal::format_of;
use crate::{Reserve, Vault, VaultError, VaultInner, Writable};

const MARKER_NAME: &str = "stackferry-vault.json";
/// The newest format of a vault that is made, and the newest that is opened.
const FORMAT: u32 = 1;
/// The longest marker that is read, in bytes.
const MAX_MARKER_BYTES: u64 = 64 << 10;
const PARTS: [&str; 3] = ["volumes", "incoming", "trash"];
/// What a fresh file system holds by itself: ext4 makes this folder for fsck.
const LOST_AND_FOUND: &str = "lost+found";

/// How a vault is opened.
#[derive(Debug, Clone, Default)]
pub struct VaultOptions {
    /// The vault that the catalog knows; none if it knows none.
    pub expect: Option<VaultId>,
    /// Whether an empty or missing folder becomes a vault. Only if the catalog knows none.
    pub allow_create: bool,
    /// The group that may read the vault, by name or number.
    pub group: Option<String>,
    /// Whose the files of a vault become that root makes: user and group. A vault that is there keeps its own.
    pub owner: Option<(u32, u32)>,
    /// What stays free of its file system.
    pub reserve: Reserve,
    /// The program that writes: `stackferry 0.1.0`.
    pub program: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    format: u32,
    uuid: VaultId,
    created: Timestamp,
    program: String,
}

impl Vault {
    /// Opens the vault at `path` for reading and writing, or makes one there if that is allowed.
    ///
    /// # Errors
    /// `Missing` where the known vault's folder is missing or empty; `NoVault` where it is and none is known;
    /// `NotAVault`, `OtherVault`, `NewerFormat` and `RecordDamaged` for what else may be there; `TwoFileSystems`,
    /// `NoGroup`, `Denied` where it could not be written to; else the system's.
    pub fn open(path: &Path, options: &VaultOptions) -> Result<Self, VaultError> {
        let owner = options.owner.map(|(uid, gid)| (Uid::from_raw(uid), Gid::from_raw(gid)));
        let mut access = Permissions::new(options.group.as_deref())?.owned_by(owner.filter(|_| is_root()));
        let root = match Dir::at(path)? {
            Some(root) => root,
            None => make_root(path, options, access)?,
        };
        let id = match find(&root, options.expect)? {
            Some(id) => id,
            None => make(&root, options, access)?,
        };
        access = access.owned_by(owner_of(&root)?);
        let [volumes, incoming, trash] = PARTS.map(|name| part(&root, name, access));
        let (volumes, incoming, trash) = (volumes?, incoming?, trash?);
        for other in [&incoming, &trash] {
            same_file_system(&volumes, other)?;
        }
        for dir in [&root, &volumes, &incoming, &trash] {
            let ask = AccessMode::READ_OK | AccessMode::WRITE_OK | AccessMode::EXEC_OK;
            rustix::fs::accessat(dir, ".", ask, AtFlags::EACCESS)
                .map_err(|errno| VaultError::system("write to", dir.path(), errno))?;
        }
        Ok(Self(Arc::new(VaultInner {
            root,
            volumes,
            writable: Some(Writable { incoming, trash }),
            id,
            access,
            reserve: options.reserve,
            program: options.program.clone(),
            reserved: Mutex::default(),
        })))
    }

    /// That the folder is still a vault.
    pub(crate) fn need_marker(&self) -> Result<(), VaultError> {
        let gone = || VaultError::Missing { path: self.path().to_owned(), expected: self.0.id };
        self.0.root.stat(MARKER_NAME)?.ok_or_else(gone)?;
        self.0.root.stat("volumes")?.map(|_| ()).ok_or_else(gone)
    }

    /// Opens the vault at `path` for reading only. Nothing in it is changed or made.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn open_read_only(path: &Path, expect: Option<VaultId>) -> Result<Self, VaultError> {
        Self::open_read_only_with(path, &VaultOptions { expect, ..VaultOptions::default() })
    }

    /// The same, where the space that has to stay free is asked for, too.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn open_read_only_with(path: &Path, options: &VaultOptions) -> Result<Self, VaultError> {
        let expect = options.expect;
        let root = Dir::at(path)?.ok_or_else(|| absent(path, expect))?;
        let id = find(&root, expect)?.ok_or_else(|| absent(path, expect))?;
        let volumes = root.need("volumes")?;
        Ok(Self(Arc::new(VaultInner {
            root,
            volumes,
            writable: None,
            id,
            access: Permissions::new(None)?,
            reserve: options.reserve,
            program: String::new(),
            reserved: Mutex::default(),
        })))
    }
}

impl Vault {
    /// Whether this process could write versions into the vault, as far as that is known without writing.
    ///
    /// # Errors
    /// `Denied`, `TwoFileSystems`; else the system's.
    pub fn check_writable(&self) -> Result<(), VaultError> {
        let root = &self.0.root;
        for name in PARTS {
            if let Some(part) = root.sub(name)? {
                same_file_system(&self.0.volumes, &part)?;
            }
        }
        let ask = AccessMode::READ_OK | AccessMode::WRITE_OK | AccessMode::EXEC_OK;
        for name in std::iter::once(".").chain(PARTS) {
            match rustix::fs::accessat(root, name, ask, AtFlags::EACCESS) {
                // It is made when the vault is opened for writing.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(VaultError::system("write to", &root.child(name), errno)),
            }
        }
        Ok(())
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whose the vault is, where root works on that of another user: the marker's owner. The folder itself may be a mount
/// point.
fn owner_of(root: &Dir) -> Result<Option<(Uid, Gid)>, VaultError> {
    let Some(stat) = root.stat(MARKER_NAME)?.filter(|_| is_root()) else { return Ok(None) };
    Ok((stat.st_uid != 0).then(|| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))))
}

fn absent(path: &Path, expect: Option<VaultId>) -> VaultError {
    let path = path.to_owned();
    match expect {
        Some(expected) => VaultError::Missing { path, expected },
        None => VaultError::NoVault { path },
    }
}

fn make_root(path: &Path, options: &VaultOptions, access: Permissions) -> Result<Dir, VaultError> {
    if options.expect.is_some() || !options.allow_create {
        return Err(absent(path, options.expect));
    }
    std::fs::create_dir_all(path).map_err(|error| VaultError::system("make", path, error))?;
    let root = Dir::at(path)?.ok_or_else(|| absent(path, None))?;
    root.open_to(access)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Some(parent) = Dir::at(parent)? {
        parent.sync()?;
    }
    Ok(root)
}

/// The vault that is in a folder; none if the folder is as good as empty and nothing is known.
fn find(root: &Dir, expect: Option<VaultId>) -> Result<Option<VaultId>, VaultError> {
    if let Some(marker) = read_marker(root)? {
        return match expect {
            Some(expected) if expected != marker.uuid => {
                Err(VaultError::OtherVault { path: root.path().to_owned(), found: marker.uuid, expected })
            }
            _ => Ok(Some(marker.uuid)),
        };
    }
    if !is_empty(root)? {
        return Err(VaultError::NotAVault { path: root.path().to_owned() });
    }
    match expect {
        Some(_) => Err(absent(root.path(), expect)),
        None => Ok(None),
    }
}

fn read_marker(root: &Dir) -> Result<Option<Marker>, VaultError> {
    let path = root.child(MARKER_NAME);
    let damaged = |error: serde_json::Error| VaultError::RecordDamaged { path: path.clone(), why: error.to_string() };
    let Some(text) = root.read(MARKER_NAME, MAX_MARKER_BYTES)? else { return Ok(None) };
    let format = format_of(&text).map_err(damaged)?;
    if format > FORMAT {
        return Err(VaultError::NewerFormat { path, found: format, known: FORMAT });
    }
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

/// Whether a folder without a marker holds nothing, or only what an interrupted making left.
fn is_empty(root: &Dir) -> Result<bool, VaultError> {
    for item in root.items()? {
        let own = item.shown == format!("{MARKER_NAME}.tmp") && !item.is_folder;
        let part = PARTS.contains(&item.shown.as_str())
            && root.sub(&item.shown)?.map_or(Ok(true), |part| part.items().map(|items| items.is_empty()))?;
        if !own && !part && item.shown != LOST_AND_FOUND {
            return Ok(false);
        }
    }
    Ok(true)
}

fn make(root: &Dir, options: &VaultOptions, access: Permissions) -> Result<VaultId, VaultError> {
    if !options.allow_create {
        return Err(absent(root.path(), None));
    }
    // An open folder of its own, so that the lock ends with the making and not with the vault.
    let lock = root.need(".")?;
    lock.lock(true)?;
    // Another process may have made it while we waited.
    if let Some(id) = find(root, None)? {
        return Ok(id);
    }
    // A folder that root made ready, perhaps a mount point, becomes the owner's too.
    if access.has_owner() {
        root.open_to(access)?;
    }
    for name in PARTS {
        root.make(name, access)?;
    }
    let uuid = VaultId(Uuid::new_v4());
    let marker = Marker { format: FORMAT, uuid, created: Timestamp::now(), program: options.program.clone() };
    let path: PathBuf = root.child(MARKER_NAME);
    let mut text = serde_json::to_vec_pretty(&marker).map_err(|error| VaultError::Io {
        op: "write down",
        path,
        source: error.into(),
    })?;
    text.push(b'\n');
    root.replace(MARKER_NAME, &text, access)?;
    Ok(uuid)
}

fn part(root: &Dir, name: &str, access: Permissions) -> Result<Dir, VaultError> {
    let dir = root.make(name, access)?;
    dir.open_to(access)?;
    Ok(dir)
}

/// Two folders are on one file system if a rename between them works: the same device, and the same mount too, since
/// the kernel renames over no mount's border (rename(2), `EXDEV`), be it a bind mount of the same device.
fn same_file_system(one: &Dir, other: &Dir) -> Result<(), VaultError> {
    let place = |dir: &Dir| {
        rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
            .map(|stat| (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_mnt_id))
            .map_err(|errno| VaultError::system("examine", dir.path(), errno))
    };
    if place(one)? == place(other)? {
        return Ok(());
    }
    Err(VaultError::TwoFileSystems { one: one.path().to_owned(), other: other.path().to_owned() })
}
