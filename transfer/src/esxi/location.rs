//! A datastore's location: vSphere's record of it, and the hosts from which it can be read now.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stackferry_volume::FolderError;
use stackferry_volume::place::{datastore_key, distance};
use stackferry_vsphere::{Datastore, Host, Vsphere};
use tokio::sync::Mutex;

use crate::error::TransferError;

/// How long vSphere's record of a datastore is reused for discovery. A copy always reads it again.
const FRESH: Duration = Duration::from_secs(60);
/// The most names of other datastores in an error.
const MAX_NAMES: usize = 5;

pub(super) struct DatastoreLocation {
    vsphere: Vsphere,
    name: String,
    known: Mutex<Option<(Instant, Arc<Datastore>)>>,
}

impl DatastoreLocation {
    pub(super) fn new(vsphere: Vsphere, name: String) -> Self {
        Self { vsphere, name, known: Mutex::default() }
    }

    /// vSphere's record of the datastore, at most [`FRESH`] old.
    pub(super) async fn datastore(&self) -> Result<Arc<Datastore>, TransferError> {
        // Concurrent callers wait for the one request.
        let mut known = self.known.lock().await;
        match &*known {
            Some((since, datastore)) if since.elapsed() < FRESH => return Ok(Arc::clone(datastore)),
            _ => {}
        }
        let datastore = Arc::new(self.ask().await?);
        *known = Some((Instant::now(), Arc::clone(&datastore)));
        Ok(datastore)
    }

    /// Reads it again the next time: it may have been renamed.
    pub(super) async fn forget(&self) {
        *self.known.lock().await = None;
    }

    /// The datastore, read again, and the hosts from which it can be read now, by name.
    pub(super) async fn hosts(&self) -> Result<(Arc<Datastore>, Vec<Host>), TransferError> {
        self.forget().await;
        let datastore = self.datastore().await?;
        let mounting = |host: &Host| datastore.mounts.iter().any(|mount| mount.host == host.id && mount.accessible);
        let mut hosts = self.vsphere.hosts().await?;
        hosts.retain(|host| host.is_usable() && mounting(host));
        Ok((datastore, hosts))
    }

    async fn ask(&self) -> Result<Datastore, TransferError> {
        let unreachable = |why| TransferError::from(FolderError::Unreachable { datastore: self.name.clone(), why });
        let system = self.vsphere.system();
        let mut all = self.vsphere.datastores().await?;
        // The exact name; where there is none, one that differs in spelling only (`NFS01`, `team%2fa`).
        let is_exact = all.iter().any(|datastore| datastore.name == self.name);
        let wanted = datastore_key(&self.name);
        let fits = |datastore: &Datastore| match is_exact {
            true => datastore.name == self.name,
            false => datastore_key(&datastore.name) == wanted,
        };
        let named = all.iter().filter(|datastore| fits(datastore)).count();
        if named > 1 {
            let places: Vec<&str> = all
                .iter()
                .filter(|datastore| fits(datastore))
                .filter_map(|datastore| datastore.datacenter.as_deref())
                .collect();
            let places = places.join(", ");
            return Err(unreachable(format!(
                "{system} has {named} datastores of that name, in {places}: rename all but one"
            )));
        }
        let Some(at) = all.iter().position(fits) else {
            let names: Vec<&str> = all.iter().map(|datastore| datastore.name.as_str()).collect();
            return Err(unreachable(format!(
                "{system} knows no datastore of that name. {}",
                others(&self.name, &names)
            )));
        };
        let datastore = all.swap_remove(at);
        if datastore.accessible {
            Ok(datastore)
        } else {
            Err(unreachable(format!("{system} reports that no host can access it: check the storage and the hosts")))
        }
    }
}

/// What to check when a datastore is missing.
fn others(name: &str, names: &[&str]) -> String {
    if names.is_empty() {
        return "It shows none at all: its user needs a role with Datastore.Browse on it".to_owned();
    }
    let wanted = name.to_lowercase();
    let mut near: Vec<(usize, &str)> =
        names.iter().map(|other| (distance(&wanted, &other.to_lowercase()), *other)).collect();
    near.sort_unstable();
    let similar = near.first().is_some_and(|(distance, _)| *distance <= wanted.chars().count() / 3);
    let shown: Vec<&str> = near.iter().take(MAX_NAMES).map(|(_, other)| *other).collect();
    let more = if names.len() > shown.len() { ", …" } else { "" };
    let says = if similar { "Most similar first" } else { "Was it renamed? There are" };
    format!("{says}: {}{more}", shown.join(", "))
}

/// An address or name as URLs have it.
pub(super) fn authority(address: &str) -> String {
    if address.parse::<Ipv6Addr>().is_ok() { format!("[{address}]") } else { address.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_datastore_is_reported_with_similar_names() {
        assert_eq!(
            others("vmfs01", &["archive", "VMFS1", "vmfs01-old"]),
            "Most similar first: VMFS1, vmfs01-old, archive"
        );
        assert_eq!(others("a", &["xyz", "local"]), "Was it renamed? There are: xyz, local");
        assert_eq!(
            others("z", &["b1", "b2", "b3", "b4", "b5", "b6"]),
            "Was it renamed? There are: b1, b2, b3, b4, b5, …"
        );
        assert!(others("z", &[]).contains("Datastore.Browse"));
    }

    #[test]
    fn ipv6_addresses_have_brackets_in_urls() {
        assert_eq!(authority("10.0.0.1"), "10.0.0.1");
        assert_eq!(authority("fd00::1"), "[fd00::1]");
        assert_eq!(authority("127.0.0.1:4443"), "127.0.0.1:4443");
        assert_eq!(authority("esx1.example.com"), "esx1.example.com");
    }
}
