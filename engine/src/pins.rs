//! Keeping a version whatever retention says, and letting retention decide about it again.

use jiff::Timestamp;
use serde_json::json;
use stackferry_catalog::{AuditAction, CatalogError};
use stackferry_volume::{VersionId, VolumeId};

use super::reconcile;
use crate::app::App;
use crate::blocking::blocking;
use crate::missing::named;
use crate::views::PinView;
use stackferry_problem::Problem;

/// The most characters of a note: it lies in the volume's record and in the audit, which is kept for ever.
const MOST_NOTE: usize = 500;

/// Pins a version with a note, or unpins it without, in the vault and then in the catalog, as `actor` wants it.
///
/// # Errors
/// `usage` for a note that is too long; `no_such_version`; the vault's and the catalog's.
pub async fn set(
    app: &App,
    volume: &VolumeId,
    version: &VersionId,
    note: Option<&str>,
    actor: &str,
) -> Result<PinView, Problem> {
    if let Some(note) = note.filter(|note| note.chars().count() > MOST_NOTE) {
        let length = note.chars().count();
        return Err(Problem::usage(format!("a note has at most {MOST_NOTE} characters, and this one has {length}")));
    }
    let vault = app.vault().await?;
    let done = {
        let (vault, volume, version, note) = (vault.clone(), volume.clone(), version.clone(), note.map(str::to_owned));
        blocking(move || match note {
            Some(note) => vault.pin(&volume, &version, &note, Timestamp::now()),
            None => vault.unpin(&volume, &version),
        })
        .await?
    };
    if let Err(error) = done {
        if error.is_not_found() {
            reconcile::volume(app, &vault, volume).await;
        }
        return Err(error.into());
    }
    match app.catalog().set_pinned(volume, version, note.is_some()).await {
        // It gets its row, pin and all.
        Err(CatalogError::NoSuchVersion { .. }) => drop(reconcile::volume(app, &vault, volume).await),
        other => other?,
    }
    let action = if note.is_some() { AuditAction::Pinned } else { AuditAction::Unpinned };
    app.catalog().audit(action, actor, &named(volume, version), &json!({ "note": note })).await?;
    let (volume, version) = (volume.clone(), version.clone());
    let text = note.filter(|note| !note.is_empty()).map(str::to_owned);
    Ok(PinView { volume, version, pinned: note.is_some(), note: text })
}
