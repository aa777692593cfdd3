//! `restore VOLUME[@VERSION] --to DIR`.

use std::path::Path;

use super::Context;
use crate::cli::Target;
use crate::engine::versions;
use crate::output::RestoreView;
use crate::problem::{Exit, Problem};

pub(super) async fn run(context: &Context, target: &Target, to: &Path, overwrite: bool) -> Result<Exit, Problem> {
    let app = context.app().await?;
    let to = versions::absolute(to)?;
    let task = context.reporter().start("restoring", &target.to_string(), 0);
    let restored = versions::restore(&app, &target.to_string(), &to, overwrite, task.progress()).await;
    task.finish(if restored.is_ok() { "restored" } else { "failed" });
    let restored = restored?;
    context.print(&RestoreView::new(
        &restored.volume,
        &restored.version,
        &to,
        restored.files,
        &restored.report,
        restored.took,
    ))?;
    Ok(Exit::Done)
}
