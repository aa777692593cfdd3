//! One walk through the folders of a datastore.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use stackferry_volume::descriptor::{Descriptor, MAX_TEXT_BYTES, Summary};
use stackferry_volume::group::{self, Candidate, Candidates, Group, GroupFile};
use stackferry_volume::reason::shown;
use stackferry_volume::{
    Entry, EntryKind, FileClock, FileName, FileStamp, Fingerprint, FolderError, Kind, ReasonCode, Unprotectable,
};

use super::{MAX_DEPTH, MAX_DESCRIPTOR_BYTES, MAX_ENTRIES, Observation, Scan, ScanProblem, hint, subject, why};
use crate::cache::{CachedDescriptor, DescriptorCache};
use crate::locks::Locks;
use crate::view::{Content, DatastoreView, FolderSpec, content_of};
use crate::volume::{Held, VolumeFile, VolumeLocation};

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
}

/// What is known of a candidate's descriptor.
enum Read {
    Known(Arc<CachedDescriptor>),
    Failed(FolderError),
    /// No more descriptors are held.
    TooMuch,
    /// It is not looked at, since the volume is not protected whatever it says.
    Ignored,
}

impl Read {
    fn descriptor(&self) -> Option<&Descriptor> {
        match self {
            Read::Known(cached) => cached.content.as_ref().ok(),
            _ => None,
        }
    }
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
            looked_at: specs.iter().map(|spec| spec.path.clone()).collect(),
            not_listed: Vec::new(),
            fresh_descriptors: Default::default(),
            descriptors_seen: Default::default(),
        };
        let clock = FileClock::new(now, view.folder.now());
        Self { view, specs, cache, scan, entries: 0, text_bytes: 0, clock, stamps: Vec::new() }
    }

    /// The datastore is away: nothing of what was seen so far is told, since it would be half of it.
    pub(super) fn unreachable(mut self, error: &FolderError) -> Scan {
        self.scan.reachable = false;
        self.scan.observations.clear();
        self.scan.problems.clear();
        self.problem("", why(error), hint(error));
        self.finish_incomplete()
    }

    /// None of the folders is there. An unmounted file system looks like that, so nothing counts as looked at.
    pub(super) fn nothing_there(mut self) -> Scan {
        let folders: Vec<String> = self.specs.iter().map(|spec| shown(&spec.path)).collect();
        let text = format!("none of its folders is there: {}", folders.join(", "));
        self.problem("", text, "See that the datastore is mounted and the folders in `folders` are the right ones.");
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
            at.held = at.held.take().or_else(|| self.unsettled(&at.files));
        }
        self.scan.observations = observations;
        self.scan.observations.sort_by(|one, two| one.at.location.cmp(&two.at.location));
        self.scan.problems.sort_by(|one, two| (&one.subject, &one.text).cmp(&(&two.subject, &two.text)));
        self.scan
    }

    fn finish_incomplete(mut self) -> Scan {
        self.scan.complete = false;
        self.finish()
    }

    fn problem(&mut self, path: &str, text: String, hint: &str) {
        self.scan.problems.push(ScanProblem { subject: subject(&self.view.name, path), text, hint: hint.to_owned() });
    }

    /// Nothing below this folder may be taken for gone.
    pub(super) fn not_listed(&mut self, path: &str, error: &FolderError) {
        self.skip(path, why(error), hint(error));
    }

    fn skip(&mut self, path: &str, text: String, hint: &str) {
        self.problem(path, text, hint);
        self.scan.not_listed.push(path.to_owned());
        self.scan.complete = false;
    }

    /// Looks through one configured folder. Gives whether it is there.
    pub(super) fn folder(&mut self, spec: &FolderSpec) -> Result<bool, FolderError> {
        let mut open = vec![(spec.path.clone(), 0usize)];
        let mut is_there = false;
        while let Some((path, depth)) = open.pop() {
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
        if entry.name.starts_with('.') {
            return;
        }
        let below = join(path, &entry.name);
        if self.specs.iter().any(|spec| spec.path == below) {
            return;
        }
        if !entry.utf8 || FileName::new(&entry.name).is_err() {
            let text = "the folder's name can't be used, it is not looked through".to_owned();
            self.problem(&below, text, "Rename the folder.");
        } else if depth >= MAX_DEPTH {
            let text = format!("it lies more than {MAX_DEPTH} folders deep and is not looked through");
            self.skip(&below, text, "Name the folder in `folders`.");
        } else {
            open.push((below, depth + 1));
        }
    }

    fn entries(&mut self, spec: &FolderSpec, folder: &str, entries: &[Entry]) -> Result<(), FolderError> {
        let content = spec.kind.map_or_else(|| content_of(folder), Content::Volumes);
        let is_backup = content == Content::AppVolumesBackups;
        let kind = match content {
            Content::Volumes(kind) => kind,
            Content::AppVolumesBackups => Kind::Writable,
        };
        let Candidates { descriptors, rejected } = group::candidates(entries);
        let mut read = Vec::with_capacity(descriptors.len());
        for candidate in &descriptors {
            read.push(if is_backup { Read::Ignored } else { self.read(folder, candidate)? });
        }
        let parsed: Vec<Option<&Descriptor>> = read.iter().map(Read::descriptor).collect();
        let assigned = group::assign(entries, &descriptors, &parsed);
        let by_name = entries.iter().filter(|entry| entry.utf8).map(|entry| (entry.name.as_str(), entry)).collect();
        let place = Place { folder, by_name, kind, is_backup, locks: Locks::of(entries) };

        for (group, read) in assigned.groups.into_iter().zip(&read) {
            let held = if is_backup { None } else { self.judge(&place, &group, read) };
            let Some(descriptor) = group.files.first() else { continue };
            let name = descriptor.name.as_str().to_owned();
            let summary = read.descriptor().map(Descriptor::summary);
            self.observe(&place, Some(group.stem), &name, group.files, summary, held);
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
            self.problem(&join(folder, &left.name), text, "Rename or delete the file if it matters.");
        }
        Ok(())
    }

    fn observe(
        &mut self,
        place: &Place<'_>,
        stem: Option<FileName>,
        name: &str,
        files: Vec<GroupFile>,
        descriptor: Option<Summary>,
        held: Option<Held>,
    ) {
        let stamp = |file: &GroupFile| FileStamp {
            name: file.name.as_str().to_owned(),
            bytes: file.entry.bytes,
            mtime: file.entry.mtime,
        };
        let cid = descriptor.as_ref().map(|descriptor| descriptor.cid.clone());
        let fingerprint = Fingerprint::new(files.iter().map(stamp).collect(), cid);
        let held = if place.is_backup { Some(app_volumes_backup(name).into()) } else { held };
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
                held,
            },
        });
    }

    /// A candidate's descriptor, read only if it is not the one that was read before.
    fn read(&mut self, folder: &str, candidate: &Candidate) -> Result<Read, FolderError> {
        let path = join(folder, candidate.name.as_str());
        let entry = &candidate.descriptor;
        self.scan.descriptors_seen.insert(path.clone());
        let cached = match self.cache.get(&self.view.location(path.clone()), entry) {
            Some(cached) => cached,
            None => {
                let head = match self.view.folder.read(&path, MAX_TEXT_BYTES) {
                    Ok(head) => head,
                    Err(error @ FolderError::Unreachable { .. }) => return Err(error),
                    Err(error) => return Ok(Read::Failed(error)),
                };
                let read_at = self.scan.observed;
                Arc::new(CachedDescriptor::new(head, entry.bytes, entry.mtime, read_at, &candidate.name))
            }
        };
        if cached.content.is_ok() {
            let bytes = usize::try_from(cached.bytes).unwrap_or(usize::MAX).min(MAX_TEXT_BYTES);
            self.text_bytes = self.text_bytes.saturating_add(bytes);
            if self.text_bytes > MAX_DESCRIPTOR_BYTES {
                return Ok(Read::TooMuch);
            }
        }
        if cached.read_at == self.scan.observed {
            self.scan.fresh_descriptors.insert(path, Arc::clone(&cached));
        }
        Ok(Read::Known(cached))
    }

    /// Why a volume can't be copied from here now.
    fn judge(&self, place: &Place<'_>, group: &Group, read: &Read) -> Option<Held> {
        let descriptor = match read {
            Read::Known(cached) => match &cached.content {
                Ok(descriptor) => descriptor,
                Err(error) => return Some(error.unprotectable().into()),
            },
            Read::Failed(FolderError::NotFound { .. }) => {
                let text = "its descriptor vanished while the folder was looked at".to_owned();
                return Some(Held::deferred(ReasonCode::Missing, text));
            }
            Read::Failed(error) => {
                let text = format!("its descriptor can't be read: {}", why(error));
                return Some(Held::deferred(ReasonCode::Unreachable, text).remedy(hint(error)));
            }
            Read::TooMuch => {
                let text =
                    format!("the descriptors of this datastore are longer than {MAX_DESCRIPTOR_BYTES} bytes in all");
                return Some(Held::deferred(ReasonCode::Unreachable, text).remedy("Name fewer folders in `folders`."));
            }
            Read::Ignored => return None,
        };
        if let Err(why) = descriptor.protectable() {
            return Some(why.into());
        }
        if let Some(why) = &group.problem {
            return Some(why.clone().into());
        }
        if let Err(error) = descriptor.check_with(|name| place.by_name.get(name).copied()) {
            return Some(error.unprotectable().into());
        }
        place.locks.held(group.files.iter().map(|file| &file.name))
    }

    fn unsettled(&self, files: &[VolumeFile]) -> Option<Held> {
        let young = |file: &&VolumeFile| {
            let age = self.clock.age_of(file.mtime);
            // Without a time to wait nothing waits, also not where the clock there is ahead of ours.
            age < self.view.settle && age > -FUTURE && !self.view.settle.is_zero()
        };
        let file = files.iter().filter(young).max_by_key(|file| file.mtime)?;
        Some(Held::deferred(
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

/// The folder that is being looked at.
struct Place<'a> {
    folder: &'a str,
    by_name: HashMap<&'a str, &'a Entry>,
    kind: Kind,
    is_backup: bool,
    locks: Locks,
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

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
