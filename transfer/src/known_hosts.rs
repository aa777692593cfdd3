//! Known host keys. There is no trust on first use: an unknown key, a changed one and a list that can't be read are
//! different errors, and each ends the connection.
//!
//! The list is a file in OpenSSH's format (`known_hosts`, sshd(8)), with hashed names, `[host]:port`, wildcards, negations,
//! `@revoked` and `@cert-authority`. A line that can't be read is skipped with a warning, as OpenSSH does.

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
use lines::{KeyMarker, KnownHostsLine};
pub(crate) use pattern::wildcard;

/// Where a host's key is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKeys {
    /// One key: `ssh-ed25519 AAAA…`, as in the configuration.
    Line(String),
    /// A file in the format of OpenSSH's `known_hosts`.
    File(PathBuf),
    /// Such a file, with these names looked up instead of the one that is connected to: the first one listed counts.
    Names(PathBuf, Vec<String>),
}

/// The number of host key mismatches since this process started, by `host:port`.
static MISMATCHES: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());
/// The most hosts counted separately; they come from the configuration and from vSphere.
const MAX_HOSTS: usize = 1000;

/// The number of host key mismatches in this process, by `host:port`; 0 for hosts that only showed the right key. Every
/// connection checks its host's key here.
#[must_use]
pub fn mismatches() -> BTreeMap<String, u64> {
    MISMATCHES.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Checks a host's key. `host` is its name or address as configured.
///
/// # Errors
/// `HostKeyUnknown`, `HostKeyChanged`, `HostKeyRevoked` or `KnownHosts`.
pub fn check(keys: &HostKeys, host: &str, port: u16, shown: &PublicKey) -> Result<(), TransferError> {
    count(host, port, KnownHost::of(keys, host, port).and_then(|known| known.verdict(shown)))
}

/// Checks a host's certificate: signed by an authority that the list has for the host, for its name, and not expired.
/// Otherwise the key itself has to be known.
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
    count(host, port, KnownHost::of(keys, host, port).and_then(|known| known.verdict_on_certificate(shown, now)))
}

fn count(host: &str, port: u16, verdict: Result<(), TransferError>) -> Result<(), TransferError> {
    let changed = matches!(verdict, Err(TransferError::HostKeyChanged { .. }));
    let mut mismatches = MISMATCHES.lock().unwrap_or_else(PoisonError::into_inner);
    let host = address(host, port);
    // A host with the right key is listed with 0, so that its first mismatch is an increase.
    if mismatches.len() < MAX_HOSTS || mismatches.contains_key(&host) {
        *mismatches.entry(host).or_default() += u64::from(changed);
    }
    drop(mismatches);
    verdict
}

/// The key types to request from a host. A host may have several keys and shows one: unless a known type is requested, a
/// known host would look unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KnownTypes {
    /// The types of its known keys.
    pub(crate) keys: Vec<Algorithm>,
    /// Whether a certificate authority is known for it.
    pub(crate) has_authority: bool,
}

/// The known key types of a host. None where the list can't be read; [`check`] reads it again and reports why.
pub(crate) fn known_types(keys: &HostKeys, host: &str, port: u16) -> KnownTypes {
    let Ok(known) = KnownHost::of(keys, host, port) else { return KnownTypes::default() };
    let mut types = KnownTypes::default();
    for entry in known.names.iter().flat_map(|name| &name.entries) {
        match entry.marker {
            KeyMarker::None => types.keys.push(entry.key.algorithm()),
            KeyMarker::CertAuthority => types.has_authority = true,
            KeyMarker::Revoked => {}
        }
    }
    types
}

/// A host's entries in the list.
struct KnownHost {
    /// `host:port`, for messages.
    address: String,
    /// The entries under each name that is looked up.
    names: Vec<NameEntries>,
}

/// The entries under one name.
struct NameEntries {
    /// The name in a list.
    name: String,
    entries: Vec<KnownKey>,
    /// The first line for it that can't be read, and why.
    unreadable: Option<String>,
}

struct KnownKey {
    marker: KeyMarker,
    key: PublicKey,
    /// Where it is: `known_hosts:12`.
    place: String,
}

impl KnownHost {
    fn of(keys: &HostKeys, host: &str, port: u16) -> Result<Self, TransferError> {
        let address = address(host, port);
        let (path, names) = match keys {
            HostKeys::Line(line) => {
                let place = format!("host_key of {address}");
                let key = line.parse::<PublicKey>().map_err(|error| TransferError::KnownHosts {
                    place: place.clone(),
                    why: format!("it is no public key ({error}); one looks like: ssh-ed25519 AAAA…"),
                })?;
                let entries = vec![KnownKey { marker: KeyMarker::None, key, place }];
                let names = vec![NameEntries { name: listed_name(host, port), entries, unreadable: None }];
                return Ok(Self { address, names });
            }
            HostKeys::File(path) => (path, vec![listed_name(host, port)]),
            HostKeys::Names(path, names) => (path, names.iter().map(|name| listed_name(name, port)).collect()),
        };
        let place = path.display().to_string();
        let lines = lines::read(path).map_err(|why| TransferError::KnownHosts { place: place.clone(), why })?;
        Self::of_lines(&lines, &place, address, names)
    }

    fn of_lines(
        lines: &[KnownHostsLine],
        place: &str,
        address: String,
        names: Vec<String>,
    ) -> Result<Self, TransferError> {
        let mut found = Vec::new();
        for name in names {
            let mut named = NameEntries { name, entries: Vec::new(), unreadable: None };
            // As in OpenSSH, authorities and revoked keys of a host apply to all its ports.
            let host = unlisted_name(&named.name);
            let counts = |line: &&KnownHostsLine| {
                line.is_for(&named.name) || (line.marker != KeyMarker::None && line.is_for(host))
            };
            for line in lines.iter().filter(counts).collect::<Vec<_>>() {
                let place = format!("{place}:{}", line.number);
                match &line.key {
                    Ok(Some(key)) => named.entries.push(KnownKey { marker: line.marker, key: key.clone(), place }),
                    Ok(None) => {}
                    // It may revoke this very key, so it must not be skipped.
                    Err(why) if line.marker == KeyMarker::Revoked => {
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

    /// The first name with a key of the shown key's type counts.
    fn verdict(&self, shown: &PublicKey) -> Result<(), TransferError> {
        let mut unknown: Option<TransferError> = None;
        for named in &self.names {
            match named.verdict(&self.address, shown) {
                Err(error @ TransferError::HostKeyUnknown { .. }) => {
                    // An error with other known keys is more useful than one without.
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
            why: "no name to look up".to_owned(),
        }))
    }

    fn verdict_on_certificate(&self, shown: &Certificate, now: u64) -> Result<(), TransferError> {
        let key = PublicKey::from(shown.public_key().clone());
        let authority = PublicKey::from(shown.signature_key().clone());
        for named in &self.names {
            // Neither a revoked authority's certificates nor one for a revoked key are valid.
            named.refuse_revoked(&self.address, &key)?;
            named.refuse_revoked(&self.address, &authority)?;
        }
        let is_signed_for = |named: &NameEntries| {
            let fingerprints: Vec<_> = named
                .of(KeyMarker::CertAuthority)
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

impl NameEntries {
    fn of(&self, marker: KeyMarker) -> impl Iterator<Item = &KnownKey> {
        self.entries.iter().filter(move |entry| entry.marker == marker)
    }

    fn refuse_revoked(&self, address: &str, shown: &PublicKey) -> Result<(), TransferError> {
        match self.of(KeyMarker::Revoked).find(|entry| same_key(&entry.key, shown)) {
            None => Ok(()),
            Some(entry) => Err(TransferError::HostKeyRevoked {
                host: address.to_owned(),
                fingerprint: shown.fingerprint(HashAlg::Sha256).to_string(),
                place: entry.place.clone(),
            }),
        }
    }

    /// A note for a list that only has key types that this program does not use.
    fn unused(&self) -> &'static str {
        let is_rsa = |entry: &KnownKey| matches!(entry.key.algorithm(), Algorithm::Rsa { .. });
        let only_rsa = self.of(KeyMarker::None).all(is_rsa);
        if only_rsa && !cfg!(feature = "rsa") { ", which this build does not use" } else { "" }
    }

    fn verdict(&self, address: &str, shown: &PublicKey) -> Result<(), TransferError> {
        self.refuse_revoked(address, shown)?;
        if self.of(KeyMarker::None).any(|entry| same_key(&entry.key, shown)) {
            return Ok(());
        }
        // A host has one key of each type: only another key of the same type is a changed key.
        let same_type = |entry: &&KnownKey| entry.key.algorithm() == shown.algorithm();
        if let Some(known) = self.of(KeyMarker::None).filter(same_type).last() {
            return Err(changed(address, &known.key, shown, known.place.clone()));
        }
        let listed: Vec<String> =
            self.of(KeyMarker::None).map(|entry| format!("{} at {}", entry.key.algorithm(), entry.place)).collect();
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

/// A host's name as a list has it.
fn listed_name(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// The host of a name in a list: certificates have no ports.
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
