//! `copy VOLUME`: by the running service if there is one, else by this process.

use std::time::Duration;

use stackferry_catalog::{Trigger, VolumeRow};

use super::Context;
use stackferry_engine::app::App;
use stackferry_engine::copy::{CopyOptions, choose_bytes, copy};
use stackferry_engine::inventory::Round;
use stackferry_engine::views::CopyView;
use stackferry_engine::{debts, find, inventory, places};
use stackferry_engine::{follow, jobs};
use stackferry_problem::{Code, Exit, Problem};

pub(super) async fn run(context: &Context, name: &str, if_changed: bool, wait: Duration) -> Result<Exit, Problem> {
    places::refuse(&context.config()?)?;
    let app = context.app().await?;
    // A vault that can't be written to is known before thousands of files are listed.
    app.vault().await?;
    let view = match by_service(&app, name, if_changed, wait).await? {
        Some(view) => view,
        None => by_ourselves(context, &app, name, if_changed, wait).await?,
    };
    context.print(&view)?;
    Ok(view.exit())
}

/// None where there is no service.
async fn by_service(app: &App, name: &str, if_changed: bool, wait: Duration) -> Result<Option<CopyView>, Problem> {
    if app.catalog().lease_holder(jobs::SERVICE_LEASE).await?.is_none() {
        return Ok(None);
    }
    let row = match find::volume(app, name).await {
        // It may be newer than the service's last look.
        Err(problem) if problem.code == Code::NoSuchVolume => look(app, name).await?.1,
        other => other?,
    };
    let wanted = jobs::copy(&row.id, if_changed, Trigger::Command, &Trigger::Command.to_string());
    match follow::by_service(app, wanted, wait).await? {
        Some(job) => follow::answer(job).map(Some),
        None => Ok(None),
    }
}

async fn look(app: &App, name: &str) -> Result<(Round, VolumeRow), Problem> {
    debts::pay(app).await?;
    let round = inventory::look(app).await?;
    let row = find::looked_for(app, &round, name).await?;
    Ok((round, row))
}

async fn by_ourselves(
    context: &Context,
    app: &App,
    name: &str,
    if_changed: bool,
    wait: Duration,
) -> Result<CopyView, Problem> {
    let (round, row) = look(app, name).await?;
    let Some(volume) = round.inventory.volumes.into_iter().find(|volume| volume.id == row.id) else {
        let reason = row.reason.unwrap_or(stackferry_catalog::StatusReason {
            code: "missing".to_owned(),
            text: "it is not at its source".to_owned(),
        });
        return Ok(CopyView::deferred(&row.id, reason));
    };
    let task = context.reporter().start("copying", &volume.id.to_string(), choose_bytes(&volume));
    let (trigger, actor) = (Trigger::Command, Trigger::Command.to_string());
    let wanted = CopyOptions { if_changed, trigger, actor, wait, progress: task.progress() };
    let done = copy(app, &volume, wanted).await;
    task.finish(done.as_ref().map_or("failed", |done| done.outcome.as_str()));
    Ok(CopyView::of(&volume.id, &done?))
}
