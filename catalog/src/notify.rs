//! What those know who are told of problems, and the messages that are on their way to them.
//!
//! That a problem was told and the message that tells it are one transaction: after a crash either both are there or
//! neither is, so nothing is told twice and nothing is forgotten. A message's row goes only after its receiver took it, so
//! a crash in between sends it again, under the same id.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::convert::{Row, opt_stamp, stamp, words};
use crate::error::CatalogError;
use crate::meta;
use crate::pool::Catalog;
use crate::session::DbSession;

/// The prefix of a channel's marker of its last digest.
const DIGEST: &str = "note/notify_digest/";

words! {
    /// A way by which somebody is told.
    Channel ("way of telling") {
        /// An HTTPS address.
        Webhook = "webhook",
        /// Mail.
        Mail = "mail",
    }
}

/// A problem, as those know it who are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedProblem {
    /// Of which kind.
    pub code: String,
    /// What it is about: an id that stays.
    pub subject: String,
    /// The subject as a person reads it.
    pub name: String,
    /// What more there is to say of it.
    pub detail: Option<String>,
    /// Since when it is so, as far as that is known.
    pub since: Timestamp,
    /// When it was first found.
    pub seen: Timestamp,
    /// When it was told; none before.
    pub reported: Option<Timestamp>,
    /// Since when it is not found any more; none while it is.
    pub gone: Option<Timestamp>,
}

/// A message for one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMessage {
    /// Its id: the same for each way, and at each try.
    pub id: String,
    /// The way.
    pub channel: Channel,
    /// What kind of message it is.
    pub event: String,
    /// The message as JSON.
    pub body: String,
}

/// A message that was not taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingMessage {
    /// Its place in the order of messages.
    pub seq: i64,
    /// The message.
    pub message: NewMessage,
    /// When it was made.
    pub made: Timestamp,
    /// How often it was tried.
    pub tries: u64,
    /// When it may be tried next; none: at once.
    pub not_before: Option<Timestamp>,
    /// Why the last try failed.
    pub last_error: Option<String>,
}

/// The result of a check for problems: all of it is written at once, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotifyChange {
    /// Problems that are new or have changed.
    pub put: Vec<ReportedProblem>,
    /// Problems, by code and subject, that are over and done with.
    pub forget: Vec<(String, String)>,
    /// Kinds of problems that a message was made of now.
    pub codes: Vec<String>,
    /// Messages to send.
    pub messages: Vec<NewMessage>,
    /// Ways whose digest is made now, and the day of that digest as `YYYY-MM-DD`. A digest of the same way that still waits
    /// is replaced.
    pub digests: Vec<(Channel, String)>,
}

impl NotifyChange {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

impl Catalog {
    /// The problems as they were last written, by code and subject.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn reported_problems(&self) -> Result<Vec<ReportedProblem>, CatalogError> {
        let mut session = self.session("reading what was reported", "the catalog").await?;
        let read = |row: &Row<'_>| {
            Ok(ReportedProblem {
                code: row.text("code")?,
                subject: row.text("subject")?,
                name: row.text("name")?,
                detail: row.opt_text("detail")?,
                since: row.time("since")?,
                seen: row.time("seen")?,
                reported: row.opt_time("told")?,
                gone: row.opt_time("gone")?,
            })
        };
        session.all(sqlx::query("SELECT * FROM notify_problems ORDER BY code, subject"), read).await
    }

    /// When a message about each kind of problem was last made.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn reported_codes(&self) -> Result<BTreeMap<String, Timestamp>, CatalogError> {
        let mut session = self.session("reading what was reported", "the catalog").await?;
        let query = sqlx::query("SELECT code, told FROM notify_codes");
        let codes = session.all(query, |row| Ok((row.text("code")?, row.time("told")?))).await?;
        Ok(codes.into_iter().collect())
    }

    /// The day of the last digest by this way, as `YYYY-MM-DD`; none before the first.
    ///
    /// # Errors
    /// `Database`.
    pub async fn last_digest(&self, channel: Channel) -> Result<Option<String>, CatalogError> {
        let mut session = self.session("reading when the last digest was made", channel).await?;
        meta::get(&mut session, &format!("{DIGEST}{channel}")).await
    }

    /// Writes what a look at the problems came to. One durable transaction.
    ///
    /// # Errors
    /// `Database`: then nothing of it is written.
    pub async fn record_problems(&self, change: &NotifyChange) -> Result<(), CatalogError> {
        if change.is_empty() {
            return Ok(());
        }
        let now = stamp(self.clock().now());
        let mut tx = self.write("recording what is reported", format!("{} problems", change.put.len())).await?;
        for problem in &change.put {
            put(&mut tx, problem).await?;
        }
        for (code, subject) in &change.forget {
            let statement =
                sqlx::query("DELETE FROM notify_problems WHERE code = $1 AND subject = $2").bind(code).bind(subject);
            tx.execute(statement).await?;
        }
        for code in &change.codes {
            let statement = sqlx::query(
                "INSERT INTO notify_codes (code, told) VALUES ($1, $2) \
                 ON CONFLICT (code) DO UPDATE SET told = excluded.told",
            )
            .bind(code)
            .bind(&now);
            tx.execute(statement).await?;
        }
        for (channel, day) in &change.digests {
            meta::put(&mut tx, &format!("{DIGEST}{channel}"), day).await?;
            let statement =
                sqlx::query("DELETE FROM notify_outbox WHERE channel = $1 AND event = 'digest'").bind(channel.as_str());
            tx.execute(statement).await?;
        }
        for message in &change.messages {
            let statement = sqlx::query(
                "INSERT INTO notify_outbox (id, channel, event, body, made, tries) VALUES ($1, $2, $3, $4, $5, 0)",
            )
            .bind(&message.id)
            .bind(message.channel.as_str())
            .bind(&message.event)
            .bind(&message.body)
            .bind(&now);
            tx.execute(statement).await?;
        }
        tx.commit().await
    }

    /// The oldest message that waits for this way.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn next_message(&self, channel: Channel) -> Result<Option<WaitingMessage>, CatalogError> {
        let mut session = self.session("reading the next message", channel).await?;
        let query = sqlx::query("SELECT * FROM notify_outbox WHERE channel = $1 ORDER BY seq LIMIT 1");
        let read = |row: &Row<'_>| {
            let message = NewMessage {
                id: row.text("id")?,
                channel: row.parsed("channel")?,
                event: row.text("event")?,
                body: row.text("body")?,
            };
            Ok(WaitingMessage {
                seq: row.signed("seq")?,
                message,
                made: row.time("made")?,
                tries: row.count("tries")?,
                not_before: row.opt_time("not_before")?,
                last_error: row.opt_text("last_error")?,
            })
        };
        session.optional(query.bind(channel.as_str()), read).await
    }

    /// How many messages wait for each way that any waits for.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn waiting_messages(&self) -> Result<BTreeMap<String, u64>, CatalogError> {
        let mut session = self.session("counting the messages that wait", "the catalog").await?;
        let query = sqlx::query("SELECT channel, COUNT(*) AS waiting FROM notify_outbox GROUP BY channel");
        let waiting = session.all(query, |row| Ok((row.text("channel")?, row.count("waiting")?))).await?;
        Ok(waiting.into_iter().collect())
    }

    /// A try to send a message failed: it waits until `not_before`. One durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn message_failed(&self, seq: i64, why: &str, not_before: Timestamp) -> Result<(), CatalogError> {
        let mut tx = self.write("recording that a message was not taken", seq).await?;
        let statement =
            sqlx::query("UPDATE notify_outbox SET tries = tries + 1, last_error = $2, not_before = $3 WHERE seq = $1")
                .bind(seq)
                .bind(why)
                .bind(opt_stamp(Some(not_before)));
        tx.execute(statement).await?;
        tx.commit().await
    }

    /// Messages for this way need not wait any longer: something was changed that may help. One durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn end_message_delays(&self) -> Result<(), CatalogError> {
        let mut tx = self.write("ending delays of messages", "the catalog").await?;
        tx.execute(sqlx::query("UPDATE notify_outbox SET not_before = NULL")).await?;
        tx.commit().await
    }

    /// A message was taken, or is given up: it does not wait any more. One durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn message_done(&self, seq: i64) -> Result<(), CatalogError> {
        let mut tx = self.write("recording that a message was sent", seq).await?;
        let statement = sqlx::query("DELETE FROM notify_outbox WHERE seq = $1").bind(seq);
        tx.execute(statement).await?;
        tx.commit().await
    }
}

async fn put(tx: &mut DbSession, problem: &ReportedProblem) -> Result<(), CatalogError> {
    let statement = sqlx::query(
        "INSERT INTO notify_problems (code, subject, name, detail, since, seen, told, gone) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (code, subject) DO UPDATE SET name = excluded.name, detail = excluded.detail, \
           since = excluded.since, seen = excluded.seen, told = excluded.told, gone = excluded.gone",
    )
    .bind(&problem.code)
    .bind(&problem.subject)
    .bind(&problem.name)
    .bind(&problem.detail)
    .bind(stamp(problem.since))
    .bind(stamp(problem.seen))
    .bind(opt_stamp(problem.reported))
    .bind(opt_stamp(problem.gone));
    tx.execute(statement).await.map(|_| ())
}
