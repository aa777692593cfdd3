//! What was asked of single volumes and groups, and when it has to be asked again.
//!
//! A list is asked in every look; a detail only when
//! 1. it was never asked, or
//! 2. its entry in the list changed in anything but use (mount counts, times, free space, who assigned what), or
//! 3. it became attached or detached: then its manager had a fresh look at its file, or
//! 4. a datastore came, went, or changed whether volumes are attached from it: files may be found or missed now, or
//! 5. a place of it was missing or out of reach, and that was told ten minutes ago or more, or
//! 6. it was asked an hour ago or more, since a replica that came to another datastore shows in no list.
//!
//! So a look at 5,000 writables and 200 packages of which nothing changed asks a dozen lists and no detail.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::{SignedDuration, Timestamp};

use super::report::{ManagedDatastore, ManagedLocation, StorageGroup, VolumeAssignment, VolumeRef};
use super::volumes::DetailFields;

/// How long what was told of a volume is taken for true.
pub(super) const DETAIL_TTL: SignedDuration = SignedDuration::from_hours(1);
/// How long it is taken for true that a file is missing or out of reach.
pub(super) const FAILED_DETAIL_TTL: SignedDuration = SignedDuration::from_mins(10);

/// What single questions told of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Detail {
    pub(super) added: DetailFields,
    /// From `…/files`.
    pub(super) places: Vec<ManagedLocation>,
    /// From `…/assignments`, where they were asked there.
    pub(super) assignments: Option<Vec<VolumeAssignment>>,
}

impl Detail {
    fn has_missing_files(&self) -> bool {
        let ill = |place: &ManagedLocation| place.missing == Some(true) || place.reachable == Some(false);
        self.places.is_empty() || self.places.iter().any(ill)
    }
}

/// What an answer depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DetailKey {
    /// Of the entry in the list; see [`Fields::digest`](super::value::Fields::digest).
    pub(super) entry: u64,
    /// Whether it is attached.
    pub(super) in_use: bool,
    /// Of the datastores; see [`datastores_digest`].
    pub(super) datastores: u64,
}

#[derive(Debug)]
struct CachedDetail<T> {
    key: DetailKey,
    asked: Timestamp,
    answer: T,
}

impl<T> CachedDetail<T> {
    fn is_good(&self, key: DetailKey, has_missing_files: bool, now: Timestamp) -> bool {
        let age = now.duration_since(self.asked);
        // A clock that was set back says nothing of the age.
        let fresh = !age.is_negative() && age < if has_missing_files { FAILED_DETAIL_TTL } else { DETAIL_TTL };
        self.key == key && fresh
    }
}

/// All that is kept of one manager between looks.
#[derive(Debug, Default)]
pub(super) struct DetailCache {
    volumes: BTreeMap<VolumeRef, CachedDetail<Detail>>,
    groups: BTreeMap<u64, CachedDetail<StorageGroup>>,
}

impl DetailCache {
    /// Whether a volume has to be asked again.
    pub(super) fn is_due(&self, at: VolumeRef, key: DetailKey, now: Timestamp) -> bool {
        self.volumes.get(&at).is_none_or(|kept| !kept.is_good(key, kept.answer.has_missing_files(), now))
    }

    /// The last that was told of a volume, however old it is.
    pub(super) fn of(&self, at: VolumeRef) -> Option<&Detail> {
        self.volumes.get(&at).map(|kept| &kept.answer)
    }

    pub(super) fn keep(&mut self, at: VolumeRef, key: DetailKey, asked: Timestamp, answer: Detail) {
        self.volumes.insert(at, CachedDetail { key, asked, answer });
    }

    /// The members of a group, unless it has to be asked again.
    pub(super) fn group(&self, id: u64, key: DetailKey, now: Timestamp) -> Option<&StorageGroup> {
        self.groups.get(&id).filter(|kept| kept.is_good(key, false, now)).map(|kept| &kept.answer)
    }

    pub(super) fn keep_group(&mut self, id: u64, key: DetailKey, asked: Timestamp, answer: StorageGroup) {
        self.groups.insert(id, CachedDetail { key, asked, answer });
    }

    /// Forgets what the lists do not have any more.
    pub(super) fn retain(&mut self, volume: impl Fn(VolumeRef) -> bool, group: impl Fn(u64) -> bool) {
        self.volumes.retain(|at, _| volume(*at));
        self.groups.retain(|id, _| group(*id));
    }
}

/// Changes when a datastore comes, goes, or changes what may be done with it.
pub(super) fn datastores_digest(datastores: &[ManagedDatastore]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for store in datastores {
        (&store.name, store.attachable, store.accessible).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::report::VolumeFamily;
    use super::*;

    const AT: VolumeRef = VolumeRef { family: VolumeFamily::AppStack, id: 1 };
    const GROUND: DetailKey = DetailKey { entry: 1, in_use: false, datastores: 1 };

    fn place(reachable: bool) -> ManagedLocation {
        ManagedLocation {
            datastore: "nfs01".to_owned(),
            folder: "a".to_owned(),
            file: "b.vmdk".to_owned(),
            reachable: Some(reachable),
            missing: Some(false),
            machine_manager: None,
        }
    }

    fn details(reachable: bool, now: Timestamp) -> DetailCache {
        let mut details = DetailCache::default();
        details.keep(AT, GROUND, now, Detail { places: vec![place(reachable)], ..Detail::default() });
        details
    }

    #[test]
    fn a_detail_is_requested_again_only_after_a_change() {
        let now = Timestamp::UNIX_EPOCH;
        let details = details(true, now);
        assert!(!details.is_due(AT, GROUND, now));
        assert!(details.is_due(VolumeRef { id: 2, ..AT }, GROUND, now));
        assert!(details.is_due(AT, DetailKey { entry: 2, ..GROUND }, now));
        assert!(details.is_due(AT, DetailKey { in_use: true, ..GROUND }, now));
        assert!(details.is_due(AT, DetailKey { datastores: 2, ..GROUND }, now));
    }

    #[test]
    fn every_answer_gets_old_and_a_bad_one_sooner() {
        let now = Timestamp::UNIX_EPOCH;
        let after = |minutes| now + SignedDuration::from_mins(minutes);
        let is_due = |details: &DetailCache, minutes| details.is_due(AT, GROUND, after(minutes));
        assert_eq!([59, 60, -1].map(|minutes| is_due(&details(true, now), minutes)), [false, true, true]);
        assert_eq!([9, 10].map(|minutes| is_due(&details(false, now), minutes)), [false, true]);
    }

    #[test]
    fn what_is_in_no_list_any_more_is_forgotten() {
        let now = Timestamp::UNIX_EPOCH;
        let mut details = details(true, now);
        details.retain(|at| at == AT, |_| false);
        assert!(details.of(AT).is_some());
        details.retain(|_| false, |_| false);
        assert!(details.of(AT).is_none());
    }
}
