//! Forgetting what was done long ago, so that the catalog does not grow for ever: attempts, credentials that are over,
//! and the oldest records of the audit.
//!
//! Attempts and credentials go one by one. The audit's records are a chain, so it is cut: all records up to one go, and a
//! record of the cut itself, with the number and the digest of the last one that went, is added to what stays. The number
//! and the digest are also kept beside the chain, which is checked from there on. All of that is one transaction.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::SqliteConnection;
use stackferry_volume::Digest;

use crate::audit::{self, ANCHOR, AuditAction};
use crate::convert::{During, stamp};
use crate::error::CatalogError;
use crate::meta;
use crate::pool::Catalog;

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
/// Credentials that are over are kept at most so long: the audit tells of each.
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
        let during = self.during("forgetting old attempts", "the catalog");
        let texts = "length(volume) + length(process) + COALESCE(length(version), 0) + COALESCE(length(error_text), 0)";
        let Some(span) = self.span(&during, "attempts", texts, ATTEMPT_ROW).await? else { return Ok(gone) };
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
        let during = self.during("forgetting what was done long ago", "the catalog");
        let mut gone = 0;
        loop {
            let mut tx = self.write(&during).await?;
            let done = sqlx::query(sql).bind(text).bind(CHUNK).execute(tx.conn()).await;
            let rows = done.map_err(|error| during.sql(error))?.rows_affected();
            tx.commit(&during).await?;
            gone += rows;
            if i64::try_from(rows).unwrap_or(CHUNK) < CHUNK {
                return Ok(gone);
            }
        }
    }

    async fn trim_audit(&self, limits: &HistoryLimits) -> Result<u64, CatalogError> {
        let during = self.during("cutting the audit", "its oldest records");
        let texts = "length(at) + length(action) + length(actor) + length(subject) + length(detail) + length(digest)";
        let Some(mut span) = self.span(&during, "audit", texts, ROW).await? else { return Ok(0) };
        let by_age = self.last_audit_before(&during, &span, limits.before).await?;
        let last = by_age.max(span.last_to_go(limits.size / 4 * 3)).min(span.last);
        let mut gone = 0;
        while span.first <= last {
            let through = last.min(span.first.saturating_add(CHUNK - 1));
            let mut tx = self.write(&during).await?;
            let now = self.clock().now();
            gone += cut(tx.conn(), &during, through, limits, now).await?;
            tx.commit(&during).await?;
            span.first = through + 1;
        }
        Ok(gone)
    }

    /// The last record that is older, since numbers and times grow together; 0 if none is.
    async fn last_audit_before(&self, during: &During, span: &Span, before: Timestamp) -> Result<i64, CatalogError> {
        let mut conn = self.pool().acquire().await.map_err(|error| during.sql(error))?;
        let (mut low, mut high) = (span.first - 1, span.last);
        let before = stamp(before);
        while low < high {
            let middle = low + (high - low + 1) / 2;
            let row = sqlx::query("SELECT at FROM audit WHERE id >= $1 ORDER BY id LIMIT 1")
                .bind(middle)
                .fetch_optional(&mut *conn)
                .await
                .map_err(|error| during.sql(error))?;
            let is_older = match &row {
                Some(row) => during.row(row).text("at")? < before,
                None => false,
            };
            if is_older { low = middle } else { high = middle - 1 }
        }
        Ok(if low < span.first { 0 } else { low })
    }

    /// The numbers of a table's rows, and about how long one is; none if there are none. Numbers are given without gaps.
    async fn span(
        &self,
        during: &During,
        table: &'static str,
        texts: &'static str,
        beside: i64,
    ) -> Result<Option<Span>, CatalogError> {
        let sql = format!(
            "SELECT (SELECT MIN(id) FROM {table}) AS first, (SELECT MAX(id) FROM {table}) AS last, \
               (SELECT CAST(AVG({texts}) AS BIGINT) FROM (SELECT * FROM {table} ORDER BY id DESC LIMIT {SAMPLE})) AS bytes"
        );
        let row =
            sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(self.pool()).await.map_err(|error| during.sql(error))?;
        let row = during.row(&row);
        if row.opt_count("first")?.is_none() {
            return Ok(None);
        }
        Ok(Some(Span { first: row.signed("first")?, last: row.signed("last")?, bytes: row.signed("bytes")? + beside }))
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

/// Cuts the chain after the record `through`. Gives the number of records that went.
async fn cut(
    conn: &mut SqliteConnection,
    during: &During,
    through: i64,
    limits: &HistoryLimits,
    now: Timestamp,
) -> Result<u64, CatalogError> {
    let row = sqlx::query("SELECT id, digest FROM audit WHERE id = $1")
        .bind(through)
        .fetch_optional(&mut *conn)
        .await
        .map_err(|error| during.sql(error))?;
    // Another process was faster, or a record is missing: that is for whoever checks the chain.
    let Some(row) = row else { return Ok(0) };
    let row = during.row(&row);
    let (id, digest) = (row.count("id")?, row.parsed::<Digest>("digest")?);
    let detail = json!({ "through": id, "digest": digest, "before": limits.before });
    audit::append(conn, during, now, AuditAction::HistoryTrimmed, SELF, "audit", &detail).await?;
    meta::put(conn, during, ANCHOR, &format!("{id} {digest}")).await?;
    let done = sqlx::query("DELETE FROM audit WHERE id <= $1").bind(through).execute(conn).await;
    Ok(done.map_err(|error| during.sql(error))?.rows_affected())
}
