//! The comparison that every round makes: all volumes at first and every hour, else those whose folders changed since.
//!
//! A folder that did not change has the versions and the record that it had, and nothing but the vault's own changes leaves
//! a row behind: so a round costs one look at each volume's folder, and no question to the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use stackferry_catalog::CatalogError;
use stackferry_vault::{FolderStamp, Stamps, Vault};
use stackferry_volume::VolumeId;

use super::{Reconciled, report, some};
use crate::app::App;
use crate::blocking::blocking;
use stackferry_problem::Problem;

/// How often all volumes are compared.
const ALL_EVERY: Duration = Duration::from_secs(3600);

/// What the last rounds saw.
#[derive(Debug, Default)]
pub struct ReconcileWatch {
    /// The volumes that had a folder, each with what that was like when the volume was found in line. None: it has to be
    /// compared again, also where its folder is gone by then.
    seen: BTreeMap<VolumeId, Option<FolderStamp>>,
    compared_all: Option<Instant>,
    /// What could not be brought in line, and is in the log.
    reported: BTreeSet<(VolumeId, String)>,
}

impl ReconcileWatch {
    /// Compares what is due for it, and brings the catalog in line.
    ///
    /// # Errors
    /// The catalog's; the vault can't be listed. Then the next round compares the same again.
    pub async fn round(&mut self, app: &App, vault: &Vault) -> Result<Reconciled, Problem> {
        let (began, now) = (Instant::now(), Timestamp::now());
        let listing = vault.clone();
        let stamps = blocking(move || listing.stamps()).await??;
        for (_, problem) in &stamps.unlisted {
            tracing::error!(path = %problem.path.display(), "a folder of the vault can't be read: {}", problem.why);
        }
        let all = self.compared_all.is_none_or(|at| at.elapsed() >= ALL_EVERY);
        let due = match all {
            true => all_of(app, &stamps).await?,
            false => self.changed(&stamps),
        };
        let done = some(app, vault, due.iter().cloned().collect()).await?;
        report(app, &done, &self.reported);
        self.reported.retain(|(volume, _)| !due.contains(volume));
        self.reported.extend(done.failed.iter().cloned());
        let concerned = done.concerned();
        for volume in &due {
            let is_in_line = !concerned.contains(volume);
            match stamps.volumes.get(volume) {
                Some(stamp) if is_in_line && stamp.is_settled(now) => self.seen.insert(volume.clone(), Some(*stamp)),
                None if is_in_line => self.seen.remove(volume),
                _ => self.seen.insert(volume.clone(), None),
            };
        }
        if all {
            self.compared_all = Some(began);
            self.seen.retain(|volume, stamp| stamp.is_none() || stamps.volumes.contains_key(volume));
        }
        tracing::debug!(
            volumes = stamps.volumes.len(),
            compared = due.len(),
            millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "the catalog was compared with the vault"
        );
        Ok(done)
    }

    /// The volumes whose folders are other ones, new or gone.
    fn changed(&self, stamps: &Stamps) -> BTreeSet<VolumeId> {
        let other = stamps.volumes.iter().filter(|(volume, stamp)| self.seen.get(*volume) != Some(&Some(**stamp)));
        let gone = self.seen.keys().filter(|volume| !stamps.volumes.contains_key(*volume) && is_listed(stamps, volume));
        other.map(|(volume, _)| volume).chain(gone).cloned().collect()
    }
}

/// Every volume that the vault has a folder or the catalog a version of.
async fn all_of(app: &App, stamps: &Stamps) -> Result<BTreeSet<VolumeId>, Problem> {
    let indexed = match app.catalog().indexed_volumes().await {
        // The vault's own volumes are compared all the same.
        Err(error @ CatalogError::Row { .. }) => {
            let error = stackferry_transfer::describe(&error);
            tracing::error!(error, "the catalog does not know which volumes have versions");
            Vec::new()
        }
        indexed => indexed?,
    };
    let indexed = indexed.into_iter();
    Ok(stamps.volumes.keys().cloned().chain(indexed.filter(|volume| is_listed(stamps, volume))).collect())
}

/// Nothing is concluded about volumes whose folders could not be listed.
fn is_listed(stamps: &Stamps, volume: &VolumeId) -> bool {
    stamps.unlisted.iter().all(|(kind, _)| *kind != volume.kind())
}
