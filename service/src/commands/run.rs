//! `run`: the service; with `--once` a single round.

use stackferry_catalog::Trigger;

use super::{Context, discover};
use crate::daemon::Daemon;
use stackferry_engine::app::App;
use stackferry_engine::decide::RoundOutcome;
use stackferry_engine::housekeeping::put_in_order;
use stackferry_engine::path_conflicts;
use stackferry_engine::reconcile::reconcile;
use stackferry_engine::round::{self, RoundResult};
use stackferry_engine::views::{RunItem, RunOutcome, RunProblem, RunView};
use stackferry_problem::{Code, Exit, Problem};

pub(super) async fn run(context: &Context, once: bool) -> Result<Exit, Problem> {
    path_conflicts::refuse(&context.config()?)?;
    let app = context.app().await?;
    if app.config().datastores.is_empty() {
        return Err(Problem::new(Code::BadConfig, "the configuration names no datastore")
            .subject("datastore")
            .hint("add a [[datastore]] with name, route and path"));
    }
    if once {
        let result = round(context, &app).await?;
        let view = view(&result);
        context.print(&view)?;
        return match result {
            RoundResult { interrupted: true, .. } => Err(Problem::interrupted("the round")),
            RoundResult { blind: true, .. } => Ok(Exit::Failed),
            RoundResult { partial: true, .. } if view.exit() == Exit::Done => Ok(Exit::Partly),
            _ => Ok(view.exit()),
        };
    }
    let reload = context.reload();
    let daemon = Daemon::bind(&app, context.reporter()).await?.reload_with(reload);
    daemon.run().await;
    Ok(Exit::Done)
}

async fn round(context: &Context, app: &App) -> Result<RoundResult, Problem> {
    // As the service does at its start: the state folder may come from a backup that is older than the vault.
    reconcile(app, &app.vault().await?).await?;
    let result = round::run(app, Trigger::Schedule, context.reporter()).await?;
    // As the service does between its rounds: what is of no more use goes. The round itself counts, whatever becomes of it.
    if !result.interrupted
        && let Err(problem) = put_in_order(app, &app.vault().await?).await
    {
        tracing::warn!(code = %problem.code, "what is of no more use could not be removed: {}", problem.message);
    }
    discover::tell(&result.problems);
    for volume in &result.volumes {
        if let Some(problem) = &volume.problem {
            tracing::error!(volume = %volume.volume, code = %problem.code, hint = problem.hint, "{}", problem.message);
        }
    }
    Ok(result)
}

fn view(result: &RoundResult) -> RunView {
    let mut view = RunView::default();
    for volume in &result.volumes {
        view.push(RunItem {
            volume: volume.volume.clone(),
            outcome: match volume.outcome {
                RoundOutcome::Copied => RunOutcome::Copied,
                RoundOutcome::Unchanged => RunOutcome::Unchanged,
                RoundOutcome::Deferred => RunOutcome::Deferred,
                RoundOutcome::Failed => RunOutcome::Failed,
                RoundOutcome::Unprotectable => RunOutcome::Unprotectable,
            },
            version: volume.version.clone(),
            reason: volume.reason.clone(),
            left_out: volume.left_out.clone(),
        });
    }
    // What could not be looked at comes first.
    let mut problems: Vec<_> = result.problems.iter().collect();
    problems.sort_by_key(|problem| !problem.code.hides_volumes());
    view.problems = problems.into_iter().map(RunProblem::from).collect();
    view
}
