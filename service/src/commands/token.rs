//! `token create`, `token list`, `token revoke`.

use super::Context;
use crate::cli::TokenCommand;
use stackferry_engine::views::{NewTokenView, TokensView};
use stackferry_problem::{Exit, Problem};
use stackferry_web::tokens;

/// Who acts: whoever may write the catalog.
const ACTOR: &str = "command";

pub(super) async fn run(context: &Context, what: &TokenCommand) -> Result<Exit, Problem> {
    let app = context.app().await?;
    match what {
        TokenCommand::Create { name, role } => {
            let (token, shown) = tokens::make(name, *role)?;
            app.catalog().add_token(&token, ACTOR).await?;
            context.print(&NewTokenView { name: token.name, role: token.role, token: shown })?;
        }
        TokenCommand::List => {
            let rows = app.catalog().tokens().await?;
            context.print(&TokensView(rows.into_iter().map(Into::into).collect()))?;
        }
        TokenCommand::Revoke { name } => {
            let row = app.catalog().revoke_token(name, ACTOR).await?;
            context.print(&TokensView(vec![row.into()]))?;
        }
    }
    Ok(Exit::Done)
}
