//! The output of `find`: one record for each entry, terminated by NUL, the only byte that no name has.

use std::collections::HashSet;
use std::ops::ControlFlow;

use jiff::Timestamp;
use stackferry_volume::fingerprint::time_of;
use stackferry_volume::local::MAX_FOLDER_ENTRIES;
use stackferry_volume::{Entry, EntryKind};

use crate::sanitize::clean;

/// The longest record: six numbers and a name of at most 4 KiB.
const LONGEST_RECORD: usize = 8 << 10;

/// The bytes shown of an output that is no listing.
const SHOWN: usize = 200;

/// The most bytes of all names of one folder.
pub(super) const MAX_NAMES: usize = 32 << 20;

/// Parses the output of [`super::command::find`].
#[derive(Debug, Default)]
pub(super) struct FindReader {
    record: Vec<u8>,
    /// The requested folder or file.
    itself: Option<Entry>,
    entries: Vec<Entry>,
    /// Bytes of all names.
    names: usize,
    wrong: Option<ListingError>,
    /// The exit status of `find`, as the last record has it.
    end: Option<u32>,
    /// The start of the output.
    begin: Vec<u8>,
}

/// A complete listing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FindListing {
    /// The requested folder or file; none where it does not exist.
    pub(super) itself: Option<Entry>,
    /// Its entries.
    pub(super) entries: Vec<Entry>,
    /// The exit status of `find`; none where the output is truncated.
    pub(super) end: Option<u32>,
}

/// Why a listing is unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListingError {
    /// It is not the output of `find`.
    Text,
    /// It has more than [`MAX_FOLDER_ENTRIES`], or longer names than [`MAX_NAMES`].
    TooMany,
}

impl FindReader {
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> ControlFlow<()> {
        let missing = SHOWN.saturating_sub(self.begin.len());
        self.begin.extend(bytes.iter().take(missing));
        while let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            let (piece, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            self.record.extend_from_slice(piece);
            let record = std::mem::take(&mut self.record);
            if let Err(wrong) = self.take(&record) {
                self.wrong = Some(wrong);
                return ControlFlow::Break(());
            }
        }
        self.record.extend_from_slice(bytes);
        if self.record.len() > LONGEST_RECORD {
            self.wrong = Some(ListingError::Text);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// The start of the output, safe to show.
    pub(super) fn begin(&self) -> String {
        clean(&String::from_utf8_lossy(&self.begin))
    }

    fn take(&mut self, record: &[u8]) -> Result<(), ListingError> {
        if self.end.is_some() {
            return Err(ListingError::Text);
        }
        if let Some(status) = record.strip_prefix(b"end ") {
            let status = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
            self.end = Some(status.ok_or(ListingError::Text)?);
            return Ok(());
        }
        let (depth, entry) = parse(record).ok_or(ListingError::Text)?;
        match (depth, &self.itself) {
            (0, None) => self.itself = Some(entry),
            (1, Some(_)) if self.entries.len() >= MAX_FOLDER_ENTRIES => return Err(ListingError::TooMany),
            (1, Some(_)) if is_plain_name(&entry.name) => {
                self.names = self.names.saturating_add(entry.name.len());
                if self.names > MAX_NAMES {
                    return Err(ListingError::TooMany);
                }
                self.entries.push(entry);
            }
            _ => return Err(ListingError::Text),
        }
        Ok(())
    }

    /// The listing.
    pub(super) fn finish(self) -> Result<FindListing, ListingError> {
        match self.wrong {
            Some(wrong) => Err(wrong),
            None if !self.record.is_empty() => Err(ListingError::Text),
            None => Ok(FindListing { itself: self.itself, entries: once_each(self.entries), end: self.end }),
        }
    }
}

/// Keeps the first of entries with the same name: a folder that changes while it is read may list one twice.
pub(super) fn once_each(mut entries: Vec<Entry>) -> Vec<Entry> {
    let mut names = HashSet::with_capacity(entries.len());
    let first: Vec<bool> = entries.iter().map(|entry| !entry.utf8 || names.insert(entry.name.as_str())).collect();
    drop(names);
    let mut first = first.into_iter();
    entries.retain(|_| first.next().unwrap_or(true));
    entries
}

fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && !matches!(name, "." | "..")
}

/// Depth, type, length, blocks of 512 bytes, time, inode, name.
fn parse(record: &[u8]) -> Option<(u32, Entry)> {
    let mut fields = record.splitn(7, |byte| *byte == b' ');
    let mut text = || fields.next().and_then(|field| std::str::from_utf8(field).ok());
    let depth = text()?.parse().ok()?;
    let kind = match text()? {
        "f" => EntryKind::File,
        "d" => EntryKind::Folder,
        kind if kind.len() == 1 => EntryKind::Other,
        _ => return None,
    };
    let bytes: u64 = text()?.parse().ok().filter(|bytes| i64::try_from(*bytes).is_ok())?;
    let blocks: u64 = text()?.parse().ok()?;
    let mtime = timestamp(text()?)?;
    let inode = text()?.parse().ok()?;
    let name = fields.next()?;
    let is_file = kind == EntryKind::File;
    let entry = Entry {
        name: String::from_utf8_lossy(name).into_owned(),
        utf8: std::str::from_utf8(name).is_ok(),
        kind,
        bytes: if is_file { bytes } else { 0 },
        allocated: is_file.then(|| blocks.saturating_mul(512)),
        mtime,
        changed: None,
        inode: Some(inode),
    };
    Some((depth, entry))
}

/// `1700000000.1234567890`. The fraction is added also before 1970: 1.5 s before is `-2.5`. Years that can't be represented
/// are unknown.
fn timestamp(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let seconds: i64 = seconds.parse().ok()?;
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: i32 = digits.parse().ok()?;
    Some(time_of(seconds, i64::from(nanoseconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &[u8]) -> Result<FindListing, ListingError> {
        let mut reader = FindReader::default();
        let _ = reader.push(text);
        reader.finish()
    }

    #[test]
    fn records_are_parsed() {
        let text = b"0 d 4096 8 1700000000.0 2 apps\x001 f 10737418240 24 1700000000.1234567890 77 a b!5C!\n.vmdk\x00\
            1 l 5 0 1.0 78 link\x001 f 1 8 -6.5 79 \xff\x00end 0\x00";
        let FindListing { itself, entries, end } = read(text).unwrap();
        assert_eq!(end, Some(0));
        assert_eq!(itself.unwrap().kind, EntryKind::Folder);
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0].name, "a b!5C!\n.vmdk");
        assert_eq!((entries[0].bytes, entries[0].allocated, entries[0].inode), (10_737_418_240, Some(12288), Some(77)));
        assert_eq!(entries[0].mtime.to_string(), "2023-11-14T22:13:20.123456789Z");
        assert_eq!((entries[1].kind, entries[1].bytes, entries[1].allocated), (EntryKind::Other, 0, None));
        // 5.5 s before 1970, as `find` writes it.
        assert_eq!(entries[2].mtime.to_string(), "1969-12-31T23:59:54.5Z");
        assert!(!entries[2].utf8);
        assert_eq!(read(b""), Ok(FindListing { itself: None, entries: vec![], end: None }));
        assert_eq!(read(&text[..text.len() - 6]).unwrap().end, None, "cut before its end");
        assert_eq!(read(b"0 d 4096 8 1.0 2 apps\x00end 1\x00").unwrap().end, Some(1));
    }

    #[test]
    fn invalid_listings_are_refused() {
        let folder = "0 d 4096 8 1.0 2 apps\0";
        for bad in ["..", ".", "", "a/b", "../../etc/passwd"] {
            assert_eq!(read(format!("{folder}1 f 1 8 1.0 3 {bad}\0").as_bytes()), Err(ListingError::Text), "{bad:?}");
        }
        for bad in [
            "1 f 1 8 1.0 3 first\0",
            &format!("{folder}{folder}"),
            &format!("{folder}2 f 1 8 1.0 3 deep\0"),
            &format!("{folder}1 f 1 8 1.0 3 cut"),
            &format!("{folder}1 f -1 8 1.0 3 a\0"),
            &format!("{folder}1 f 1 8 1.x 3 a\0"),
            &format!("{folder}1 f 1 8 a\0"),
            &format!("{folder}end 0\01 f 1 8 1.0 3 late\0"),
            &format!("{folder}end 0\0end 0\0"),
            &format!("{folder}end\0"),
            &format!("{folder}end x\0"),
            "This account is currently not available.\n",
            &"x".repeat(LONGEST_RECORD + 1),
        ] {
            assert_eq!(read(bad.as_bytes()), Err(ListingError::Text), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let mut text = b"0 d 4096 8 1.0 2 apps\x001 f ".to_vec();
            text.extend_from_slice(&bytes);
            let _ = read(&text);
        }
    }
}
