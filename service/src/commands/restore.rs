//! `restore VOLUME[@VERSION] --to DIR`.

use std::path::Path;

use stackferry_engine::operations::{Watchers, restore_version};
use stackferry_engine::restore;
use stackferry_problem::{Exit, Problem};

use super::Context;
use crate::cli::Target;

pub(super) async fn run(context: &Context, target: &Target, to: &Path, overwrite: bool) -> Result<Exit, Problem> {
    let target = target.to_string();
    let app = context.app_to_read(Some(&target)).await?;
    let destination = restore::destination(&app, to, overwrite)?;
    let watchers = Watchers { reporter: context.reporter(), live: None };
    let view = restore_version(&app, &target, &destination, overwrite, "command", 0, watchers).await?;
    context.print(&view)?;
    Ok(Exit::Done)
}
