//! Tells people what is wrong, by a webhook and by mail: once when it becomes wrong, once when it is right again, and in a
//! digest once a day. Off unless the configuration has `[notify]`.
//!
//! It looks (`look`), decides what is new (`decide`), writes that down together with the messages (the catalog), and sends
//! what is written down (`send`). So nothing is told twice and nothing is forgotten, whenever the program ends. Only the
//! service that leads does so.
//!
//! It runs beside everything else and must never hold anything up: a receiver that hangs costs its own task its deadline.

mod decide;
mod digest;
mod failure;
mod mail;
mod message;
mod outbox;
mod send;
mod snapshot;
mod standing;
mod trouble;
mod webhook;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use stackferry_catalog::{Channel, NewMessage, NotifyChange};
use stackferry_config::{DayTime, DigestWhen, Notify};
use tokio::time::MissedTickBehavior;

use decide::decide;
use message::Event;
use outbox::Outbox;
use snapshot::{SiteSnapshot, look};
use stackferry_engine::app::{App, Room};
use stackferry_engine::health::{Health, shortest_interval};
use stackferry_problem::Problem;

pub use message::Sender;
pub use send::{channels, check, send};

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(500);
/// Two looks at what is wrong are so far apart at most; less where rounds come more often.
const LOOK: Duration = Duration::from_secs(60);
/// How long a message that is on its way when the service ends may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// After this, what is wrong is told though no round has ended: rounds that hang are a trouble, too.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Runs until the end is asked for.
pub async fn run(app: App, health: Arc<Health>) {
    let sender = match app.catalog().install_id().await {
        Ok(install) => Sender::new(install),
        Err(error) => {
            let error = stackferry_transfer::describe(&error);
            return tracing::error!(error, "nobody will be told of problems: the installation's id can't be read");
        }
    };
    let mut teller = Teller { sender, health, room: Room::default(), began: Instant::now(), looked: None, told: None };
    let mut outbox = Outbox::default();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            joined = outbox.join() => outbox.ended(&app, joined).await,
        }
        if app.cancel().is_cancelled() {
            // What is not taken by then is sent again by the next start.
            let _ = tokio::time::timeout(LAST_WORDS, outbox.finish(&app)).await;
            return;
        }
        let app = app.latest();
        if !app.metrics().is_leader() {
            continue;
        }
        outbox.reconfigured(&app).await;
        if app.config().notify.is_off() {
            continue;
        }
        if teller.is_due(&app) {
            match teller.look(&app).await {
                Ok(()) => teller.told = None,
                Err(problem) => teller.complain(problem),
            }
            outbox.look_again();
        }
        outbox.start(&app).await;
    }
}

/// Looks, and writes down what is to be told.
struct Teller {
    sender: Sender,
    health: Arc<Health>,
    room: Room,
    began: Instant,
    looked: Option<Instant>,
    /// The last trouble of its own that was logged: it is logged once.
    told: Option<String>,
}

impl Teller {
    fn is_due(&self, app: &App) -> bool {
        let every = shortest_interval(app.config()).min(LOOK);
        let knows = !self.health.is_new() || self.began.elapsed() >= PATIENCE;
        knows && self.looked.is_none_or(|at| at.elapsed() >= every)
    }

    fn complain(&mut self, problem: Problem) {
        if self.told.as_ref() != Some(&problem.message) {
            tracing::error!(code = %problem.code, hint = problem.hint, "what is wrong can't be told: {}", problem.message);
            self.told = Some(problem.message);
        }
    }

    async fn look(&mut self, app: &App) -> Result<(), Problem> {
        self.looked = Some(Instant::now());
        let (catalog, settings, now) = (app.catalog(), &app.config().notify, app.now());
        let is_new = self.health.is_new() && self.began.elapsed() < PATIENCE;
        let look = look(app, (&self.health, is_new), &self.room, now).await?;
        let rows = catalog.reported_problems().await?;
        let decided = decide(settings, &look, rows, &catalog.reported_codes().await?, now);
        let mut change = NotifyChange { codes: decided.codes(), ..NotifyChange::default() };
        for (event, kinds) in [(Event::Problem, &decided.new), (Event::Resolved, &decided.over)] {
            if kinds.is_empty() {
                continue;
            }
            let message = self.sender.change(event, kinds, now);
            tracing::info!(message = message.id, event = event.as_str(), "{}", message.headline());
            for channel in channels(settings).into_iter().filter(|channel| tells_each(settings, *channel)) {
                change.messages.push(new(channel, &message)?);
            }
        }
        (change.put, change.forget) = (decided.put, decided.forget);
        self.digests(app, &look, &mut change).await?;
        outbox::make_room(app, &change.messages).await?;
        Ok(catalog.record_problems(&change).await?)
    }

    /// Adds the digests that are due.
    async fn digests(&self, app: &App, look: &SiteSnapshot, change: &mut NotifyChange) -> Result<(), Problem> {
        let settings = &app.config().notify;
        let now = app.now().to_zoned(TimeZone::system());
        for channel in channels(settings) {
            let Some((at, when)) = digest_of(settings, channel) else { continue };
            let noted = app.catalog().last_digest(channel).await?;
            let Some(last) = digest::noted(noted.as_deref(), &now) else {
                change.digests.push((channel, digest::first(&now, at).to_string()));
                continue;
            };
            let Some(day) = digest::due(last, &now, at) else { continue };
            change.digests.push((channel, day.to_string()));
            if when == DigestWhen::Always || !look.found.is_empty() {
                change.messages.push(new(channel, &self.sender.digest(look, now.timestamp()))?);
            }
        }
        Ok(())
    }
}

/// Whether each problem and each end is told by this way.
fn tells_each(settings: &Notify, channel: Channel) -> bool {
    channel != Channel::Mail || settings.mail.as_ref().is_some_and(|mail| mail.each)
}

/// When the digest of this way is sent; none where it has none.
fn digest_of(settings: &Notify, channel: Channel) -> Option<(DayTime, DigestWhen)> {
    match channel {
        Channel::Webhook => settings.webhook.as_ref().and_then(|webhook| Some((webhook.at?, webhook.when))),
        _ => settings.mail.as_ref().map(|mail| (mail.at, mail.when)),
    }
}

fn new(channel: Channel, message: &message::Message) -> Result<NewMessage, Problem> {
    let body = serde_json::to_string(message).map_err(|error| Problem::internal(format!("no JSON: {error}")))?;
    Ok(NewMessage { id: message.id.clone(), channel, event: message.event.as_str().to_owned(), body })
}
