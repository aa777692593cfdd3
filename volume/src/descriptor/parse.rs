//! From bytes to a [`Descriptor`]. Each line is looked at twice: first what the disk is, then, knowing that, its extents.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use encoding_rs::Encoding;

use super::{
    Access, Descriptor, Extent, ExtentFile, ExtentKind, Flaw, Layout, MAX_DDB_ENTRIES, MAX_TEXT_BYTES, SECTOR_BYTES,
    binary, layout,
};
use crate::block::MAX_FILE_BYTES;
use crate::manifest::MANIFEST_NAME;
use crate::name::FileName;
use crate::reason::shown;

/// The first line of every descriptor.
const SIGNATURE: &str = "# Disk DescriptorFile";

pub(super) fn parse(head: &[u8], file_bytes: u64, file: &FileName) -> Result<Descriptor, Flaw> {
    if let Some(format) = binary::detect(head) {
        return Err(Flaw::Binary { format, create_type: binary::embedded_type(head) });
    }
    let longest = u64::try_from(MAX_TEXT_BYTES).unwrap_or(u64::MAX);
    if file_bytes > longest || head.len() > MAX_TEXT_BYTES {
        return Err(Flaw::TooLarge { bytes: file_bytes });
    }
    let text = decode(head)?;
    let raw = Lines::read(&text)?;
    raw.into_descriptor(file)
}

/// The text of these bytes, in the encoding that it names itself.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Flaw> {
    if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return Err(Flaw::Utf16);
    }
    // Some tools fill the file's last sector with zeros.
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let bytes = bytes.get(..end).unwrap_or_default();
    if bytes.is_empty() {
        return Err(Flaw::Empty);
    }
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        // The first character of a descriptor is `#`: in UTF-16 a NUL is before or behind it.
        return Err(if at <= 1 { Flaw::Utf16 } else { Flaw::Nul { at } });
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.is_ascii() {
        return from_utf8(bytes, "ASCII");
    }
    let label = bytes.split(|byte| *byte == b'\n').find_map(encoding_line);
    let label = label.map(|label| String::from_utf8_lossy(label).into_owned());
    match label.as_deref().map(|label| (label, Encoding::for_label(label.as_bytes()))) {
        None => from_utf8(bytes, "UTF-8"),
        Some((_, Some(encoding))) if encoding == encoding_rs::UTF_8 => from_utf8(bytes, "UTF-8"),
        Some((_, Some(encoding))) if encoding.is_ascii_compatible() => encoding
            .decode_without_bom_handling_and_without_replacement(bytes)
            .ok_or_else(|| Flaw::Encoding { encoding: encoding.name().to_owned() }),
        Some((label, _)) => {
            Err(Flaw::Encoding { encoding: format!("ASCII, and its encoding `{}` is not known", shown(label)) })
        }
    }
}

fn from_utf8<'a>(bytes: &'a [u8], encoding: &str) -> Result<Cow<'a, str>, Flaw> {
    std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Flaw::Encoding { encoding: encoding.to_owned() })
}

/// The value of a line `encoding="…"`.
fn encoding_line(line: &[u8]) -> Option<&[u8]> {
    let equals = line.iter().position(|byte| *byte == b'=')?;
    let (key, value) = line.split_at_checked(equals)?;
    let value = value.get(1..)?.trim_ascii();
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    let value = value.strip_suffix(b"\"").unwrap_or(value);
    key.trim_ascii().eq_ignore_ascii_case(b"encoding").then_some(value)
}

/// The lines of a descriptor by what they are, not yet understood.
struct Lines<'a> {
    /// `key=value` by the key in lower case.
    header: BTreeMap<String, Cow<'a, str>>,
    ddb: BTreeMap<String, String>,
    /// Extents, each with its line's number from 1.
    extents: Vec<(usize, &'a str)>,
}

impl<'a> Lines<'a> {
    fn read(text: &'a str) -> Result<Self, Flaw> {
        let mut lines = Lines { header: BTreeMap::new(), ddb: BTreeMap::new(), extents: Vec::new() };
        let mut signed = false;
        for (number, line) in text.split('\n').enumerate() {
            let number = number + 1;
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            if line.starts_with('#') {
                signed = signed || line.eq_ignore_ascii_case(SIGNATURE);
                continue;
            }
            if !signed {
                return Err(Flaw::NotADescriptor);
            }
            let word = line.split_ascii_whitespace().next().unwrap_or_default();
            if access(word).is_some() && line.len() > word.len() {
                lines.extents.push((number, line));
            } else {
                lines.pair(number, line)?;
            }
        }
        if signed { Ok(lines) } else { Err(Flaw::NotADescriptor) }
    }

    fn pair(&mut self, line: usize, text: &'a str) -> Result<(), Flaw> {
        let malformed = |why| Flaw::Malformed { line, why };
        let (key, value) =
            text.split_once('=').ok_or_else(|| malformed("it is no comment, no extent and no `key = value`"))?;
        let key = key.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
        if key.is_empty() || !key.chars().all(plain) {
            return Err(malformed("the part before `=` is no key"));
        }
        let value = unquote(value.trim()).ok_or_else(|| malformed("a quotation mark is missing"))?;
        if value.chars().any(char::is_control) {
            return Err(malformed("there is a control character in it"));
        }
        let twice = || Flaw::Twice { what: shown(key), line };
        if let Some(entry) = key.get(..4).filter(|start| start.eq_ignore_ascii_case("ddb.")).and_then(|_| key.get(4..))
        {
            let full = self.ddb.len() >= MAX_DDB_ENTRIES;
            return match self.ddb.entry(entry.to_owned()) {
                Slot::Occupied(told) if told.get() == value => Ok(()),
                Slot::Occupied(_) => Err(twice()),
                Slot::Vacant(_) if full => Err(Flaw::TooManyEntries),
                Slot::Vacant(free) => {
                    free.insert(value.to_owned());
                    Ok(())
                }
            };
        }
        match self.header.entry(key.to_ascii_lowercase()) {
            Slot::Occupied(told) if told.get().eq_ignore_ascii_case(value) => Ok(()),
            Slot::Occupied(_) => Err(twice()),
            Slot::Vacant(free) => {
                free.insert(Cow::Borrowed(value));
                Ok(())
            }
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        self.header.get(key).filter(|value| !value.is_empty()).map(|value| value.clone().into_owned())
    }

    fn into_descriptor(self, file: &FileName) -> Result<Descriptor, Flaw> {
        let missing = |what| Flaw::Missing { what };
        let version = self.header.get("version").ok_or_else(|| missing("version"))?;
        let version = version
            .parse::<u32>()
            .ok()
            .filter(|version| *version > 0)
            .ok_or_else(|| missing("version that is a number from 1"))?;
        let create_type = self.text("createtype").ok_or_else(|| missing("createType"))?;
        let cid = self.header.get("cid").ok_or_else(|| missing("CID"))?;
        let cid = content_id(cid).ok_or_else(|| missing("CID of up to 8 hexadecimal digits"))?;
        let parent_cid = match self.header.get("parentcid") {
            Some(text) => Some(content_id(text).ok_or_else(|| missing("parentCID of up to 8 hexadecimal digits"))?),
            None => None,
        };
        let is_flat = layout(&create_type) == Layout::Flat;
        let mut extents = Vec::with_capacity(self.extents.len());
        for &(line, text) in &self.extents {
            match extent(line, text, file, is_flat) {
                Ok(extent) => extents.push(extent),
                // What other types write there is of no use here: they are refused for their type.
                Err(_) if !is_flat => {}
                Err(flaw) => return Err(flaw),
            }
        }
        if extents.is_empty() && is_flat {
            return Err(missing("extent"));
        }
        if is_flat {
            no_overlap(&extents)?;
        }
        let logical_bytes = logical_bytes(&extents)?;
        Ok(Descriptor {
            file: file.clone(),
            version,
            encoding: self.text("encoding"),
            cid,
            parent_cid,
            is_native_snapshot: self.header.get("isnativesnapshot").map(|text| text.eq_ignore_ascii_case("yes")),
            create_type,
            parent_file_name_hint: self.text("parentfilenamehint"),
            extents,
            ddb: self.ddb,
            logical_bytes,
        })
    }
}

fn access(word: &str) -> Option<Access> {
    match word {
        "RW" => Some(Access::ReadWrite),
        "RDONLY" => Some(Access::ReadOnly),
        "NOACCESS" => Some(Access::None),
        _ => None,
    }
}

/// The value without its quotation marks; none where only one of them is there.
fn unquote(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None if value.ends_with('"') => None,
        None => Some(value),
    }
}

/// A content id in one form: tools write it with and without leading zeros, in either case.
fn content_id(text: &str) -> Option<String> {
    let hex = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| format!("{:0>8}", text.to_ascii_lowercase()))
}

/// One line of the form `ACCESS SECTORS TYPE ["FILE" [OFFSET]]`.
fn extent(line: usize, text: &str, descriptor: &FileName, is_flat: bool) -> Result<Extent, Flaw> {
    let malformed = |why| Flaw::Malformed { line, why };
    let (word, rest) = next_word(text);
    let access = access(word).ok_or_else(|| malformed("it has no access word"))?;
    let (word, rest) = next_word(rest);
    let sectors =
        number(word).filter(|sectors| *sectors > 0).ok_or_else(|| malformed("its length is no number from 1"))?;
    let (word, rest) = next_word(rest);
    let kind = extent_kind(word).ok_or_else(|| malformed("it has no type"))?;
    if kind == ExtentKind::Zero && rest.is_empty() {
        return Ok(Extent { access, sectors, kind, file: None, offset_sectors: 0 });
    }
    let quoted = rest.strip_prefix('"').ok_or_else(|| malformed("its file is not in quotation marks"))?;
    let (name, rest) = quoted.split_once('"').ok_or_else(|| malformed("a quotation mark is missing"))?;
    let rest = rest.trim_start();
    let (word, rest) = next_word(rest);
    let offset_sectors = match word {
        "" => 0,
        word => number(word).ok_or_else(|| malformed("its offset is no number"))?,
    };
    if !rest.is_empty() {
        return Err(malformed("something follows its offset"));
    }
    let file = extent_file(line, name, descriptor, is_flat)?;
    let extent = Extent { access, sectors, kind, file: Some(file), offset_sectors };
    match extent.end_bytes() {
        Some(end) if end <= MAX_FILE_BYTES => Ok(extent),
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
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok()).flatten()
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

fn extent_file(line: usize, name: &str, descriptor: &FileName, is_flat: bool) -> Result<ExtentFile, Flaw> {
    if is_object(name) {
        return Ok(ExtentFile::Object(name.to_owned()));
    }
    let separators = name.contains(['/', '\\']);
    match FileName::new(name) {
        Ok(file) if !separators => {
            if is_flat && file == *descriptor {
                return Err(Flaw::ExtentIsDescriptor { line });
            }
            if is_flat && name == MANIFEST_NAME {
                return Err(Flaw::ExtentReserved { line, name: name.to_owned() });
            }
            Ok(ExtentFile::Beside(file))
        }
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
