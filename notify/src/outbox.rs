//! Sends the messages that wait, by each way one after the other, in their order. What is not taken is tried again, less and
//! less often; what is too old or too much is given up, which is logged, audited and counted.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use stackferry_catalog::{AuditAction, Channel, NewMessage, WaitingMessage};
use tokio::task::{JoinError, JoinSet};

use super::failure::SendFailure;
use super::message::Message;
use super::send::{channels, send};
use stackferry_engine::about::PROGRAM;
use stackferry_engine::app::App;
use stackferry_engine::jobs::backoff;
use stackferry_engine::metrics::Notified;
use stackferry_problem::{Code, Problem};

/// The longest wait before the next try.
const LONGEST: Duration = Duration::from_secs(3600);
/// A message that was not taken for so long tells nothing new any more.
const OLDEST: SignedDuration = SignedDuration::from_hours(3 * 24);
/// So many messages wait for one way at most; the oldest goes for another.
const MOST: u64 = 100;
/// A message that is refused for what it is is tried so often, so that others get their turn.
const TRIES: u64 = 5;
/// No wait is longer: one that seems so was noted by a clock that has since been set back.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24);
/// How often it is looked for messages that other processes wrote.
const REST: Duration = Duration::from_secs(5);

type Sent = (WaitingMessage, Result<Vec<String>, SendFailure>);
/// How a try ended.
pub(super) type JoinedSend = Result<Sent, JoinError>;

/// What is being sent, one message by each way at a time.
#[derive(Default)]
pub(super) struct Outbox {
    sending: JoinSet<Sent>,
    busy: Vec<Channel>,
    /// Ways by which nothing is to be sent before.
    rests: HashMap<Channel, Instant>,
    /// By which configuration it works.
    app: Option<App>,
}

impl Outbox {
    /// Something was written for some way, perhaps.
    pub(super) fn look_again(&mut self) {
        self.rests.clear();
    }

    /// With another configuration, what kept messages from being sent may have been put right: they wait no longer. Those
    /// for ways that it does not name are dropped.
    pub(super) async fn reconfigured(&mut self, app: &App) {
        if self.app.as_ref().is_some_and(|known| std::ptr::eq(known.config(), app.config())) {
            return;
        }
        let done = async {
            app.catalog().end_message_delays().await?;
            let named = channels(&app.config().notify);
            for channel in Channel::ALL.iter().filter(|channel| !named.contains(channel)) {
                while let Some(waiting) = app.catalog().next_message(*channel).await? {
                    tracing::info!(message = waiting.message.id, %channel, "a message is dropped: nobody is told by this way any more");
                    app.catalog().message_done(waiting.seq).await?;
                }
            }
            Ok::<_, Problem>(())
        };
        if let Err(problem) = done.await {
            return tracing::error!(code = %problem.code, "messages could not be looked at: {}", problem.message);
        }
        self.app = Some(app.clone());
        self.rests.clear();
    }

    /// Begins to send what may be sent now.
    pub(super) async fn start(&mut self, app: &App) {
        for channel in channels(&app.config().notify) {
            let rests = self.rests.get(&channel).is_some_and(|until| Instant::now() < *until);
            if rests || self.busy.contains(&channel) {
                continue;
            }
            self.rests.insert(channel, Instant::now() + REST);
            match next(app, channel).await {
                Ok(Some(waiting)) => self.begin(app, waiting),
                Ok(None) => {}
                Err(problem) => {
                    tracing::error!(code = %problem.code, %channel, "messages could not be read: {}", problem.message);
                }
            }
        }
    }

    fn begin(&mut self, app: &App, waiting: WaitingMessage) {
        self.busy.push(waiting.message.channel);
        let app = app.clone();
        self.sending.spawn(async move {
            let result = match serde_json::from_str::<Message>(&waiting.message.body) {
                Ok(message) => send(&app.config().notify, waiting.message.channel, &message).await,
                Err(error) => {
                    let text = format!("the message can't be read: {error}");
                    Err(SendFailure { problem: Problem::new(Code::CatalogDamaged, text), for_itself: true })
                }
            };
            (waiting, result)
        });
    }

    /// Waits until a try ends; for ever where none runs. Nothing is lost where the wait is broken off.
    pub(super) async fn join(&mut self) -> JoinedSend {
        match self.sending.join_next().await {
            Some(joined) => joined,
            None => std::future::pending().await,
        }
    }

    /// Waits until every try that runs has ended, and writes down what each came to.
    pub(super) async fn finish(&mut self, app: &App) {
        while !self.sending.is_empty() {
            let joined = self.join().await;
            self.ended(app, joined).await;
        }
    }

    /// Writes down what a try came to.
    pub(super) async fn ended(&mut self, app: &App, joined: JoinedSend) {
        // Whatever waits behind it has its turn.
        self.rests.clear();
        match joined {
            Ok((waiting, result)) => {
                self.busy.retain(|busy| *busy != waiting.message.channel);
                if let Err(problem) = record(app, &waiting, result).await {
                    // It is sent again under the same id: better twice than not at all.
                    let (id, code) = (&waiting.message.id, problem.code);
                    tracing::error!(message = id, %code, "what became of a message could not be recorded: {}", problem.message);
                    self.rests.insert(waiting.message.channel, Instant::now() + REST);
                }
            }
            Err(error) => {
                tracing::error!(%error, "sending a message failed; it is tried again");
                self.busy.clear();
                self.rests.extend(Channel::ALL.iter().map(|channel| (*channel, Instant::now() + REST)));
            }
        }
    }
}

/// The message whose turn it is; none while it waits for its next try. Those that are too old are given up.
async fn next(app: &App, channel: Channel) -> Result<Option<WaitingMessage>, Problem> {
    while let Some(waiting) = app.catalog().next_message(channel).await? {
        let now = app.now();
        if now.duration_since(waiting.made) > OLDEST {
            give_up(app, &waiting, "it was not taken for three days").await?;
            continue;
        }
        let waits = waiting.not_before.is_some_and(|until| now < until && until.duration_since(now) <= LONGEST_WAIT);
        return Ok((!waits).then_some(waiting));
    }
    Ok(None)
}

/// Gives up the oldest messages of each way that these would be too much for.
pub(super) async fn make_room(app: &App, messages: &[NewMessage]) -> Result<(), Problem> {
    if messages.is_empty() {
        return Ok(());
    }
    let waiting = app.catalog().waiting_messages().await?;
    for channel in Channel::ALL {
        let new = messages.iter().filter(|message| message.channel == *channel).count();
        let all = waiting
            .get(channel.as_str())
            .copied()
            .unwrap_or_default()
            .saturating_add(new.try_into().unwrap_or(u64::MAX));
        for _ in 0..all.saturating_sub(MOST) {
            let Some(oldest) = app.catalog().next_message(*channel).await? else { break };
            give_up(app, &oldest, "too many messages wait").await?;
        }
    }
    Ok(())
}

async fn record(app: &App, waiting: &WaitingMessage, result: Result<Vec<String>, SendFailure>) -> Result<(), Problem> {
    let (id, channel) = (&waiting.message.id, waiting.message.channel);
    let failed = match result {
        Ok(left) => {
            app.catalog().message_done(waiting.seq).await?;
            app.metrics().notified(channel, Notified::Sent);
            let event = &waiting.message.event;
            tracing::info!(message = id, %channel, event, tries = waiting.tries + 1, "a message was sent");
            for recipient in left {
                tracing::warn!(message = id, "the mail server does not take a recipient: {recipient}");
            }
            return Ok(());
        }
        Err(failed) => failed,
    };
    let problem = failed.problem;
    let tries = waiting.tries.saturating_add(1);
    if failed.for_itself && tries >= TRIES {
        tracing::error!(message = id, %channel, code = %problem.code, hint = problem.hint, "{}", problem.message);
        app.metrics().notified(channel, Notified::Failed);
        return give_up(app, waiting, &problem.message).await;
    }
    let again = not_before(&problem, tries, app.now());
    let (code, hint) = (problem.code, &problem.hint);
    tracing::warn!(message = id, %channel, %code, hint, %again, "a message was not sent: {}", problem.message);
    app.catalog().message_failed(waiting.seq, &problem.message, again).await?;
    app.metrics().notified(channel, Notified::Failed);
    Ok(())
}

fn not_before(problem: &Problem, tries: u64, now: Timestamp) -> Timestamp {
    // What waits behind it may be urgent, and what was wrong is often put right where nobody tells us.
    now.checked_add(backoff::wait(problem, tries).min(LONGEST)).unwrap_or(Timestamp::MAX)
}

async fn give_up(app: &App, waiting: &WaitingMessage, why: &str) -> Result<(), Problem> {
    let (id, channel) = (&waiting.message.id, waiting.message.channel);
    app.catalog().message_done(waiting.seq).await?;
    app.metrics().notified(channel, Notified::GivenUp);
    let event = &waiting.message.event;
    tracing::error!(message = id, %channel, event, tries = waiting.tries, "a message is given up: {why}");
    let detail =
        json!({ "channel": channel, "event": event, "made": waiting.made, "tries": waiting.tries, "why": why });
    stackferry_engine::audit::record(app.catalog(), AuditAction::NotificationGivenUp, PROGRAM, id, &detail).await;
    Ok(())
}
