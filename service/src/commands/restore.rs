//! `restore VOLUME[@VERSION] --to DIR`.

use std::path::Path;

use super::Context;
use crate::cli::Target;
use stackferry_engine::restore;
use stackferry_engine::views::RestoreView;
use stackferry_problem::{Exit, Problem};

pub(super) async fn run(context: &Context, target: &Target, to: &Path, overwrite: bool) -> Result<Exit, Problem> {
    let app = context.app_to_read(Some(&target.to_string())).await?;
    let destination = restore::destination(&app, to, overwrite)?;
    // Told before anything is written: there is still time to put it elsewhere.
    let groups = restore::storage_groups(&app, &destination).await;
    for warning in &groups {
        tracing::warn!("{warning}");
    }
    let task = context.reporter().start("restoring", &target.to_string(), 0);
    let restored =
        restore::restore(&app, &target.to_string(), &destination, overwrite, "command", task.progress()).await;
    task.finish(if restored.is_ok() { "restored" } else { "failed" });
    let mut restored = restored?;
    restored.next_steps.extend(groups);
    let to = destination.to_string();
    let (files, report) = (restored.files, &restored.report);
    let view = RestoreView::new(&restored.volume, &restored.version, to, files, report, restored.took);
    let view = view.written_by(restored.credentials, restored.verify_method);
    context.print(&view.warned(restored.warnings).followed_by(restored.next_steps))?;
    Ok(Exit::Done)
}
