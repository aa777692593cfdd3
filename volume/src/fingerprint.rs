//! What is compared of a volume's files, without reading them, to detect that the volume changed.
//!
//! A fingerprint belongs to one location: a replica elsewhere has other times and is compared by digests instead.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How far two changes lie apart that have two times in whole seconds, for certain.
const GRANULARITY: SignedDuration = SignedDuration::from_secs(2);
/// No clock that a datastore's files get their times from is taken to be further from ours: a time further ahead was set by
/// somebody, one further back is an old one.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_hours(24);

/// The time of last change of a file for which its system gives none. It is no time that a file can have, and two of them are
/// not equal times: who compares asks [`is_known`] first.
pub const UNKNOWN_MTIME: Timestamp = Timestamp::MIN;

/// Whether a time of last change is one that a system gave.
#[must_use]
pub fn is_known(mtime: Timestamp) -> bool {
    mtime != UNKNOWN_MTIME
}

/// A file's time, from the seconds since 1970 and what of a second is to be added. What can't be shown is not known, nor is 0,
/// which is what file systems without times give.
#[must_use]
pub fn time_of(seconds: i64, nanoseconds: i64) -> Timestamp {
    let rest = SignedDuration::from_nanos(nanoseconds);
    let time = Timestamp::from_second(seconds).ok().and_then(|time| time.checked_add(rest).ok());
    time.filter(|time| *time != Timestamp::UNIX_EPOCH).unwrap_or(UNKNOWN_MTIME)
}

fn has_whole_seconds(time: Timestamp) -> bool {
    time.subsec_nanosecond() == 0
}

/// The clock that gives a datastore's files their times, as far as it is known: it need not be ours, and be right even
/// less. What it has reached shows in the newest time that it gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileClock {
    /// Our time, when the datastore was scanned.
    observed: Timestamp,
    /// What it had reached then, at least; none where nothing shows it.
    reached: Option<Timestamp>,
}

impl FileClock {
    /// A clock that is not known yet, of a datastore that is scanned now. `now` is its time, where that is known.
    #[must_use]
    pub fn new(observed: Timestamp, now: Option<Timestamp>) -> Self {
        Self { observed, reached: now }
    }

    /// Takes one file's stamp: its time of last change, and when anything of it was changed, which nobody can set.
    pub fn saw(&mut self, mtime: Timestamp, changed: Option<Timestamp>) {
        let is_plausible = |time: &Timestamp| is_known(*time) && time.duration_since(self.observed) < CLOCKS_DIFFER;
        let shows = changed.filter(|time| is_known(*time)).or_else(|| Some(mtime).filter(is_plausible));
        self.reached = self.reached.max(shows);
    }

    /// Whether a file that had this time of last change, and this one of any, will have another one if it is written to
    /// from now on: an equal time later on proves that nothing changed.
    #[must_use]
    pub fn settles(&self, mtime: Timestamp, changed: Option<Timestamp>) -> bool {
        if !is_known(mtime) {
            return false;
        }
        if !has_whole_seconds(mtime) {
            return true;
        }
        let is_far = match changed {
            // What lies ahead of the file's own clock was set by somebody: what is written gets the clock's time.
            Some(changed) => mtime.duration_since(changed) >= GRANULARITY,
            None => mtime.duration_since(self.observed).abs() >= CLOCKS_DIFFER,
        };
        is_far || self.reached.is_some_and(|reached| reached.duration_since(mtime) >= GRANULARITY)
    }

    /// Whether nothing at all of such a file was changed so shortly before that another change could go unseen, also by
    /// somebody who sets times. What an interrupted copy read of such files may be used by the next.
    #[must_use]
    pub fn is_quiet(&self, mtime: Timestamp, changed: Option<Timestamp>) -> bool {
        let is_long_ago = |time| self.reached.is_some_and(|reached| reached.duration_since(time) >= GRANULARITY);
        let looks_old = || self.observed.duration_since(mtime).abs() >= GRANULARITY;
        match changed {
            _ if !is_known(mtime) => false,
            _ if !has_whole_seconds(mtime) => true,
            Some(changed) => self.settles(mtime, Some(changed)) && is_long_ago(changed),
            None => self.settles(mtime, None) || looks_old(),
        }
    }

    /// How long ago a file was changed, by this clock.
    #[must_use]
    pub fn age_of(&self, mtime: Timestamp) -> SignedDuration {
        self.reached.map_or(self.observed, |reached| reached.max(self.observed)).duration_since(mtime)
    }
}

/// A folder's entry for one file, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileStamp {
    /// The file's name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its time of last change; [`UNKNOWN_MTIME`] where its system gives none.
    pub mtime: Timestamp,
}

/// What identifies the state of one location's files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Every file of the volume (descriptor, extents, sidecars), sorted by name.
    pub files: Vec<FileStamp>,
    /// The descriptor's content id; App Volumes' hosts give a new one when the disk was written to.
    pub cid: Option<String>,
}

impl Fingerprint {
    /// The fingerprint of these files, in any order.
    #[must_use]
    pub fn new(mut files: Vec<FileStamp>, cid: Option<String>) -> Self {
        files.sort_by(|one, two| one.name.cmp(&two.name));
        Self { files, cid }
    }

    /// Whether it was taken so soon after a change that a later one may have the same time. Where the clock of the file
    /// system has whole seconds, a file written twice within one second has one time. A file without a time may change
    /// without a trace.
    #[must_use]
    pub fn is_fresh(&self, observed: Timestamp) -> bool {
        let fresh = |mtime: Timestamp| {
            !is_known(mtime) || (has_whole_seconds(mtime) && observed.duration_since(mtime).abs() < GRANULARITY)
        };
        self.files.iter().any(|file| fresh(file.mtime))
    }

    /// The first file that has no known time of last change.
    #[must_use]
    pub fn without_mtime(&self) -> Option<&FileStamp> {
        self.files.iter().find(|file| !is_known(file.mtime))
    }

    /// The digest of this fingerprint, to find a journal by.
    #[must_use]
    pub fn digest(&self) -> crate::Digest {
        let mut hasher = blake3::Hasher::new();
        for file in &self.files {
            hasher.update(file.name.as_bytes());
            hasher.update(&[0]);
            hasher.update(&file.bytes.to_le_bytes());
            hasher.update(&file.mtime.as_nanosecond().to_le_bytes());
        }
        hasher.update(self.cid.as_deref().unwrap_or("").as_bytes());
        crate::Digest::from(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(mtime: &str) -> Fingerprint {
        let file = FileStamp { name: "a".into(), bytes: 1, mtime: mtime.parse().unwrap() };
        Fingerprint::new(vec![file], None)
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_fresh_time_in_whole_seconds_is_not_trusted() {
        for (mtime, observed, fresh) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01.9Z", true),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:02Z", false),
            ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.6Z", false),
            ("2026-01-01T00:00:01Z", "2026-01-01T00:00:00Z", true),
            ("2040-01-01T00:00:00Z", "2026-01-01T00:00:00Z", false),
            ("1960-01-01T00:00:00Z", "2026-01-01T00:00:00Z", false),
        ] {
            assert_eq!(stamp(mtime).is_fresh(at(observed)), fresh, "{mtime} at {observed}");
        }
    }

    #[test]
    fn times_are_judged_by_the_clock_that_gave_them() {
        let now = at("2026-01-01T12:00:00Z");
        // An hour behind ours, an hour ahead, and ours: what it gave last is all that is known of it.
        for newest in ["2026-01-01T11:00:00Z", "2026-01-01T13:00:00Z", "2026-01-01T12:00:00Z"].map(at) {
            let mut clock = FileClock::new(now, None);
            clock.saw(newest, Some(newest));
            let before = |seconds| newest - SignedDuration::from_secs(seconds);
            assert!(!clock.settles(newest, Some(newest)), "{newest}: it may be written again in this second");
            assert!(!clock.settles(before(1), None), "{newest}");
            assert!(clock.settles(before(2), Some(before(2))), "{newest}");
            assert!(
                clock.settles(newest + SignedDuration::from_millis(5), None),
                "{newest}: it counts finer than seconds"
            );
        }
        assert!(FileClock::new(now, Some(now)).settles(now - SignedDuration::from_secs(2), None));
        assert!(!FileClock::new(now, Some(now)).settles(now, None));
        let alone = FileClock::new(now, None);
        assert!(!alone.settles(at("2026-01-01T11:59:00Z"), None), "nothing shows how far its clock is");
        assert!(alone.settles(at("2038-01-19T03:14:08Z"), None) && alone.settles(at("2106-02-07T06:28:16Z"), None));
        assert!(alone.settles(at("2025-12-31T12:00:00Z"), None) && alone.settles(at("1960-01-01T00:00:00Z"), None));
        assert!(alone.settles(at("2026-01-01T13:00:00Z"), Some(at("2026-01-01T11:00:00Z"))), "somebody set it");
        assert!(!alone.settles(UNKNOWN_MTIME, None) && !alone.is_quiet(UNKNOWN_MTIME, None));
        // What was touched just now is not quiet, whatever time it was given.
        let ours = FileClock::new(now, Some(now));
        let (old, young) = (at("2026-01-01T11:00:00Z"), at("2026-01-01T11:59:59Z"));
        assert!(ours.settles(old, Some(young)) && !ours.is_quiet(old, Some(young)) && ours.is_quiet(old, Some(old)));
        assert!(alone.is_quiet(old, None) && !alone.is_quiet(young, None));
        let mut fooled = FileClock::new(now, None);
        fooled.saw(at("2040-01-01T00:00:00Z"), None);
        assert_eq!(fooled, alone, "a time that somebody set shows no clock");
    }

    #[test]
    fn times_of_all_years_are_read() {
        assert_eq!(time_of(-6, 500_000_000), at("1969-12-31T23:59:54.5Z"));
        assert_eq!(time_of(4_102_444_800, 0), at("2100-01-01T00:00:00Z"));
        for (seconds, nanoseconds) in [(0, 0), (i64::MIN, 0), (i64::MAX, 0), (i64::MAX, i64::MAX)] {
            assert_eq!(time_of(seconds, nanoseconds), UNKNOWN_MTIME);
        }
        assert_ne!(time_of(0, 1), UNKNOWN_MTIME);
    }

    #[test]
    fn a_file_without_a_time_is_never_settled() {
        let file = |name: &str, mtime| FileStamp { name: name.into(), bytes: 1, mtime };
        let known = "2026-01-01T00:00:00Z".parse().unwrap();
        let one = Fingerprint::new(vec![file("a", known), file("b", UNKNOWN_MTIME)], Some("1".into()));
        assert_eq!(one.without_mtime().map(|file| file.name.as_str()), Some("b"));
        for observed in ["2026-01-01T00:00:01Z".parse().unwrap(), Timestamp::MAX, Timestamp::MIN] {
            assert!(one.is_fresh(observed), "{observed}");
        }
        assert!(!stamp("1970-01-01T00:00:00Z").is_fresh(Timestamp::MAX), "the epoch is a time like any other");
    }

    #[test]
    fn every_field_counts() {
        let base = stamp("2026-01-01T00:00:00Z");
        let mut other = base.clone();
        other.cid = Some("1".into());
        assert_ne!(base.digest(), other.digest());
        let mut other = base.clone();
        other.files[0].bytes = 2;
        assert_ne!(base.digest(), other.digest());
        assert_ne!(base.digest(), stamp("2026-01-01T00:00:00.000000001Z").digest());
    }
}
