//! `verify [VOLUME[@VERSION]]`.

use stackferry_engine::operations::{Watchers, verify_versions};
use stackferry_engine::views::VerifyView;
use stackferry_problem::{Exit, Problem};

use super::Context;
use crate::cli::Target;

pub(super) async fn run(context: &Context, target: Option<&Target>) -> Result<Exit, Problem> {
    let what = target.map(ToString::to_string);
    let app = context.app_to_read(what.as_deref()).await?;
    let watchers = Watchers { reporter: context.reporter(), live: None };
    let view = VerifyView::from(verify_versions(&app, what.as_deref(), "command", 0, watchers).await?);
    context.print(&view)?;
    Ok(view.exit())
}
