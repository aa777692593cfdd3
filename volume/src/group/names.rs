//! What names of files say: which entry a name means, and which names are those of pieces of disks.

use std::collections::HashMap;

use crate::io::{Entry, EntryKind};
use crate::name::without_vmdk;

/// What follows the stem of a disk of which App Volumes' capture on a workstation makes a second form.
const WORKSTATION: &str = "_workstation";

/// The files of a folder by name.
pub struct Names<'a> {
    exact: HashMap<&'a str, &'a Entry>,
    /// By the name in lower case; none where several have it.
    folded: HashMap<String, Option<&'a Entry>>,
}

impl<'a> Names<'a> {
    /// The names of a folder's entries. What is no folder's true name is none.
    #[must_use]
    pub fn of(entries: &'a [Entry]) -> Self {
        let mut names = Self { exact: HashMap::with_capacity(entries.len()), folded: HashMap::new() };
        for entry in entries.iter().filter(|entry| entry.utf8 && entry.kind != EntryKind::Folder) {
            names.exact.insert(entry.name.as_str(), entry);
            names.folded.entry(entry.name.to_lowercase()).and_modify(|one| *one = None).or_insert(Some(entry));
        }
        names
    }

    /// The file that a name means: the one that is called so, or else the only one that is called so but for capitals, since
    /// VMFS and Windows make no difference between them.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&'a Entry> {
        self.exact.get(name).copied().or_else(|| self.folded.get(&name.to_lowercase()).copied().flatten())
    }
}

/// The name of a disk without `.vmdk`, in any case.
pub(super) fn disk_stem(name: &str) -> Option<&str> {
    Some(without_vmdk(name)).filter(|stem| stem.len() < name.len())
}

/// The stem of the disk that this is the second form of, by its name.
pub(super) fn workstation_of(stem: &str) -> Option<&str> {
    stem.strip_suffix(WORKSTATION).filter(|main| !main.is_empty())
}

/// The prefixes of a name that end before `.`, `-` or `_`, the longest first.
pub(super) fn stems_of(name: &str) -> impl Iterator<Item = &str> {
    name.char_indices().rev().filter(|(_, c)| matches!(c, '.' | '-' | '_')).filter_map(|(at, _)| name.get(..at))
}

/// A file that is a piece of a disk by its name.
pub(super) struct Part<'a> {
    /// The stem of the disk it is a piece of.
    pub(super) base: &'a str,
    /// Whether it holds bytes of the disk, so that it needs a descriptor; a change-tracking file does not.
    pub(super) holds_bytes: bool,
}

impl<'a> Part<'a> {
    /// Whether a disk's name without `.vmdk` is that of a piece. The words are ESXi's and VMware Workstation's.
    pub(super) fn of(stem: &'a str) -> Option<Self> {
        let at = stem.rfind(['-', '_']).filter(|at| *at > 0)?;
        let (base, word) = (stem.get(..at)?, stem.get(at + 1..)?.to_ascii_lowercase());
        let numbered = |letter: char| {
            word.strip_prefix(letter)
                .is_some_and(|number| number.len() >= 3 && number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let holds_bytes = match word.as_str() {
            "flat" | "delta" | "sesparse" | "rdm" | "rdmp" | "pt" => true,
            "ctk" => false,
            _ if numbered('f') || numbered('s') => true,
            _ => return None,
        };
        Some(Self { base, holds_bytes })
    }
}
