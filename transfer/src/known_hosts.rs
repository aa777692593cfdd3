//! Which host keys are known. There is no trust on first use: an unknown key, a changed one and a list that can't be
//! read are different errors, and none of them lets a connection go on.
//!
//! The list is a file in OpenSSH's format (`known_hosts`, sshd(8)): hashed names, `[host]:port`, wildcards, negations,
//! `@revoked` and `@cert-authority` are understood. A line that can't be read is skipped with a warning, as OpenSSH does.

mod lines;
mod pattern;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::{Algorithm, HashAlg};
use russh::keys::{Certificate, PublicKey};

use crate::error::TransferError;
use lines::{Line, Marker};
pub(crate) use pattern::wildcard;

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
/// `HostKeyUnknown`, `HostKeyChanged`, `HostKeyRevoked` or `KnownHosts`.
pub fn check(keys: &HostKeys, host: &str, port: u16, shown: &PublicKey) -> Result<(), TransferError> {
    count(host, port, Known::of(keys, host, port).and_then(|known| known.verdict(shown)))
}

/// Checks the certificate that a host shows: signed by an authority that the list has for it, for its name, in its time.
/// The key of one that is none of these has to be known itself.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_certificate(
    keys: &HostKeys,
    host: &str,
    port: u16,
    shown: &Certificate,
) -> Result<(), TransferError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    count(host, port, Known::of(keys, host, port).and_then(|known| known.verdict_on_certificate(shown, now)))
}

fn count(host: &str, port: u16, verdict: Result<(), TransferError>) -> Result<(), TransferError> {
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

/// What to ask a host for. A host may have several keys and shows one: without asking for a type that is known here,
/// one that is as it should be would look unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KnownTypes {
    /// The types of its keys that are known.
    pub(crate) keys: Vec<Algorithm>,
    /// Whether an authority is known that signs its certificates.
    pub(crate) has_authority: bool,
}

/// The types of key that are known of a host. A list that can't be read knows none; [`check`] says why, for it reads it
/// again.
pub(crate) fn known_types(keys: &HostKeys, host: &str, port: u16) -> KnownTypes {
    let Ok(known) = Known::of(keys, host, port) else { return KnownTypes::default() };
    let mut types = KnownTypes::default();
    for entry in known.names.iter().flat_map(|name| &name.entries) {
        match entry.marker {
            Marker::None => types.keys.push(entry.key.algorithm()),
            Marker::CertAuthority => types.has_authority = true,
            Marker::Revoked => {}
        }
    }
    types
}

/// What the list has of a host.
struct Known {
    /// `host:port`, for messages.
    address: String,
    /// What it has under each name that is looked for.
    names: Vec<Named>,
}

/// What the list has under one name.
struct Named {
    /// The name in a list.
    name: String,
    entries: Vec<Entry>,
    /// The first line for it that can't be read: where, and why.
    unreadable: Option<String>,
}

struct Entry {
    marker: Marker,
    key: PublicKey,
    /// Where it is: `known_hosts:12`.
    place: String,
}

impl Known {
    fn of(keys: &HostKeys, host: &str, port: u16) -> Result<Self, TransferError> {
        let address = address(host, port);
        let (path, names) = match keys {
            HostKeys::Line(line) => {
                let place = format!("host_key of {address}");
                let key = line.parse::<PublicKey>().map_err(|error| TransferError::KnownHosts {
                    place: place.clone(),
                    why: format!("it is no public key ({error}); it looks like: ssh-ed25519 AAAA…"),
                })?;
                let entries = vec![Entry { marker: Marker::None, key, place }];
                let names = vec![Named { name: listed_name(host, port), entries, unreadable: None }];
                return Ok(Self { address, names });
            }
            HostKeys::File(path) => (path, vec![listed_name(host, port)]),
            HostKeys::Names(path, names) => (path, names.iter().map(|name| listed_name(name, port)).collect()),
        };
        let place = path.display().to_string();
        let lines = lines::read(path).map_err(|why| TransferError::KnownHosts { place: place.clone(), why })?;
        Self::of_lines(&lines, &place, address, names)
    }

    fn of_lines(lines: &[Line], place: &str, address: String, names: Vec<String>) -> Result<Self, TransferError> {
        let mut found = Vec::new();
        for name in names {
            let mut named = Named { name, entries: Vec::new(), unreadable: None };
            // Authorities and revoked keys are also those of the host whatever its port, as OpenSSH has it.
            let host = unlisted_name(&named.name);
            let counts = |line: &&Line| line.is_for(&named.name) || (line.marker != Marker::None && line.is_for(host));
            for line in lines.iter().filter(counts).collect::<Vec<_>>() {
                let place = format!("{place}:{}", line.number);
                match &line.key {
                    Ok(Some(key)) => named.entries.push(Entry { marker: line.marker, key: key.clone(), place }),
                    Ok(None) => {}
                    // It may be what revokes this key: better no connection than a wrong one.
                    Err(why) if line.marker == Marker::Revoked => {
                        return Err(TransferError::KnownHosts { place, why: format!("it revokes a key, and {why}") });
                    }
                    Err(why) => {
                        named.unreadable.get_or_insert(format!("{place} is for it, but {why}"));
                    }
                }
            }
            found.push(named);
        }
        Ok(Self { address, names: found })
    }

    /// The first name that the list has with a key of the shown one's type counts.
    fn verdict(&self, shown: &PublicKey) -> Result<(), TransferError> {
        let mut unknown: Option<TransferError> = None;
        for named in &self.names {
            match named.verdict(&self.address, shown) {
                Err(error @ TransferError::HostKeyUnknown { .. }) => {
                    // What is known under one of the names says more than that nothing is under another.
                    let says_more = matches!(&error, TransferError::HostKeyUnknown { listed: Some(_), .. });
                    match &unknown {
                        Some(TransferError::HostKeyUnknown { listed: None, .. }) if says_more => unknown = Some(error),
                        Some(_) => {}
                        None => unknown = Some(error),
                    }
                }
                verdict => return verdict,
            }
        }
        Err(unknown.unwrap_or_else(|| TransferError::KnownHosts {
            place: self.address.clone(),
            why: "no name to look for".to_owned(),
        }))
    }

    fn verdict_on_certificate(&self, shown: &Certificate, now: u64) -> Result<(), TransferError> {
        let key = PublicKey::from(shown.public_key().clone());
        let authority = PublicKey::from(shown.signature_key().clone());
        for named in &self.names {
            // A revoked authority's certificates are worth nothing, nor is one for a revoked key.
            named.refuse_revoked(&self.address, &key)?;
            named.refuse_revoked(&self.address, &authority)?;
        }
        let is_signed_for = |named: &Named| {
            let fingerprints: Vec<_> = named
                .of(Marker::CertAuthority)
                .filter(|entry| same_key(&entry.key, &authority))
                .map(|entry| entry.key.fingerprint(HashAlg::Sha256))
                .collect();
            let principals = shown.valid_principals();
            let host = unlisted_name(&named.name);
            shown.cert_type() == CertType::Host
                && shown.critical_options().is_empty()
                && principals.iter().any(|principal| wildcard(principal, host))
                && shown.validate_at(now, &fingerprints).is_ok()
        };
        if self.names.iter().any(is_signed_for) { Ok(()) } else { self.verdict(&key) }
    }
}

impl Named {
    fn of(&self, marker: Marker) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.marker == marker)
    }

    fn refuse_revoked(&self, address: &str, shown: &PublicKey) -> Result<(), TransferError> {
        match self.of(Marker::Revoked).find(|entry| same_key(&entry.key, shown)) {
            None => Ok(()),
            Some(entry) => Err(TransferError::HostKeyRevoked {
                host: address.to_owned(),
                fingerprint: shown.fingerprint(HashAlg::Sha256).to_string(),
                place: entry.place.clone(),
            }),
        }
    }

    /// What to know where this program does not use the types of key that the list has.
    fn unused(&self) -> &'static str {
        let is_rsa = |entry: &Entry| matches!(entry.key.algorithm(), Algorithm::Rsa { .. });
        let only_rsa = self.of(Marker::None).all(is_rsa);
        if only_rsa && !cfg!(feature = "rsa") { ", which this build does not use" } else { "" }
    }

    fn verdict(&self, address: &str, shown: &PublicKey) -> Result<(), TransferError> {
        self.refuse_revoked(address, shown)?;
        if self.of(Marker::None).any(|entry| same_key(&entry.key, shown)) {
            return Ok(());
        }
        // Only a key of the same type is in place of the one that is known; a host has one key of each type.
        let same_type = |entry: &&Entry| entry.key.algorithm() == shown.algorithm();
        if let Some(known) = self.of(Marker::None).filter(same_type).last() {
            return Err(changed(address, &known.key, shown, known.place.clone()));
        }
        let listed: Vec<String> =
            self.of(Marker::None).map(|entry| format!("{} at {}", entry.key.algorithm(), entry.place)).collect();
        let listed = match (listed.is_empty(), &self.unreadable) {
            (false, _) => {
                Some(format!("another type of key is known of this host: {}{}", listed.join(", "), self.unused()))
            }
            (true, unreadable) => unreadable.clone(),
        };
        Err(TransferError::HostKeyUnknown {
            host: address.to_owned(),
            key: format!("{} {}", self.name, shown.to_openssh().unwrap_or_default()),
            fingerprint: shown.fingerprint(HashAlg::Sha256).to_string(),
            listed,
        })
    }
}

/// How a list names a host.
fn listed_name(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// The host of a name in a list: certificates name no ports.
fn unlisted_name(name: &str) -> &str {
    name.strip_prefix('[').and_then(|rest| rest.rsplit_once("]:")).map_or(name, |(host, _)| host)
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
