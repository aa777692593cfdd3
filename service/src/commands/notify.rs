//! `notify test`.

use super::Context;
use crate::cli::NotifyCommand;
use stackferry_engine::views::{NotifyItem, NotifyView};
use stackferry_notify::{Sender, channels, send};
use stackferry_problem::{Code, Exit, Problem};

pub(super) async fn run(context: &Context, what: NotifyCommand) -> Result<Exit, Problem> {
    let NotifyCommand::Test = what;
    let app = context.app().await?;
    let settings = &app.config().notify;
    if settings.is_off() {
        return Err(Problem::new(
            Code::BadConfig,
            "nobody is told: the configuration has no [notify.webhook] and no [notify.mail]",
        )
        .subject("notify")
        .hint("docs/notifications.md says how to set one up"));
    }
    let message = Sender::new(app.catalog().install_id().await?).test(app.now());
    let mut items = Vec::new();
    for channel in channels(settings) {
        let sent = tokio::select! {
            sent = send(settings, channel, &message) => sent,
            () = ended(&app) => return Err(Problem::interrupted("the test")),
        };
        let item = match sent {
            Ok(left) if left.is_empty() => NotifyItem::sent(channel),
            Ok(left) => {
                let problem =
                    Problem::new(Code::Refused, format!("the mail server does not take: {}", left.join("; ")))
                        .subject("notify.mail.to")
                        .hint("the others got it; correct `to`, or what the mail server takes from this machine");
                NotifyItem::failed(channel, problem)
            }
            Err(failed) => NotifyItem::failed(channel, failed.problem),
        };
        items.push(item);
    }
    let view = NotifyView { id: message.id, sent: items };
    context.print(&view)?;
    Ok(view.exit())
}

async fn ended(app: &stackferry_engine::app::App) {
    while !app.cancel().is_cancelled() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
