//! `prune [VOLUME] [--dry-run]`.

use super::Context;
use crate::engine::find;
use crate::engine::prune::{self, What};
use crate::output::PruneView;
use crate::problem::{Code, Exit, Problem};

pub(super) async fn run(context: &Context, name: Option<&str>, dry_run: bool) -> Result<Exit, Problem> {
    let app = context.app().await?;
    if app.config().retention == stackferry_config::Retention::default() {
        return Err(Problem::new(Code::BadConfig, "no [retention] is configured: all versions are kept")
            .subject("retention")
            .hint("say how many to keep, as [retention] last = 7, daily = 14; `prune --dry-run` tells what would go"));
    }
    app.vault().await?;
    let volume = match name {
        Some(name) => Some(find::volume(&app, name).await?.id),
        None => None,
    };
    let what = What { volume: volume.as_ref(), dry_run, actor: "command" };
    let view = PruneView::new(prune::prune(&app, what).await?, dry_run);
    context.print(&view)?;
    Ok(view.exit())
}
