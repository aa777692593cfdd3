//! `verify [VOLUME[@VERSION]]`.

use super::Context;
use crate::cli::Target;
use stackferry_engine::versions;
use stackferry_engine::views::VerifyView;
use stackferry_problem::{Exit, Problem};

pub(super) async fn run(context: &Context, target: Option<&Target>) -> Result<Exit, Problem> {
    let what = target.map(ToString::to_string);
    let app = context.app_to_read(what.as_deref()).await?;
    let task = context.reporter().start("verifying", what.as_deref().unwrap_or("all versions"), 0);
    let verified = versions::verify(&app, what.as_deref(), "command", task.progress()).await;
    task.finish(if verified.is_ok() { "verified" } else { "failed" });
    let verified = verified?;
    let view = VerifyView::from(verified);
    context.print(&view)?;
    Ok(view.exit())
}
