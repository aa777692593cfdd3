//! What rounds scan and ask: datastores, App Volumes Managers and vSphere systems, and whether each answered.
//!
//! Only what the configuration names is published: a system that was removed from it has no series any more.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use stackferry_catalog::DatastoreKey;
use stackferry_config::Config;
use stackferry_volume::SiteName;

use super::datastore_label;
use stackferry_problem::Problem;

/// What makes a system what it is: `app_volumes` or `vsphere`, and its name.
type System = (&'static str, String);

/// The word of App Volumes Managers in labels.
pub const APP_VOLUMES: &str = "app_volumes";
/// The word of vSphere systems in labels.
pub const VSPHERE: &str = "vsphere";

/// The word of datastores beside these.
pub const DATASTORE: &str = "datastore";

/// How something went that rounds ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// `datastore`, `app_volumes` or `vsphere`.
    pub what: &'static str,
    /// Its name; of a datastore, its site and name.
    pub name: String,
    /// Whether it told all when it was last asked; none before the first time in this process.
    pub up: Option<bool>,
    /// When it last did in this process.
    pub last: Option<Timestamp>,
    /// Why it did not answer when it was last asked, where that is known.
    pub problem: Option<Problem>,
}

/// How rounds went.
#[derive(Debug, Default)]
pub struct SourceCounters(Mutex<SourceStates>);

#[derive(Debug, Default)]
struct SourceStates {
    datastores: BTreeMap<DatastoreKey, ScanCounts>,
    systems: BTreeMap<System, ScanCounts>,
}

/// How often one source was asked, and what came of it.
#[derive(Debug, Clone, Default)]
pub struct ScanCounts {
    /// Rounds in which it was asked.
    pub rounds: u64,
    /// Rounds in which it did not answer in full.
    pub failures: u64,
    /// Whether it answered in full when it was last asked.
    pub up: bool,
    /// When it last answered.
    pub last: Option<Timestamp>,
    problem: Option<Problem>,
}

impl ScanCounts {
    fn add(&mut self, at: Timestamp, reachable: bool, complete: bool) {
        self.rounds += 1;
        self.failures += u64::from(!complete);
        self.up = complete;
        if reachable {
            self.last = Some(at);
        }
    }
}

impl SourceCounters {
    fn state(&self) -> MutexGuard<'_, SourceStates> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A datastore was to be looked at: when, whether it could be, and whether in full.
    pub fn looked_at(&self, key: &DatastoreKey, at: Timestamp, reachable: bool, complete: bool) {
        self.state().datastores.entry(key.clone()).or_default().add(at, reachable, complete);
    }

    /// A system was asked: whether it answered in full, and if not, why.
    pub fn asked(&self, product: &'static str, name: &str, answer: Result<(), &Problem>) {
        let mut state = self.state();
        let looks = state.systems.entry((product, name.to_owned())).or_default();
        looks.add(Timestamp::now(), answer.is_ok(), answer.is_ok());
        looks.problem = answer.err().cloned();
    }

    /// When each datastore of the configuration was last scanned by this process.
    #[must_use]
    pub fn last_scans(&self, config: &Config) -> BTreeMap<DatastoreKey, Option<Timestamp>> {
        let state = self.state();
        keys(config).map(|key| (key.clone(), state.datastores.get(&key).and_then(|looks| looks.last))).collect()
    }

    /// Everything that the configuration names and that rounds ask, with how that went last.
    #[must_use]
    pub fn status(&self, config: &Config) -> Vec<SourceStatus> {
        let state = self.state();
        let status = |what, name, looks: Option<&ScanCounts>| SourceStatus {
            what,
            name,
            up: looks.map(|looks| looks.up),
            last: looks.and_then(|looks| looks.last),
            problem: looks.and_then(|looks| looks.problem.clone()),
        };
        let datastores = keys(config).map(|key| status(DATASTORE, datastore_label(&key), state.datastores.get(&key)));
        let systems = systems(config).map(|key| status(key.0, key.1.clone(), state.systems.get(&key)));
        datastores.chain(systems).collect()
    }

    /// What was counted of each datastore of the configuration, under its label.
    #[must_use]
    pub fn datastores(&self, config: &Config) -> Vec<(String, ScanCounts)> {
        let state = self.state();
        let counts = |key: &DatastoreKey| state.datastores.get(key).cloned().unwrap_or_default();
        keys(config).map(|key| (datastore_label(&key), counts(&key))).collect()
    }

    /// What was counted of each App Volumes Manager and vSphere system of the configuration: `app_volumes` or `vsphere`,
    /// its name, and the counts.
    #[must_use]
    pub fn systems(&self, config: &Config) -> Vec<(&'static str, String, ScanCounts)> {
        let state = self.state();
        let counts = |key: &System| state.systems.get(key).cloned().unwrap_or_default();
        systems(config).map(|key| (key.0, key.1.clone(), counts(&key))).collect()
    }
}

fn keys(config: &Config) -> impl Iterator<Item = DatastoreKey> + '_ {
    config.datastores.iter().map(|datastore| DatastoreKey {
        site: SiteName(datastore.site.as_str().to_owned()),
        datastore: datastore.name.to_string(),
    })
}

fn systems(config: &Config) -> impl Iterator<Item = System> + '_ {
    let managers = config.app_volumes.iter().map(|one| (APP_VOLUMES, one.name.to_string()));
    managers.chain(config.vspheres.iter().map(|one| (VSPHERE, one.name.to_string())))
}
