//! `prune [VOLUME] [--dry-run]`.

use super::Context;
use stackferry_engine::find;
use stackferry_engine::prune::{self, PruneRequest};
use stackferry_engine::views::PruneView;
use stackferry_problem::{Exit, Problem};

pub(super) async fn run(context: &Context, name: Option<&str>, dry_run: bool) -> Result<Exit, Problem> {
    let app = if dry_run { context.app_to_read(name).await? } else { context.app().await? };
    prune::configured(&app)?;
    app.vault().await?;
    let volume = match name {
        Some(name) => Some(find::volume(&app, name).await?.id),
        None => None,
    };
    let what = PruneRequest { volume: volume.as_ref(), dry_run, actor: "command" };
    let view = PruneView::new(prune::prune(&app, what).await?, dry_run);
    context.print(&view)?;
    Ok(view.exit())
}
