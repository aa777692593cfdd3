//! The border between what systems tell and what the configuration says: datastores get the names of the configuration.
//!
//! A manager and a vSphere may write the name of one datastore in another case, or escaped, than the configuration does. Where
//! a name is told as it is configured nothing is changed: two datastores whose names differ in case only stay two.

use std::collections::{BTreeMap, BTreeSet};

use stackferry_volume::SiteName;
use stackferry_volume::place::datastore_key;

use crate::app_volumes::Report;
use crate::snapshot::VsphereInventory;

/// The names of the configured datastores.
#[derive(Debug, Clone, Default)]
pub struct ConfiguredNames {
    names: BTreeMap<SiteName, Vec<String>>,
}

impl FromIterator<(SiteName, String)> for ConfiguredNames {
    fn from_iter<T: IntoIterator<Item = (SiteName, String)>>(datastores: T) -> Self {
        let mut names: BTreeMap<SiteName, Vec<String>> = BTreeMap::new();
        for (site, name) in datastores {
            names.entry(site).or_default().push(name);
        }
        Self { names }
    }
}

impl ConfiguredNames {
    /// Gives the datastores in a manager's report their configured names.
    pub fn align_report(&self, report: &mut Report) {
        let volumes = report.volumes.iter().flat_map(|volume| &volume.places).map(|place| place.datastore.clone());
        let told = report.datastores.iter().map(|datastore| datastore.name.clone()).chain(volumes).collect();
        let renamed = self.renamed(&report.site, &told);
        if renamed.is_empty() {
            return;
        }
        let places = report.volumes.iter_mut().flat_map(|volume| &mut volume.places).map(|place| &mut place.datastore);
        let members = report.groups.iter_mut().flat_map(|group| &mut group.members);
        for name in report.datastores.iter_mut().map(|datastore| &mut datastore.name).chain(places).chain(members) {
            rename(name, &renamed);
        }
        report.datastores.dedup_by(|later, earlier| later.name == earlier.name);
    }

    /// Gives the datastores in a vSphere's inventory their configured names.
    pub fn align_inventory(&self, site: &SiteName, inventory: &mut VsphereInventory) {
        let disks = inventory.attached.iter().map(|disk| disk.datastore.clone());
        let told = inventory.datastores.iter().map(|datastore| datastore.name.clone()).chain(disks).collect();
        let renamed = self.renamed(site, &told);
        if renamed.is_empty() {
            return;
        }
        let disks = inventory.attached.iter_mut().map(|disk| &mut disk.datastore);
        for name in inventory.datastores.iter_mut().map(|datastore| &mut datastore.name).chain(disks) {
            rename(name, &renamed);
        }
    }

    /// Which of the names that a system told are configured in another spelling.
    fn renamed(&self, site: &SiteName, told: &BTreeSet<String>) -> BTreeMap<String, String> {
        let configured = self.names.get(site).map(Vec::as_slice).unwrap_or_default();
        let by_key: BTreeMap<String, &String> =
            configured.iter().filter(|name| !told.contains(*name)).map(|name| (datastore_key(name), name)).collect();
        let others = told.iter().filter(|name| !configured.contains(name));
        others.filter_map(|name| Some((name.clone(), (*by_key.get(&datastore_key(name))?).clone()))).collect()
    }
}

fn rename(name: &mut String, renamed: &BTreeMap<String, String>) {
    if let Some(configured) = renamed.get(name) {
        name.clone_from(configured);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_those_of_the_configuration() {
        let site = SiteName("dc1".to_owned());
        let names = ["NFS01", "team/a", "ssd [fast] 01", "same", "SAME"].map(|name| (site.clone(), name.to_owned()));
        let configured: ConfiguredNames = names.into_iter().collect();
        for (told, expected) in [
            (&["nfs01"][..], &[("nfs01", "NFS01")][..]),
            (&["team%2fa", "other"], &[("team%2fa", "team/a")]),
            (&["team%2Fa", "SSD [Fast] 01"], &[("SSD [Fast] 01", "ssd [fast] 01"), ("team%2Fa", "team/a")]),
            (&["NFS01", "nfs01"], &[]),
            (&["same", "SAME"], &[]),
            (&["nfs1"], &[]),
        ] {
            let told = told.iter().map(|name| (*name).to_owned()).collect();
            let renamed = configured.renamed(&site, &told);
            let renamed: Vec<_> = renamed.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
            assert_eq!(renamed, expected, "{told:?}");
        }
        assert!(configured.renamed(&SiteName("dc2".to_owned()), &["nfs01".to_owned()].into()).is_empty());
    }
}
