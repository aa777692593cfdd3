//! Forgetting what was done long ago, so that the catalog does not grow for ever: attempts, credentials that are over,
//! and the oldest records of the audit.
//!
//! Attempts and credentials go one by one. The audit's records are a chain, so it is cut: all records up to one go, and a
//! record of the cut itself, with the number and the digest of the last one that went, is added to what stays. The number
//! and the digest are also kept beside the chain, which is checked from there on. All of that is one transaction.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use stackferry_volume::Digest;

use crate::audit::{self, ANCHOR, AuditAction};
use crate::convert::stamp;
use crate::error::CatalogError;
use crate::meta;
use crate::pool::Catalog;
use crate::session::DbSession;

/// Who cuts.
const SELF: &str = "stackferry";
/// So many rows go in one transaction: others wait for it, and its pages lie in the log until then.
const CHUNK: i64 = 5000;
/// So many of the newest rows say how long a row is.
const SAMPLE: i64 = 500;
/// What a row takes beside its texts: its number, the form of its columns, its share of pages and indexes.
const ROW: i64 = 60;
/// What a row of attempts takes beside its texts, its indexes included.
const ATTEMPT_ROW: i64 = 260;
/// Credentials that are over are kept at most so long: the audit records each.
const CREDENTIALS: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What is kept of what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// What is older goes.
    pub before: Timestamp,
    /// What audit records and attempts may take together, in bytes; about a quarter is for attempts.
    pub size: u64,
}

/// How much was forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Attempts.
    pub attempts: u64,
    /// Credentials.
    pub credentials: u64,
    /// Audit records.
    pub audit: u64,
}

impl Catalog {
    /// Forgets what is older than the limits say, or more than they let. What volumes' rows say of their last attempts, and
    /// attempts and credentials that are open, stay. Durable, some thousand rows at a time.
    ///
    /// # Errors
    /// `Row`, or `Database`; what was forgotten before stays so.
    pub async fn trim_history(&self, limits: &HistoryLimits) -> Result<Trimmed, CatalogError> {
        let mut done = Trimmed { attempts: self.trim_attempts(limits).await?, ..Trimmed::default() };
        let now = self.clock().now();
        let before = limits.before.max(now.checked_sub(CREDENTIALS).unwrap_or(Timestamp::MIN));
        // One that was used and of which nothing stands anywhere is over with its time: its end is not recorded.
        done.credentials = self
            .delete_rows(
                "DELETE FROM credentials WHERE name IN (SELECT name FROM credentials WHERE ended < $1 \
                   OR (ended IS NULL AND NOT standing AND used IS NOT NULL AND expires < $1) LIMIT $2)",
                &stamp(before),
            )
            .await?;
        done.audit = self.trim_audit(limits).await?;
        Ok(done)
    }

    async fn trim_attempts(&self, limits: &HistoryLimits) -> Result<u64, CatalogError> {
        let old = "DELETE FROM attempts WHERE id IN (SELECT id FROM attempts WHERE ended < $1 LIMIT $2)";
        let gone = self.delete_rows(old, &stamp(limits.before)).await?;
        let texts = "length(volume) + length(process) + COALESCE(length(version), 0) + COALESCE(length(error_text), 0)";
        let Some(span) = self.span("attempts", texts, ATTEMPT_ROW).await? else { return Ok(gone) };
        let last = span.last_to_go(limits.size / 4);
        if last < span.first {
            return Ok(gone);
        }
        let many = "DELETE FROM attempts WHERE id IN \
            (SELECT id FROM attempts WHERE id <= CAST($1 AS BIGINT) AND ended IS NOT NULL LIMIT $2)";
        Ok(gone + self.delete_rows(many, &last.to_string()).await?)
    }

    /// Deletes rows until none is left that fits. The statement's first parameter is `text`, its second the most at once.
    async fn delete_rows(&self, sql: &'static str, text: &str) -> Result<u64, CatalogError> {
        let mut gone = 0;
        loop {
            let mut tx = self.write("trimming the history", "the catalog").await?;
            let rows = tx.execute(sqlx::query(sql).bind(text).bind(CHUNK)).await?;
            tx.commit().await?;
            gone += rows;
            if i64::try_from(rows).unwrap_or(CHUNK) < CHUNK {
                return Ok(gone);
            }
        }
    }

    async fn trim_audit(&self, limits: &HistoryLimits) -> Result<u64, CatalogError> {
        let texts = "length(at) + length(action) + length(actor) + length(subject) + length(detail) + length(digest)";
        let Some(mut span) = self.span("audit", texts, ROW).await? else { return Ok(0) };
        let by_age = self.last_audit_before(&span, limits.before).await?;
        let last = by_age.max(span.last_to_go(limits.size / 4 * 3)).min(span.last);
        let mut gone = 0;
        while span.first <= last {
            let through = last.min(span.first.saturating_add(CHUNK - 1));
            let mut tx = self.write("cutting the audit", "its oldest records").await?;
            let now = self.clock().now();
            gone += cut(&mut tx, through, limits, now).await?;
            tx.commit().await?;
            span.first = through + 1;
        }
        Ok(gone)
    }

    /// The last record that is older, since numbers and times grow together; 0 if none is.
    async fn last_audit_before(&self, span: &Span, before: Timestamp) -> Result<i64, CatalogError> {
        let mut session = self.session("cutting the audit", "its oldest records").await?;
        let (mut low, mut high) = (span.first - 1, span.last);
        let before = stamp(before);
        while low < high {
            let middle = low + (high - low + 1) / 2;
            let query = sqlx::query("SELECT at FROM audit WHERE id >= $1 ORDER BY id LIMIT 1").bind(middle);
            let is_older = session.optional(query, |row| row.text("at")).await?.is_some_and(|at| at < before);
            if is_older { low = middle } else { high = middle - 1 }
        }
        Ok(if low < span.first { 0 } else { low })
    }

    /// The numbers of a table's rows, and about how long one is; none if there are none. Numbers are given without gaps.
    async fn span(&self, table: &'static str, texts: &'static str, beside: i64) -> Result<Option<Span>, CatalogError> {
        let sql = format!(
            "SELECT (SELECT MIN(id) FROM {table}) AS first, (SELECT MAX(id) FROM {table}) AS last, \
               (SELECT CAST(AVG({texts}) AS BIGINT) FROM (SELECT * FROM {table} ORDER BY id DESC LIMIT {SAMPLE})) AS bytes"
        );
        let mut session = self.session("measuring the history", table).await?;
        let span = session.one(sqlx::query(sqlx::AssertSqlSafe(sql)), |row| {
            if row.opt_count("first")?.is_none() {
                return Ok(None);
            }
            let bytes = row.signed("bytes")? + beside;
            Ok(Some(Span { first: row.signed("first")?, last: row.signed("last")?, bytes }))
        });
        span.await
    }
}

/// The rows of a table.
struct Span {
    first: i64,
    last: i64,
    /// What one takes.
    bytes: i64,
}

impl Span {
    /// The last row that has to go so that the others take at most `size`.
    fn last_to_go(&self, size: u64) -> i64 {
        let most = i64::try_from(size).unwrap_or(i64::MAX) / self.bytes.max(1);
        self.last.saturating_sub(most)
    }
}

/// Cuts the chain after the record `through`. Returns the number of records that went.
async fn cut(tx: &mut DbSession, through: i64, limits: &HistoryLimits, now: Timestamp) -> Result<u64, CatalogError> {
    let query = sqlx::query("SELECT id, digest FROM audit WHERE id = $1").bind(through);
    let last = tx.optional(query, |row| Ok((row.count("id")?, row.parsed::<Digest>("digest")?))).await?;
    // Another process was faster, or a record is missing: that is for whoever checks the chain.
    let Some((id, digest)) = last else { return Ok(0) };
    let detail = json!({ "through": id, "digest": digest, "before": limits.before });
    audit::append(tx, now, AuditAction::HistoryTrimmed, SELF, "audit", &detail).await?;
    meta::put(tx, ANCHOR, &format!("{id} {digest}")).await?;
    tx.execute(sqlx::query("DELETE FROM audit WHERE id <= $1").bind(through)).await
}
