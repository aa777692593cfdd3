//! `audit show`, `audit verify`.

use super::Context;
use crate::cli::AuditCommand;
use stackferry_engine::views::{AuditVerifyView, AuditView};
use stackferry_problem::{Exit, Problem};

pub(super) async fn run(context: &Context, what: &AuditCommand) -> Result<Exit, Problem> {
    let app = context.app_to_read(None).await?;
    match what {
        AuditCommand::Show { last } => {
            context.print(&AuditView(app.catalog().last_audit_records(*last).await?))?;
            Ok(Exit::Done)
        }
        AuditCommand::Verify => {
            let view = AuditVerifyView::from(app.catalog().verify_audit().await?);
            context.print(&view)?;
            Ok(view.exit())
        }
    }
}
