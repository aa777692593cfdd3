//! `copy VOLUME`.

use std::time::Duration;

use stackferry_catalog::{Outcome, Trigger};

use super::Context;
use crate::app::App;
use crate::engine::copy::{Wanted, choose_bytes, copy};
use crate::engine::{debts, find, inventory};
use crate::output::CopyView;
use crate::problem::{Exit, Problem};

pub(super) async fn run(context: &Context, name: &str, if_changed: bool, wait: Duration) -> Result<Exit, Problem> {
    let app = context.app().await?;
    // A vault that can't be written to is known before thousands of files are listed.
    app.vault().await?;
    let view = copy_named(context, &app, name, if_changed, wait).await?;
    context.print(&view)?;
    Ok(view.exit())
}

async fn copy_named(
    context: &Context,
    app: &App,
    name: &str,
    if_changed: bool,
    wait: Duration,
) -> Result<CopyView, Problem> {
    debts::pay(app).await?;
    let round = inventory::look(app).await?;
    let row = find::looked_for(app, &round, name).await?;
    let Some(volume) = round.inventory.volumes.into_iter().find(|volume| volume.id == row.id) else {
        let reason = row.reason.unwrap_or(stackferry_catalog::Reason {
            code: "missing".to_owned(),
            text: "it is not at its source".to_owned(),
        });
        return Ok(CopyView::deferred(&row.id, reason));
    };
    let task = context.reporter().start("copying", &volume.id.to_string(), choose_bytes(&volume));
    let wanted = Wanted { if_changed, trigger: Trigger::Command, wait, progress: task.progress() };
    let done = match copy(app, &volume, wanted).await {
        Ok(done) => done,
        Err(problem) => {
            task.finish("failed");
            return Err(problem);
        }
    };
    task.finish(done.outcome.as_str());
    let view = match (done.outcome, &done.version, done.reason) {
        (Outcome::Copied, Some(version), _) => CopyView::copied(
            &volume.id,
            version,
            done.verify_method.unwrap_or(stackferry_volume::manifest::VerifyMethod::Arrival),
        ),
        (Outcome::Deferred, _, Some(reason)) => CopyView::deferred(&volume.id, reason),
        (_, version, _) => CopyView::unchanged(&volume.id, version.as_ref()),
    };
    let mut view = match done.route {
        "" => view,
        route => view.cost(route, done.credentials, done.bytes, done.took),
    };
    view.resumed_bytes = done.resumed;
    Ok(view)
}
