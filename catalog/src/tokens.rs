//! Tokens for the API: who bears one, and what they may do. The catalog knows a token by its public id and by the digest of
//! its secret, never by the secret: a secret of 256 random bits can't be guessed from its BLAKE3 digest, so no slow hash is
//! needed.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use stackferry_volume::Digest;

use crate::audit::{self, AuditAction};
use crate::convert::{Row, stamp, words};
use crate::error::CatalogError;
use crate::pool::Catalog;

words! {
    /// What a caller of the API may do.
    Role ("role") {
        /// Read everything that is no secret.
        Viewer = "viewer",
        /// Also copy, verify, cancel, pause, resume and pin.
        Operator = "operator",
        /// Also restore, unpin and give tokens.
        Admin = "admin",
    }
}

impl Role {
    /// Whether this role may do what needs at least `least`.
    #[must_use]
    pub fn covers(self, least: Role) -> bool {
        self.rank() >= least.rank()
    }

    fn rank(self) -> u8 {
        match self {
            Role::Viewer => 0,
            Role::Operator => 1,
            Role::Admin => 2,
        }
    }
}

/// A token about to be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its public id, never given to another.
    pub id: String,
    /// Its bearer, in the words of who made it. No two tokens that are in use have one name.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// The BLAKE3 digest of its secret's bytes.
    pub digest: Digest,
}

/// A token as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenRow {
    /// Its public id.
    pub id: String,
    /// Its bearer.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// The digest of its secret.
    #[serde(skip)]
    pub digest: Digest,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used, to the minute.
    pub last_used: Option<Timestamp>,
    /// Since when it opens nothing any more.
    pub revoked: Option<Timestamp>,
}

impl TokenRow {
    /// What its bearer is called in jobs and in the audit.
    #[must_use]
    pub fn actor(&self) -> String {
        format!("token {}", self.name)
    }
}

impl Catalog {
    /// Adds a token that `actor` issues, with its audit record. One durable transaction.
    ///
    /// # Errors
    /// `TokenExists` if a token of that name is in use, or `Database`.
    pub async fn add_token(&self, token: &NewToken, actor: &str) -> Result<(), CatalogError> {
        let now = self.clock().now();
        let mut tx = self.write("adding a token", &token.name).await?;
        let query = sqlx::query("SELECT 1 FROM tokens WHERE name = $1 AND revoked IS NULL OR id = $2")
            .bind(&token.name)
            .bind(&token.id);
        if tx.exists(query).await? {
            return Err(CatalogError::TokenExists(token.name.clone()));
        }
        let statement = sqlx::query("INSERT INTO tokens (id, name, role, digest, created) VALUES ($1, $2, $3, $4, $5)")
            .bind(&token.id)
            .bind(&token.name)
            .bind(token.role.as_str())
            .bind(token.digest.to_string())
            .bind(stamp(now));
        tx.execute(statement).await?;
        let detail = json!({ "id": token.id, "role": token.role });
        audit::append(&mut tx, now, AuditAction::TokenCreated, actor, &token.name, &detail).await?;
        tx.commit().await
    }

    /// The token of a public id, one that was revoked too.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn token(&self, id: &str) -> Result<Option<TokenRow>, CatalogError> {
        let mut session = self.session("reading a token", id).await?;
        let query = sqlx::query("SELECT * FROM tokens WHERE id = $1").bind(id);
        session.optional(query, token).await
    }

    /// Every token, the newest first, those that were revoked too.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, CatalogError> {
        let mut session = self.session("reading the tokens", "the catalog").await?;
        session.all(sqlx::query("SELECT * FROM tokens ORDER BY created DESC, id"), token).await
    }

    /// Revokes a token, by its name or its id, with its audit record; what it asked for and is not done is cancelled. One
    /// durable transaction.
    ///
    /// # Errors
    /// `NoSuchToken` if no token that is in use fits, or `Database`.
    pub async fn revoke_token(&self, name: &str, actor: &str) -> Result<TokenRow, CatalogError> {
        let now = self.clock().now();
        let mut tx = self.write("revoking a token", name).await?;
        let query = sqlx::query(
            "SELECT * FROM tokens WHERE (name = $1 OR id = $1) AND revoked IS NULL ORDER BY name = $1 DESC",
        );
        let found = tx.optional(query.bind(name), token).await?;
        let mut row = found.ok_or_else(|| CatalogError::NoSuchToken(name.to_owned()))?;
        let statement = sqlx::query("UPDATE tokens SET revoked = $2 WHERE id = $1").bind(&row.id).bind(stamp(now));
        tx.execute(statement).await?;
        let statement = sqlx::query(
            "UPDATE jobs SET cancel_wanted = TRUE, ended = CASE state WHEN 'queued' THEN $2 ELSE ended END, \
             state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END \
             WHERE state IN ('queued', 'running') AND cause = 'api' AND actor = $1",
        )
        .bind(row.actor())
        .bind(stamp(now));
        let cancelled = tx.execute(statement).await?;
        let detail = json!({ "id": row.id, "role": row.role, "jobs_cancelled": cancelled });
        audit::append(&mut tx, now, AuditAction::TokenRevoked, actor, &row.name, &detail).await?;
        tx.commit().await?;
        row.revoked = Some(now);
        Ok(row)
    }

    /// Records that a token is in use. One durable transaction; callers keep it to about one a minute for each token.
    ///
    /// # Errors
    /// `Database`.
    pub async fn token_used(&self, id: &str) -> Result<(), CatalogError> {
        let mut tx = self.write("recording a token's use", id).await?;
        let statement =
            sqlx::query("UPDATE tokens SET last_used = $2 WHERE id = $1").bind(id).bind(stamp(self.clock().now()));
        tx.execute(statement).await?;
        tx.commit().await
    }
}

fn token(row: &Row<'_>) -> Result<TokenRow, CatalogError> {
    Ok(TokenRow {
        id: row.text("id")?,
        name: row.text("name")?,
        role: row.parsed("role")?,
        digest: row.parsed("digest")?,
        created: row.time("created")?,
        last_used: row.opt_time("last_used")?,
        revoked: row.opt_time("revoked")?,
    })
}
