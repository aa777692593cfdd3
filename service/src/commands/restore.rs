//! `restore VOLUME[@VERSION] --to DIR`.

use std::path::Path;

use super::Context;
use crate::app::App;
use crate::cli::Target;
use crate::engine::restore::{self, Destination};
use crate::engine::steps;
use crate::output::RestoreView;
use crate::problem::{Exit, Problem};

pub(super) async fn run(context: &Context, target: &Target, to: &Path, overwrite: bool) -> Result<Exit, Problem> {
    let app = context.app().await?;
    let destination = restore::destination(&app, to, overwrite)?;
    // Told before anything is written: there is still time to put it elsewhere.
    let groups = groups(&app, &destination).await;
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
    context.print(&view.followed_by(restored.next_steps))?;
    Ok(Exit::Done)
}

/// What storage groups do by themselves with what is put there, as far as managers can be asked.
async fn groups(app: &App, to: &Destination) -> Vec<String> {
    let Destination::Datastore { datastore, .. } = to else { return Vec::new() };
    let told = app.ask_systems().await;
    let own = told.managers.iter().filter(|view| view.site.0 == datastore.site.as_str());
    let reports = own.filter_map(|view| view.report.as_ref().ok());
    reports.flat_map(|report| steps::groups(&report.groups, datastore.name.as_str())).collect()
}
