//! What of a volume's files is looked at, without reading them, to tell whether the volume changed.
//!
//! A fingerprint belongs to one location: a replica elsewhere has other times and is compared by digests instead.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// The time of last change of a file for which its system gives none. It is no time that a file can have, and two of them are
/// not equal times: who compares asks [`is_known`] first.
pub const UNKNOWN_MTIME: Timestamp = Timestamp::MIN;

/// Whether a time of last change is one that a system gave.
#[must_use]
pub fn is_known(mtime: Timestamp) -> bool {
    mtime != UNKNOWN_MTIME
}

/// What a folder tells of one file.
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

    /// Whether an equal fingerprint later on proves that nothing changed since it was taken at `observed`.
    ///
    /// Where the clock of the file system has whole seconds, a file written twice within one second has one time: a
    /// time less than 2 s old at its reading can't be trusted. A file without a time may have changed at any moment.
    #[must_use]
    pub fn is_settled(&self, observed: Timestamp) -> bool {
        self.files.iter().all(|file| {
            let whole_seconds = file.mtime.subsec_nanosecond() == 0;
            let is_old = !whole_seconds || observed.duration_since(file.mtime) >= SignedDuration::from_secs(2);
            is_known(file.mtime) && is_old
        })
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

    #[test]
    fn a_fresh_time_in_whole_seconds_is_not_trusted() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(!stamp("2026-01-01T00:00:00Z").is_settled(at("2026-01-01T00:00:01.9Z")));
        assert!(stamp("2026-01-01T00:00:00Z").is_settled(at("2026-01-01T00:00:02Z")));
        assert!(stamp("2026-01-01T00:00:00.5Z").is_settled(at("2026-01-01T00:00:00.6Z")));
        assert!(!stamp("2027-01-01T00:00:00Z").is_settled(at("2026-01-01T00:00:00Z")), "a time in the future");
    }

    #[test]
    fn a_file_without_a_time_is_never_settled() {
        let file = |name: &str, mtime| FileStamp { name: name.into(), bytes: 1, mtime };
        let known = "2026-01-01T00:00:00Z".parse().unwrap();
        let one = Fingerprint::new(vec![file("a", known), file("b", UNKNOWN_MTIME)], Some("1".into()));
        assert_eq!(one.without_mtime().map(|file| file.name.as_str()), Some("b"));
        for observed in ["2026-01-01T00:00:01Z".parse().unwrap(), Timestamp::MAX, Timestamp::MIN] {
            assert!(!one.is_settled(observed), "{observed}");
        }
        assert!(stamp("1970-01-01T00:00:00Z").is_settled(Timestamp::MAX), "the epoch is a time like any other");
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
