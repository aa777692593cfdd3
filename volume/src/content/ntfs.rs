//! An NTFS: its boot sector, its master file table, its label, its root folder.
//!
//! The structures are those of Microsoft's "NTFS Overview" and of the Linux kernel's `fs/ntfs3/ntfs.h`. Only what every NTFS
//! must have right is called damaged; a feature that this reader does not know, and what it would have to follow further
//! than it does, is a limit of the reader.
//!
//! Indexes are read block by block, never along their tree, so nothing leads in circles. Every read counts against
//! [`BUDGET`].

mod attribute;
mod boot;
mod runs;

use std::cell::Cell;
use std::io;
use std::ops::Range;

use super::bytes::{size_at, u16_at, u32_at, u64_at};
use super::disk::Disk;
use super::model::{FileSystem, MAX_ENTRIES};
use crate::io::Source;
use attribute::{Attribute, AttributeKind};
use boot::Geometry;
use runs::ClusterRuns;

/// The most that is read of one NTFS, in bytes: a root folder of a thousand entries takes a tenth of it.
const BUDGET: u64 = 64 << 20;
/// The longest value that is read whole, in bytes: an attribute list has at most 256 KiB.
const MAX_VALUE: u64 = 256 << 10;
/// The records that every NTFS begins with: the table itself to `$Extend`.
const OWN_RECORDS: u64 = 12;
const VOLUME: u64 = 3;
const ROOT: u64 = 5;
/// The name of a folder's index of names.
const INDEX: &str = "$I30";

/// Why an NTFS could not be read to the end.
enum NtfsError {
    /// It contradicts itself.
    Damaged(String),
    /// This reader does not follow it there.
    Limit(String),
    /// The disk could not be read.
    Read(io::Error),
}

impl From<io::Error> for NtfsError {
    fn from(error: io::Error) -> Self {
        NtfsError::Read(error)
    }
}

fn damaged<T>(why: impl Into<String>) -> Result<T, NtfsError> {
    Err(NtfsError::Damaged(why.into()))
}

/// Reads the file system in these bytes of a disk.
pub(super) fn read<S: Source>(disk: &Disk<S>, bytes: Range<u64>) -> io::Result<FileSystem> {
    match inspect(disk, bytes) {
        Ok(system) => Ok(system),
        Err(NtfsError::Damaged(why)) => Ok(FileSystem::DamagedNtfs(why)),
        Err(NtfsError::Limit(why)) => Ok(FileSystem::NotInspected { name: "NTFS", why }),
        Err(NtfsError::Read(error)) => Err(error),
    }
}

fn inspect<S: Source>(disk: &Disk<S>, bytes: Range<u64>) -> Result<FileSystem, NtfsError> {
    let mut ntfs = Ntfs::open(disk, bytes)?;
    for record in 0..OWN_RECORDS {
        ntfs.record(record)?;
    }
    // From here on records may lie in any part of the table.
    ntfs.read_table()?;
    let label = ntfs.label()?;
    let (entries, records) = ntfs.root()?;
    Ok(FileSystem::Ntfs { label, records: OWN_RECORDS + records, entries })
}

/// A file system, opened.
struct Ntfs<'d, S> {
    disk: &'d Disk<S>,
    bytes: Range<u64>,
    geometry: Geometry,
    /// Where the master file table lies.
    table: ClusterRuns,
    left: Cell<u64>,
}

/// A record of the master file table, with its sectors' ends put right.
struct MftRecord {
    number: u64,
    bytes: Vec<u8>,
}

impl MftRecord {
    fn is_in_use(&self) -> bool {
        u16_at(&self.bytes, 22) & 1 != 0
    }

    fn attributes(&self) -> Result<Vec<Attribute<'_>>, NtfsError> {
        let used = self.bytes.get(..size_at(&self.bytes, 24).min(self.bytes.len())).unwrap_or_default();
        attribute::list(used, usize::from(u16_at(used, 20)))
            .map_err(|why| NtfsError::Damaged(format!("record {} of the master file table: {why}", self.number)))
    }
}

/// The whole of one attribute, wherever its parts lie.
enum Value {
    Resident(Vec<u8>),
    Elsewhere { runs: ClusterRuns, bytes: u64 },
}

impl<'d, S: Source> Ntfs<'d, S> {
    fn open(disk: &'d Disk<S>, bytes: Range<u64>) -> Result<Self, NtfsError> {
        let mut sector = [0; 512];
        disk.read_at(bytes.start, &mut sector)?;
        let geometry = Geometry::read(&sector, bytes.end - bytes.start)?;
        // Before the table says where it is, only its start is known; it is long enough for its first record.
        let clusters = geometry.record.div_ceil(geometry.cluster);
        let table = ClusterRuns::one(geometry.table, clusters);
        let mut ntfs = Self { disk, bytes, geometry, table, left: Cell::new(BUDGET) };
        let first = ntfs.record(0)?;
        let data = first.attributes()?.into_iter().find(|attribute| attribute.is(AttributeKind::Data, ""));
        let Some(data) = data else { return damaged("the master file table has no content") };
        ntfs.table = ntfs.runs(&data)?;
        Ok(ntfs)
    }

    /// Completes the table's place where its own record can't hold all of it: an attribute list names the records that
    /// hold the rest, each of which is in what is known by then.
    fn read_table(&mut self) -> Result<(), NtfsError> {
        let first = self.record(0)?;
        let mut parts = self.parts(&first, AttributeKind::Data, "")?;
        parts.retain(|(start, number)| *start > 0 && *number != 0);
        for (start, number) in parts {
            let record = match self.record(number) {
                Err(NtfsError::Damaged(why)) => return Err(NtfsError::Limit(why)),
                other => other?,
            };
            let Some(part) = find(&record, AttributeKind::Data, "", start)? else {
                return Err(NtfsError::Limit(format!(
                    "record {number}, which holds a part of the master file table's place, does not say where it is"
                )));
            };
            let runs = self.runs(&part)?;
            append(&mut self.table, runs)?;
        }
        Ok(())
    }

    /// The bytes at an offset of the file system.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), NtfsError> {
        let left = self.left.get().checked_sub(buf.len() as u64);
        let Some(left) = left else {
            return Err(NtfsError::Limit(format!("more than {} MiB would have to be read", BUDGET >> 20)));
        };
        self.left.set(left);
        let at = self.bytes.start.saturating_add(offset);
        if at.checked_add(buf.len() as u64).is_none_or(|end| end > self.bytes.end) {
            return damaged("it points beyond its own end");
        }
        Ok(self.disk.read_at(at, buf)?)
    }

    /// Bytes of what is in runs; none where they do not reach.
    fn read_runs(&self, runs: &ClusterRuns, offset: u64, buf: &mut [u8]) -> Result<Option<()>, NtfsError> {
        let (mut offset, mut buf) = (offset, buf);
        while !buf.is_empty() {
            let Some((place, left)) = runs.place(offset / self.geometry.cluster) else { return Ok(None) };
            let within = offset % self.geometry.cluster;
            let left = left.saturating_mul(self.geometry.cluster).saturating_sub(within);
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            let (now, later) = buf.split_at_mut(take);
            match place {
                Some(cluster) => {
                    let at = cluster.checked_mul(self.geometry.cluster).and_then(|start| start.checked_add(within));
                    self.read_at(at.unwrap_or(u64::MAX), now)?;
                }
                None => now.fill(0),
            }
            offset = offset.saturating_add(take as u64);
            buf = later;
        }
        Ok(Some(()))
    }

    /// A record of the master file table. One that can't be reached is a limit.
    fn record(&self, number: u64) -> Result<MftRecord, NtfsError> {
        let mut bytes = vec![0; usize::try_from(self.geometry.record).unwrap_or_default()];
        let offset = number.saturating_mul(self.geometry.record);
        if self.read_runs(&self.table, offset, &mut bytes)?.is_none() {
            return match number {
                0..OWN_RECORDS => damaged(format!("the master file table ends before record {number}")),
                _ => Err(NtfsError::Limit(format!(
                    "record {number} lies beyond the known part of the master file table"
                ))),
            };
        }
        let wrong = |why: &str| NtfsError::Damaged(format!("record {number} of the master file table {why}"));
        if bytes.get(..4) != Some(b"FILE") {
            return Err(wrong("does not begin as one"));
        }
        put_right(&mut bytes).map_err(|()| wrong("was not written whole"))?;
        Ok(MftRecord { number, bytes })
    }

    fn runs(&self, attribute: &Attribute<'_>) -> Result<ClusterRuns, NtfsError> {
        let Some(pairs) = attribute.pairs() else { return damaged("the place of a file is missing in its record") };
        ClusterRuns::read(pairs, attribute.start(), self.geometry.clusters)
            .map_err(|why| NtfsError::Damaged(format!("the place of a file: {why}")))
    }

    /// The parts of an attribute: the cluster each begins with and its record. Where there is an attribute list it names all.
    fn parts(&self, record: &MftRecord, kind: AttributeKind, name: &str) -> Result<Vec<(u64, u64)>, NtfsError> {
        let attributes = record.attributes()?;
        let Some(list) = attributes.iter().find(|attribute| attribute.is(AttributeKind::List, "")) else {
            let own = attributes.iter().filter(|attribute| attribute.is(kind, name));
            return Ok(own.map(|attribute| (attribute.start(), record.number)).collect());
        };
        let list = match list.resident() {
            Some(list) => list.to_vec(),
            None => self.value_of(&self.runs(list)?, list.bytes())?,
        };
        let mut parts = attribute::listed(&list, kind, name);
        parts.sort_unstable();
        parts.dedup();
        Ok(parts)
    }

    fn value_of(&self, runs: &ClusterRuns, bytes: u64) -> Result<Vec<u8>, NtfsError> {
        if bytes > MAX_VALUE {
            return Err(NtfsError::Limit(format!("a list of {bytes} bytes; at most {MAX_VALUE} are read")));
        }
        let mut value = vec![0; usize::try_from(bytes).unwrap_or_default()];
        match self.read_runs(runs, 0, &mut value)? {
            Some(()) => Ok(value),
            None => damaged("a list is longer than the place it has"),
        }
    }

    /// An attribute, from all records that hold parts of it.
    fn attribute(&self, record: &MftRecord, kind: AttributeKind, name: &str) -> Result<Option<Value>, NtfsError> {
        let (mut runs, mut bytes) = (None::<ClusterRuns>, 0);
        for (start, number) in self.parts(record, kind, name)? {
            let other;
            let holder = if number == record.number {
                record
            } else {
                other = self.record(number)?;
                &other
            };
            let Some(part) = find(holder, kind, name, start)? else {
                return Err(NtfsError::Limit(format!("record {number} does not hold what an attribute list says")));
            };
            if let Some(value) = part.resident() {
                return Ok(Some(Value::Resident(value.to_vec())));
            }
            let part_runs = self.runs(&part)?;
            match &mut runs {
                None => {
                    bytes = part.bytes();
                    runs = Some(part_runs);
                }
                Some(runs) => append(runs, part_runs)?,
            }
        }
        Ok(runs.map(|runs| Value::Elsewhere { runs, bytes }))
    }

    fn label(&self) -> Result<String, NtfsError> {
        let volume = self.record(VOLUME)?;
        let version = match self.attribute(&volume, AttributeKind::VolumeInformation, "")? {
            Some(Value::Resident(value)) => value.get(8).copied().zip(value.get(9).copied()),
            _ => None,
        };
        match version {
            None => return damaged("its record of the volume does not say its version"),
            Some((1 | 3, _)) => {}
            Some((major, minor)) => return Err(NtfsError::Limit(format!("it is of version {major}.{minor}"))),
        }
        match self.attribute(&volume, AttributeKind::VolumeName, "")? {
            Some(Value::Resident(name)) => Ok(utf16(&name)),
            _ => Ok(String::new()),
        }
    }

    /// How many entries the root folder has, and how many records of files in it were read.
    fn root(&self) -> Result<(u64, u64), NtfsError> {
        let wrong = |why: &str| NtfsError::Damaged(format!("its root folder: {why}"));
        let root = self.record(ROOT)?;
        if !root.is_in_use() || u16_at(&root.bytes, 22) & 2 == 0 {
            return Err(wrong("its record is not that of a folder"));
        }
        let Some(Value::Resident(index)) = self.attribute(&root, AttributeKind::IndexRoot, INDEX)? else {
            return Err(wrong("it has no index"));
        };
        let mut progress = IndexProgress::default();
        let block = u64::from(u32_at(&index, 8));
        let node = index.get(16..).ok_or_else(|| wrong("its index is cut"))?;
        self.entries(node, &mut progress).map_err(in_root)?;
        if let Some(Value::Elsewhere { runs, bytes }) = self.attribute(&root, AttributeKind::IndexAllocation, INDEX)? {
            if !(512..=64 << 10).contains(&block) || !block.is_power_of_two() {
                return Err(NtfsError::Limit(format!("its root folder has blocks of {block} bytes")));
            }
            let used = match self.attribute(&root, AttributeKind::Bitmap, INDEX)? {
                Some(Value::Resident(used)) => used,
                Some(Value::Elsewhere { runs, bytes }) => self.value_of(&runs, bytes)?,
                None => return Err(wrong("nothing says which parts of its index are in use")),
            };
            for at in 0..bytes / block {
                if progress.entries >= MAX_ENTRIES {
                    break;
                }
                let byte = usize::try_from(at / 8).ok().and_then(|byte| used.get(byte)).copied().unwrap_or_default();
                if byte >> (at % 8) & 1 == 1 {
                    self.index_block(&runs, at * block, block, &mut progress).map_err(in_root)?;
                }
            }
        }
        // Even an empty one lists the table and the other files of its own.
        if progress.entries < OWN_RECORDS - 1 {
            return Err(wrong(&format!("it has only {} entries", progress.entries)));
        }
        match progress.beyond {
            None => Ok((progress.entries, progress.records)),
            Some(why) => Err(NtfsError::Limit(why)),
        }
    }

    fn index_block(
        &self,
        runs: &ClusterRuns,
        offset: u64,
        length: u64,
        progress: &mut IndexProgress,
    ) -> Result<(), NtfsError> {
        let mut block = vec![0; usize::try_from(length).unwrap_or_default()];
        if self.read_runs(runs, offset, &mut block)?.is_none() {
            return damaged("a part of its index lies nowhere");
        }
        if block.get(..4) != Some(b"INDX") {
            return damaged("a part of its index does not begin as one");
        }
        if put_right(&mut block).is_err() {
            return damaged("a part of its index was not written whole");
        }
        self.entries(block.get(24..).unwrap_or_default(), progress)
    }

    /// The entries of one node: its header says where they begin and end.
    fn entries(&self, node: &[u8], progress: &mut IndexProgress) -> Result<(), NtfsError> {
        let (mut at, end) = (size_at(node, 0), size_at(node, 4));
        let Some(node) = node.get(..end) else { return damaged("an index is longer than its place") };
        while progress.entries < MAX_ENTRIES {
            let Some(entry) = node.get(at..).filter(|rest| rest.len() >= 16) else {
                return damaged("an index ends within an entry");
            };
            let length = usize::from(u16_at(entry, 8));
            if u16_at(entry, 12) & 2 != 0 {
                return Ok(());
            }
            if length < 16 {
                return damaged("an index has an entry without length");
            }
            progress.entries += 1;
            let record = u64_at(entry, 0) & 0xffff_ffff_ffff;
            if record >= OWN_RECORDS {
                match self.record(record) {
                    Ok(_) => progress.records += 1,
                    Err(NtfsError::Limit(why)) => progress.beyond = Some(why),
                    Err(fault) => return Err(fault),
                }
            }
            at = at.saturating_add(length);
        }
        Ok(())
    }
}

/// What was seen of the root folder.
#[derive(Default)]
struct IndexProgress {
    entries: u64,
    records: u64,
    /// Why the record of a file could not be read.
    beyond: Option<String>,
}

fn in_root(fault: NtfsError) -> NtfsError {
    match fault {
        NtfsError::Damaged(why) if !why.starts_with("record ") => NtfsError::Damaged(format!("its root folder: {why}")),
        other => other,
    }
}

/// The part of an attribute that begins with a cluster, in one record.
fn find<'r>(
    record: &'r MftRecord,
    kind: AttributeKind,
    name: &str,
    start: u64,
) -> Result<Option<Attribute<'r>>, NtfsError> {
    let mut all = record.attributes()?.into_iter();
    Ok(all.find(|attribute| attribute.is(kind, name) && attribute.start() == start))
}

fn append(runs: &mut ClusterRuns, later: ClusterRuns) -> Result<(), NtfsError> {
    match runs.append(later) {
        true => Ok(()),
        false => Err(NtfsError::Limit("a file lies in too many pieces".to_owned())),
    }
}

/// Puts back what the driver swapped for a number at the end of each sector; another number there means that not all
/// sectors were written.
fn put_right(bytes: &mut [u8]) -> Result<(), ()> {
    const STRIDE: usize = 512;
    let (at, count) = (usize::from(u16_at(bytes, 4)), usize::from(u16_at(bytes, 6)));
    let numbers = bytes.get(at..).and_then(|rest| rest.get(..count.checked_mul(2)?)).ok_or(())?.to_vec();
    if count == 0 || count - 1 != bytes.len() / STRIDE {
        return Err(());
    }
    let (mark, ends) = numbers.split_at_checked(2).ok_or(())?;
    for (sector, end) in bytes.chunks_exact_mut(STRIDE).zip(ends.chunks_exact(2)) {
        let last = sector.get_mut(STRIDE - 2..).ok_or(())?;
        if last != mark {
            return Err(());
        }
        last.copy_from_slice(end);
    }
    Ok(())
}

fn utf16(bytes: &[u8]) -> String {
    let units = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
