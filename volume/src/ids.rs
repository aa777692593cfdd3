//! The names Stackferry gives to things: volumes, versions, generations, transfers.
//!
//! They are fixed once given. Nothing here may derive an id from anything but its arguments.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::name::{FileName, MAX_NAME_BYTES, NameError};

/// What a volume is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A read-only application disk of App Volumes 2.x.
    Appstack,
    /// A read-only application disk of App Volumes 4.x.
    Package,
    /// A user's own disk.
    Writable,
    /// A disk that App Volumes makes new volumes from.
    Template,
    /// Any other VMDK.
    Image,
}

impl Kind {
    /// Every kind, in the order they are listed to people.
    pub const ALL: [Kind; 5] = [Kind::Appstack, Kind::Package, Kind::Writable, Kind::Template, Kind::Image];

    /// The word used in ids, paths, JSON and the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Appstack => "appstack",
            Kind::Package => "package",
            Kind::Writable => "writable",
            Kind::Template => "template",
            Kind::Image => "image",
        }
    }

    /// Whether App Volumes treats the disk as read-only and may keep equal copies of it on several datastores.
    #[must_use]
    pub fn is_replicated(self) -> bool {
        matches!(self, Kind::Appstack | Kind::Package)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| ParseIdError::Kind(text.to_owned()))
    }
}

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// The part before the slash is no kind.
    #[error("`{0}` is no kind of volume; kinds are appstack, package, writable, template, image")]
    Kind(String),
    /// There is no slash.
    #[error("`{0}` is no volume id; ids look like appstack/Office or writable/CORP!5C!jdoe")]
    NoKind(String),
    /// The part after the slash can't be a file name's stem.
    #[error("`{id}` is no volume id")]
    Name {
        /// The whole text.
        id: String,
        /// What is wrong with the name in it.
        #[source]
        source: NameError,
    },
    /// The text is not of a version's form.
    #[error("`{0}` is no version; versions look like 20261122T041500Z-1")]
    Version(String),
    /// The text is not of a transfer's form.
    #[error("`{0}` is no transfer id: 16 hexadecimal digits are expected")]
    Transfer(String),
}

/// A volume's id: `<kind>/<stem>`, or `<kind>/<stem>@<8 hex>` for a second volume of that kind and stem.
///
/// The part after the slash is also the name of its folder in the vault, so it is always a safe file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId {
    kind: Kind,
    name: FileName,
}

impl VolumeId {
    /// The id of the first volume of this kind and stem.
    #[must_use]
    pub fn first(kind: Kind, stem: &FileName) -> Self {
        Self { kind, name: stem.clone() }
    }

    /// The id of a further volume of the same kind and stem: 8 hexadecimal digits of
    /// BLAKE3(site, datastore, folder) follow the stem, each part ended by a NUL. Of a stem that is so long that no file
    /// name can hold both its last characters are left away.
    ///
    /// # Errors
    /// The name would be longer than a file name may be.
    pub fn further(kind: Kind, stem: &FileName, site: &str, datastore: &str, folder: &str) -> Result<Self, NameError> {
        let mut hasher = blake3::Hasher::new();
        for part in [site, datastore, folder] {
            hasher.update(part.as_bytes());
            hasher.update(&[0]);
        }
        let hex = hasher.finalize().to_hex();
        let short: String = hex.chars().take(8).collect();
        let space = MAX_NAME_BYTES.saturating_sub(short.len() + 1);
        let stem = stem.as_str();
        let stem = stem.get(..stem.floor_char_boundary(space)).unwrap_or(stem);
        Ok(Self { kind, name: FileName::new(&format!("{stem}@{short}"))? })
    }

    /// The volume's kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The part after the slash: the name of the volume's folder in the vault.
    #[must_use]
    pub fn folder(&self) -> &FileName {
        &self.name
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.kind, self.name))
    }
}

impl FromStr for VolumeId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (kind, name) = text.split_once('/').ok_or_else(|| ParseIdError::NoKind(text.to_owned()))?;
        let kind = kind.parse()?;
        let name = FileName::new(name).map_err(|source| ParseIdError::Name { id: text.to_owned(), source })?;
        Ok(Self { kind, name })
    }
}

impl TryFrom<String> for VolumeId {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<VolumeId> for String {
    fn from(id: VolumeId) -> Self {
        id.to_string()
    }
}

/// The number of a volume's disk under one id: a new GUID under an old name starts the next. Counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl Generation {
    /// A volume's first generation.
    pub const FIRST: Generation = Generation(1);

    /// The next generation.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One committed copy of a volume: `YYYYMMDDTHHMMSSZ-<seq>`. Ordered by `seq`, which only grows; the time is
/// for people, so a clock that jumps back can't make a new version look old.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionId {
    seq: u64,
    stamp: String,
}

impl VersionId {
    /// The version made at `at` (UTC, whole seconds) with the sequence number `seq`, from 1.
    #[must_use]
    pub fn new(at: Timestamp, seq: u64) -> Self {
        let stamp = at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
        Self { seq, stamp }
    }

    /// The sequence number, from 1; versions of one volume are ordered by it.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// When the version was made, to the second; none if the stamp is not a real time.
    #[must_use]
    pub fn created(&self) -> Option<Timestamp> {
        jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", &self.stamp)
            .ok()?
            .to_zoned(TimeZone::UTC)
            .ok()
            .map(|zoned| zoned.timestamp())
    }
}

impl PartialOrd for VersionId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for VersionId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.seq.cmp(&other.seq).then_with(|| self.stamp.cmp(&other.stamp))
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.stamp, self.seq))
    }
}

impl FromStr for VersionId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let bad = || ParseIdError::Version(text.to_owned());
        let (stamp, seq) = text.split_once('-').ok_or_else(bad)?;
        let form = stamp.len() == 16
            && stamp.char_indices().all(|(at, c)| match at {
                8 => c == 'T',
                15 => c == 'Z',
                _ => c.is_ascii_digit(),
            });
        let plain = !seq.is_empty() && !seq.starts_with('0') && seq.bytes().all(|byte| byte.is_ascii_digit());
        if !form || !plain {
            return Err(bad());
        }
        Ok(Self { seq: seq.parse().map_err(|_| bad())?, stamp: stamp.to_owned() })
    }
}

impl TryFrom<String> for VersionId {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<VersionId> for String {
    fn from(id: VersionId) -> Self {
        id.to_string()
    }
}

/// One run that copies one volume: 64 random bits, shown as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TransferId(u64);

impl TransferId {
    /// The transfer of these random bits.
    #[must_use]
    pub fn new(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for TransferId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let hex = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match u64::from_str_radix(text, 16) {
            Ok(bits) if hex => Ok(Self(bits)),
            _ => Err(ParseIdError::Transfer(text.to_owned())),
        }
    }
}

impl TryFrom<String> for TransferId {
    type Error = ParseIdError;
    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<TransferId> for String {
    fn from(id: TransferId) -> Self {
        id.to_string()
    }
}

/// What a person named: a volume, perhaps with a version of it. `@VERSION` is split off at the last `@`, and
/// only if it looks like a version, since ids hold `@` too.
#[must_use]
pub fn split_version(text: &str) -> (&str, Option<VersionId>) {
    match text.rsplit_once('@') {
        Some((volume, version)) => match version.parse() {
            Ok(version) => (volume, Some(version)),
            Err(_) => (text, None),
        },
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for text in ["appstack/Office", "writable/CORP!5C!jdoe", "image/a b@0011aabb"] {
            assert_eq!(text.parse::<VolumeId>().unwrap().to_string(), text);
        }
        for text in ["Office", "appstack/", "appstack/..", "appstack/a/b", "disk/Office", "appstack/a\0b", ""] {
            assert!(text.parse::<VolumeId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn versions_are_ordered_by_their_sequence() {
        let late: VersionId = "20251122T041500Z-10".parse().unwrap();
        let early: VersionId = "20261122T041500Z-9".parse().unwrap();
        assert!(early < late);
        assert_eq!(late.created().unwrap().to_string(), "2025-11-22T04:15:00Z");
        for text in ["20261122T041500Z", "20261122T041500Z-", "20261122T041500Z-0", "20261122T041500Z-1x", "x-1"] {
            assert!(text.parse::<VersionId>().is_err(), "{text:?}");
        }
        let made = VersionId::new("2026-11-22T04:15:00.9Z".parse().unwrap(), 3);
        assert_eq!(made.to_string(), "20261122T041500Z-3");
    }

    #[test]
    fn a_version_is_split_off_only_where_it_looks_like_one() {
        assert_eq!(split_version("image/a@0011aabb"), ("image/a@0011aabb", None));
        assert_eq!(split_version("jdoe@corp.example"), ("jdoe@corp.example", None));
        let (volume, version) = split_version("image/a@0011aabb@20261122T041500Z-1");
        assert_eq!((volume, version.unwrap().seq()), ("image/a@0011aabb", 1));
    }

    #[test]
    fn a_further_volume_is_told_apart_by_where_it_lies() {
        let stem = FileName::new("CORP!5C!jdoe").unwrap();
        let one = VolumeId::further(Kind::Writable, &stem, "dc1", "nfs01", "cloudvolumes/writable").unwrap();
        let two = VolumeId::further(Kind::Writable, &stem, "dc1", "nfs02", "cloudvolumes/writable").unwrap();
        assert_ne!(one, two);
        assert_eq!(one.to_string().len(), "writable/CORP!5C!jdoe@".len() + 8);
    }
}
