//! The locks of ESXi hosts on an NFS datastore: a file `.lck-` and 16 hexadecimal digits beside the locked file. The digits
//! are the locked file's number in the file system, its bytes in little-endian order.
//!
//! A lock that can't be matched to a file may be anyone's. It holds up every volume of the folder: a late copy is better
//! than a torn one. But a host renews its locks every ten seconds (`NFS.DiskFileLockUpdateFreq`), so a lock that nobody
//! has renewed for long is what a host left behind. How old a lock is, is judged by the server's own clock: by what else
//! it wrote times for in that folder. Only a lock that is older than any clock is wrong is judged by ours.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use stackferry_volume::group::LOCK_PREFIX as PREFIX;
use stackferry_volume::reason::shown;
use stackferry_volume::{Entry, EntryKind, FileName, ReasonCode};

use crate::volume::SkipReason;

/// How long a lock that fits no file is obeyed after its last renewal. Longer than any attribute cache lives.
const STRAY: SignedDuration = SignedDuration::from_mins(5);
/// How long the lock of a file is obeyed: being wrong here would cost more.
const OWN: SignedDuration = SignedDuration::from_hours(1);
/// No two clocks of a site differ so much.
const BY_OUR_CLOCK: SignedDuration = SignedDuration::from_hours(24);

/// The locks of one folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Locks {
    /// Locked files by name, each with its lock's name.
    locked: HashMap<String, String>,
    /// A lock that may be anyone's, and why that is so.
    stray: Option<(String, &'static str)>,
    /// Locks that nobody renews, each with the time of its last renewal.
    stale: Vec<(String, Timestamp)>,
}

impl Locks {
    /// The locks among a folder's entries, as they are at `now`.
    #[must_use]
    pub fn of(entries: &[Entry], now: Timestamp) -> Self {
        let mut locks: Vec<&Entry> = entries.iter().filter(|entry| entry.name.starts_with(PREFIX)).collect();
        locks.sort_unstable_by(|one, two| one.name.cmp(&two.name));
        let mut found = Locks::default();
        if locks.is_empty() {
            return found;
        }
        let files = || entries.iter().filter(|entry| entry.kind == EntryKind::File && !entry.name.starts_with(PREFIX));
        let by_inode: HashMap<u64, &str> =
            files().filter_map(|entry| Some((entry.inode?, entry.name.as_str()))).collect();
        let all_known = files().all(|entry| entry.inode.is_some());
        // The server's clock shows at least this. A stamp of the far future is none of its clock.
        let ahead = now.checked_add(BY_OUR_CLOCK).unwrap_or(Timestamp::MAX);
        let newest =
            entries.iter().map(|entry| entry.mtime).filter(|time| *time < ahead).max().unwrap_or(Timestamp::MIN);
        for lock in locks {
            let name = lock.name.as_str();
            let age = |clock: Timestamp| clock.duration_since(lock.mtime);
            let is_stale = |limit| age(newest) > limit || age(now) > BY_OUR_CLOCK;
            let number = name.strip_prefix(PREFIX).and_then(inode);
            let why = match number.map(|number| by_inode.get(&number)) {
                Some(Some(_)) if is_stale(OWN) => {
                    found.stale.push((name.to_owned(), lock.mtime));
                    continue;
                }
                Some(Some(file)) => {
                    found.locked.entry((*file).to_owned()).or_insert_with(|| name.to_owned());
                    continue;
                }
                Some(None) if all_known => "it belongs to no file of this folder",
                Some(None) => "the numbers of the files can't be seen here",
                None => "its name holds no number of a file",
            };
            if is_stale(STRAY) {
                found.stale.push((name.to_owned(), lock.mtime));
            } else {
                found.stray.get_or_insert((name.to_owned(), why));
            }
        }
        found
    }

    /// The locks that nobody renews, each with the time of its last renewal.
    pub fn stale(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        self.stale.iter().map(|(lock, since)| (lock.as_str(), *since))
    }

    /// Why a volume of these files has to wait, if it has to.
    pub fn skip_reason<'a>(&self, files: impl IntoIterator<Item = &'a FileName>) -> Option<SkipReason> {
        let names: HashSet<&str> = files.into_iter().map(FileName::as_str).collect();
        let mut own: Vec<(&str, &str)> =
            names.into_iter().filter_map(|name| Some((name, self.locked.get(name)?.as_str()))).collect();
        own.sort_unstable();
        if let Some((file, lock)) = own.first() {
            return Some(SkipReason::deferred(
                ReasonCode::Locked,
                format!("{} is locked by an ESXi host ({lock}): the disk is in use", shown(file)),
            ));
        }
        let (lock, why) = self.stray.as_ref()?;
        let text = format!("there is a lock in the folder ({}) and it can't be told whose: {why}", shown(lock));
        Some(
            SkipReason::deferred(ReasonCode::Locked, text)
                .remedy("Hosts remove their locks when a disk is released, and renew them until then: one that is not renewed for five minutes is not obeyed."),
        )
    }
}

/// The file number that 16 hexadecimal digits stand for.
fn inode(digits: &str) -> Option<u64> {
    let plain = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten().map(u64::swap_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T04:15:00Z".parse().unwrap()
    }

    fn aged(name: &str, inode: u64, seconds: i64) -> Entry {
        Entry { mtime: now() - SignedDuration::from_secs(seconds), ..entry(name, Some(inode)) }
    }

    fn entry(name: &str, inode: Option<u64>) -> Entry {
        Entry {
            name: name.to_owned(),
            utf8: true,
            kind: EntryKind::File,
            bytes: 1,
            allocated: None,
            mtime: now(),
            changed: None,
            inode,
        }
    }

    fn skip(entries: &[Entry], file: &str) -> Option<String> {
        Locks::of(entries, now()).skip_reason([&FileName::new(file).unwrap()]).map(|skip| skip.reason.text)
    }

    #[test]
    fn the_digits_are_a_number_with_its_lowest_byte_first() {
        assert_eq!(inode("c8a4010000000000"), Some(0x0001_a4c8));
        assert_eq!(inode("C8A4010000000000"), Some(0x0001_a4c8));
        for bad in ["", "c8a40100", "c8a401000000000g", "+8a4010000000000", "c8a401000000000000"] {
            assert_eq!(inode(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_lock_holds_its_own_file_only() {
        let folder = [
            entry("a-flat.vmdk", Some(0x0001_a4c8)),
            entry("b-flat.vmdk", Some(7)),
            entry(".lck-c8a4010000000000", Some(9)),
        ];
        assert_eq!(
            skip(&folder, "a-flat.vmdk").unwrap(),
            "a-flat.vmdk is locked by an ESXi host (.lck-c8a4010000000000): the disk is in use"
        );
        assert_eq!(skip(&folder, "b-flat.vmdk"), None);
        assert_eq!(skip(&folder[..2], "a-flat.vmdk"), None);
    }

    #[test]
    fn a_lock_that_cant_be_told_holds_all() {
        let a = entry("a-flat.vmdk", Some(7));
        let texts: Vec<String> = [
            vec![a.clone(), entry(".lck-0800000000000000", Some(9))],
            vec![a.clone(), entry("b", None), entry(".lck-0800000000000000", None)],
            vec![a.clone(), entry(".lck-x", Some(9))],
            // A lock is no file that another lock could belong to.
            vec![a, entry(".lck-0900000000000000", Some(9))],
        ]
        .iter()
        .map(|entries| skip(entries, "a-flat.vmdk").unwrap())
        .collect();
        insta::assert_snapshot!("stray", texts.join("\n"));
    }

    #[test]
    fn a_lock_that_is_not_renewed_is_shown_and_not_obeyed() {
        let (own, stray) = (".lck-0700000000000000", ".lck-0800000000000000");
        let file = |seconds| aged("a-flat.vmdk", 7, seconds);
        // Each with the age of the file and of the lock by our clock: is it obeyed?
        let cases = [
            ("a host renewed it", stray, 0, 10, true),
            ("the server's clock is an hour behind ours", stray, 3610, 3600, true),
            ("the server's clock is an hour ahead of ours", stray, -3600, -3590, true),
            ("something was written there since", stray, 0, 600, false),
            ("the server's clock is behind and something was written since", stray, 3600, 4200, false),
            ("nothing is younger, and it is days old", stray, 400_000, 200_000, false),
            ("a stamp of the far future tells nothing", stray, -40_000_000, 10, true),
            ("a file's own lock that was renewed", own, 0, 600, true),
            ("a file's own lock that was not renewed for an hour", own, 0, 4000, false),
        ];
        for (what, lock, written, renewed, obeyed) in cases {
            let entries = [file(written), aged(lock, 9, renewed)];
            assert_eq!(skip(&entries, "a-flat.vmdk").is_some(), obeyed, "{what}");
            assert_eq!(Locks::of(&entries, now()).stale().count(), usize::from(!obeyed), "{what}");
        }
    }
}
