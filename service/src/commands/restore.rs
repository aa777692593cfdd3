//! `restore VOLUME[@VERSION] --to DIR`.

use std::path::Path;

use super::Context;
use crate::cli::Target;
use crate::engine::restore::{self, Destination};
use crate::engine::steps;
use crate::output::RestoreView;
use crate::problem::{Exit, Problem};

pub(super) async fn run(context: &Context, target: &Target, to: &Path, overwrite: bool) -> Result<Exit, Problem> {
    let app = context.app().await?;
    let destination = restore::destination(&app, to, overwrite)?;
    let task = context.reporter().start("restoring", &target.to_string(), 0);
    let restored = restore::restore(&app, &target.to_string(), &destination, overwrite, task.progress()).await;
    task.finish(if restored.is_ok() { "restored" } else { "failed" });
    let mut restored = restored?;
    if let Destination::Datastore { datastore, .. } = &destination {
        let told = app.ask_systems().await;
        let reports = told.managers.iter().filter_map(|view| view.report.as_ref().ok());
        restored.next_steps.extend(reports.flat_map(|report| steps::groups(&report.groups, datastore.name.as_str())));
    }
    let view = RestoreView::new(
        &restored.volume,
        &restored.version,
        destination.to_string(),
        restored.files,
        &restored.report,
        restored.took,
    );
    context.print(&view.followed_by(restored.next_steps))?;
    Ok(Exit::Done)
}
