//! `volumes`, `versions VOLUME`, `pin`, `unpin`.

use jiff::Timestamp;
use serde_json::json;
use stackferry_catalog::{AuditAction, CatalogError};

use super::Context;
use crate::app::{blocking, version_row};
use crate::cli::VersionTarget;
use crate::engine::{find, versions};
use crate::output::{PinView, VersionsView, VolumesView};
use crate::problem::{Exit, Problem};

pub(super) async fn volumes(context: &Context) -> Result<Exit, Problem> {
    let app = context.app().await?;
    // Opening the vault takes one that this catalog does not know yet into it.
    if app.config().vault().is_ok() {
        app.vault().await?;
    }
    context.print(&VolumesView::new(&app.catalog().volumes().await?))?;
    Ok(Exit::Done)
}

pub(super) async fn versions(context: &Context, name: &str) -> Result<Exit, Problem> {
    let app = context.app().await?;
    app.vault().await?;
    let volume = find::volume(&app, name).await?.id;
    let known = app.catalog().versions(&volume).await?;
    let mut rows = Vec::new();
    // The vault says what there is; the catalog adds when it was last read back.
    for entry in versions::list(&app, &volume).await?.iter().rev() {
        let mut row = version_row(&volume, entry);
        row.last_verified = known.iter().find(|row| row.version == entry.id).and_then(|row| row.last_verified);
        rows.push(row);
    }
    context.print(&VersionsView::new(&rows))?;
    Ok(Exit::Done)
}

/// Pins with a note, unpins without.
pub(super) async fn pin(context: &Context, target: &VersionTarget, note: Option<&str>) -> Result<Exit, Problem> {
    let app = context.app().await?;
    let vault = app.vault().await?;
    let volume = find::volume(&app, &target.volume).await?.id;
    let version = target.version.clone();
    {
        let (volume, version, note) = (volume.clone(), version.clone(), note.map(str::to_owned));
        blocking(move || match note {
            Some(note) => vault.pin(&volume, &version, &note, Timestamp::now()),
            None => vault.unpin(&volume, &version),
        })
        .await??;
    }
    match app.catalog().set_pinned(&volume, &version, note.is_some()).await {
        // The next start gives the version its row, pin and all.
        Err(CatalogError::NoSuchVersion { .. }) => {}
        other => other?,
    }
    let action = if note.is_some() { AuditAction::Pinned } else { AuditAction::Unpinned };
    app.catalog().audit(action, "command", &versions::named(&volume, &version), &json!({ "note": note })).await?;
    let note = note.filter(|note| !note.is_empty()).map(str::to_owned);
    context.print(&PinView { volume, version, pinned: action == AuditAction::Pinned, note })?;
    Ok(Exit::Done)
}
