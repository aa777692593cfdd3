//! Which of a folder's files are disks, and whose the others are.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::names::{Names, Part, disk_stem, stems_of, workstation_of};
use super::{Candidate, DescriptorReading, GroupFile, is_file};
use crate::descriptor::{Descriptor, Extent};
use crate::io::Entry;
use crate::manifest::FileRole;
use crate::name::FileName;
use crate::reason::{ReasonCode, Unprotectable, shown};

/// Where a file belongs.
pub(super) enum Home {
    /// To the candidate of this number.
    Volume(usize),
    /// To a disk whose descriptor is missing.
    Orphan(FileName),
    /// To whose stem it shares.
    ByStem,
}

/// What a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The descriptor of a volume.
    Disk,
    /// A second form of the volume of this number.
    SecondForm(usize),
    /// No descriptor.
    File,
}

/// Where the names of a folder are.
pub(super) struct FolderIndex<'a> {
    pub(super) candidates: &'a [Candidate],
    pub(super) read: &'a [DescriptorReading<'a>],
    names: Names<'a>,
    roles: Vec<Role>,
    /// Disks by stem and by file name.
    pub(super) by_stem: HashMap<&'a str, usize>,
    by_descriptor: HashMap<&'a str, usize>,
}

impl<'a> FolderIndex<'a> {
    pub(super) fn new(entries: &'a [Entry], candidates: &'a [Candidate], read: &'a [DescriptorReading<'a>]) -> Self {
        let names = Names::of(entries);
        let real = |name: &'a FileName| names.find(name.as_str()).map(|entry| entry.name.as_str());
        let named: HashSet<&str> = read
            .iter()
            .filter_map(|reading| reading.descriptor())
            .flat_map(Descriptor::extent_files)
            .filter_map(real)
            .collect();
        // What has pieces beside it is a disk that is damaged, and no piece of another.
        let bases: HashSet<&str> =
            entries.iter().filter_map(|entry| Part::of(disk_stem(&entry.name)?)).map(|part| part.base).collect();
        let is_disk = |(candidate, reading): (&Candidate, &DescriptorReading<'_>)| match reading {
            DescriptorReading::Descriptor(_) => true,
            DescriptorReading::Flawed(error) if error.flaw.is_descriptor() => true,
            DescriptorReading::Flawed(_)
                if named.contains(candidate.name.as_str()) && !bases.contains(candidate.stem.as_str()) =>
            {
                false
            }
            DescriptorReading::Flawed(_) | DescriptorReading::Unread => {
                !candidate.is_part() && !candidate.name.as_str().starts_with('.')
            }
        };
        let mut roles: Vec<Role> =
            candidates.iter().zip(read).map(|one| if is_disk(one) { Role::Disk } else { Role::File }).collect();
        let disks = |roles: &[Role]| -> Vec<usize> {
            (0..roles.len()).filter(|at| roles.get(*at) == Some(&Role::Disk)).collect()
        };
        let mut by_stem = HashMap::new();
        for at in disks(&roles) {
            if let Some(candidate) = candidates.get(at) {
                by_stem.entry(candidate.stem.as_str()).or_insert(at);
            }
        }
        for at in disks(&roles) {
            let stem = candidates.get(at).map_or("", |candidate| candidate.stem.as_str());
            let main = workstation_of(stem).and_then(|main| by_stem.get(main).copied());
            if let (Some(role), Some(main)) = (roles.get_mut(at), main) {
                *role = Role::SecondForm(main);
                by_stem.remove(stem);
            }
        }
        let mut by_descriptor = HashMap::new();
        for at in disks(&roles) {
            if let Some(candidate) = candidates.get(at) {
                by_descriptor.insert(candidate.name.as_str(), at);
            }
        }
        Self { candidates, read, names, roles, by_stem, by_descriptor }
    }

    pub(super) fn is_disk(&self, at: usize) -> bool {
        self.roles.get(at) == Some(&Role::Disk)
    }

    pub(super) fn is_disk_file(&self, entry: &Entry) -> bool {
        is_file(entry) && self.by_descriptor.contains_key(entry.name.as_str())
    }

    /// The volume of which a candidate is a second form.
    pub(super) fn main_of(&self, at: usize) -> Option<usize> {
        match self.roles.get(at) {
            Some(Role::SecondForm(main)) => Some(*main),
            _ => None,
        }
    }

    /// The volume whose stem this name shares; of several the longest stem's.
    fn by_longest_stem(&self, name: &str) -> Option<usize> {
        stems_of(name).find_map(|stem| self.by_stem.get(stem)).copied()
    }

    fn is_unread(&self, at: usize) -> bool {
        self.read.get(at).is_none_or(|reading| reading.descriptor().is_none())
    }

    /// The name of the file that an extent's name means.
    fn real<'n>(&self, name: &'n FileName) -> &'n str
    where
        'a: 'n,
    {
        self.names.find(name.as_str()).map_or(name.as_str(), |entry| entry.name.as_str())
    }

    /// Which candidate each named extent belongs to. Who names what is not theirs gets a problem instead.
    pub(super) fn extent_owners(&self, problems: &mut [Option<Unprotectable>]) -> HashMap<&'a str, usize> {
        let mut claims: BTreeMap<&'a str, Vec<usize>> = BTreeMap::new();
        for (at, reading) in self.read.iter().enumerate() {
            let extents = reading.descriptor().into_iter().flat_map(|descriptor| &descriptor.extents);
            for extent in extents.filter_map(Extent::file_name) {
                let claimants = claims.entry(self.real(extent)).or_default();
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
                    let is_vmdk = disk_stem(extent).is_some();
                    let foreign = |other: &usize| {
                        other != one && self.main_of(*one) != Some(*other) && (!is_vmdk || self.is_unread(*other))
                    };
                    match named.filter(foreign) {
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
                // A sparse disk is its own descriptor; that is reported elsewhere.
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
    pub(super) fn own_extents(&self, at: usize, owners: &HashMap<&str, usize>) -> Vec<GroupFile> {
        let Some(descriptor) = self.read.get(at).and_then(|reading| reading.descriptor()) else { return Vec::new() };
        let mut seen = HashSet::new();
        let entries = descriptor.extent_files().into_iter().filter_map(|name| self.names.find(name.as_str()));
        let own = entries.filter(|entry| owners.get(entry.name.as_str()) == Some(&at) && is_file(entry));
        own.filter(|entry| seen.insert(entry.name.as_str()))
            .filter_map(|entry| {
                let name = FileName::new(&entry.name).ok()?;
                Some(GroupFile { name, role: FileRole::Extent, entry: entry.clone() })
            })
            .collect()
    }

    /// Where a file belongs that is called like a disk, or a piece of one, and that no descriptor names.
    pub(super) fn home_of_part(&self, entry: &Entry) -> Home {
        let Some(stem) = disk_stem(&entry.name) else { return Home::ByStem };
        let main = |stem: &str| workstation_of(stem).and_then(|main| self.by_stem.get(main)).copied();
        let Some(part) = Part::of(stem) else { return main(stem).map_or(Home::ByStem, Home::Volume) };
        if let Some(at) = self.by_stem.get(part.base).copied().or_else(|| main(part.base)) {
            return Home::Volume(at);
        }
        let is_hidden = entry.name.starts_with('.');
        match FileName::stem(part.base) {
            Ok(stem) if part.holds_bytes && is_file(entry) && !is_hidden => Home::Orphan(stem),
            _ => Home::ByStem,
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
