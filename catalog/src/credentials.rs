//! The credentials that were issued, by their public names. A secret is never given to the catalog.
//!
//! Each issue, use, refusal, expiry and revocation is one audit record, written in the transaction that records it.

use jiff::Timestamp;
use serde_json::json;
use stackferry_volume::VolumeId;

use crate::audit::{self, AuditAction};
use crate::convert::{Row, stamp, words};
use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::session::DbSession;

/// Who acts when a credential is issued, used or ended: the program itself.
const SELF: &str = "stackferry";

words! {
    /// What a credential lets its bearer do with its file.
    Direction ("direction") {
        /// Read it.
        Read = "read",
        /// Write it.
        Write = "write",
    }
}

words! {
    /// How a credential ended.
    CredentialEnding ("ending of a credential") {
        /// Its time was over.
        Expired = "expired",
        /// It was revoked, and what stood for it at the peer is removed.
        Revoked = "revoked",
    }
}

/// A credential about to be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCredential {
    /// Its public name, never given to another.
    pub name: String,
    /// The volume that its file belongs to.
    pub volume: VolumeId,
    /// The one file that it is for.
    pub file: String,
    /// The route that it is for.
    pub route: String,
    /// The machine that takes it.
    pub host: String,
    /// What it lets its bearer do.
    pub direction: Direction,
    /// Whether something stands for it that outlives its use (an account on a host, a key's file), so that it stays
    /// outstanding until it was revoked or has expired.
    pub standing: bool,
    /// When it is issued.
    pub issued: Timestamp,
    /// When it ends by itself.
    pub expires: Timestamp,
}

/// A credential that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRow {
    /// What was issued.
    pub issued: NewCredential,
    /// When it was used.
    pub used: Option<Timestamp>,
    /// How often it was refused.
    pub refusals: u64,
}

impl Catalog {
    /// Records a credential, before it can be used anywhere: what is made at a peer under its name can then be found
    /// again after a crash. One durable transaction.
    ///
    /// # Errors
    /// `CredentialExists`, or `Database`: then the credential must not be made.
    pub async fn credential_issued(&self, new: &NewCredential) -> Result<(), CatalogError> {
        let mut tx = self.write("recording a credential", &new.name).await?;
        let statement = sqlx::query(
            "INSERT INTO credentials (name, volume, file, route, host, direction, standing, issued, expires) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(&new.name)
        .bind(new.volume.to_string())
        .bind(&new.file)
        .bind(&new.route)
        .bind(&new.host)
        .bind(new.direction.as_str())
        .bind(new.standing)
        .bind(stamp(new.issued))
        .bind(stamp(new.expires));
        tx.insert(statement, || CatalogError::CredentialExists(new.name.clone())).await?;
        let detail = json!({
            "volume": new.volume, "file": new.file, "route": new.route, "host": new.host,
            "direction": new.direction, "expires": new.expires,
        });
        let now = self.clock().now();
        audit::append(&mut tx, now, AuditAction::CredentialIssued, SELF, &new.name, &detail).await?;
        tx.commit().await
    }

    /// Records that a credential is used: once, and not after its end. One durable transaction.
    ///
    /// # Errors
    /// `NoSuchCredential`, `CredentialSpent` if it was used or has ended, or `Database`.
    pub async fn credential_used(&self, name: &str) -> Result<(), CatalogError> {
        let (mut tx, now) = self.about_credential(name, "recording a credential's use").await?;
        let query = sqlx::query("SELECT used, ended, expires FROM credentials WHERE name = $1").bind(name);
        let read = |row: &Row<'_>| Ok((row.opt_time("used")?, row.opt_time("ended")?, row.time("expires")?));
        let found = tx.optional(query, read).await?;
        let (used, ended, expires) = found.ok_or_else(|| CatalogError::NoSuchCredential(name.to_owned()))?;
        let spent = |why| Err(CatalogError::CredentialSpent { name: name.to_owned(), why });
        if used.is_some() {
            return spent("was used before");
        }
        if ended.is_some() || expires <= now {
            return spent("has ended");
        }
        let statement = sqlx::query("UPDATE credentials SET used = $2 WHERE name = $1").bind(name).bind(stamp(now));
        tx.execute(statement).await?;
        audit::append(&mut tx, now, AuditAction::CredentialUsed, SELF, name, &json!({})).await?;
        tx.commit().await
    }

    /// Records that a credential was refused by whom it was shown to. One durable transaction.
    ///
    /// # Errors
    /// `NoSuchCredential`, or `Database`.
    pub async fn credential_refused(&self, name: &str, why: &str) -> Result<(), CatalogError> {
        let (mut tx, now) = self.about_credential(name, "recording a credential's refusal").await?;
        let statement = sqlx::query("UPDATE credentials SET refusals = refusals + 1 WHERE name = $1").bind(name);
        let done = tx.execute(statement).await?;
        if done == 0 {
            return Err(CatalogError::NoSuchCredential(name.to_owned()));
        }
        let detail = json!({ "why": why });
        audit::append(&mut tx, now, AuditAction::CredentialRefused, SELF, name, &detail).await?;
        tx.commit().await
    }

    /// Records that a credential is no more: its time was over, or it was revoked and what stood for it is removed.
    /// False, and no record, if it had ended before. One durable transaction.
    ///
    /// # Errors
    /// `NoSuchCredential`, or `Database`.
    pub async fn credential_ended(&self, name: &str, ending: CredentialEnding) -> Result<bool, CatalogError> {
        let (mut tx, now) = self.about_credential(name, "recording a credential's end").await?;
        let query = sqlx::query("SELECT ended FROM credentials WHERE name = $1").bind(name);
        let found = tx.optional(query, |row| row.opt_time("ended")).await?;
        if found.ok_or_else(|| CatalogError::NoSuchCredential(name.to_owned()))?.is_some() {
            return Ok(false);
        }
        let statement = sqlx::query("UPDATE credentials SET ended = $2, ending = $3 WHERE name = $1")
            .bind(name)
            .bind(stamp(now))
            .bind(ending.as_str());
        tx.execute(statement).await?;
        let action = match ending {
            CredentialEnding::Expired => AuditAction::CredentialExpired,
            CredentialEnding::Revoked => AuditAction::CredentialRevoked,
        };
        audit::append(&mut tx, now, action, SELF, name, &json!({})).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The credentials that have not ended and may still open something: those not used, and those for which something
    /// stands at a peer. Oldest first. They include those whose time is over but whose end was not recorded: it is the
    /// janitor's work to end them.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn outstanding_credentials(&self) -> Result<Vec<CredentialRow>, CatalogError> {
        let mut session = self.session("reading the outstanding credentials", "the catalog").await?;
        let query = sqlx::query(
            "SELECT * FROM credentials WHERE ended IS NULL AND (standing OR used IS NULL) ORDER BY issued, name",
        );
        session.all(query, credential).await
    }

    async fn about_credential(
        &self,
        name: &str,
        operation: &'static str,
    ) -> Result<(DbSession, Timestamp), CatalogError> {
        let tx = self.write(operation, name).await?;
        Ok((tx, self.clock().now()))
    }
}

fn credential(row: &Row<'_>) -> Result<CredentialRow, CatalogError> {
    Ok(CredentialRow {
        issued: NewCredential {
            name: row.text("name")?,
            volume: row.parsed("volume")?,
            file: row.text("file")?,
            route: row.text("route")?,
            host: row.text("host")?,
            direction: row.parsed("direction")?,
            standing: row.flag("standing")?,
            issued: row.time("issued")?,
            expires: row.time("expires")?,
        },
        used: row.opt_time("used")?,
        refusals: row.count("refusals")?,
    })
}
