//! `discover`.

use super::Context;
use stackferry_engine::inventory;
use stackferry_engine::views::DiscoverView;
use stackferry_problem::{Code, Exit, Problem};

pub(super) async fn run(context: &Context, all: bool) -> Result<Exit, Problem> {
    let app = context.app_to_read(None).await?;
    if app.config().datastores.is_empty() && app.config().app_volumes.is_empty() {
        return Err(Problem::new(Code::BadConfig, "the configuration names no datastore")
            .subject("datastore")
            .hint("add a [[datastore]] with name, route and path"));
    }
    let round = inventory::look(&app).await?;
    tell(&round.problems);
    let mut view = DiscoverView::new(&app.catalog().volumes().await?);
    let others = &round.others;
    if all {
        view.add_others(&others.listed);
    }
    let listed = if all { u64::try_from(others.listed.len()).unwrap_or(u64::MAX) } else { 0 };
    if let Some(more) = others.count.checked_sub(listed).filter(|more| *more > 0) {
        let more = format!("{more} {} no volume", if more == 1 { "entry is" } else { "entries are" });
        tracing::info!("{more}{}", if all { " and not listed" } else { "; `stackferry discover --all` lists them" });
    }
    context.print(&view)?;
    Ok(match round.reachable {
        0 if round.datastores > 0 => Exit::Failed,
        _ if round.is_partial() => Exit::Partly,
        _ => Exit::Done,
    })
}

/// What a round found beside volumes goes to stderr.
pub(super) fn tell(problems: &[stackferry_discover::ScanProblem]) {
    for problem in problems {
        tracing::warn!(
            code = problem.code.as_str(),
            subject = problem.subject,
            hint = problem.hint,
            "{}",
            problem.text
        );
    }
}
