//! `grant VOLUME`.

use std::time::Duration;

use stackferry_engine::grant::grant;
use stackferry_problem::{Exit, Problem};

use super::Context;

pub(super) async fn run(context: &Context, name: &str, file: Option<&str>, life: Duration) -> Result<Exit, Problem> {
    let app = context.app().await?;
    context.print(&grant(&app, name, file, life, "command").await?)?;
    Ok(Exit::Done)
}
