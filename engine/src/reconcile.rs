//! Brings the catalog, which is an index, in line with the vault, which is the truth: the names of versions, and what the
//! vault's record of each volume says of them (pins, marks of damage, generations).
//!
//! It is done for all volumes at the start and every hour, by every round for the volumes whose folders changed
//! ([`ReconcileWatch`]), for one volume before it is copied, and wherever a command meets a contradiction ([`volume`]). What is
//! written is written under that volume's lease, which whoever adds versions holds. Pruning does not hold it; so the order is:
//!
//! 1. The volume's folder is read: names, and `volume.json`. One that was lost gets back what only the catalog still knows.
//! 2. The rows are read. A row whose version the folder lacked was either noted as being deleted before the vault deleted
//!    it, or its version is lost.
//! 3. Manifests are read where the vault has what the rows lack, and only there.
//! 4. All that differs is written in one transaction, which asks whether the lease is still held.
//! 5. The names are read once more: a version that was pruned between 1 and 4 loses the row that it was just given.
//!
//! A crash at any point leaves rows that differ, as before, for the next time. Whatever contradicts concerns its volume only:
//! it is named and counted, and the other volumes go on.

mod apply;
mod compare;
mod watch;

use std::collections::BTreeSet;
use std::time::Duration;

use stackferry_catalog::{CatalogError, IndexedVolume, LeaseGuard};
use stackferry_vault::{Outline, Vault, VaultError};
use stackferry_volume::{VersionId, VolumeId};

use crate::about::PROGRAM;
use crate::app::App;
use crate::blocking::blocking;
use crate::metrics::RECONCILE_DIFFERENCES;
use stackferry_problem::Problem;

pub use watch::ReconcileWatch;

/// So many volumes are compared at once: what is held in memory is bounded by it.
const AT_ONCE: usize = 500;

/// What was brought in line.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reconciled {
    /// Versions that got their row.
    pub adopted: u64,
    /// Rows whose version the vault does not have, and that were not known as such.
    pub missing: Vec<(VolumeId, VersionId)>,
    /// Rows that are gone since the vault deleted their version, or would delete it now.
    pub forgotten: Vec<(VolumeId, VersionId)>,
    /// Versions whose row took over a pin, its end, or what the vault knows of damage.
    pub marked: u64,
    /// Volumes whose `volume.json` was made anew, and why.
    pub rebuilt: Vec<(VolumeId, String)>,
    /// Volumes that could not be compared or brought in line, and why. The others were.
    pub failed: Vec<(VolumeId, String)>,
    /// Volumes that somebody works on, who brings them in line.
    pub busy: Vec<VolumeId>,
}

impl Reconciled {
    /// In how many places catalog and vault differed, by the word for each kind of difference.
    fn differences(&self) -> [(&'static str, u64); 6] {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let [not_indexed, missing, deleted, marked, record_lost, failed] = RECONCILE_DIFFERENCES;
        [
            (not_indexed, self.adopted),
            (missing, count(self.missing.len())),
            (deleted, count(self.forgotten.len())),
            (marked, self.marked),
            (record_lost, count(self.rebuilt.len())),
            (failed, count(self.failed.len())),
        ]
    }

    /// The volumes that this says something of; they may have to be looked at again.
    fn concerned(&self) -> BTreeSet<&VolumeId> {
        let versions = self.missing.iter().chain(&self.forgotten).map(|(volume, _)| volume);
        let volumes = self.rebuilt.iter().chain(&self.failed).map(|(volume, _)| volume);
        versions.chain(volumes).chain(&self.busy).collect()
    }
}

/// How closely a volume is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Names and marks. Manifests are read where the rows lack something.
    Marks,
    /// Every manifest, and rows of versions that the vault lacks go.
    Manifests,
}

/// Compares catalog and vault, all volumes, and brings the catalog in line.
///
/// # Errors
/// The catalog's; the vault can't be listed. What concerns one volume is logged, and told in what is given back.
pub async fn reconcile(app: &App, vault: &Vault) -> Result<Reconciled, Problem> {
    let mut watch = ReconcileWatch::default();
    watch.round(app, vault).await
}

/// Brings one volume in line, where a contradiction was met. Nothing stands or falls with it: what fails is logged.
pub async fn volume(app: &App, vault: &Vault, volume: &VolumeId) -> Reconciled {
    let mut done = Reconciled::default();
    let result = one(app, vault, volume, Depth::Marks, Duration::ZERO, &mut done).await;
    conclude(app, volume, result, done)
}

/// The same by who holds the volume's lease.
pub(crate) async fn under_lease(app: &App, vault: &Vault, volume: &VolumeId, lease: &LeaseGuard) -> Reconciled {
    let mut done = Reconciled::default();
    let result = apply::under_lease(app, vault, volume, lease, Depth::Marks, &mut done).await;
    conclude(app, volume, result, done)
}

fn conclude(app: &App, volume: &VolumeId, result: Result<(), ReconcileError>, mut done: Reconciled) -> Reconciled {
    if let Err(problem) = contain(&mut done, volume.clone(), result) {
        done.failed.push((volume.clone(), problem.message));
    }
    report(app, &done, &BTreeSet::new());
    done
}

/// Compares each of these volumes with all of its manifests, waiting so long for each that somebody works on.
///
/// # Errors
/// `interrupted`; the catalog's, where it fails for all.
pub(super) async fn thoroughly(
    app: &App,
    vault: &Vault,
    volumes: impl IntoIterator<Item = VolumeId>,
    wait: Duration,
) -> Result<Reconciled, Problem> {
    let mut done = Reconciled::default();
    for volume in volumes {
        if app.cancel().is_cancelled() {
            return Err(Problem::interrupted("the comparison with the vault"));
        }
        let result = one(app, vault, &volume, Depth::Manifests, wait, &mut done).await;
        contain(&mut done, volume, result)?;
    }
    report(app, &done, &BTreeSet::new());
    Ok(done)
}

/// Compares these volumes, and brings those in line that differ.
async fn some(app: &App, vault: &Vault, volumes: Vec<VolumeId>) -> Result<Reconciled, Problem> {
    let mut done = Reconciled::default();
    for some in volumes.chunks(AT_ONCE) {
        if app.cancel().is_cancelled() {
            return Err(Problem::interrupted("the comparison with the vault"));
        }
        // The folders first, as for one volume: what is deleted in between was noted before.
        let (reading, own) = (vault.clone(), some.to_vec());
        let outlines = blocking(move || {
            let read = own.into_iter().map(|volume| {
                let outline = reading.outline(&volume);
                (volume, outline)
            });
            read.collect::<Vec<_>>()
        })
        .await?;
        let mut rows = app.catalog().indexed(some).await?;
        for (volume, outline) in outlines {
            let result = match rows.remove(&volume).transpose().map(Option::unwrap_or_default) {
                Ok(known) if is_in_line(&outline, &known) => continue,
                Ok(_) => one(app, vault, &volume, Depth::Marks, Duration::ZERO, &mut done).await,
                Err(error) => Err(error.into()),
            };
            contain(&mut done, volume, result)?;
        }
    }
    Ok(done)
}

fn is_in_line(outline: &Result<Option<Outline>, VaultError>, known: &IndexedVolume) -> bool {
    outline.as_ref().is_ok_and(|outline| compare::compare(outline.as_ref(), known).is_none())
}

/// Why a comparison failed.
enum ReconcileError {
    /// It concerns this volume only.
    Volume(String),
    /// The catalog can't be used, for whatever volume.
    Catalog(Problem),
}

impl From<VaultError> for ReconcileError {
    fn from(error: VaultError) -> Self {
        Self::Volume(stackferry_transfer::describe(&error))
    }
}

impl From<Problem> for ReconcileError {
    fn from(problem: Problem) -> Self {
        Self::Volume(problem.message)
    }
}

impl From<CatalogError> for ReconcileError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::VersionExists { .. }
            | CatalogError::NoSuchVersion { .. }
            | CatalogError::NoSuchVolume(_)
            | CatalogError::Row { .. }
            | CatalogError::Range { .. } => Self::Volume(stackferry_transfer::describe(&error)),
            error => Self::Catalog(error.into()),
        }
    }
}

/// Keeps what concerns one volume from the others.
fn contain(done: &mut Reconciled, volume: VolumeId, result: Result<(), ReconcileError>) -> Result<(), Problem> {
    match result {
        Ok(()) => Ok(()),
        Err(ReconcileError::Volume(why)) => {
            done.failed.push((volume, why));
            Ok(())
        }
        Err(ReconcileError::Catalog(problem)) => Err(problem),
    }
}

/// One volume whose rows differ from its folder, under its lease: nobody adds a version meanwhile.
async fn one(
    app: &App,
    vault: &Vault,
    volume: &VolumeId,
    depth: Depth,
    wait: Duration,
    done: &mut Reconciled,
) -> Result<(), ReconcileError> {
    let lease = match app.catalog().hold_lease(&format!("volume/{volume}"), PROGRAM, wait).await {
        Ok(lease) => lease,
        // Whoever works on it brings it in line before they begin, and adds the row of what they make.
        Err(CatalogError::LeaseBusy(_)) => {
            done.busy.push(volume.clone());
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let result = apply::under_lease(app, vault, volume, &lease, depth, done).await;
    if let Err(error) = lease.release().await {
        tracing::warn!(%volume, error = %stackferry_transfer::describe(&error), "a lease could not be given back");
    }
    result
}

/// Counts what a comparison came to, and logs which volumes could not be brought in line, but for those of which it is known.
fn report(app: &App, done: &Reconciled, known: &BTreeSet<(VolumeId, String)>) {
    app.metrics().reconciled(&done.differences());
    for failed in done.failed.iter().filter(|failed| !known.contains(failed)) {
        let (volume, why) = failed;
        tracing::error!(%volume, why, "the catalog could not be brought in line with the vault for this volume");
    }
}
