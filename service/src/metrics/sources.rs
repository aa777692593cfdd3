//! Where discovery looks: datastores, App Volumes Managers and vSphere systems, and whether each answered.
//!
//! Only what the configuration names is told: a system that was taken out of it has no series any more.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use stackferry_catalog::DatastoreKey;
use stackferry_config::{Config, Kind};
use stackferry_volume::SiteName;

use super::registry;
use super::state::{seconds, source};
use super::text::Text;
use crate::problem::Problem;

/// What makes a system what it is: `app_volumes` or `vsphere`, and its name.
type System = (&'static str, String);

/// The word of App Volumes Managers in labels.
pub(crate) const APP_VOLUMES: &str = "app_volumes";
/// The word of vSphere systems in labels.
pub(crate) const VSPHERE: &str = "vsphere";

/// The word of datastores beside these.
pub(crate) const DATASTORE: &str = "datastore";

/// How something went that rounds ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// `datastore`, `app_volumes` or `vsphere`.
    pub(crate) what: &'static str,
    /// Its name; of a datastore, its site and name.
    pub(crate) name: String,
    /// Whether it told all when it was last asked; none before the first time in this process.
    pub(crate) up: Option<bool>,
    /// When it last did in this process.
    pub(crate) last: Option<Timestamp>,
    /// Why it did not answer when it was last asked, where that is known.
    pub(crate) problem: Option<Problem>,
}

/// How rounds went.
#[derive(Debug, Default)]
pub struct Sources(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    datastores: BTreeMap<DatastoreKey, Looks>,
    systems: BTreeMap<System, Looks>,
}

#[derive(Debug, Clone, Default)]
struct Looks {
    rounds: u64,
    failures: u64,
    up: bool,
    last: Option<Timestamp>,
    problem: Option<Problem>,
}

impl Looks {
    fn add(&mut self, at: Timestamp, reachable: bool, complete: bool) {
        self.rounds += 1;
        self.failures += u64::from(!complete);
        self.up = complete;
        if reachable {
            self.last = Some(at);
        }
    }
}

impl Sources {
    fn state(&self) -> MutexGuard<'_, State> {
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

    /// When each datastore of the configuration was last looked at by this process.
    pub(super) fn looked(&self, config: &Config) -> BTreeMap<DatastoreKey, Option<Timestamp>> {
        let state = self.state();
        keys(config).map(|key| (key.clone(), state.datastores.get(&key).and_then(|looks| looks.last))).collect()
    }

    /// Everything that the configuration names and that rounds ask, with how that went last.
    pub(crate) fn standing(&self, config: &Config) -> Vec<Standing> {
        let state = self.state();
        let stand = |what, name, looks: Option<&Looks>| Standing {
            what,
            name,
            up: looks.map(|looks| looks.up),
            last: looks.and_then(|looks| looks.last),
            problem: looks.and_then(|looks| looks.problem.clone()),
        };
        let datastores = keys(config).map(|key| stand(DATASTORE, source(&key), state.datastores.get(&key)));
        let systems = systems(config).map(|key| stand(key.0, key.1.clone(), state.systems.get(&key)));
        datastores.chain(systems).collect()
    }

    pub(super) fn tell(&self, text: &mut Text, config: &Config) {
        let schedule = &config.schedule;
        let kinds = Kind::ALL.into_iter().map(|kind| schedule.of(kind).every.duration());
        let every = kinds.fold(schedule.every.duration(), std::time::Duration::min);
        text.put(&registry::DISCOVERY_INTERVAL, &[], every.as_secs_f64());
        let state = self.state();
        for key in keys(config) {
            let looks = state.datastores.get(&key).cloned().unwrap_or_default();
            let name = source(&key);
            text.put(&registry::DISCOVERY_UP, &[&name], f64::from(looks.up));
            text.put(&registry::DISCOVERY_ROUNDS, &[&name], looks.rounds as f64);
            text.put(&registry::DISCOVERY_FAILURES, &[&name], looks.failures as f64);
        }
        for system in systems(config) {
            let looks = state.systems.get(&system).cloned().unwrap_or_default();
            let labels = [system.0, system.1.as_str()];
            text.put(&registry::SYSTEM_UP, &labels, f64::from(looks.up));
            text.put(&registry::SYSTEM_ROUNDS, &labels, looks.rounds as f64);
            text.put(&registry::SYSTEM_FAILURES, &labels, looks.failures as f64);
            if let Some(at) = looks.last {
                text.put(&registry::SYSTEM_LAST_SUCCESS, &labels, seconds(at));
            }
        }
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
