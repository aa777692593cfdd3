//! The lines of a list, as OpenSSH reads them: bytes, fields separated by blanks; one bad line does not affect the others.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use russh::keys::PublicKey;

use super::pattern::names_match;
use crate::sanitize::clean;

/// The largest list, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// The most different lines that are warned about, each once per process.
const MAX_WARNINGS: usize = 1000;
/// OpenSSH reads it as a part of the first name.
const BYTE_ORDER_MARK: &str = "the file begins with a UTF-8 byte order mark (BOM): save it without";
/// Key types that a list may have and that this program's hosts don't.
const OTHER_TYPES: [&str; 3] = ["ssh-dss", "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"];

/// A line's marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyMarker {
    /// The key is a host's own.
    None,
    /// It signs the certificates of hosts.
    CertAuthority,
    /// The key must not be accepted.
    Revoked,
}

/// A line that is neither empty nor a comment.
#[derive(Debug)]
pub(super) struct KnownHostsLine {
    /// Counted from 1.
    pub(super) number: usize,
    pub(super) marker: KeyMarker,
    hosts: String,
    /// The key; none where its type is one of [`OTHER_TYPES`], or the reason why it can't be read.
    pub(super) key: Result<Option<PublicKey>, String>,
}

impl KnownHostsLine {
    /// Whether it matches this host name, as lists have it.
    pub(super) fn is_for(&self, name: &str) -> bool {
        names_match(&self.hosts, name)
    }
}

/// Reads a list.
///
/// # Errors
/// Why it can't be used at all.
pub(super) fn read(path: &Path) -> Result<Vec<KnownHostsLine>, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > MAX_FILE_BYTES {
        return Err(format!("it is {length} bytes long"));
    }
    let content = std::fs::read(path).map_err(|error| error.to_string())?;
    let place = path.display().to_string();
    let lines = parse(&content, &place)?;
    for line in &lines {
        if let Err(why) = &line.key {
            warn(&place, line.number, &format!("the line is skipped: {why}"));
        }
    }
    Ok(lines)
}

/// Reads the content of a list.
///
/// # Errors
/// Why it can't be used at all: it is no text of bytes.
pub(super) fn parse(content: &[u8], place: &str) -> Result<Vec<KnownHostsLine>, String> {
    if content.starts_with(&[0xff, 0xfe]) || content.starts_with(&[0xfe, 0xff]) {
        return Err("it is UTF-16 text: save it as UTF-8, without a byte order mark (BOM)".to_owned());
    }
    if content.contains(&0) {
        return Err("it has NUL bytes: it is no text, or UTF-16 text; save it as UTF-8".to_owned());
    }
    let content = match content.strip_prefix(&[0xef, 0xbb, 0xbf]) {
        Some(rest) => {
            warn(place, 1, BYTE_ORDER_MARK);
            rest
        }
        None => content,
    };
    let lines = content.split(|byte| *byte == b'\n').enumerate();
    Ok(lines.filter_map(|(at, bytes)| line(at + 1, bytes)).collect())
}

/// The fields are marker (perhaps), hosts, type, key, and a comment that may be of any bytes.
fn line(number: usize, bytes: &[u8]) -> Option<KnownHostsLine> {
    let mut fields = bytes.split(|byte| matches!(byte, b' ' | b'\t' | b'\r')).filter(|field| !field.is_empty());
    let mut next = || fields.next().map(String::from_utf8_lossy);
    let first = next()?;
    if first.starts_with('#') {
        return None;
    }
    let bad = |marker, hosts: &str, why: &str| {
        Some(KnownHostsLine { number, marker, hosts: hosts.to_owned(), key: Err(why.to_owned()) })
    };
    let (marker, hosts) = match &*first {
        "@cert-authority" => (KeyMarker::CertAuthority, next()),
        "@revoked" => (KeyMarker::Revoked, next()),
        other if other.starts_with('@') => {
            return bad(KeyMarker::None, "", &format!("its marker {} is not known", clean(other)));
        }
        _ => (KeyMarker::None, Some(first)),
    };
    let Some(hosts) = hosts else { return bad(marker, "", "it names no host") };
    let (Some(name), Some(key)) = (next(), next()) else { return bad(marker, &hosts, "it has no key") };
    let key = if OTHER_TYPES.contains(&&*name) { Ok(None) } else { key_of(&name, &key).map(Some) };
    Some(KnownHostsLine { number, marker, hosts: hosts.into_owned(), key })
}

fn key_of(name: &str, key: &str) -> Result<PublicKey, String> {
    let is_known = matches!(name, "ssh-ed25519" | "ssh-rsa") || name.starts_with("ecdsa-sha2-nistp");
    if !is_known {
        return Err(format!("its type of key is not known: {}", clean(name)));
    }
    PublicKey::from_openssh(&format!("{name} {key}")).map_err(|error| format!("its key can't be read ({error})"))
}

/// Says once what is wrong with a line.
fn warn(place: &str, number: usize, why: &str) {
    static WARNED: Mutex<Option<HashSet<u64>>> = Mutex::new(None);
    let mut hasher = DefaultHasher::new();
    (place, number, why).hash(&mut hasher);
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    let warned = warned.get_or_insert_default();
    if warned.len() < MAX_WARNINGS && warned.insert(hasher.finish()) {
        tracing::warn!(file = place, line = number, why, "a line of the known host keys is not as it should be");
    }
}
