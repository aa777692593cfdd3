//! Which files of a folder belong to which volume: by name first, then by what the descriptors say.
//!
//! A volume is a descriptor, the extents that it names, and every file that shares its stem. Each file belongs to one
//! volume at most: a descriptor that names another volume's bytes gets none of them, so that nobody reads a
//! stranger's disk by writing a descriptor.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::descriptor::{Descriptor, Extent};
use crate::io::{Entry, EntryKind};
use crate::manifest::{FileRole, MANIFEST_NAME};
use crate::name::{FileName, NameError};
use crate::reason::{ReasonCode, Unprotectable, shown};

/// What follows the stem of a disk of which App Volumes' capture on a workstation makes a second form.
const WORKSTATION: &str = "_workstation";

/// A file that is a descriptor by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What the folder tells of it.
    pub descriptor: Entry,
    /// Its file name.
    pub name: FileName,
    /// The volume's stem: the name without `.vmdk`.
    pub stem: FileName,
}

/// An entry that looks like a descriptor and can't be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// What the folder tells of it. Its name is not safe to use.
    pub entry: Entry,
    /// Why.
    pub why: Unprotectable,
}

/// What a folder may hold, by names alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    /// The descriptors, by name.
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
    /// What the folder tells of it.
    pub entry: Entry,
}

/// One volume's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
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
pub struct LeftOut {
    /// The volume's stem.
    pub stem: FileName,
    /// The file's name, made harmless.
    pub name: String,
    /// Why.
    pub why: String,
}

/// A folder's files, each in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// One for each candidate, in their order.
    pub groups: Vec<Group>,
    /// Extents without a descriptor, by stem.
    pub orphans: Vec<Orphan>,
    /// What is not copied although it shares a volume's stem, by name.
    pub left_out: Vec<LeftOut>,
}

/// The files of a folder that are descriptors by their names. Files whose names begin with a dot are no one's.
#[must_use]
pub fn candidates(entries: &[Entry]) -> Candidates {
    let files: HashSet<&str> = entries.iter().filter(|entry| is_file(entry)).map(|entry| entry.name.as_str()).collect();
    let mut found = Candidates::default();
    for entry in entries {
        let Some(stem) = disk_stem(&entry.name) else { continue };
        if entry.name.starts_with('.') || entry.kind == EntryKind::Folder || Part::of(stem).is_some() {
            continue;
        }
        let has_main = |main: &str| files.contains(format!("{main}.vmdk").as_str());
        if workstation_of(stem).is_some_and(has_main) {
            continue;
        }
        match candidate(entry, stem) {
            Ok(candidate) => found.descriptors.push(candidate),
            Err(why) => found.rejected.push(Rejected { entry: entry.clone(), why }),
        }
    }
    found.descriptors.sort_by(|one, two| one.name.cmp(&two.name));
    found.rejected.sort_by(|one, two| one.entry.name.cmp(&two.entry.name));
    found
}

fn candidate(entry: &Entry, stem: &str) -> Result<Candidate, Unprotectable> {
    let bad_name = |why: NameError| {
        Unprotectable::new(ReasonCode::BadName, format!("{} can't be protected: {why}", shown(&entry.name)))
            .remedy("Rename the disk in App Volumes, or its files.")
    };
    if !entry.utf8 {
        return Err(bad_name(NameError::NotUtf8));
    }
    let name = FileName::new(&entry.name).map_err(bad_name)?;
    let stem = FileName::stem(stem).map_err(bad_name)?;
    if entry.kind != EntryKind::File {
        return Err(Unprotectable::new(
            ReasonCode::BadDescriptor,
            format!("{} is a link or a device, not a file; it is never opened", shown(&entry.name)),
        ));
    }
    Ok(Candidate { descriptor: entry.clone(), name, stem })
}

/// Gives each file of a folder its place. `read` has the descriptor of each candidate, in their order, where it could be
/// read; a candidate without one keeps what has its name.
#[must_use]
pub fn assign(entries: &[Entry], candidates: &[Candidate], read: &[Option<&Descriptor>]) -> Assignment {
    let place = Places::new(entries, candidates);
    let mut problems: Vec<Option<Unprotectable>> = vec![None; candidates.len()];
    let owners = place.extent_owners(read, &mut problems);
    let mut sidecars: Vec<Vec<GroupFile>> = vec![Vec::new(); candidates.len()];
    let mut result = Assignment::default();
    let mut orphans: BTreeMap<FileName, Vec<GroupFile>> = BTreeMap::new();
    let mut rest = Vec::new();

    for entry in entries {
        if entry.name.starts_with('.') || entry.kind == EntryKind::Folder || place.is_descriptor(entry) {
            continue;
        }
        if is_file(entry) && owners.contains_key(entry.name.as_str()) {
            continue;
        }
        match place.home_of_part(entry) {
            Home::Volume(at) => add(&mut sidecars, &mut result.left_out, candidates, at, entry, read),
            Home::Orphan(stem) => {
                if let Ok(name) = FileName::new(&entry.name) {
                    let file = GroupFile { name, role: FileRole::Extent, entry: entry.clone() };
                    orphans.entry(stem).or_default().push(file);
                }
            }
            Home::Nobody => {}
            Home::ByStem => rest.push(entry),
        }
    }
    for entry in rest {
        let lost = |stem: &str| FileName::stem(stem).ok().filter(|stem| orphans.contains_key(stem));
        match stems_of(&entry.name).find_map(|stem| match place.by_stem.get(stem) {
            Some(at) => Some(Ok(*at)),
            None => lost(stem).map(Err),
        }) {
            Some(Ok(at)) => add(&mut sidecars, &mut result.left_out, candidates, at, entry, read),
            Some(Err(stem)) => {
                if let (true, Ok(name)) = (is_file(entry), FileName::new(&entry.name)) {
                    let file = GroupFile { name, role: FileRole::Sidecar, entry: entry.clone() };
                    orphans.entry(stem).or_default().push(file);
                }
            }
            None => {}
        }
    }

    let read = read.iter().copied().chain(std::iter::repeat(None));
    for (at, ((candidate, own), (read, problem))) in candidates.iter().zip(sidecars).zip(read.zip(problems)).enumerate()
    {
        let extents = read.map(|read| place.own_extents(at, read, &owners)).unwrap_or_default();
        result.groups.push(group(candidate, extents, own, problem));
    }
    result.orphans = orphans.into_iter().map(|(stem, files)| orphan(stem, files)).collect();
    result.left_out.sort_by(|one, two| one.name.cmp(&two.name));
    result
}

fn group(
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
    Group { stem: candidate.stem.clone(), files, problem }
}

fn orphan(stem: FileName, mut files: Vec<GroupFile>) -> Orphan {
    files.sort_by(|one, two| one.name.cmp(&two.name));
    let first = files.first().map(|file| shown(file.name.as_str())).unwrap_or_default();
    let why = Unprotectable::new(
        ReasonCode::Missing,
        format!("the descriptor {}.vmdk is missing beside {first}", shown(stem.as_str())),
    )
    .remedy(
        "If the disk is being copied or moved, wait; else put the descriptor back; it can be made anew for the extent.",
    );
    Orphan { stem, files, why }
}

/// Takes a file into a volume, or says why not.
fn add(
    sidecars: &mut [Vec<GroupFile>],
    left_out: &mut Vec<LeftOut>,
    candidates: &[Candidate],
    at: usize,
    entry: &Entry,
    read: &[Option<&Descriptor>],
) {
    let (Some(own), Some(candidate)) = (sidecars.get_mut(at), candidates.get(at)) else { return };
    let mut skip = |why: String| {
        left_out.push(LeftOut { stem: candidate.stem.clone(), name: shown(&entry.name), why });
    };
    match FileName::new(&entry.name) {
        _ if !entry.utf8 => skip(NameError::NotUtf8.to_string()),
        Err(why) => skip(why.to_string()),
        Ok(_) if entry.kind != EntryKind::File => skip("it is a link or a device, not a file".to_owned()),
        Ok(name) if name.as_str() == MANIFEST_NAME => skip("the name is that of a version's own manifest".to_owned()),
        Ok(name) => {
            let unread = read.get(at).is_none_or(Option::is_none);
            let part = disk_stem(name.as_str()).and_then(Part::of);
            let is_bytes = part.is_some_and(|part| part.holds_bytes && part.base == candidate.stem.as_str());
            let role = if unread && is_bytes { FileRole::Extent } else { FileRole::Sidecar };
            own.push(GroupFile { name, role, entry: entry.clone() });
        }
    }
}

/// Where a file belongs.
enum Home {
    /// To the candidate of this number.
    Volume(usize),
    /// To a disk whose descriptor is missing.
    Orphan(FileName),
    /// To none.
    Nobody,
    /// To whose stem it shares.
    ByStem,
}

/// Where the names of a folder are.
struct Places<'a> {
    candidates: &'a [Candidate],
    by_name: HashMap<&'a str, &'a Entry>,
    by_stem: HashMap<&'a str, usize>,
    by_descriptor: HashMap<&'a str, usize>,
}

impl<'a> Places<'a> {
    fn new(entries: &'a [Entry], candidates: &'a [Candidate]) -> Self {
        let numbered = || candidates.iter().enumerate();
        let mut by_stem = HashMap::new();
        for (at, candidate) in numbered() {
            by_stem.entry(candidate.stem.as_str()).or_insert(at);
        }
        Self {
            candidates,
            by_name: entries.iter().filter(|entry| entry.utf8).map(|entry| (entry.name.as_str(), entry)).collect(),
            by_stem,
            by_descriptor: numbered().map(|(at, candidate)| (candidate.name.as_str(), at)).collect(),
        }
    }

    fn is_descriptor(&self, entry: &Entry) -> bool {
        is_file(entry) && self.by_descriptor.contains_key(entry.name.as_str())
    }

    /// The volume whose stem this name shares; of several the longest stem's.
    fn by_longest_stem(&self, name: &str) -> Option<usize> {
        stems_of(name).find_map(|stem| self.by_stem.get(stem)).copied()
    }

    /// Which candidate each named extent belongs to. Who names what is not his gets a problem instead.
    fn extent_owners(
        &self,
        read: &[Option<&'a Descriptor>],
        problems: &mut [Option<Unprotectable>],
    ) -> HashMap<&'a str, usize> {
        let mut claims: BTreeMap<&'a str, Vec<usize>> = BTreeMap::new();
        for (at, descriptor) in read.iter().enumerate() {
            for extent in descriptor.iter().flat_map(|descriptor| &descriptor.extents).filter_map(Extent::file_name) {
                let claimants = claims.entry(extent.as_str()).or_default();
                // A disk in several pieces may name one file many times in a row; others are found one by one.
                if claimants.last() != Some(&at) {
                    claimants.push(at);
                }
            }
        }
        let mut owners = HashMap::new();
        for (extent, claimants) in claims {
            let named = self.by_longest_stem(extent);
            let owner = match (self.by_descriptor.get(extent), claimants.as_slice()) {
                (Some(descriptor), _) => Err(Some(*descriptor)),
                // A renamed descriptor keeps its old extents, so another's name alone is no proof. It is one where that
                // other can't be asked, and for what is no piece of a disk at all.
                (None, [one]) => {
                    let unread = |other: &usize| read.get(*other).is_none_or(Option::is_none);
                    let is_part = disk_stem(extent).and_then(Part::of).is_some();
                    match named.filter(|other| other != one && (!is_part || unread(other))) {
                        Some(other) => Err(Some(other)),
                        None => Ok(*one),
                    }
                }
                (None, several) => named.filter(|named| several.contains(named)).ok_or(None),
            };
            if let Ok(owner) = owner {
                owners.insert(extent, owner);
            }
            for at in claimants {
                let Some(problem) = problems.get_mut(at).filter(|_| owner != Ok(at)) else { continue };
                // A sparse disk is its own descriptor; that is told elsewhere.
                if owner == Err(Some(at)) {
                    continue;
                }
                let whose = match owner {
                    Ok(other) | Err(Some(other)) => self.candidates.get(other).map(|other| other.name.as_str()),
                    Err(None) => None,
                };
                let own = self.candidates.get(at).map_or("", |own| own.name.as_str());
                *problem = Some(foreign(own, extent, whose));
            }
        }
        owners
    }

    /// The extents that a descriptor names and that are its own, in the disk's order.
    fn own_extents(&self, at: usize, read: &Descriptor, owners: &HashMap<&str, usize>) -> Vec<GroupFile> {
        let own = |name: &&FileName| owners.get(name.as_str()) == Some(&at);
        let file = |name: &FileName| {
            let entry = self.by_name.get(name.as_str()).filter(|entry| is_file(entry))?;
            Some(GroupFile { name: name.clone(), role: FileRole::Extent, entry: (*entry).clone() })
        };
        read.extent_files().into_iter().filter(own).filter_map(file).collect()
    }

    /// Where a piece of a disk belongs that no descriptor names.
    fn home_of_part(&self, entry: &Entry) -> Home {
        let Some(stem) = disk_stem(&entry.name) else { return Home::ByStem };
        let main = workstation_of(stem).and_then(|main| self.by_stem.get(main));
        let Some(part) = Part::of(stem) else {
            // Other disks here are second forms of a volume, or can't be volumes.
            return main.map_or(Home::Nobody, |at| Home::Volume(*at));
        };
        if let Some(at) = self.by_stem.get(part.base) {
            return Home::Volume(*at);
        }
        if let Some(at) = workstation_of(part.base).and_then(|main| self.by_stem.get(main)) {
            return Home::Volume(*at);
        }
        if !part.holds_bytes {
            return Home::ByStem;
        }
        let has_descriptor = self.by_name.contains_key(format!("{}.vmdk", part.base).as_str());
        match FileName::stem(part.base) {
            Ok(stem) if is_file(entry) && !has_descriptor => Home::Orphan(stem),
            _ => Home::Nobody,
        }
    }
}

fn foreign(own: &str, extent: &str, whose: Option<&str>) -> Unprotectable {
    let (own, extent) = (shown(own), shown(extent));
    let text = match whose {
        Some(other) => format!("{own} names {extent} as its extent, which belongs to {}", shown(other)),
        None => format!("{own} names {extent} as its extent, as another descriptor does"),
    };
    Unprotectable::new(ReasonCode::BadDescriptor, text).remedy("Delete the descriptor that is not the disk's own.")
}

fn is_file(entry: &Entry) -> bool {
    entry.utf8 && entry.kind == EntryKind::File
}

/// The name of a disk without `.vmdk`.
fn disk_stem(name: &str) -> Option<&str> {
    let (stem, end) = name.split_at_checked(name.len().checked_sub(".vmdk".len())?)?;
    (end.eq_ignore_ascii_case(".vmdk") && !stem.is_empty()).then_some(stem)
}

fn workstation_of(stem: &str) -> Option<&str> {
    stem.strip_suffix(WORKSTATION).filter(|main| !main.is_empty())
}

/// The prefixes of a name that end before `.`, `-` or `_`, the longest first.
fn stems_of(name: &str) -> impl Iterator<Item = &str> {
    name.char_indices().rev().filter(|(_, c)| matches!(c, '.' | '-' | '_')).filter_map(|(at, _)| name.get(..at))
}

/// A file that is a piece of a disk by its name.
struct Part<'a> {
    /// The stem of the disk it is a piece of.
    base: &'a str,
    /// Whether it holds bytes of the disk, so that it needs a descriptor; a change-tracking file does not.
    holds_bytes: bool,
}

impl<'a> Part<'a> {
    /// Whether a disk's name without `.vmdk` is that of a piece. The words are ESXi's and VMware Workstation's.
    fn of(stem: &'a str) -> Option<Self> {
        let (base, word) = stem.rsplit_once('-').filter(|(base, _)| !base.is_empty())?;
        let numbered = |letter: char| {
            word.strip_prefix(letter)
                .is_some_and(|number| number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let holds_bytes = match word {
            "flat" | "delta" | "sesparse" | "rdm" | "rdmp" => true,
            "ctk" => false,
            _ if numbered('f') || numbered('s') => true,
            _ => return None,
        };
        Some(Self { base, holds_bytes })
    }
}
