//! Which host keys are known. There is no trust on first use: an unknown key, a changed one and a list that can't be
//! read are three different errors, and none of them lets a connection go on.
//!
//! The list is a file in OpenSSH's format (`known_hosts`, sshd(8)): hashed names, `[host]:port`, wildcards, negations
//! and `@revoked` are understood. `@cert-authority` lines are passed over: host certificates are not used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::PublicKey;
use russh::keys::ssh_key::known_hosts::{HostPatterns, KnownHosts, Marker};
use russh::keys::ssh_key::{Algorithm, HashAlg};
use sha1::Sha1;

use crate::error::TransferError;

/// The most of a list that is read, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Where a host's key is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKeys {
    /// One key: `ssh-ed25519 AAAA…`, as in the configuration.
    Line(String),
    /// A file in the format of OpenSSH's `known_hosts`.
    File(PathBuf),
    /// Such a file, asked for these names instead of the one that is connected to: the first that it has counts.
    Names(PathBuf, Vec<String>),
}

/// How often hosts showed another key than the one that is known, since this process began, by `host:port`.
static MISMATCHES: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());
/// So many hosts are told apart; they come from the configuration and from vSphere.
const MAX_HOSTS: usize = 1000;

/// How often hosts showed another key than the one that is known, in this process, by `host:port`; 0 for those that showed
/// the right one only. Whoever connects, and
/// what for: this is the one place where all keys are checked.
#[must_use]
pub fn mismatches() -> BTreeMap<String, u64> {
    MISMATCHES.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Checks the key that a host shows. `host` is its name or address as configured.
///
/// # Errors
/// `HostKeyUnknown`, `HostKeyChanged` or `KnownHosts`.
pub fn check(keys: &HostKeys, host: &str, port: u16, shown: &PublicKey) -> Result<(), TransferError> {
    let verdict = verdict(keys, host, port, shown);
    let changed = matches!(verdict, Err(TransferError::HostKeyChanged { .. }));
    let mut mismatches = MISMATCHES.lock().unwrap_or_else(PoisonError::into_inner);
    let host = address(host, port);
    // A host that shows the right key is there with 0, so that its first mismatch is an increase.
    if mismatches.len() < MAX_HOSTS || mismatches.contains_key(&host) {
        *mismatches.entry(host).or_default() += u64::from(changed);
    }
    drop(mismatches);
    verdict
}

fn verdict(keys: &HostKeys, host: &str, port: u16, shown: &PublicKey) -> Result<(), TransferError> {
    let address = address(host, port);
    match keys {
        HostKeys::Line(line) => {
            let place = format!("host_key of {address}");
            let known = line.parse::<PublicKey>().map_err(|error| TransferError::KnownHosts {
                place: place.clone(),
                why: format!("it is no public key ({error}); it looks like: ssh-ed25519 AAAA…"),
            })?;
            if same_key(&known, shown) { Ok(()) } else { Err(changed(&address, &known, shown, place)) }
        }
        HostKeys::File(path) => {
            let place = path.display().to_string();
            let bad = |why: String| TransferError::KnownHosts { place: place.clone(), why };
            let text = read(path).map_err(|error| bad(error.to_string()))?;
            check_text(&text, &place, host, port, shown)
        }
        HostKeys::Names(path, names) => {
            let place = path.display().to_string();
            let bad = |why: String| TransferError::KnownHosts { place: place.clone(), why };
            let text = read(path).map_err(|error| bad(error.to_string()))?;
            let mut unknown = None;
            for name in names {
                match check_text(&text, &place, name, port, shown) {
                    Err(error @ TransferError::HostKeyUnknown { .. }) => {
                        unknown.get_or_insert(error);
                    }
                    verdict => return verdict,
                }
            }
            Err(unknown.unwrap_or_else(|| bad("no name to look for".to_owned())))
        }
    }
}

/// The types of key that are known of a host. A host may have several keys and shows one: without asking for a type that
/// is known here, one that is as it should be would look changed. A list that can't be read knows none; [`check`] says
/// why, for it looks again.
pub(crate) fn known_types(keys: &HostKeys, host: &str, port: u16) -> Vec<Algorithm> {
    match keys {
        HostKeys::Line(line) => line.parse::<PublicKey>().map(|key| key.algorithm()).into_iter().collect(),
        HostKeys::File(path) => read(path).map(|text| types_in(&text, host, port)).unwrap_or_default(),
        HostKeys::Names(path, names) => read(path)
            .map(|text| names.iter().flat_map(|name| types_in(&text, name, port)).collect())
            .unwrap_or_default(),
    }
}

fn types_in(text: &str, host: &str, port: u16) -> Vec<Algorithm> {
    let name = listed_name(host, port);
    let entries = text.lines().filter_map(|line| KnownHosts::new(line).next()?.ok());
    let known = entries.filter(|entry| entry.marker().is_none() && matches(entry.host_patterns(), &name));
    known.map(|entry| entry.public_key().algorithm()).collect()
}

/// How a list names a host.
fn listed_name(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

fn read(path: &Path) -> std::io::Result<String> {
    let length = std::fs::metadata(path)?.len();
    if length > MAX_FILE_BYTES {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, format!("it is {length} bytes long")));
    }
    std::fs::read_to_string(path)
}

fn check_text(text: &str, place: &str, host: &str, port: u16, shown: &PublicKey) -> Result<(), TransferError> {
    let name = listed_name(host, port);
    let mut other = None;
    let mut good = false;
    for (number, line) in text.lines().enumerate() {
        let place = format!("{place}:{}", number + 1);
        let Some(entry) = KnownHosts::new(line).next() else { continue };
        // A line that can't be read may be the one that revokes this key: better no connection than a wrong one. But
        // lines for other hosts with key types that this program does not know are common.
        let Ok(entry) = entry else {
            if line.split_whitespace().next().is_some_and(|first| first == "@revoked" || names_match(first, &name)) {
                return Err(TransferError::KnownHosts { place, why: "the line can't be read".to_owned() });
            }
            continue;
        };
        if !matches(entry.host_patterns(), &name) {
            continue;
        }
        let same = same_key(entry.public_key(), shown);
        match entry.marker() {
            Some(Marker::Revoked) if same => {
                return Err(TransferError::KnownHosts { place, why: format!("the key of {name} is revoked") });
            }
            Some(_) => {}
            None if same => good = true,
            None => other = Some((entry.public_key().clone(), place)),
        }
    }
    match other {
        _ if good => Ok(()),
        Some((known, place)) => Err(changed(&address(host, port), &known, shown, place)),
        None => Err(TransferError::HostKeyUnknown {
            host: address(host, port),
            key: format!("{name} {}", shown.to_openssh().unwrap_or_default()),
            fingerprint: shown.fingerprint(HashAlg::Sha256).to_string(),
        }),
    }
}

fn changed(host: &str, known: &PublicKey, shown: &PublicKey, place: String) -> TransferError {
    TransferError::HostKeyChanged {
        host: host.to_owned(),
        shown: shown.fingerprint(HashAlg::Sha256).to_string(),
        expected: known.fingerprint(HashAlg::Sha256).to_string(),
        place,
    }
}

fn same_key(one: &PublicKey, two: &PublicKey) -> bool {
    one.key_data() == two.key_data()
}

/// `host:port` for messages, with brackets around an IPv6 address.
#[must_use]
pub fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::Patterns(patterns) => patterns_match(patterns.iter().map(String::as_str), name),
        HostPatterns::HashedName { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
            .is_ok_and(|hmac| hmac.chain_update(name.as_bytes()).verify_slice(hash).is_ok()),
    }
}

fn names_match(field: &str, name: &str) -> bool {
    patterns_match(field.split(','), name)
}

fn patterns_match<'a>(patterns: impl Iterator<Item = &'a str>, name: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if wildcard(pattern, name) => return false,
            Some(_) => {}
            None => found |= wildcard(pattern, name),
        }
    }
    found
}

/// OpenSSH's patterns: `*` for any number of characters, `?` for one, case ignored.
pub(crate) fn wildcard(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().flat_map(char::to_lowercase).collect();
    let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
    // The last star and where its match began: on a mismatch the star takes one character more.
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(c) if *c == '?' || Some(c) == text.get(seen) => {
                at += 1;
                seen += 1;
            }
            _ => match star {
                Some((star_at, began)) => {
                    star = Some((star_at, began + 1));
                    at = star_at + 1;
                    seen = began + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::ssh_key::private::{Ed25519Keypair, PrivateKey};

    fn key(seed: u8) -> PublicKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32])).public_key().clone()
    }

    fn line(hosts: &str, seed: u8) -> String {
        format!("{hosts} {}\n", key(seed).to_openssh().unwrap())
    }

    fn verdict(text: &str, host: &str, port: u16, seed: u8) -> &'static str {
        match check_text(text, "known_hosts", host, port, &key(seed)) {
            Ok(()) => "known",
            Err(TransferError::HostKeyUnknown { .. }) => "unknown",
            Err(TransferError::HostKeyChanged { place, .. }) => {
                assert!(place.starts_with("known_hosts:"));
                "changed"
            }
            Err(TransferError::KnownHosts { .. }) => "list",
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn known_unknown_and_changed_are_three_things() {
        let text = line("stor1.example.com,10.0.0.1", 1) + &line("[stor2.example.com]:2222", 2);
        assert_eq!(verdict(&text, "stor1.example.com", 22, 1), "known");
        assert_eq!(verdict(&text, "10.0.0.1", 22, 1), "known");
        assert_eq!(verdict(&text, "stor1.example.com", 22, 9), "changed");
        assert_eq!(verdict(&text, "stor1.example.com", 2222, 1), "unknown");
        assert_eq!(verdict(&text, "stor2.example.com", 2222, 2), "known");
        assert_eq!(verdict(&text, "stor2.example.com", 22, 2), "unknown");
    }

    #[test]
    fn changed_keys_are_counted_by_host() {
        let known = HostKeys::Line(key(1).to_openssh().unwrap());
        let count = || mismatches().get("counted.example.com:22").copied();
        check(&known, "counted.example.com", 22, &key(1)).unwrap();
        assert_eq!(count(), Some(0));
        for expected in 1..=2 {
            check(&known, "counted.example.com", 22, &key(2)).unwrap_err();
            assert_eq!(count(), Some(expected));
        }
    }

    #[test]
    fn wildcards_negations_markers_and_comments() {
        let text = format!("# comment\n\n{}{}", line("*.example.com,!bad.example.com", 1), line("@revoked *", 3));
        assert_eq!(verdict(&text, "a.example.com", 22, 1), "known");
        assert_eq!(verdict(&text, "A.EXAMPLE.com", 22, 1), "known");
        assert_eq!(verdict(&text, "bad.example.com", 22, 1), "unknown");
        assert_eq!(verdict(&text, "bad.example.com", 22, 3), "list");
        assert_eq!(verdict(&line("@cert-authority *", 1), "a", 22, 1), "unknown");
        assert_eq!(verdict("a ssh-rsa AAAAbroken\n", "a", 22, 1), "list");
        assert_eq!(verdict("b ssh-new AAAAbroken\n", "a", 22, 1), "unknown");
    }

    #[test]
    fn a_hashed_name_is_found() {
        // HashKnownHosts writes |1|base64(salt)|base64(HMAC-SHA1(salt, name)).
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::STANDARD;
        let salt = [7u8; 20];
        let hash = Hmac::<Sha1>::new_from_slice(&salt).unwrap().chain_update(b"stor1").finalize().into_bytes();
        let text = line(&format!("|1|{}|{}", engine.encode(salt), engine.encode(hash)), 1);
        assert_eq!(verdict(&text, "stor1", 22, 1), "known");
        assert_eq!(verdict(&text, "stor1", 22, 2), "changed");
        assert_eq!(verdict(&text, "stor2", 22, 1), "unknown");
    }

    #[test]
    fn patterns_match_as_openssh_does() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*.*.com", "a.b.com", true),
            ("**", "x", true),
            ("", "x", false),
        ] {
            assert_eq!(wildcard(pattern, text), expected, "{pattern} {text}");
        }
    }
}
