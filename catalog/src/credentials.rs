//! The credentials that were issued, by their public names. A secret is never given to the catalog.
//!
//! Each issue, use, refusal, expiry and revocation is one audit record, written in the transaction that records it.

use jiff::Timestamp;
use serde_json::json;
use stackferry_volume::VolumeId;

use crate::audit::{self, AuditAction};
use crate::convert::{During, Row, stamp, words};
use crate::error::CatalogError;
use crate::pool::{Catalog, WriteTx};

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
        /// It was taken back, and what stood for it at the peer is removed.
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
pub struct Credential {
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
        let during = self.during("recording a credential", &new.name);
        let mut tx = self.write(&during).await?;
        sqlx::query(
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
        .bind(stamp(new.expires))
        .execute(tx.conn())
        .await
        .map_err(|error| match error.as_database_error() {
            Some(cause) if cause.is_unique_violation() => CatalogError::CredentialExists(new.name.clone()),
            _ => during.sql(error),
        })?;
        let detail = json!({
            "volume": new.volume, "file": new.file, "route": new.route, "host": new.host,
            "direction": new.direction, "expires": new.expires,
        });
        let now = self.clock().now();
        audit::append(tx.conn(), &during, now, AuditAction::CredentialIssued, SELF, &new.name, &detail).await?;
        tx.commit(&during).await
    }

    /// Records that a credential is used: once, and not after its end. One durable transaction.
    ///
    /// # Errors
    /// `NoSuchCredential`, `CredentialSpent` if it was used or has ended, or `Database`.
    pub async fn credential_used(&self, name: &str) -> Result<(), CatalogError> {
        let (during, mut tx, now) = self.about_credential(name, "recording a credential's use").await?;
        let row = sqlx::query("SELECT used, ended, expires FROM credentials WHERE name = $1")
            .bind(name)
            .fetch_optional(tx.conn())
            .await
            .map_err(|error| during.sql(error))?
            .ok_or_else(|| CatalogError::NoSuchCredential(name.to_owned()))?;
        let row = during.row(&row);
        let spent = |why| Err(CatalogError::CredentialSpent { name: name.to_owned(), why });
        if row.opt_text("used")?.is_some() {
            return spent("was used before");
        }
        if row.opt_text("ended")?.is_some() || row.time("expires")? <= now {
            return spent("has ended");
        }
        sqlx::query("UPDATE credentials SET used = $2 WHERE name = $1")
            .bind(name)
            .bind(stamp(now))
            .execute(tx.conn())
            .await
            .map_err(|error| during.sql(error))?;
        audit::append(tx.conn(), &during, now, AuditAction::CredentialUsed, SELF, name, &json!({})).await?;
        tx.commit(&during).await
    }

    /// Records that a credential was refused by whom it was shown to. One durable transaction.
    ///
    /// # Errors
    /// `NoSuchCredential`, or `Database`.
    pub async fn credential_refused(&self, name: &str, why: &str) -> Result<(), CatalogError> {
        let (during, mut tx, now) = self.about_credential(name, "recording a credential's refusal").await?;
        let done = sqlx::query("UPDATE credentials SET refusals = refusals + 1 WHERE name = $1")
            .bind(name)
            .execute(tx.conn())
            .await
            .map_err(|error| during.sql(error))?;
        if done.rows_affected() == 0 {
            return Err(CatalogError::NoSuchCredential(name.to_owned()));
        }
        let detail = json!({ "why": why });
        audit::append(tx.conn(), &during, now, AuditAction::CredentialRefused, SELF, name, &detail).await?;
        tx.commit(&during).await
    }

    /// Records that a credential is no more: its time was over, or it was taken back and what stood for it is removed.
    /// False, and no record, if it had ended before. One durable transaction.
    ///
    /// # Errors
    /// `NoSuchCredential`, or `Database`.
    pub async fn credential_ended(&self, name: &str, ending: CredentialEnding) -> Result<bool, CatalogError> {
        let (during, mut tx, now) = self.about_credential(name, "recording a credential's end").await?;
        let row = sqlx::query("SELECT ended FROM credentials WHERE name = $1")
            .bind(name)
            .fetch_optional(tx.conn())
            .await
            .map_err(|error| during.sql(error))?
            .ok_or_else(|| CatalogError::NoSuchCredential(name.to_owned()))?;
        if during.row(&row).opt_text("ended")?.is_some() {
            return Ok(false);
        }
        sqlx::query("UPDATE credentials SET ended = $2, ending = $3 WHERE name = $1")
            .bind(name)
            .bind(stamp(now))
            .bind(ending.as_str())
            .execute(tx.conn())
            .await
            .map_err(|error| during.sql(error))?;
        let action = match ending {
            CredentialEnding::Expired => AuditAction::CredentialExpired,
            CredentialEnding::Revoked => AuditAction::CredentialRevoked,
        };
        audit::append(tx.conn(), &during, now, action, SELF, name, &json!({})).await?;
        tx.commit(&during).await?;
        Ok(true)
    }

    /// The credentials that have not ended and may still open something: those not used, and those for which something
    /// stands at a peer. Oldest first. They include those whose time is over but whose end was not recorded: it is the
    /// janitor's work to end them.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn outstanding_credentials(&self) -> Result<Vec<Credential>, CatalogError> {
        let during = self.during("reading the outstanding credentials", "the catalog");
        let rows = sqlx::query(
            "SELECT * FROM credentials WHERE ended IS NULL AND (standing OR used IS NULL) ORDER BY issued, name",
        )
        .fetch_all(self.pool())
        .await
        .map_err(|error| during.sql(error))?;
        rows.iter().map(|row| credential(&during, row)).collect()
    }

    async fn about_credential(
        &self,
        name: &str,
        operation: &'static str,
    ) -> Result<(During, WriteTx, Timestamp), CatalogError> {
        let during = self.during(operation, name);
        let tx = self.write(&during).await?;
        Ok((during, tx, self.clock().now()))
    }
}

fn credential(during: &During, row: &Row) -> Result<Credential, CatalogError> {
    let row = during.row(row);
    Ok(Credential {
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
