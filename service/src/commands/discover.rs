//! `discover`.

use super::Context;
use crate::engine::inventory;
use crate::output::DiscoverView;
use crate::problem::{Code, Exit, Problem};

pub(super) async fn run(context: &Context) -> Result<Exit, Problem> {
    let app = context.app_to_read(None).await?;
    if app.config().datastores.is_empty() && app.config().app_volumes.is_empty() {
        return Err(Problem::new(Code::BadConfig, "the configuration names no datastore")
            .subject("datastore")
            .hint("add a [[datastore]] with name, route and path"));
    }
    let round = inventory::look(&app).await?;
    tell(&round.problems);
    context.print(&DiscoverView::new(&app.catalog().volumes().await?))?;
    Ok(match round.reachable {
        0 if round.datastores > 0 => Exit::Failed,
        some if some < round.datastores || round.systems_away > 0 => Exit::Partly,
        _ => Exit::Done,
    })
}

/// What a round found beside volumes goes to stderr.
pub(super) fn tell(problems: &[stackferry_discover::ScanProblem]) {
    for problem in problems {
        tracing::warn!(subject = problem.subject, hint = problem.hint, "{}", problem.text);
    }
}
