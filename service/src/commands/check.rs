//! `check`.

use super::Context;
use stackferry_config::Config;
use stackferry_engine::app::{App, Reading};
use stackferry_engine::check::{CheckResult, local, reachable};
use stackferry_engine::views::{CheckItem, CheckView};
use stackferry_problem::{Exit, Problem};

/// Whether every channel of `[notify]` has what it needs to send.
fn notifications(config: &Config) -> impl Iterator<Item = CheckResult> {
    stackferry_notify::channels(&config.notify).into_iter().map(|channel| {
        let ready = stackferry_notify::check(&config.notify, channel);
        let ready = ready.map(|()| "all that it needs is there; `stackferry notify test` sends a message");
        CheckResult::new(format!("notify.{channel}"), ready)
    })
}

pub(super) async fn run(context: &Context, config_only: bool) -> Result<Exit, Problem> {
    let config = context.config()?;
    let mut findings = local(&config);
    findings.extend(notifications(&config));
    if !config_only {
        match App::open_to_read(config, context.cancel().clone(), Reading::without_making()).await {
            // The command logs out everywhere at its end.
            Ok(app) => findings.extend(reachable(context.keep(app)).await),
            // Without a catalog nothing else can be opened; what was checked before is printed all the same.
            Err(problem) => findings.push(CheckResult { subject: "catalog".to_owned(), result: Err(problem) }),
        }
    }
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
