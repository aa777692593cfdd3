//! One walk through the folders of a datastore.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use stackferry_volume::descriptor::{Descriptor, DescriptorSummary, MAX_TEXT_BYTES};
use stackferry_volume::group::{self, Candidate, Candidates, DescriptorReading, GroupFile, Names};
use stackferry_volume::manifest::FileRole;
use stackferry_volume::reason::shown;
use stackferry_volume::{
    Entry, EntryKind, FileClock, FileName, FileStamp, Fingerprint, FolderError, Kind, ReasonCode, Unprotectable,
};

use super::explain::{hint, stat_error, subject, why};
use super::folder::{DescriptorRead, FolderContext, join, snapshots};
use super::judge::judge;
use super::limits::{MAX_DEPTH, MAX_DESCRIPTOR_BYTES, MAX_ENTRIES, MAX_OTHER_FILES};
use super::result::{Observation, OtherFile, OtherFiles, Scan};
use crate::cache::DescriptorCache;
use crate::descriptor::DescriptorFile;
use crate::locks::Locks;
use crate::problem::{ProblemCode, ScanProblem};
use crate::view::{DatastoreView, FolderContent, FolderSpec, folder_content};
use crate::volume::{SkipReason, VolumeFile, VolumeLocation};

/// A time of change further ahead than this is a wrong stamp and not another machine's clock.
const FUTURE: SignedDuration = SignedDuration::from_hours(24);

pub(super) struct Walk<'a> {
    view: &'a DatastoreView,
    specs: &'a [FolderSpec],
    cache: &'a DescriptorCache,
    scan: Scan,
    entries: usize,
    text_bytes: usize,
    /// What is known of the clock that gives the files their times.
    clock: FileClock,
    /// The times of each observation's files: of the last change of the content, and of any change.
    stamps: Vec<Vec<(Timestamp, Option<Timestamp>)>>,
    /// The sub-folders of the folders that were asked for theirs; none where they could not be had.
    sub_folders: BTreeMap<String, Option<Vec<String>>>,
    /// The folders that were looked through, or are going to be.
    walked: BTreeSet<String>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        view: &'a DatastoreView,
        specs: &'a [FolderSpec],
        cache: &'a DescriptorCache,
        now: Timestamp,
    ) -> Self {
        let scan = Scan {
            site: view.site.clone(),
            datastore: view.name.clone(),
            rank: view.rank,
            datastore_type: view.datastore_type.clone(),
            observed: now,
            reachable: true,
            complete: true,
            observations: Vec::new(),
            problems: Vec::new(),
            others: OtherFiles::default(),
            looked_at: specs.iter().map(|spec| spec.path.clone()).collect(),
            not_listed: Vec::new(),
            fresh_descriptors: Default::default(),
            descriptors_seen: Default::default(),
        };
        let clock = FileClock::new(now, view.folder.now());
        let (sub_folders, walked) = (BTreeMap::new(), BTreeSet::new());
        Self { view, specs, cache, scan, entries: 0, text_bytes: 0, clock, stamps: Vec::new(), sub_folders, walked }
    }

    /// The datastore is away: nothing of what was seen so far is told, since it would be half of it.
    pub(super) fn unreachable(mut self, error: &FolderError) -> Scan {
        self.scan.reachable = false;
        self.scan.observations.clear();
        self.scan.problems.clear();
        self.scan.others = OtherFiles::default();
        self.problem(ProblemCode::Unreachable, "", why(error), hint(error));
        self.finish_incomplete()
    }

    /// None of the folders is there. An unmounted file system looks like that, so nothing counts as looked at.
    pub(super) fn nothing_there(mut self) -> Scan {
        let folders: Vec<String> = self.specs.iter().map(|spec| shown(&spec.path)).collect();
        let text = format!("none of its folders is there: {}", folders.join(", "));
        let hint = "See that the datastore is mounted and the folders in `folders` are the right ones.";
        self.problem(ProblemCode::NothingThere, "", text, hint);
        self.scan.looked_at.clear();
        self.finish_incomplete()
    }

    pub(super) fn finish(mut self) -> Scan {
        // Only now all is known that there is to know of the clock.
        let mut observations = std::mem::take(&mut self.scan.observations);
        for (observation, stamps) in observations.iter_mut().zip(&self.stamps) {
            let at = &mut observation.at;
            at.settled = stamps.iter().all(|(mtime, changed)| self.clock.settles(*mtime, *changed));
            at.quiet = stamps.iter().all(|(mtime, changed)| self.clock.is_quiet(*mtime, *changed));
            // A lock says least: a disk that is attached read-only is copied all the same.
            at.skip = match at.skip.take() {
                Some(skip) if skip.reason.code == ReasonCode::Locked => self.unsettled(&at.files).or(Some(skip)),
                skip => skip.or_else(|| self.unsettled(&at.files)),
            };
        }
        self.scan.observations = observations;
        self.scan.observations.sort_by(|one, two| one.at.location.cmp(&two.at.location));
        self.scan.problems.sort_by(|one, two| (&one.subject, &one.text).cmp(&(&two.subject, &two.text)));
        self.scan.others.listed.sort_by(|one, two| one.path.cmp(&two.path));
        self.scan
    }

    fn finish_incomplete(mut self) -> Scan {
        self.scan.complete = false;
        self.finish()
    }

    fn problem(&mut self, code: ProblemCode, path: &str, text: String, hint: &str) {
        let subject = subject(&self.view.name, path);
        self.scan.problems.push(ScanProblem { code, subject, text, hint: hint.to_owned() });
    }

    fn other(&mut self, path: String, bytes: Option<u64>, what: &str) {
        self.scan.others.count = self.scan.others.count.saturating_add(1);
        if self.scan.others.listed.len() < MAX_OTHER_FILES {
            self.scan.others.listed.push(OtherFile { path, bytes, what: what.to_owned() });
        }
    }

    /// Nothing below this folder may be taken for gone.
    pub(super) fn not_listed(&mut self, path: &str, error: &FolderError) {
        self.skip(path, why(error), hint(error));
    }

    fn skip(&mut self, path: &str, text: String, hint: &str) {
        self.problem(ProblemCode::NotListed, path, text, hint);
        self.scan.not_listed.push(path.to_owned());
        self.scan.complete = false;
    }

    /// How a folder is called on the datastore: some write its name in other capitals. All folders that differ in capitals
    /// only are meant.
    fn spellings(&mut self, path: &str) -> Result<Vec<String>, FolderError> {
        let mut found = vec![String::new()];
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let lower = part.to_lowercase();
            let mut next = Vec::new();
            for parent in found {
                let Some(names) = self.sub_folders(&parent)? else { return Ok(vec![path.to_owned()]) };
                next.extend(names.iter().filter(|name| name.to_lowercase() == lower).map(|name| join(&parent, name)));
            }
            found = next;
        }
        Ok(found)
    }

    fn sub_folders(&mut self, path: &str) -> Result<Option<Vec<String>>, FolderError> {
        if let Some(known) = self.sub_folders.get(path) {
            return Ok(known.clone());
        }
        let names = match self.view.folder.sub_folders(path) {
            Err(error @ FolderError::Unreachable { .. }) => return Err(error),
            // Who may not list the folder above may list this one.
            Err(_) => None,
            Ok(names) => Some(names),
        };
        self.sub_folders.insert(path.to_owned(), names.clone());
        Ok(names)
    }

    /// Looks through one configured folder. Gives whether it is there.
    pub(super) fn folder(&mut self, spec: &FolderSpec) -> Result<bool, FolderError> {
        let mut is_there = false;
        let spellings = self.spellings(&spec.path)?;
        for path in spellings {
            let is_other = path != spec.path;
            if is_other && self.specs.iter().any(|spec| spec.path == path) {
                continue;
            }
            if is_other {
                self.scan.looked_at.push(path.clone());
            }
            is_there |= self.folder_at(spec, path)?;
        }
        Ok(is_there)
    }

    fn folder_at(&mut self, spec: &FolderSpec, path: String) -> Result<bool, FolderError> {
        let mut open = vec![(path, 0usize)];
        let mut is_there = false;
        while let Some((path, depth)) = open.pop() {
            if !self.walked.insert(path.clone()) {
                continue;
            }
            let entries = match self.view.folder.list(&path) {
                Ok(entries) => entries,
                Err(FolderError::NotFound { .. }) => continue,
                Err(error) if depth == 0 || matches!(error, FolderError::Unreachable { .. }) => return Err(error),
                Err(error) => {
                    self.not_listed(&path, &error);
                    continue;
                }
            };
            is_there = true;
            let total = self.entries.saturating_add(entries.len());
            if total > MAX_ENTRIES {
                let text = format!("the datastore has more than {MAX_ENTRIES} entries in the folders to look through");
                self.skip(&path, text, "Name fewer folders in `folders`.");
                continue;
            }
            self.entries = total;
            entries.iter().for_each(|entry| self.clock.saw(entry.mtime, entry.changed));
            for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Folder) {
                self.sub_folder(&path, depth, entry, &mut open);
            }
            self.entries(spec, &path, &entries)?;
        }
        Ok(is_there)
    }

    fn sub_folder(&mut self, path: &str, depth: usize, entry: &Entry, open: &mut Vec<(String, usize)>) {
        let below = join(path, &entry.name);
        // Snapshots of the file server, and what hosts keep for themselves.
        if entry.name.starts_with('.') {
            let what = "a folder whose name begins with a dot; it is not looked through unless `folders` names it";
            return self.other(shown(&below), None, what);
        }
        if self.specs.iter().any(|spec| spec.path == below) {
            return;
        }
        if !entry.utf8 || FileName::new(&entry.name).is_err() {
            let text = "the folder's name can't be used, it is not looked through".to_owned();
            self.skip(&below, text, "Rename the folder.");
        } else if depth >= MAX_DEPTH {
            let text = format!("it lies more than {MAX_DEPTH} folders deep and is not looked through");
            self.skip(&below, text, "Name the folder in `folders`.");
        } else {
            open.push((below, depth + 1));
        }
    }

    fn entries(&mut self, spec: &FolderSpec, folder: &str, entries: &[Entry]) -> Result<(), FolderError> {
        let content = spec.kind.map_or_else(|| folder_content(folder), FolderContent::Volumes);
        let is_backup = content == FolderContent::AppVolumesBackups;
        let kind = match content {
            FolderContent::Volumes(kind) => kind,
            FolderContent::AppVolumesBackups => Kind::Writable,
        };
        let Candidates { descriptors, rejected } = group::candidates(entries);
        let mut read = Vec::with_capacity(descriptors.len());
        for candidate in &descriptors {
            read.push(match candidate.is_small() && !is_backup {
                true => self.read(folder, candidate)?,
                false => DescriptorRead::Ignored,
            });
        }
        if !is_backup {
            let known: Vec<DescriptorReading<'_>> = read.iter().map(DescriptorRead::reading).collect();
            for at in group::to_read_too(entries, &descriptors, &known) {
                let Some(candidate) = descriptors.get(at) else { continue };
                let one = self.read(folder, candidate)?;
                if let Some(slot) = read.get_mut(at) {
                    *slot = one;
                }
            }
        }
        let known: Vec<DescriptorReading<'_>> = read.iter().map(DescriptorRead::reading).collect();
        let mut assigned = group::assign(entries, &descriptors, &known);
        let names = Names::of(entries);
        let snapshots = snapshots(&known, &names);
        let place =
            FolderContext { folder, names, kind, is_backup, locks: Locks::of(entries, self.scan.observed), snapshots };

        for group in &mut assigned.groups {
            let Some(read) = read.get(group.candidate) else { continue };
            if let (Some(bytes), Some(descriptor)) = (read.bytes(), group.files.first_mut()) {
                descriptor.entry.bytes = bytes;
            }
        }
        let of_groups = assigned.groups.iter().flat_map(|group| &group.files);
        let of_orphans = assigned.orphans.iter().flat_map(|orphan| &orphan.files);
        let mut own: BTreeSet<String> = of_groups.chain(of_orphans).map(|file| shown(file.name.as_str())).collect();
        own.extend(assigned.left_out.iter().map(|left| left.name.clone()));
        self.unreadable(folder, entries, &own);
        for group in assigned.groups {
            let Some(read) = read.get(group.candidate) else { continue };
            let skip = if is_backup { None } else { judge(&*self.view.folder, &place, &group, read) };
            let Some(descriptor) = group.files.first() else { continue };
            let name = descriptor.name.as_str().to_owned();
            self.scan.descriptors_seen.insert(join(folder, &name));
            let summary = read.descriptor().map(Descriptor::summary);
            self.observe(&place, Some(group.stem), &name, group.files, summary, skip);
        }
        for orphan in assigned.orphans {
            let name = format!("{}.vmdk", orphan.stem);
            self.observe(&place, Some(orphan.stem), &name, orphan.files, None, Some(orphan.why.into()));
        }
        for rejected in rejected {
            // Its name is only told, never used: the place is written so that it is harmless to show.
            self.observe(&place, None, &shown(&rejected.entry.name), Vec::new(), None, Some(rejected.why.into()));
        }
        for left in assigned.left_out {
            let text = format!("it is not copied with {}: {}", shown(left.stem.as_str()), left.why);
            self.problem(
                ProblemCode::LeftOut,
                &join(folder, &left.name),
                text,
                "Rename or delete the file if it matters.",
            );
        }
        for (lock, since) in place.locks.stale() {
            let text = format!("no host has renewed this lock since {since}; it is not obeyed");
            self.problem(
                ProblemCode::OldLock,
                &join(folder, &shown(lock)),
                text,
                "Delete it: a host that works renews its locks.",
            );
        }
        for one in assigned.unassigned {
            self.other(join(folder, &one.name), Some(one.bytes), one.what);
        }
        Ok(())
    }

    /// What is there and can't be looked at may be a folder with volumes in it. What belongs to a volume is told at the volume.
    fn unreadable(&mut self, folder: &str, entries: &[Entry], own: &BTreeSet<String>) {
        let unreadable = |entry: &&Entry| entry.kind == EntryKind::Unreadable && !own.contains(&shown(&entry.name));
        for entry in entries.iter().filter(unreadable) {
            let path = join(folder, &entry.name);
            let error = stat_error(&*self.view.folder, &path);
            self.skip(&path, format!("it can't be looked at: {}", why(&error)), hint(&error));
        }
    }

    fn observe(
        &mut self,
        place: &FolderContext<'_>,
        stem: Option<FileName>,
        name: &str,
        files: Vec<GroupFile>,
        descriptor: Option<DescriptorSummary>,
        skip: Option<SkipReason>,
    ) {
        let stamp = |file: &GroupFile| FileStamp {
            name: file.name.as_str().to_owned(),
            bytes: file.entry.bytes,
            mtime: file.entry.mtime,
        };
        let cid = descriptor.as_ref().and_then(|descriptor| descriptor.cid.clone());
        let fingerprint = Fingerprint::new(files.iter().map(stamp).collect(), cid);
        let skip = if place.is_backup { Some(app_volumes_backup(name).into()) } else { skip };
        self.stamps.push(files.iter().map(|file| (file.entry.mtime, file.entry.changed)).collect());
        self.scan.observations.push(Observation {
            kind: place.kind,
            stem,
            shown_name: shown(name),
            is_backup: place.is_backup,
            at: VolumeLocation {
                location: self.view.location(join(place.folder, name)),
                datastore_type: self.view.datastore_type.clone(),
                reachable: true,
                seen: true,
                settled: false,
                quiet: false,
                fingerprint,
                observed: self.scan.observed,
                files: files.into_iter().map(volume_file).collect(),
                descriptor,
                skip,
            },
        });
    }

    /// A candidate's descriptor, read only if it is not the one that was read before.
    fn read(&mut self, folder: &str, candidate: &Candidate) -> Result<DescriptorRead, FolderError> {
        let path = join(folder, candidate.name.as_str());
        let entry = &candidate.descriptor;
        self.scan.descriptors_seen.insert(path.clone());
        if entry.kind == EntryKind::Unreadable {
            return Ok(DescriptorRead::Failed(stat_error(&*self.view.folder, &path)));
        }
        let cached = match self.cache.get(&self.view.location(path.clone()), entry) {
            Some(cached) => cached,
            None => {
                let head = match self.view.folder.read(&path, MAX_TEXT_BYTES) {
                    Ok(head) => head,
                    Err(error @ FolderError::Unreachable { .. }) => return Err(error),
                    Err(error) => return Ok(DescriptorRead::Failed(error)),
                };
                let read_at = self.scan.observed;
                Arc::new(DescriptorFile::new(head, entry.bytes, entry.mtime, read_at, &candidate.name))
            }
        };
        if cached.content.is_ok() {
            let bytes = usize::try_from(cached.bytes).unwrap_or(usize::MAX).min(MAX_TEXT_BYTES);
            self.text_bytes = self.text_bytes.saturating_add(bytes);
            if self.text_bytes > MAX_DESCRIPTOR_BYTES {
                return Ok(DescriptorRead::TooMuch);
            }
        }
        if cached.read_at == self.scan.observed {
            self.scan.fresh_descriptors.insert(path, Arc::clone(&cached));
        }
        Ok(DescriptorRead::Known(cached))
    }

    fn unsettled(&self, files: &[VolumeFile]) -> Option<SkipReason> {
        let young = |file: &&VolumeFile| {
            let age = self.clock.age_of(file.mtime);
            // Without a time to wait nothing waits, also not where the clock there is ahead of ours.
            age < self.view.settle && age > -FUTURE && !self.view.settle.is_zero()
        };
        // OtherFile files may change at any time: a log beside a disk is no reason to leave the disk alone.
        let own = files.iter().filter(|file| file.role != FileRole::Sidecar);
        let file = own.filter(young).max_by_key(|file| file.mtime)?;
        Some(SkipReason::deferred(
            ReasonCode::Busy,
            format!(
                "{} was changed at {}; it is left alone until nothing has changed for {:#}",
                shown(file.name.as_str()),
                file.mtime,
                self.view.settle,
            ),
        ))
    }
}

fn volume_file(file: GroupFile) -> VolumeFile {
    VolumeFile {
        name: file.name,
        role: file.role,
        bytes: file.entry.bytes,
        mtime: file.entry.mtime,
        allocated: file.entry.allocated,
    }
}

fn app_volumes_backup(name: &str) -> Unprotectable {
    Unprotectable::new(
        ReasonCode::AppVolumesBackup,
        format!(
            "{} is a backup that App Volumes made of a writable volume; the volume itself is protected",
            shown(name)
        ),
    )
}
