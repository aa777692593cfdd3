//! `copy VOLUME`: by the running service if there is one, else by this process.

use std::time::Duration;

use stackferry_catalog::Trigger;
use stackferry_engine::operations::{CopyRequest, copy_named};
use stackferry_engine::path_conflicts;
use stackferry_problem::{Exit, Problem};

use super::Context;

pub(super) async fn run(context: &Context, name: &str, if_changed: bool, wait: Duration) -> Result<Exit, Problem> {
    path_conflicts::refuse(&context.config()?)?;
    let app = context.app().await?;
    // A vault that can't be written to is known before thousands of files are listed.
    app.vault().await?;
    let trigger = Trigger::Command;
    let request = CopyRequest { if_changed, trigger, actor: trigger.to_string(), wait };
    let view = copy_named(&app, name, request, context.reporter()).await?;
    context.print(&view)?;
    Ok(view.exit())
}
