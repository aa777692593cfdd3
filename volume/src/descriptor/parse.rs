//! From bytes to a [`Descriptor`]. Each line is read twice: first what the disk is, then, knowing that, its extents.
//!
//! Only what is needed to find the extents is required. ESXi and QEMU open descriptors of many hands: what they read
//! over is read over here, and of what is there twice the first counts. A line that could be an extent and can't be
//! understood is never read over, since bytes of the disk would be missing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use encoding_rs::Encoding;

use super::{
    Descriptor, Extent, ExtentAccess, ExtentFile, ExtentKind, Flaw, Layout, MAX_DDB_ENTRIES, MAX_TEXT_BYTES, NO_PARENT,
    SECTOR_BYTES, binary, layout,
};
use crate::block::MAX_FILE_BYTES;
use crate::name::{FileName, MANIFEST_NAME};
use crate::reason::shown;

/// What the first line of a descriptor says, without blanks.
const SIGNATURE: &str = "DiskDescriptorFile";

pub(super) fn parse(head: &[u8], file_bytes: u64, file: &FileName) -> Result<Descriptor, Flaw> {
    if let Some(format) = binary::detect(head) {
        return Err(Flaw::Binary { format, create_type: binary::embedded_type(head) });
    }
    let longest = u64::try_from(MAX_TEXT_BYTES).unwrap_or(u64::MAX);
    // A length that a listing gives is a hint: vSphere calls a descriptor as long as its disk. That the file ended before
    // as much was read as a descriptor may have is a proof.
    if head.len() > MAX_TEXT_BYTES || (head.len() == MAX_TEXT_BYTES && file_bytes > longest) {
        return Err(Flaw::TooLarge { bytes: file_bytes });
    }
    let text = decode(head)?;
    let raw = Lines::read(&text)?;
    raw.into_descriptor(file)
}

/// The text of these bytes. The encoding that it names itself is believed if the bytes are of it; else they are UTF-8 or, if
/// they are not, Windows' western one, which any bytes are. The folder shows whether the names in it are right.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Flaw> {
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return Err(Flaw::Utf16);
    }
    // Some tools fill the file's last sector with zeros; the text ends where a C program sees its end.
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    // The first character of a descriptor is `#`: in UTF-16 a NUL is before or behind it.
    if end <= 1 && bytes.get(..4).is_some_and(|start| start.iter().any(|byte| *byte != 0)) {
        return Err(Flaw::Utf16);
    }
    let bytes = bytes.get(..end).unwrap_or_default();
    if bytes.is_empty() {
        return Err(Flaw::Empty);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let label = bytes.split(|byte| *byte == b'\n').find_map(encoding_line);
    let named = label.and_then(encoding).filter(|encoding| encoding.is_ascii_compatible());
    let text = named.and_then(|encoding| encoding.decode_without_bom_handling_and_without_replacement(bytes));
    let text = text.or_else(|| std::str::from_utf8(bytes).ok().map(Cow::Borrowed));
    Ok(text.unwrap_or_else(|| encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0))
}

/// The encoding of a name: those of the web, and the numbers of Windows' code pages that they don't have.
fn encoding(label: &[u8]) -> Option<&'static Encoding> {
    Encoding::for_label(label).or_else(|| {
        let label = std::str::from_utf8(label).ok()?.to_ascii_lowercase();
        let number = ["windows-", "ibm-", "ms", "cp"].iter().find_map(|start| label.strip_prefix(start))?;
        match number {
            "932" | "943" => Some(encoding_rs::SHIFT_JIS),
            "936" => Some(encoding_rs::GBK),
            "949" => Some(encoding_rs::EUC_KR),
            "950" => Some(encoding_rs::BIG5),
            _ => None,
        }
    })
}

/// The value of a line `encoding="…"`.
fn encoding_line(line: &[u8]) -> Option<&[u8]> {
    let equals = line.iter().position(|byte| *byte == b'=')?;
    let (key, value) = line.split_at_checked(equals)?;
    let value = value.get(1..)?.trim_ascii();
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    let value = value.strip_suffix(b"\"").unwrap_or(value);
    key.trim_ascii().eq_ignore_ascii_case(b"encoding").then_some(value.trim_ascii())
}

/// The lines of a descriptor by what they are, not yet understood.
struct Lines<'a> {
    /// `key=value` by the key in lower case.
    header: BTreeMap<String, &'a str>,
    ddb: BTreeMap<String, String>,
    /// Extents, each with its line's number from 1.
    extents: Vec<(usize, &'a str)>,
    /// Whether any line names a parent disk.
    has_parent: bool,
}

impl<'a> Lines<'a> {
    fn read(text: &'a str) -> Result<Self, Flaw> {
        let mut lines = Lines { header: BTreeMap::new(), ddb: BTreeMap::new(), extents: Vec::new(), has_parent: false };
        let mut signed = false;
        let end = if text.contains('\n') { '\n' } else { '\r' };
        for (number, line) in text.split(end).enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            if line.starts_with('#') {
                signed = signed || is_signature(line);
                continue;
            }
            // QEMU knows a descriptor by its version.
            signed = signed || is_version(line);
            if !signed {
                return Err(Flaw::NotADescriptor);
            }
            if is_extent(line) {
                lines.extents.push((number + 1, line));
            } else {
                lines.pair(line);
            }
        }
        if signed { Ok(lines) } else { Err(Flaw::NotADescriptor) }
    }

    /// A line `key = value`. What is none, or can't be one, says nothing about the extents.
    fn pair(&mut self, text: &'a str) {
        let Some((key, value)) = text.split_once('=') else { return };
        let (key, value) = (key.trim(), value.trim());
        let value = value.strip_prefix('"').unwrap_or(value);
        let value = value.strip_suffix('"').unwrap_or(value).trim();
        if key.is_empty() || value.chars().any(char::is_control) {
            return;
        }
        if let Some(entry) = key.get(..4).filter(|start| start.eq_ignore_ascii_case("ddb.")).and_then(|_| key.get(4..))
        {
            if self.ddb.len() < MAX_DDB_ENTRIES {
                self.ddb.entry(entry.to_owned()).or_insert_with(|| value.to_owned());
            }
            return;
        }
        let key = key.to_ascii_lowercase();
        self.has_parent |= match key.as_str() {
            "parentcid" => content_id(value).is_some_and(|cid| cid != NO_PARENT),
            "parentfilenamehint" => !value.is_empty(),
            _ => false,
        };
        self.header.entry(key).or_insert(value);
    }

    fn text(&self, key: &str) -> Option<String> {
        self.header.get(key).filter(|value| !value.is_empty()).map(|value| (*value).to_owned())
    }

    fn into_descriptor(self, file: &FileName) -> Result<Descriptor, Flaw> {
        let create_type = self.text("createtype").unwrap_or_default();
        let layout = layout(&create_type);
        let mut extents = Vec::with_capacity(self.extents.len());
        let mut flaw = None;
        for &(line, text) in &self.extents {
            match extent(line, text, layout == Layout::Flat) {
                Ok(Some(extent)) => extents.push(extent),
                Ok(None) => {}
                Err(error) => flaw = flaw.or(Some(error)),
            }
        }
        // A type that is not known is what its extents are. What types that are refused anyway write there is of no use.
        let plain = |extent: &Extent| {
            matches!(extent.kind, ExtentKind::Vmfs | ExtentKind::Flat | ExtentKind::Zero)
                && !matches!(extent.file, Some(ExtentFile::Elsewhere(_) | ExtentFile::Object(_)))
        };
        let is_flat = match layout {
            Layout::Flat => true,
            Layout::Unknown => extents.iter().all(plain),
            Layout::Sparse | Layout::Device => false,
        };
        if is_flat {
            if let Some(flaw) = flaw {
                return Err(flaw);
            }
            if extents.is_empty() {
                return Err(Flaw::Missing { what: "extent" });
            }
            usable(&extents, file)?;
            no_overlap(&extents)?;
        }
        let logical_bytes = logical_bytes(&extents)?;
        let version = self.header.get("version").and_then(|version| version.parse().ok());
        let parent_cid = self.header.get("parentcid").and_then(|text| content_id(text));
        Ok(Descriptor {
            file: file.clone(),
            version,
            encoding: self.text("encoding"),
            cid: self.header.get("cid").and_then(|text| content_id(text)),
            parent_cid,
            has_parent: self.has_parent,
            is_native_snapshot: self.header.get("isnativesnapshot").map(|text| text.eq_ignore_ascii_case("yes")),
            create_type,
            is_flat,
            parent_file_name_hint: self.text("parentfilenamehint"),
            extents,
            ddb: self.ddb,
            logical_bytes,
        })
    }
}

fn is_signature(comment: &str) -> bool {
    let words: String = comment.trim_start_matches('#').split_whitespace().collect();
    words.eq_ignore_ascii_case(SIGNATURE)
}

fn is_version(line: &str) -> bool {
    line.split_once('=').is_some_and(|(key, value)| {
        key.trim().eq_ignore_ascii_case("version") && matches!(value.trim(), "1" | "2" | "3" | "4")
    })
}

/// Whether a line is one of an extent, or could be: it begins with a word of access, or has a length and a type in the places
/// of an extent's.
fn is_extent(line: &str) -> bool {
    let (first, rest) = next_word(line);
    let (second, rest) = next_word(rest);
    if second.starts_with('=') || first.contains('=') {
        return false;
    }
    let (third, _) = next_word(rest);
    let known = extent_kind(third).is_some_and(|kind| !matches!(kind, ExtentKind::Other(_)));
    (access(first).is_some() && !second.is_empty()) || (number(second).is_some() && known)
}

fn access(word: &str) -> Option<ExtentAccess> {
    let known = [("RW", ExtentAccess::ReadWrite), ("RDONLY", ExtentAccess::ReadOnly), ("NOACCESS", ExtentAccess::None)];
    known.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, access)| access)
}

/// A content id in one form: tools write it with and without leading zeros, in either case.
fn content_id(text: &str) -> Option<String> {
    let hex = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| format!("{:0>8}", text.to_ascii_lowercase()))
}

/// One line of the form `ACCESS SECTORS TYPE ["FILE" [OFFSET [more words]]]`; none for one without a length, which no program
/// uses.
fn extent(line: usize, text: &str, is_flat: bool) -> Result<Option<Extent>, Flaw> {
    let malformed = |why| Flaw::Malformed { line, why };
    let (word, rest) = next_word(text);
    let access = access(word).ok_or_else(|| malformed("it has no access word"))?;
    let (word, rest) = next_word(rest);
    let sectors = number(word).ok_or_else(|| malformed("its length is no number"))?;
    let (word, rest) = next_word(rest);
    let kind = extent_kind(word).ok_or_else(|| malformed("it has no type"))?;
    if sectors == 0 {
        return Ok(None);
    }
    if kind == ExtentKind::Zero {
        return Ok(Some(Extent { access, sectors, kind, file: None, offset_sectors: 0 }));
    }
    let (name, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or_else(|| malformed("a quotation mark is missing"))?,
        None => next_word(rest),
    };
    if name.is_empty() {
        return Err(malformed("it names no file"));
    }
    // Words behind the offset name a partition or a device, and so does one in its place.
    let offset_sectors = number(next_word(rest).0).unwrap_or(0);
    let file = extent_file(line, name, is_flat)?;
    let extent = Extent { access, sectors, kind, file: Some(file), offset_sectors };
    match extent.end_bytes() {
        Some(end) if end <= MAX_FILE_BYTES => Ok(Some(extent)),
        _ => Err(Flaw::TooLong { what: format!("the extent of line {line}") }),
    }
}

fn next_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    match text.split_once(|c: char| c.is_ascii_whitespace()) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

/// Decimal digits only: Rust's own parser takes a plus sign as well.
fn number(word: &str) -> Option<u64> {
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| word.parse().ok()).flatten()
}

fn extent_kind(word: &str) -> Option<ExtentKind> {
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let word = word.to_ascii_uppercase();
    Some(match word.as_str() {
        "VMFS" => ExtentKind::Vmfs,
        "FLAT" => ExtentKind::Flat,
        "ZERO" => ExtentKind::Zero,
        "SPARSE" => ExtentKind::Sparse,
        "VMFSSPARSE" => ExtentKind::VmfsSparse,
        "SESPARSE" => ExtentKind::SeSparse,
        "VMFSRDM" => ExtentKind::VmfsRdm,
        "VMFSRAW" => ExtentKind::VmfsRaw,
        _ => ExtentKind::Other(word),
    })
}

fn extent_file(line: usize, name: &str, is_flat: bool) -> Result<ExtentFile, Flaw> {
    if is_object(name) {
        return Ok(ExtentFile::Object(name.to_owned()));
    }
    let separators = name.contains(['/', '\\']);
    match FileName::new(name) {
        Ok(file) if !separators => Ok(ExtentFile::Beside(file)),
        _ if !is_flat => Ok(ExtentFile::Elsewhere(name.to_owned())),
        Err(why) if !separators => Err(Flaw::ExtentName { line, name: shown(name), why }),
        _ => Err(Flaw::ExtentElsewhere { line, name: shown(name) }),
    }
}

/// Whether a text is of the form `scheme://rest`.
fn is_object(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'.' | b'-'))
    })
}

/// No extent is the descriptor itself, or has the name of what the vault puts beside a version's files.
fn usable(extents: &[Extent], descriptor: &FileName) -> Result<(), Flaw> {
    for name in extents.iter().filter_map(Extent::file_name) {
        if name == descriptor {
            return Err(Flaw::ExtentIsDescriptor);
        }
        if name.as_str() == MANIFEST_NAME {
            return Err(Flaw::ExtentReserved { name: name.to_string() });
        }
    }
    Ok(())
}

fn no_overlap(extents: &[Extent]) -> Result<(), Flaw> {
    let mut ranges: Vec<(&FileName, u64, u64)> = extents
        .iter()
        .filter_map(|extent| Some((extent.file_name()?, extent.offset_sectors, extent.sectors)))
        .collect();
    ranges.sort_unstable();
    for (one, two) in ranges.iter().zip(ranges.iter().skip(1)) {
        if one.0 == two.0 && two.1.saturating_sub(one.1) < one.2 {
            return Err(Flaw::Overlap { name: shown(one.0.as_str()) });
        }
    }
    Ok(())
}

fn logical_bytes(extents: &[Extent]) -> Result<u64, Flaw> {
    extents
        .iter()
        .try_fold(0u64, |sum, extent| sum.checked_add(extent.sectors))
        .and_then(|sectors| sectors.checked_mul(SECTOR_BYTES))
        .filter(|bytes| *bytes <= MAX_FILE_BYTES)
        .ok_or_else(|| Flaw::TooLong { what: "the disk".to_owned() })
}
