//! Logins that were refused, remembered from process to process: a round from cron every five minutes would lock the account
//! (ESXi does after five failures, so do most directories), and with it the people who use it.
//!
//! A refused login is tried again when its user name or the password's place changes, when the password's file does, after
//! an hour, or by `stackferry check`. Neither the password nor a digest of it is kept: a short one could be guessed from it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use stackferry_catalog::{Catalog, CatalogError};
use stackferry_config::{Config, SecretRef};

/// After so long a refused login is tried again: far fewer than any policy counts as an attack.
const FOR: SignedDuration = SignedDuration::from_hours(1);

/// The logins that are not tried.
#[derive(Default)]
pub(super) struct Refusals {
    /// What each system's login is made of, by the system's name in the configuration with its table.
    made_of: BTreeMap<String, String>,
    /// Those whose last try was refused.
    refused: Mutex<BTreeMap<String, ()>>,
}

#[derive(Serialize, Deserialize)]
struct Note {
    at: Timestamp,
    made_of: String,
}

impl Refusals {
    /// What earlier processes wrote down.
    pub(super) async fn read(config: &Config, catalog: &Catalog) -> Result<Self, CatalogError> {
        let mut found = Self::default();
        let managers = config.app_volumes.iter().map(|one| ("app_volumes", &one.name, &one.username, &one.password));
        let vspheres = config.vspheres.iter().map(|one| ("vsphere", &one.name, &one.username, &one.password));
        for (table, name, user, password) in managers.chain(vspheres) {
            let key = key(table, name.as_str());
            let made_of = made_of(user.as_str(), password);
            let note = catalog.marker(&key).await?.and_then(|text| serde_json::from_str::<Note>(&text).ok());
            let holds = |note: &Note| {
                let age = Timestamp::now().duration_since(note.at);
                note.made_of == made_of && !age.is_negative() && age < FOR
            };
            if note.as_ref().is_some_and(holds) {
                found.lock().insert(key.clone(), ());
            }
            found.made_of.insert(key, made_of);
        }
        Ok(found)
    }

    /// Whether the login at this system is not to be tried.
    pub(super) fn has(&self, table: &str, name: &str) -> bool {
        self.lock().contains_key(&key(table, name))
    }

    /// Tries all of them again.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    /// Writes down whether a login was refused.
    pub(super) async fn tell(
        &self,
        catalog: &Catalog,
        table: &str,
        name: &str,
        refused: bool,
    ) -> Result<(), CatalogError> {
        let key = key(table, name);
        if refused && !self.lock().contains_key(&key) {
            let made_of = self.made_of.get(&key).cloned().unwrap_or_default();
            let note = serde_json::to_string(&Note { at: Timestamp::now(), made_of }).unwrap_or_default();
            self.lock().insert(key.clone(), ());
            return catalog.set_marker(&key, Some(&note)).await;
        }
        if !refused {
            self.lock().remove(&key);
            if catalog.marker(&key).await?.is_some() {
                return catalog.set_marker(&key, None).await;
            }
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, ()>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(table: &str, name: &str) -> String {
    format!("refused/{table}/{name}")
}

/// What changes when somebody corrects a login: the user, where the password lies, and when its file was last changed.
fn made_of(user: &str, password: &SecretRef) -> String {
    let changed = match password {
        SecretRef::File(path) => std::fs::metadata(&**path).and_then(|file| file.modified()).ok(),
        _ => None,
    };
    let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |time| time.as_nanos());
    let place = serde_json::to_string(password).unwrap_or_default();
    format!("{user} {place} {changed}")
}
