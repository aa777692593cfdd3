//! `jobs`, `cancel`, `pause`, `resume`: the queue, whether a service runs or not.

use jiff::Timestamp;
use stackferry_catalog::{JobFilter, JobId, JobState, Trigger};

use super::Context;
use stackferry_engine::app::App;
use stackferry_engine::find;
use stackferry_engine::views::{CancelView, ClockView, JobView, JobsView, PausesView};
use stackferry_problem::{Exit, Problem};

/// Who does it, in the audit.
fn actor() -> String {
    Trigger::Command.to_string()
}

pub(super) async fn list(context: &Context, name: Option<&str>, all: bool, last: u32) -> Result<Exit, Problem> {
    let app = context.app_to_read(None).await?;
    let states = if all { Vec::new() } else { vec![JobState::Queued, JobState::Running] };
    let volume = match name {
        Some(name) => Some(find::volume(&app, name).await?.id),
        None => None,
    };
    let jobs = app.catalog().jobs(&JobFilter { states, volume, ..JobFilter::default() }, last).await?;
    context.print(&JobsView(jobs.into_iter().map(|job| JobView::new(job, None)).collect()))?;
    Ok(Exit::Done)
}

pub(super) async fn cancel(context: &Context, id: JobId) -> Result<Exit, Problem> {
    let app = context.app().await?;
    let cancelled = app.jobs().cancel(id, &actor()).await?;
    context.print(&CancelView::new(id, cancelled))?;
    Ok(Exit::Done)
}

pub(super) async fn pause(context: &Context, name: Option<&str>) -> Result<Exit, Problem> {
    let app = context.app().await?;
    match name {
        Some(name) => app.jobs().pause(Some(&find::volume(&app, name).await?.id), &actor()).await?,
        None => app.jobs().pause(None, &actor()).await?,
    };
    tell(context, &app).await
}

pub(super) async fn resume(context: &Context, name: Option<&str>) -> Result<Exit, Problem> {
    let app = context.app().await?;
    match name {
        Some(name) => app.jobs().resume(Some(&find::volume(&app, name).await?.id), &actor()).await?,
        None => app.jobs().resume(None, &actor()).await?,
    };
    tell(context, &app).await
}

async fn tell(context: &Context, app: &App) -> Result<Exit, Problem> {
    context.print(&PausesView::new(app.jobs().pauses().await?))?;
    Ok(Exit::Done)
}

/// `prune --confirm-clock`.
pub(super) async fn confirm_clock(context: &Context) -> Result<Exit, Problem> {
    let app = context.app().await?;
    let was_frozen = app.jobs().confirm_clock(&actor()).await?;
    context.print(&ClockView { was_frozen, now: Timestamp::now() })?;
    Ok(Exit::Done)
}
