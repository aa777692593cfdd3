//! `volumes`, `versions VOLUME`, `pin`, `unpin`.

use super::Context;
use crate::cli::VersionTarget;
use stackferry_engine::adopt::version_row;
use stackferry_engine::finding::KnownVersions;
use stackferry_engine::views::{VersionView, VersionsView, VolumesView};
use stackferry_engine::{find, pins, versions};
use stackferry_problem::{Exit, Problem};

pub(super) async fn volumes(context: &Context) -> Result<Exit, Problem> {
    let app = context.app_to_read(None).await?;
    // Opening the vault takes one that this catalog does not know yet into it.
    if app.config().vault().is_ok() {
        app.vault().await?;
    }
    context.print(&VolumesView::new(&app.catalog().volumes().await?))?;
    Ok(Exit::Done)
}

pub(super) async fn versions(context: &Context, name: &str) -> Result<Exit, Problem> {
    let app = context.app_to_read(Some(name)).await?;
    app.vault().await?;
    let volume = find::volume(&app, name).await?.id;
    let known = app.catalog().versions(&volume).await?;
    let mut rows = Vec::new();
    // The vault says what there is; the catalog adds when it was last read back, and opened as a disk.
    for entry in versions::list(&app, &volume).await?.iter().rev() {
        let mut row = version_row(&volume, entry);
        if let Some(known) = known.iter().find(|row| row.version == entry.id) {
            row.last_verified = known.last_verified;
            row.restore_test.clone_from(&known.restore_test);
            row.content.clone_from(&known.content);
        }
        rows.push(row);
    }
    let known = KnownVersions::with(&app, &volume, rows).await?;
    context.print(&VersionsView(VersionView::judged(&known)))?;
    Ok(Exit::Done)
}

/// Pins with a note, unpins without.
pub(super) async fn pin(context: &Context, target: &VersionTarget, note: Option<&str>) -> Result<Exit, Problem> {
    let app = context.app().await?;
    // First of all: a vault that the catalog does not know yet is taken into it, and then the volume is known.
    app.vault().await?;
    let volume = find::volume(&app, &target.volume).await?.id;
    context.print(&pins::set(&app, &volume, &target.version, note, "command").await?)?;
    Ok(Exit::Done)
}
