//! What was done, by whom, to what: records that are only ever added, each sealed with the digest of the one before.
//!
//! A record's digest is the BLAKE3 of the former record's digest (32 zero bytes for the first) and its own fields, each
//! led by its length. So a record that is changed, removed or put in between breaks the chain, and the last digest,
//! kept beside the chain, shows records cut off at its end. Who can write the file can also rebuild the whole chain
//! : keep [`AuditCheck::head`] elsewhere to know of that too.
//!
//! The oldest records go when their time is over (`history`): the chain then begins with the digest of the last one that
//! went, and a record of the cut says so.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};
use stackferry_volume::Digest;

use crate::convert::{Row, stamp, words};
use crate::error::CatalogError;
use crate::meta;
use crate::pool::Catalog;
use crate::session::DbSession;

/// Where the number and the digest of the last record are kept.
const HEAD: &str = "audit_head";
/// Where the number and the digest of the last record that was cut off are kept.
pub(crate) const ANCHOR: &str = "audit_anchor";
/// So many records are checked at a time: the chain may be long, memory is not.
const PAGE: u32 = 1000;
const DOMAIN: &[u8] = b"stackferry audit record 1\0";

words! {
    /// What was done.
    AuditAction ("audit action") {
        /// A credential was made.
        CredentialIssued = "credential_issued",
        /// A credential opened its file.
        CredentialUsed = "credential_used",
        /// A credential was refused.
        CredentialRefused = "credential_refused",
        /// A credential's time was over.
        CredentialExpired = "credential_expired",
        /// A credential was revoked.
        CredentialRevoked = "credential_revoked",
        /// A person was given a credential for a file.
        Grant = "grant",
        /// The service or the endpoint began its work.
        ServiceStarted = "service_started",
        /// The service or the endpoint ended its work.
        ServiceStopped = "service_stopped",
        /// A volume was copied.
        Copied = "copied",
        /// A copy failed.
        CopyFailed = "copy_failed",
        /// A running copy was ended by a person.
        CopyCancelled = "copy_cancelled",
        /// A version was restored.
        Restored = "restored",
        /// Putting a version back failed.
        RestoreFailed = "restore_failed",
        /// Versions were read back and checked.
        Verified = "verified",
        /// What is known of a datastore is kept under its new name.
        DatastoreRenamed = "datastore_renamed",
        /// A version was opened as a disk.
        RestoreTested = "restore_tested",
        /// A version was found damaged.
        DamageFound = "damage_found",
        /// A disk changed unexpectedly.
        IncidentFound = "incident_found",
        /// A person reviewed an incident.
        IncidentCleared = "incident_cleared",
        /// A version was deleted.
        VersionDeleted = "version_deleted",
        /// A version is kept whatever retention says.
        Pinned = "pinned",
        /// A version is subject to retention again.
        Unpinned = "unpinned",
        /// Somebody asked for something that is done as a job.
        JobRequested = "job_wanted",
        /// A person cancelled a job.
        JobCancelled = "job_cancelled",
        /// Copying was paused for a volume or for all.
        Paused = "paused",
        /// Copying goes on.
        Resumed = "resumed",
        /// The service works by another configuration.
        ConfigReloaded = "config_reloaded",
        /// The clock jumped, and nothing is deleted until somebody confirms it.
        PruneFrozen = "prune_frozen",
        /// A person confirmed the clock: retention deletes again.
        ClockConfirmed = "clock_confirmed",
        /// The catalog was rebuilt from the vault.
        CatalogRebuilt = "catalog_rebuilt",
        /// A vault was made or adopted.
        VaultBound = "vault_bound",
        /// A new host, certificate or key was taken as known.
        HostTrusted = "host_trusted",
        /// A host, certificate or key is not the one that is known.
        HostRefused = "host_refused",
        /// Somebody logged in to the console.
        LoggedIn = "logged_in",
        /// A caller could not show who they are, or may not do what they asked for.
        AccessDenied = "access_denied",
        /// A token for the API was made.
        TokenCreated = "token_created",
        /// A token for the API was revoked.
        TokenRevoked = "token_revoked",
        /// An account was made on a host.
        AccountCreated = "account_created",
        /// An account was removed from a host.
        AccountRemoved = "account_removed",
        /// A host's or a peer's setting was changed for a transfer (SSH started, a writable disabled).
        PeerChanged = "peer_changed",
        /// A change at a peer was undone.
        PeerRestored = "peer_restored",
        /// The oldest records of the audit were cut off: their time was over.
        HistoryTrimmed = "history_trimmed",
        /// A message about problems could not be sent and is not tried again.
        NotificationGivenUp = "notification_given_up",
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditRecord {
    /// Its number, from 1, without gaps.
    pub id: u64,
    /// When it was written.
    pub at: Timestamp,
    /// What was done. A text, so that records of a newer program can be read.
    pub action: String,
    /// By whom.
    pub actor: String,
    /// To what.
    pub subject: String,
    /// What else there is to say.
    pub detail: Value,
    /// The digest that seals it and all before it.
    pub digest: Digest,
}

/// What became of a check of all records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditCheck {
    /// How many records are in order: all, or those before the first that is not.
    pub records: u64,
    /// How many were cut off before them, since their time was over.
    pub cut: u64,
    /// The digest of the last of them; none if there is none.
    pub head: Option<Digest>,
    /// The first record that is not in order, and why.
    pub broken: Option<(u64, String)>,
}

impl Catalog {
    /// Adds a record, safely beside other processes that do the same. Returns its number. One durable transaction.
    ///
    /// # Errors
    /// `Row` if the last record can't be read, `Json`, or `Database`.
    pub async fn audit(
        &self,
        action: AuditAction,
        actor: &str,
        subject: &str,
        detail: &Value,
    ) -> Result<u64, CatalogError> {
        let mut tx = self.write("writing an audit record", format!("{action} {subject}")).await?;
        let id = append(&mut tx, self.clock().now(), action, actor, subject, detail).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// The records after number `after`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn audit_records(&self, after: u64, limit: u32) -> Result<Vec<AuditRecord>, CatalogError> {
        let mut session = self.session("reading audit records", format!("after {after}")).await?;
        let rows = page(&mut session, after, limit).await?;
        rows.iter().map(|row| record(&session.row(row))).collect()
    }

    /// The last records, newest first, at most `limit`.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn last_audit_records(&self, limit: u32) -> Result<Vec<AuditRecord>, CatalogError> {
        let mut session = self.session("reading audit records", "the last").await?;
        let query = sqlx::query("SELECT * FROM audit ORDER BY id DESC LIMIT $1").bind(i64::from(limit));
        session.all(query, record).await
    }

    /// The records before number `before`, newest first, at most `limit`: those of `action`, those about `subject`, or all.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn audit_records_before(
        &self,
        before: Option<u64>,
        action: Option<&str>,
        subject: Option<&str>,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, CatalogError> {
        let mut session = self.session("reading audit records", "a page").await?;
        // No record has a number beyond what SQL can count.
        let before = before.map(|before| i64::try_from(before).unwrap_or(i64::MAX));
        let query = sqlx::query(
            "SELECT * FROM audit WHERE ($1 IS NULL OR id < $1) AND ($2 IS NULL OR action = $2) \
             AND ($3 IS NULL OR subject = $3) ORDER BY id DESC LIMIT $4",
        )
        .bind(before)
        .bind(action)
        .bind(subject)
        .bind(i64::from(limit));
        session.all(query, record).await
    }

    /// Checks every record's seal, and that none is missing.
    ///
    /// # Errors
    /// `Database`; a broken chain is no error but an answer.
    pub async fn verify_audit(&self) -> Result<AuditCheck, CatalogError> {
        let mut tx = self.read("checking the audit records", "the catalog").await?;
        let mut check = AuditCheck { records: 0, cut: 0, head: None, broken: None };
        let anchor = meta::get(&mut tx, ANCHOR).await?;
        if let Some(text) = &anchor {
            let read = text.split_once(' ').and_then(|(id, digest)| Some((id.parse().ok()?, digest.parse().ok()?)));
            let Some((cut, digest)) = read else {
                check.broken = Some((1, "the beginning of the chain is unknown".to_owned()));
                return Ok(check);
            };
            (check.cut, check.head) = (cut, Some(digest));
        }
        let mut last = check.cut;
        let mut announced = None;
        loop {
            let rows = page(&mut tx, last, PAGE).await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                let row = tx.row(row);
                match sealed(&row, last, check.head) {
                    Ok(digest) => {
                        last += 1;
                        check.records += 1;
                        check.head = Some(digest);
                        announced = cut_of(&row).or(announced);
                    }
                    Err(why) => {
                        check.broken = Some((last.saturating_add(1), why));
                        return Ok(check);
                    }
                }
            }
        }
        let head = meta::get(&mut tx, HEAD).await?;
        if head != check.head.map(|digest| head_text(last, digest)) {
            let why = "records are missing at the end: the last one is not the last that was written";
            check.broken = Some((last.saturating_add(1), why.into()));
        } else if anchor != announced {
            let why = "records are missing before it, and no record says that they expired";
            check.broken = Some((check.cut.saturating_add(1), why.into()));
        }
        Ok(check)
    }
}

/// Adds a record within a transaction.
pub(crate) async fn append(
    tx: &mut DbSession,
    at: Timestamp,
    action: AuditAction,
    actor: &str,
    subject: &str,
    detail: &Value,
) -> Result<u64, CatalogError> {
    let entry = AuditEntry { action, actor, subject, detail };
    append_all(tx, at, std::slice::from_ref(&entry)).await
}

/// What a record is made of.
pub(crate) struct AuditEntry<'a> {
    pub(crate) action: AuditAction,
    pub(crate) actor: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) detail: &'a Value,
}

/// Adds records, some thousand at most, within a transaction. Returns the number of the last one.
pub(crate) async fn append_all(
    tx: &mut DbSession,
    at: Timestamp,
    entries: &[AuditEntry<'_>],
) -> Result<u64, CatalogError> {
    let query = sqlx::query("SELECT id, digest FROM audit ORDER BY id DESC LIMIT 1");
    let last = tx.optional(query, |row| Ok((row.count("id")?, Some(row.parsed::<Digest>("digest")?)))).await?;
    let (mut id, mut former) = last.unwrap_or((0, None));
    let at = stamp(at);
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        id = id.saturating_add(1);
        let detail = tx.json("detail", entry.detail)?;
        let digest = seal(former, id, [&at, entry.action.as_str(), entry.actor, entry.subject, &detail]);
        rows.push((tx.number("id", id)?, entry, detail, digest));
        former = Some(digest);
    }
    let Some(digest) = former.filter(|_| !rows.is_empty()) else { return Ok(id) };
    // One statement for many: each is a way to another thread and back.
    let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO audit (id, at, action, actor, subject, detail, digest) ");
    insert.push_values(&rows, |mut row, (id, entry, detail, digest)| {
        row.push_bind(*id)
            .push_bind(&at)
            .push_bind(entry.action.as_str())
            .push_bind(entry.actor)
            .push_bind(entry.subject)
            .push_bind(detail)
            .push_bind(digest.to_string());
    });
    tx.execute(insert.build()).await?;
    meta::put(tx, HEAD, &head_text(id, digest)).await?;
    Ok(id)
}

/// What a record of a cut says, as it is kept beside the chain; none of another record.
fn cut_of(row: &Row<'_>) -> Option<String> {
    let record = record(row).ok().filter(|record| record.action == AuditAction::HistoryTrimmed.as_str())?;
    Some(format!("{} {}", record.detail.get("through")?.as_u64()?, record.detail.get("digest")?.as_str()?))
}

fn head_text(id: u64, digest: Digest) -> String {
    format!("{id} {digest}")
}

fn seal(former: Option<Digest>, id: u64, fields: [&str; 5]) -> Digest {
    let mut bytes = DOMAIN.to_vec();
    bytes.extend_from_slice(former.map_or([0; 32], |digest| *digest.as_bytes()).as_slice());
    bytes.extend_from_slice(&id.to_le_bytes());
    for field in fields {
        // No text is longer than 2^64 bytes.
        bytes.extend_from_slice(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_le_bytes());
        bytes.extend_from_slice(field.as_bytes());
    }
    Digest::of(&bytes)
}

/// The digest of a row if it is the right one after `before` records that end with `former`; else what is wrong.
fn sealed(row: &Row<'_>, before: u64, former: Option<Digest>) -> Result<Digest, String> {
    let unreadable = |error: CatalogError| format!("it can't be read: {error}");
    let id = row.count("id").map_err(unreadable)?;
    if id != before.saturating_add(1) {
        return Err(format!("it is missing: the next record has the number {id}"));
    }
    let mut fields = Vec::with_capacity(5);
    for column in ["at", "action", "actor", "subject", "detail"] {
        fields.push(row.text(column).map_err(unreadable)?);
    }
    let recorded: Digest = row.parsed("digest").map_err(unreadable)?;
    let fields: [String; 5] = fields.try_into().map_err(|_| "it can't be read".to_owned())?;
    let digest = seal(former, id, fields.each_ref().map(String::as_str));
    if digest == recorded {
        Ok(digest)
    } else {
        Err("its digest is not that of its fields and the record before it".into())
    }
}

async fn page(tx: &mut DbSession, after: u64, limit: u32) -> Result<Vec<SqliteRow>, CatalogError> {
    let query = sqlx::query("SELECT * FROM audit WHERE id > $1 ORDER BY id LIMIT $2");
    tx.rows(query.bind(tx.number("id", after)?).bind(i64::from(limit))).await
}

fn record(row: &Row<'_>) -> Result<AuditRecord, CatalogError> {
    Ok(AuditRecord {
        id: row.count("id")?,
        at: row.time("at")?,
        action: row.text("action")?,
        actor: row.text("actor")?,
        subject: row.text("subject")?,
        detail: row.json("detail")?,
        digest: row.parsed("digest")?,
    })
}
