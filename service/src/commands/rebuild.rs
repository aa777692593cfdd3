//! `rebuild`.

use super::Context;
use crate::engine::versions;
use crate::output::{PathProblem, RebuildView};
use crate::problem::{Exit, Problem};

pub(super) async fn run(context: &Context) -> Result<Exit, Problem> {
    let app = context.app().await?;
    let found = versions::rebuild(&app).await?;
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let problems = found.damaged.iter().map(|(what, why)| PathProblem { path: what.into(), why: why.clone() });
    context.print(&RebuildView {
        volumes: count(found.volumes),
        versions: count(found.versions),
        damaged: count(found.damaged.len()),
        problems: problems.collect(),
    })?;
    Ok(Exit::Done)
}
