//! `rebuild`.

use super::Context;
use stackferry_engine::versions;
use stackferry_engine::views::{PathProblem, RebuildView};
use stackferry_problem::{Exit, Problem};

/// Why a volume is left as it is.
const BUSY: &str = "another process works on it, and keeps its rows in line with the vault itself";

pub(super) async fn run(context: &Context) -> Result<Exit, Problem> {
    let app = context.app().await?;
    let (found, busy) = versions::rebuild(&app).await?;
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let problems = found.damaged.iter().map(|(what, why)| PathProblem { path: what.into(), why: why.clone() });
    let left = busy.iter().map(|volume| PathProblem { path: volume.to_string(), why: BUSY.to_owned() });
    context.print(&RebuildView {
        volumes: count(found.volumes),
        versions: count(found.versions),
        damaged: count(found.damaged.len()),
        problems: problems.chain(left).collect(),
    })?;
    Ok(if busy.is_empty() { Exit::Done } else { Exit::Partly })
}
