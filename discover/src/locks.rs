//! The locks of ESXi hosts on an NFS datastore: a file `.lck-` and 16 hexadecimal digits beside the locked file. The digits
//! are the locked file's number in the file system, its bytes in little-endian order.
//!
//! A lock that can't be matched to a file may be anyone's. It holds up every volume of the folder: a late copy is better
//! than a torn one.

use std::collections::{HashMap, HashSet};

use stackferry_volume::reason::shown;
use stackferry_volume::{Entry, EntryKind, FileName, ReasonCode};

use crate::volume::Held;

const PREFIX: &str = ".lck-";

/// The locks of one folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Locks {
    /// Locked files by name, each with its lock's name.
    locked: HashMap<String, String>,
    /// A lock that may be anyone's, and why that is so.
    stray: Option<(String, &'static str)>,
}

impl Locks {
    /// The locks among a folder's entries.
    #[must_use]
    pub fn of(entries: &[Entry]) -> Self {
        let mut locks: Vec<&str> =
            entries.iter().map(|entry| entry.name.as_str()).filter(|name| name.starts_with(PREFIX)).collect();
        locks.sort_unstable();
        let mut found = Locks::default();
        if locks.is_empty() {
            return found;
        }
        let files = || entries.iter().filter(|entry| entry.kind == EntryKind::File && !entry.name.starts_with(PREFIX));
        let by_inode: HashMap<u64, &str> =
            files().filter_map(|entry| Some((entry.inode?, entry.name.as_str()))).collect();
        let all_known = files().all(|entry| entry.inode.is_some());
        for lock in locks {
            let number = lock.strip_prefix(PREFIX).and_then(inode);
            match number.map(|number| by_inode.get(&number)) {
                Some(Some(file)) => {
                    found.locked.entry((*file).to_owned()).or_insert_with(|| lock.to_owned());
                }
                Some(None) if all_known => found.set_stray(lock, "it belongs to no file of this folder"),
                Some(None) => found.set_stray(lock, "the numbers of the files can't be seen here"),
                None => found.set_stray(lock, "its name holds no number of a file"),
            }
        }
        found
    }

    fn set_stray(&mut self, lock: &str, why: &'static str) {
        self.stray.get_or_insert((lock.to_owned(), why));
    }

    /// Why a volume of these files has to wait, if it has to.
    pub fn held<'a>(&self, files: impl IntoIterator<Item = &'a FileName>) -> Option<Held> {
        let names: HashSet<&str> = files.into_iter().map(FileName::as_str).collect();
        let mut own: Vec<(&str, &str)> =
            names.into_iter().filter_map(|name| Some((name, self.locked.get(name)?.as_str()))).collect();
        own.sort_unstable();
        if let Some((file, lock)) = own.first() {
            return Some(Held::deferred(
                ReasonCode::Locked,
                format!("{} is locked by an ESXi host ({lock}): the disk is in use", shown(file)),
            ));
        }
        let (lock, why) = self.stray.as_ref()?;
        let text = format!("there is a lock in the folder ({}) and it can't be told whose: {why}", shown(lock));
        Some(
            Held::deferred(ReasonCode::Locked, text)
                .remedy("Hosts remove their locks when a disk is released. One that stays though nothing is in use is a leftover: delete it."),
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
    use jiff::Timestamp;

    use super::*;

    fn entry(name: &str, inode: Option<u64>) -> Entry {
        Entry {
            name: name.to_owned(),
            utf8: true,
            kind: EntryKind::File,
            bytes: 1,
            allocated: None,
            mtime: Timestamp::UNIX_EPOCH,
            changed: None,
            inode,
        }
    }

    fn held(entries: &[Entry], file: &str) -> Option<String> {
        Locks::of(entries).held([&FileName::new(file).unwrap()]).map(|held| held.reason.text)
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
            held(&folder, "a-flat.vmdk").unwrap(),
            "a-flat.vmdk is locked by an ESXi host (.lck-c8a4010000000000): the disk is in use"
        );
        assert_eq!(held(&folder, "b-flat.vmdk"), None);
        assert_eq!(held(&folder[..2], "a-flat.vmdk"), None);
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
        .map(|entries| held(entries, "a-flat.vmdk").unwrap())
        .collect();
        insta::assert_snapshot!("stray", texts.join("\n"));
    }
}
