//! `check`.

use super::Context;
use crate::app::{App, Reading};
use crate::engine::check::{Finding, all, local};
use crate::output::{CheckItem, CheckView};
use crate::problem::{Exit, Problem};

pub(super) async fn run(context: &Context, config_only: bool) -> Result<Exit, Problem> {
    let config = context.config()?;
    let findings = if config_only {
        local(&config)
    } else {
        let before = local(&config);
        match App::open_to_read(config, context.cancel().clone(), Reading::without_making()).await {
            // It is known to the command, which logs out everywhere at its end.
            Ok(app) => all(context.keep(app)).await,
            // Without a catalog nothing else can be opened; what was tried before is told all the same.
            Err(problem) => {
                let mut findings = before;
                findings.push(Finding { subject: "catalog".to_owned(), result: Err(problem) });
                findings
            }
        }
    };
    if context.cancel().is_cancelled() {
        return Err(Problem::interrupted("the check"));
    }
    let items = findings.into_iter().map(|finding| match &finding.result {
        Ok(text) => CheckItem::good(finding.subject, text.clone()),
        Err(problem) => CheckItem::bad(finding.subject, problem),
    });
    let view = CheckView::new(items.collect());
    context.print(&view)?;
    Ok(view.exit())
}
