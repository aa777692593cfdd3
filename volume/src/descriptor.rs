//! The text that describes a virtual disk (`Office.vmdk`): which files hold its bytes, and whether a copy of those files
//! is a copy of the disk.
//!
//! It is hostile input: whoever can write to a datastore wrote it. Nothing here opens what it names, and nothing here
//! panics or takes more than linear time over at most 64 KiB. An extent is a plain file name beside the descriptor, or
//! the disk is refused. The format is described in VMware's "Virtual Disk Format 1.1" and, for what came later, by
//! QEMU's `block/vmdk.c`.

mod binary;
mod error;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use binary::BinaryFormat;
pub use error::{DescriptorError, Flaw};

use crate::block::MAX_FILE_BYTES;
use crate::io::{Entry, EntryKind, MAX_SMALL_READ};
use crate::name::FileName;
use crate::reason::{ReasonCode, Unprotectable, shown};

/// The longest text that is taken for a descriptor, in bytes. Real ones have some hundred.
pub const MAX_TEXT_BYTES: usize = MAX_SMALL_READ;
/// The most `ddb.` entries that are kept in memory; real descriptors have about ten.
pub const MAX_DDB_ENTRIES: usize = 1024;
/// The length of a sector, in bytes: the unit of extents.
pub const SECTOR_BYTES: u64 = 512;
/// The content id of a parent that does not exist.
const NO_PARENT: &str = "ffffffff";

/// How a disk's bytes lie in its extents, as far as that matters for copying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Layout {
    /// Byte for byte: copying the files copies the disk.
    Flat,
    /// In a format of its own.
    Sparse,
    /// On a device outside the datastore's files.
    Device,
    /// Not known here.
    Unknown,
}

/// The types that are byte for byte in their extents.
const FLAT_TYPES: [&str; 8] = [
    "vmfs",
    "vmfsThin",
    "vmfsThick",
    "vmfsPreallocated",
    "vmfsEagerZeroedThick",
    "monolithicFlat",
    "twoGbMaxExtentFlat",
    "2GbMaxExtentFlat",
];
const SPARSE_TYPES: [&str; 6] =
    ["monolithicSparse", "twoGbMaxExtentSparse", "2GbMaxExtentSparse", "streamOptimized", "seSparse", "vmfsSparse"];
const DEVICE_TYPES: [&str; 7] = [
    "vmfsRaw",
    "vmfsRawDeviceMap",
    "vmfsRDM",
    "vmfsPassthroughRawDeviceMap",
    "vmfsRDMP",
    "fullDevice",
    "partitionedDevice",
];

fn layout(create_type: &str) -> Layout {
    let is_in = |list: &[&str]| list.iter().any(|known| known.eq_ignore_ascii_case(create_type));
    if is_in(&FLAT_TYPES) {
        Layout::Flat
    } else if is_in(&SPARSE_TYPES) {
        Layout::Sparse
    } else if is_in(&DEVICE_TYPES) {
        Layout::Device
    } else {
        Layout::Unknown
    }
}

/// What a machine may do with an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExtentAccess {
    /// `RW`
    ReadWrite,
    /// `RDONLY`
    ReadOnly,
    /// `NOACCESS`
    None,
}

/// What an extent is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ExtentKind {
    /// `VMFS`: the disk's bytes, on an ESXi datastore.
    Vmfs,
    /// `FLAT`: the disk's bytes.
    Flat,
    /// `ZERO`: zeros, in no file.
    Zero,
    /// `SPARSE`: grains and tables.
    Sparse,
    /// `VMFSSPARSE`: a snapshot's redo log.
    VmfsSparse,
    /// `SESPARSE`: a space-efficient snapshot.
    SeSparse,
    /// `VMFSRDM`: a map of a raw device.
    VmfsRdm,
    /// `VMFSRAW`: a raw device.
    VmfsRaw,
    /// Any other word, in capitals.
    Other(String),
}

impl fmt::Display for ExtentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExtentKind::Vmfs => "VMFS",
            ExtentKind::Flat => "FLAT",
            ExtentKind::Zero => "ZERO",
            ExtentKind::Sparse => "SPARSE",
            ExtentKind::VmfsSparse => "VMFSSPARSE",
            ExtentKind::SeSparse => "SESPARSE",
            ExtentKind::VmfsRdm => "VMFSRDM",
            ExtentKind::VmfsRaw => "VMFSRAW",
            ExtentKind::Other(word) => word,
        })
    }
}

/// Where an extent's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ExtentFile {
    /// In a file beside the descriptor.
    Beside(FileName),
    /// In an object of a store that keeps no files: `vsan://…`, `vvol://…`.
    Object(String),
    /// Somewhere else: a device, or a path that leaves the folder. Only disks that can't be protected have such.
    Elsewhere(String),
}

impl fmt::Display for ExtentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExtentFile::Beside(name) => f.write_str(&shown(name.as_str())),
            ExtentFile::Object(text) | ExtentFile::Elsewhere(text) => f.write_str(&shown(text)),
        }
    }
}

/// One piece of the disk, in the disk's order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Extent {
    /// What a machine may do with it.
    pub access: ExtentAccess,
    /// Its length, in sectors of 512 bytes; at least 1.
    pub sectors: u64,
    /// What it is.
    pub kind: ExtentKind,
    /// Where its bytes are; none for zeros.
    pub file: Option<ExtentFile>,
    /// Where in that file it begins, in sectors.
    pub offset_sectors: u64,
}

impl Extent {
    /// The name of the file beside the descriptor that holds it.
    #[must_use]
    pub fn file_name(&self) -> Option<&FileName> {
        match &self.file {
            Some(ExtentFile::Beside(name)) => Some(name),
            _ => None,
        }
    }

    /// How long its file must be at least, in bytes; none where that does not fit into 64 bits.
    #[must_use]
    pub fn end_bytes(&self) -> Option<u64> {
        self.offset_sectors.checked_add(self.sectors)?.checked_mul(SECTOR_BYTES)
    }
}

/// A descriptor that was read and is consistent in itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The descriptor's own file name.
    pub file: FileName,
    /// The format's version, where it is a number.
    pub version: Option<u32>,
    /// The encoding it says it has.
    pub encoding: Option<String>,
    /// The content id, 8 hexadecimal digits in lower case. A new one is drawn when the disk is first written to after
    /// it was opened. None where there is none that is a number.
    pub cid: Option<String>,
    /// The content id of the parent, likewise; `ffffffff` where there is none.
    pub parent_cid: Option<String>,
    /// Whether the disk is a snapshot that the storage itself made.
    pub is_native_snapshot: Option<bool>,
    /// How the disk was made: `vmfs`, `monolithicFlat`, …; empty where it is not given.
    pub create_type: String,
    /// The parent's file, of a disk that is a snapshot.
    pub parent_file_name_hint: Option<String>,
    /// The disk's pieces, in its order; at least one.
    pub extents: Vec<Extent>,
    /// The disk data base: `adapterType`, `uuid`, … without `ddb.` before them.
    pub ddb: BTreeMap<String, String>,
    logical_bytes: u64,
    /// Whether any line names a parent.
    has_parent: bool,
    /// Whether its bytes lie one after the other in its extents.
    is_flat: bool,
}

/// What is kept of a descriptor in the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DescriptorSummary {
    /// The content id, 8 hexadecimal digits in lower case; none where the descriptor has none.
    pub cid: Option<String>,
    /// The disk's UUID, hexadecimal digits in lower case.
    pub uuid: Option<String>,
    /// The disk's type.
    pub create_type: String,
    /// The disk's length as a machine sees it, in bytes.
    pub logical_bytes: u64,
}

impl Descriptor {
    /// Reads a descriptor's bytes. All of them have to be given.
    ///
    /// # Errors
    /// See [`Flaw`].
    pub fn parse(bytes: &[u8], file_name: &FileName) -> Result<Self, DescriptorError> {
        let whole = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self::parse_head(bytes, whole, file_name)
    }

    /// Reads a descriptor of which only the first [`MAX_TEXT_BYTES`] are at hand, since the file may be anything of any size:
    /// binary disks are recognised by their first bytes, and what is longer than a descriptor can be is named as such.
    /// `file_bytes` is what a listing says, which may be wrong.
    ///
    /// # Errors
    /// See [`Flaw`].
    pub fn parse_head(head: &[u8], file_bytes: u64, file_name: &FileName) -> Result<Self, DescriptorError> {
        parse::parse(head, file_bytes, file_name)
            .map_err(|flaw| DescriptorError { file: file_name.clone(), flaw: Box::new(flaw) })
    }

    /// The disk's UUID (`ddb.uuid`), its hexadecimal digits in lower case without what separates them.
    #[must_use]
    pub fn uuid(&self) -> Option<String> {
        let digits: String =
            self.ddb.get("uuid")?.chars().filter(|c| !matches!(c, ' ' | '-')).map(|c| c.to_ascii_lowercase()).collect();
        (digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digits)
    }

    /// Whether the disk was made thin (`ddb.thinProvisioned`); none where the descriptor does not say.
    #[must_use]
    pub fn thin(&self) -> Option<bool> {
        match self.ddb.get("thinProvisioned")?.as_str() {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        }
    }

    /// The disk's length as a machine sees it, in bytes; at most 62 TiB.
    #[must_use]
    pub fn logical_bytes(&self) -> u64 {
        self.logical_bytes
    }

    /// Whether the disk holds only what differs from another one.
    #[must_use]
    pub fn has_parent(&self) -> bool {
        self.has_parent
    }

    /// The files beside the descriptor that hold the disk's bytes, each once, in the disk's order.
    #[must_use]
    pub fn extent_files(&self) -> Vec<&FileName> {
        let mut seen = std::collections::HashSet::new();
        self.extents.iter().filter_map(Extent::file_name).filter(|name| seen.insert(*name)).collect()
    }

    /// What is kept of it in the inventory.
    #[must_use]
    pub fn summary(&self) -> DescriptorSummary {
        DescriptorSummary {
            cid: self.cid.clone(),
            uuid: self.uuid(),
            create_type: self.create_type.clone(),
            logical_bytes: self.logical_bytes,
        }
    }

    /// Whether a copy of the descriptor and its extent files is a copy of the disk.
    ///
    /// # Errors
    /// Why it is not, and what to do.
    pub fn protectable(&self) -> Result<(), Unprotectable> {
        let file = shown(self.file.as_str());
        let kind = if self.create_type.is_empty() { "unknown".to_owned() } else { shown(&self.create_type) };
        let unsupported = |why: &str| Unprotectable::new(ReasonCode::UnsupportedDisk, format!("{file} {why}"));
        if let Some(object) = self.extents.iter().find_map(|extent| match &extent.file {
            Some(ExtentFile::Object(object)) => Some(object),
            _ => None,
        }) {
            let scheme = object.split_once("://").map_or("", |(scheme, _)| scheme);
            return Err(match scheme.to_ascii_lowercase().as_str() {
                "vsan" => on_objects(&file, "a vSAN object"),
                "vvol" => on_objects(&file, "a virtual volume (vVol)"),
                _ => on_objects(&file, &format!("an object, {}", shown(object))),
            });
        }
        match layout(&self.create_type) {
            _ if self.is_flat => {}
            Layout::Flat => {}
            Layout::Sparse if self.create_type.eq_ignore_ascii_case("seSparse") || self.is_redo_log() => {
                return Err(snapshot(&file, &kind));
            }
            Layout::Sparse => return Err(sparse(&file, &kind)),
            Layout::Device => {
                return Err(unsupported(&format!(
                    "is of type {kind}: its bytes are on a device, not in a file of the datastore"
                ))
                .remedy("Convert it to a virtual disk on a VMFS or NFS datastore (vmkfstools -i)."));
            }
            Layout::Unknown => {
                return Err(unsupported(&format!("is of type {kind}, which can't be copied file by file"))
                    .remedy("Convert it to a flat or thin disk (vmkfstools -i)."));
            }
        }
        if self.has_parent() {
            return Err(snapshot(&file, &kind));
        }
        let odd = self
            .extents
            .iter()
            .find(|extent| !matches!(extent.kind, ExtentKind::Vmfs | ExtentKind::Flat | ExtentKind::Zero));
        match odd {
            Some(extent) => Err(unsupported(&format!(
                "is said to be of type {kind}, but has an extent of type {}",
                shown(&extent.kind.to_string())
            ))),
            None => Ok(()),
        }
    }

    fn is_redo_log(&self) -> bool {
        self.create_type.eq_ignore_ascii_case("vmfsSparse")
    }

    /// Checks the folder that holds the descriptor: each extent is in a regular file that is long enough, which `find` looks
    /// up by name. A file may be longer than the disk needs.
    ///
    /// # Errors
    /// [`Flaw::ExtentMissing`] and the flaws beside it.
    pub fn check_with<'a>(&self, find: impl Fn(&str) -> Option<&'a Entry>) -> Result<(), DescriptorError> {
        self.extents.iter().try_for_each(|extent| {
            let Some(name) = extent.file_name() else { return Ok(()) };
            check_extent(extent, name, find(name.as_str()))
                .map_err(|flaw| DescriptorError { file: self.file.clone(), flaw: Box::new(flaw) })
        })
    }
}

fn check_extent(extent: &Extent, name: &FileName, entry: Option<&Entry>) -> Result<(), Flaw> {
    let name = || shown(name.as_str());
    let Some(entry) = entry else { return Err(Flaw::ExtentMissing { name: name() }) };
    if entry.kind != EntryKind::File {
        return Err(Flaw::ExtentNotAFile { name: name() });
    }
    if entry.bytes > MAX_FILE_BYTES {
        return Err(Flaw::ExtentTooLong { name: name(), bytes: entry.bytes });
    }
    match extent.end_bytes() {
        Some(needed) if entry.bytes >= needed => Ok(()),
        needed => Err(Flaw::ExtentTooShort { name: name(), bytes: entry.bytes, needed: needed.unwrap_or(u64::MAX) }),
    }
}

fn on_objects(file: &str, what: &str) -> Unprotectable {
    Unprotectable::new(
        ReasonCode::VsanOnly,
        format!("{file} is only a pointer: the disk's bytes are in {what}, and copying the pointer would copy nothing"),
    )
    .remedy(
        "Add an NFS or VMFS datastore, marked as not attachable, to the storage group in App Volumes: it puts a copy of \
         each AppStack and package there, and that copy is protected. A writable volume has to lie on such a datastore.",
    )
}

fn snapshot(file: &str, create_type: &str) -> Unprotectable {
    Unprotectable::new(
        ReasonCode::UnsupportedDisk,
        format!("{file} (type {create_type}) is a snapshot: it holds only what differs from its parent disk"),
    )
    .remedy("Delete the snapshot, which merges it into its parent, or clone the disk (vmkfstools -i).")
}

fn sparse(file: &str, create_type: &str) -> Unprotectable {
    Unprotectable::new(
        ReasonCode::UnsupportedDisk,
        format!("{file} is of type {create_type}, a format that ESXi does not attach from a datastore"),
    )
    .remedy("Convert it to a flat or thin disk (vmkfstools -i).")
}
