//! Which files of a folder belong to which volume: by what descriptors say first, then by names.
//!
//! A volume is a descriptor, the extents that it names, and every file that shares its stem. What can be read as a
//! descriptor is one, whatever it is called; what a descriptor names is its extent, whatever that is called. Names decide
//! only about what no descriptor speaks of. Each file belongs to one volume at most: a descriptor that names another
//! volume's bytes gets none of them, so that nobody reads a stranger's disk by writing a descriptor. What belongs to no
//! volume is listed as such: nothing in a folder is skipped silently.

mod names;
mod places;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use crate::descriptor::{Descriptor, DescriptorError, MAX_TEXT_BYTES};
use crate::io::{Entry, EntryKind};
use crate::local::RESTORE_PREFIX;
use crate::manifest::{FileRole, MANIFEST_NAME};
use crate::name::{FileName, NameError};
use crate::reason::{ReasonCode, Unprotectable, shown};

pub use names::Names;
use names::{Part, disk_stem, stems_of};
use places::{FolderIndex, Home};

/// How the names of the lock files begin that ESXi hosts make on an NFS datastore.
pub const LOCK_PREFIX: &str = ".lck-";

/// A file that may be a descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The folder's entry for it.
    pub descriptor: Entry,
    /// Its file name.
    pub name: FileName,
    /// The volume's stem: the name without `.vmdk`.
    pub stem: FileName,
}

impl Candidate {
    /// Whether the file is as long as a descriptor may be, by what the folder says.
    #[must_use]
    pub fn is_small(&self) -> bool {
        usize::try_from(self.descriptor.bytes).is_ok_and(|bytes| bytes <= MAX_TEXT_BYTES)
    }

    /// Whether it is called like a piece of a disk.
    fn is_part(&self) -> bool {
        Part::of(self.stem.as_str()).is_some()
    }
}

/// What is known of a candidate's content.
#[derive(Debug, Clone, Copy)]
pub enum DescriptorReading<'a> {
    /// It is a descriptor.
    Descriptor(&'a Descriptor),
    /// It was read, and is no descriptor that can be used.
    Flawed(&'a DescriptorError),
    /// It was not read, or could not be: its name decides.
    Unread,
}

impl<'a> DescriptorReading<'a> {
    fn descriptor(self) -> Option<&'a Descriptor> {
        match self {
            DescriptorReading::Descriptor(descriptor) => Some(descriptor),
            _ => None,
        }
    }
}

/// An entry that looks like a descriptor and can't be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The folder's entry for it. Its name is not safe to use.
    pub entry: Entry,
    /// Why.
    pub why: Unprotectable,
}

/// What a folder may hold, by names alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    /// What may be a descriptor, by name.
    pub descriptors: Vec<Candidate>,
    /// What looks like one, by name.
    pub rejected: Vec<Rejected>,
}

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFile {
    /// Its name.
    pub name: FileName,
    /// What it is to the volume.
    pub role: FileRole,
    /// The folder's entry for it.
    pub entry: Entry,
}

/// One volume's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The number of its candidate.
    pub candidate: usize,
    /// The volume's stem.
    pub stem: FileName,
    /// The descriptor, then the extents in the disk's order, then the sidecars by name.
    pub files: Vec<GroupFile>,
    /// Why these files are no volume, where they are none.
    pub problem: Option<Unprotectable>,
}

/// Extents whose descriptor is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The stem that the descriptor would have.
    pub stem: FileName,
    /// The extents and what else shares the stem, by name.
    pub files: Vec<GroupFile>,
    /// What is missing, and what to do.
    pub why: Unprotectable,
}

/// A file that shares a volume's stem and can't be copied with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedFile {
    /// The volume's stem.
    pub stem: FileName,
    /// The file's name, made harmless.
    pub name: String,
    /// Why.
    pub why: String,
}

/// An entry that belongs to no volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unassigned {
    /// Its name, made harmless.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// What it is, for a person.
    pub what: &'static str,
}

/// A folder's files, each in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The volumes, in the order of their candidates.
    pub groups: Vec<Group>,
    /// Extents without a descriptor, by stem.
    pub orphans: Vec<Orphan>,
    /// What is not copied although it shares a volume's stem, by name.
    pub left_out: Vec<SkippedFile>,
    /// What belongs to no volume, by name. Folders are not listed here.
    pub unassigned: Vec<Unassigned>,
}

/// The files of a folder that may be descriptors: all that are called `.vmdk`, in any case, and are no folders.
#[must_use]
pub fn candidates(entries: &[Entry]) -> Candidates {
    let mut found = Candidates::default();
    for entry in entries {
        match candidate(entry) {
            None => {}
            Some(Ok(candidate)) => found.descriptors.push(candidate),
            Some(Err(why)) => found.rejected.push(Rejected { entry: entry.clone(), why }),
        }
    }
    found.descriptors.sort_by(|one, two| one.name.cmp(&two.name));
    found.rejected.sort_by(|one, two| one.entry.name.cmp(&two.entry.name));
    found
}

/// The entry as a descriptor, or why it looks like one and can't be one; none where it does not look like one.
fn candidate(entry: &Entry) -> Option<Result<Candidate, Unprotectable>> {
    let stem = disk_stem(&entry.name)?;
    if entry.kind == EntryKind::Folder || entry.name.starts_with(RESTORE_PREFIX) {
        return None;
    }
    let candidate = usable(entry, stem);
    // A piece of a disk, or a hidden file, is listed beside its disk, or as what belongs to none.
    let is_quiet = Part::of(stem).is_some() || entry.name.starts_with('.');
    if candidate.is_err() && is_quiet { None } else { Some(candidate) }
}

fn usable(entry: &Entry, stem: &str) -> Result<Candidate, Unprotectable> {
    let bad_name = |why: NameError| {
        Unprotectable::new(ReasonCode::BadName, format!("{} can't be protected: {why}", shown(&entry.name)))
            .remedy("Rename the disk in App Volumes, or its files.")
    };
    if !entry.utf8 {
        return Err(bad_name(NameError::NotUtf8));
    }
    let name = FileName::new(&entry.name).map_err(bad_name)?;
    let stem = FileName::stem(stem).map_err(bad_name)?;
    if entry.kind == EntryKind::Other {
        return Err(Unprotectable::new(
            ReasonCode::BadDescriptor,
            format!("{} is a link or a device, not a file; it is never opened", shown(&entry.name)),
        ));
    }
    Ok(Candidate { descriptor: entry.clone(), name, stem })
}

/// Which of the candidates have to be read once all small ones were: those that are too long for a descriptor by what the
/// folder says, which may be wrong. What is called like a piece of a disk and is named by a descriptor is none.
#[must_use]
pub fn to_read_too(entries: &[Entry], candidates: &[Candidate], read: &[DescriptorReading<'_>]) -> Vec<usize> {
    let names = Names::of(entries);
    let named: std::collections::HashSet<&str> = read
        .iter()
        .filter_map(|reading| reading.descriptor())
        .flat_map(Descriptor::extent_files)
        .map(|name| names.find(name.as_str()).map_or(name.as_str(), |entry| entry.name.as_str()))
        .collect();
    let is_due = |candidate: &Candidate| {
        !(candidate.is_small() || candidate.is_part() && named.contains(candidate.name.as_str()))
    };
    candidates.iter().enumerate().filter(|(_, candidate)| is_due(candidate)).map(|(at, _)| at).collect()
}

/// Assigns each file of a folder to a volume. `read` has what is known of each candidate, in their order.
#[must_use]
pub fn assign(entries: &[Entry], candidates: &[Candidate], read: &[DescriptorReading<'_>]) -> Assignment {
    let read: Vec<DescriptorReading<'_>> =
        read.iter().copied().chain(std::iter::repeat(DescriptorReading::Unread)).take(candidates.len()).collect();
    let place = FolderIndex::new(entries, candidates, &read);
    let mut problems: Vec<Option<Unprotectable>> = vec![None; candidates.len()];
    let owners = place.extent_owners(&mut problems);
    let mut work = AssignmentBuilder::new(&place);
    let mut rest = Vec::new();
    for entry in entries {
        let is_rejected = || matches!(candidate(entry), Some(Err(_)));
        if entry.kind == EntryKind::Folder || place.is_disk_file(entry) || is_rejected() {
            continue;
        }
        if entry.name.starts_with(LOCK_PREFIX) {
            work.unassigned(entry, "the lock of an ESXi host");
        } else if entry.name.starts_with(RESTORE_PREFIX) {
            work.unassigned(entry, "a file of a restore that has not ended");
        } else if let Some(owner) = owners.get(entry.name.as_str()).filter(|_| is_file(entry)) {
            // The extents of a second form go with the volume as its sidecars.
            if let Some(main) = place.main_of(*owner) {
                work.add(main, entry);
            }
        } else {
            match place.home_of_part(entry) {
                Home::Volume(at) => work.add(at, entry),
                Home::Orphan(stem) => work.orphan(stem, entry, FileRole::Extent),
                Home::ByStem => rest.push(entry),
            }
        }
    }
    for entry in rest {
        work.by_stem(entry);
    }
    work.finish(&owners, problems)
}

/// What an assignment is made of.
struct AssignmentBuilder<'p, 'a> {
    place: &'p FolderIndex<'a>,
    sidecars: Vec<Vec<GroupFile>>,
    orphans: BTreeMap<FileName, Vec<GroupFile>>,
    result: Assignment,
}

impl<'p, 'a> AssignmentBuilder<'p, 'a> {
    fn new(place: &'p FolderIndex<'a>) -> Self {
        let sidecars = vec![Vec::new(); place.candidates.len()];
        Self { place, sidecars, orphans: BTreeMap::new(), result: Assignment::default() }
    }

    fn unassigned(&mut self, entry: &Entry, what: &'static str) {
        self.result.unassigned.push(Unassigned { name: shown(&entry.name), bytes: entry.bytes, what });
    }

    fn orphan(&mut self, stem: FileName, entry: &Entry, role: FileRole) {
        match FileName::new(&entry.name) {
            Ok(name) if is_file(entry) => {
                self.orphans.entry(stem).or_default().push(GroupFile { name, role, entry: entry.clone() });
            }
            _ => self.unassigned(entry, "a file that can't be used beside a disk without a descriptor"),
        }
    }

    /// Assigns an entry to the volume whose stem it shares; of several to the longest stem's.
    fn by_stem(&mut self, entry: &Entry) {
        enum StemOwner {
            Volume(usize),
            Orphan(FileName),
        }
        let lost = |stem: &str| FileName::stem(stem).ok().filter(|stem| self.orphans.contains_key(stem));
        let owner = stems_of(&entry.name).find_map(|stem| match self.place.by_stem.get(stem) {
            Some(at) => Some(StemOwner::Volume(*at)),
            None => lost(stem).map(StemOwner::Orphan),
        });
        match owner {
            Some(StemOwner::Volume(at)) => self.add(at, entry),
            Some(StemOwner::Orphan(stem)) => self.orphan(stem, entry, FileRole::Sidecar),
            None if entry.kind == EntryKind::Other => {
                self.unassigned(entry, "a link or a device, which is not followed")
            }
            None if entry.kind == EntryKind::Unreadable => self.unassigned(entry, "something that can't be read"),
            None => self.unassigned(entry, "a file that shares no volume's name"),
        }
    }

    /// Takes a file into a volume, or says why not.
    fn add(&mut self, at: usize, entry: &Entry) {
        let (Some(own), Some(candidate)) = (self.sidecars.get_mut(at), self.place.candidates.get(at)) else { return };
        let mut skip = |why: String| {
            self.result.left_out.push(SkippedFile { stem: candidate.stem.clone(), name: shown(&entry.name), why });
        };
        match FileName::new(&entry.name) {
            _ if !entry.utf8 => skip(NameError::NotUtf8.to_string()),
            Err(why) => skip(why.to_string()),
            Ok(_) if entry.kind == EntryKind::Unreadable => skip("it can't be read".to_owned()),
            Ok(_) if entry.kind != EntryKind::File => skip("it is a link or a device, not a file".to_owned()),
            Ok(name) if name.as_str() == MANIFEST_NAME => {
                skip("the name is that of a version's own manifest".to_owned());
            }
            Ok(name) => {
                let unread = self.place.read.get(at).is_none_or(|reading| reading.descriptor().is_none());
                let part = disk_stem(name.as_str()).and_then(Part::of);
                let is_bytes = part.is_some_and(|part| part.holds_bytes && part.base == candidate.stem.as_str());
                let role = if unread && is_bytes { FileRole::Extent } else { FileRole::Sidecar };
                own.push(GroupFile { name, role, entry: entry.clone() });
            }
        }
    }

    fn finish(mut self, owners: &HashMap<&str, usize>, problems: Vec<Option<Unprotectable>>) -> Assignment {
        for (at, (own, problem)) in self.sidecars.into_iter().zip(problems).enumerate() {
            let (Some(candidate), true) = (self.place.candidates.get(at), self.place.is_disk(at)) else { continue };
            let extents = self.place.own_extents(at, owners);
            self.result.groups.push(group(at, candidate, extents, own, problem));
        }
        self.result.orphans = self.orphans.into_iter().map(|(stem, files)| orphan(stem, files)).collect();
        self.result.left_out.sort_by(|one, two| one.name.cmp(&two.name));
        self.result.unassigned.sort_by(|one, two| one.name.cmp(&two.name));
        self.result
    }
}

fn group(
    at: usize,
    candidate: &Candidate,
    extents: Vec<GroupFile>,
    mut sidecars: Vec<GroupFile>,
    problem: Option<Unprotectable>,
) -> Group {
    sidecars
        .sort_by(|one, two| (one.role != FileRole::Extent, &one.name).cmp(&(two.role != FileRole::Extent, &two.name)));
    let descriptor =
        GroupFile { name: candidate.name.clone(), role: FileRole::Descriptor, entry: candidate.descriptor.clone() };
    let files = std::iter::once(descriptor).chain(extents).chain(sidecars).collect();
    Group { candidate: at, stem: candidate.stem.clone(), files, problem }
}

fn orphan(stem: FileName, mut files: Vec<GroupFile>) -> Orphan {
    files.sort_by(|one, two| one.name.cmp(&two.name));
    let first = files.first().map(|file| shown(file.name.as_str())).unwrap_or_default();
    let why = Unprotectable::new(
        ReasonCode::Missing,
        format!("the descriptor {}.vmdk is missing beside {first}", shown(stem.as_str())),
    )
    .remedy(
        "If the disk is being copied or moved, wait; else put the descriptor back; it can be recreated for the extent.",
    );
    Orphan { stem, files, why }
}

/// Whether an entry is a file, though it may be one that can't be read now.
fn is_file(entry: &Entry) -> bool {
    entry.utf8 && matches!(entry.kind, EntryKind::File | EntryKind::Unreadable)
}
