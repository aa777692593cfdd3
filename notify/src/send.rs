//! One try to send one message by one way. Nothing here waits longer than its deadlines, keeps a secret longer than the
//! try, or writes anything down.

use std::time::Duration;

use stackferry_catalog::Channel;
use stackferry_config::Notify;

use super::failure::SendFailure;
use super::message::Message;
use super::{mail, webhook};
use stackferry_problem::{Code, Problem};

/// How long a try may take in all. A command that gives a password has 30 s of its own before that.
const WITHIN: Duration = Duration::from_secs(30);

/// The ways that the configuration names.
pub fn channels(settings: &Notify) -> Vec<Channel> {
    let is_set = |channel: &Channel| match channel {
        Channel::Webhook => settings.webhook.is_some(),
        Channel::Mail => settings.mail.is_some(),
        _ => false,
    };
    Channel::ALL.iter().copied().filter(is_set).collect()
}

/// Sends a message by this way. Gives the recipients that the mail server did not take, with its words; the others got it.
///
/// # Errors
/// Nobody got it.
pub async fn send(settings: &Notify, channel: Channel, message: &Message) -> Result<Vec<String>, SendFailure> {
    match (channel, &settings.webhook, &settings.mail) {
        (Channel::Webhook, Some(webhook), _) => webhook::send(webhook, message, WITHIN).await.map(|()| Vec::new()),
        (Channel::Mail, _, Some(mail)) => mail::send(mail, message, WITHIN).await,
        _ => Err(Problem::new(Code::BadConfig, format!("there is no [notify.{channel}]")).into()),
    }
}

/// What is there to send by this way, without sending anything. Blocks.
///
/// # Errors
/// What would keep every message from being sent.
pub fn check(settings: &Notify, channel: Channel) -> Result<(), Problem> {
    match (channel, &settings.webhook, &settings.mail) {
        (Channel::Webhook, Some(webhook), _) => webhook::check(webhook),
        (Channel::Mail, _, Some(mail)) => mail::check(mail),
        _ => Err(Problem::new(Code::BadConfig, format!("there is no [notify.{channel}]"))),
    }
}
