//! What the catalog knows of itself: whose it is, and of which vault.

use sqlx::{Row as _, SqliteConnection};

use crate::convert::During;
use crate::error::CatalogError;
use crate::pool::Catalog;

/// Binds the catalog to a vault; false if it was already.
pub(crate) async fn bind(conn: &mut SqliteConnection, during: &During, id: &str) -> Result<bool, CatalogError> {
    match get(conn, during, VAULT_ID).await? {
        Some(known) if known == id => Ok(false),
        Some(known) => Err(CatalogError::OtherVault { known, told: id.to_owned() }),
        None => put(conn, during, VAULT_ID, id).await.map(|()| true),
    }
}

const INSTALL_ID: &str = "install_id";
const VAULT_ID: &str = "vault_id";
/// What the keys of notes begin with.
const NOTE: &str = "note/";

impl Catalog {
    /// This installation's id: 6 hexadecimal digits, made at random when the catalog was.
    ///
    /// # Errors
    /// `Database`.
    pub async fn install_id(&self) -> Result<String, CatalogError> {
        let during = self.during("reading the installation's id", "the catalog");
        let mut conn = self.pool().acquire().await.map_err(|error| during.sql(error))?;
        get(&mut conn, &during, INSTALL_ID).await?.ok_or_else(|| during.bad("value", "there is no installation's id"))
    }

    /// The UUID of the vault that the catalog is the index of; none before [`Catalog::bind_vault`].
    ///
    /// # Errors
    /// `Database`.
    pub async fn vault_id(&self) -> Result<Option<String>, CatalogError> {
        let during = self.during("reading the vault's id", "the catalog");
        let mut conn = self.pool().acquire().await.map_err(|error| during.sql(error))?;
        get(&mut conn, &during, VAULT_ID).await
    }

    /// Says that the catalog is the index of this vault, for ever. One durable transaction.
    ///
    /// # Errors
    /// `OtherVault` if it is already that of another, or `Database`.
    pub async fn bind_vault(&self, id: &str) -> Result<(), CatalogError> {
        let during = self.during("binding the catalog to a vault", id);
        let mut tx = self.write(&during).await?;
        match bind(tx.conn(), &during, id).await? {
            true => tx.commit(&during).await,
            false => Ok(()),
        }
    }

    /// A note of the program to itself; none if there is none. Never a secret.
    ///
    /// # Errors
    /// `Database`.
    pub async fn note(&self, key: &str) -> Result<Option<String>, CatalogError> {
        let during = self.during("reading a note", key);
        let mut conn = self.pool().acquire().await.map_err(|error| during.sql(error))?;
        get(&mut conn, &during, &format!("{NOTE}{key}")).await
    }

    /// Writes a note, or takes it away. One durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn set_note(&self, key: &str, text: Option<&str>) -> Result<(), CatalogError> {
        let during = self.during("writing a note", key);
        let mut tx = self.write(&during).await?;
        let key = format!("{NOTE}{key}");
        match text {
            Some(text) => put(tx.conn(), &during, &key, text).await?,
            None => {
                sqlx::query("DELETE FROM meta WHERE key = $1")
                    .bind(key)
                    .execute(tx.conn())
                    .await
                    .map_err(|error| during.sql(error))?;
            }
        }
        tx.commit(&during).await
    }

    /// Whether the catalog knows of no version at all, as a new one does.
    ///
    /// # Errors
    /// `Database`.
    pub async fn is_empty(&self) -> Result<bool, CatalogError> {
        let during = self.during("looking for versions", "the catalog");
        let row = sqlx::query("SELECT 1 FROM versions LIMIT 1")
            .fetch_optional(self.pool())
            .await
            .map_err(|error| during.sql(error))?;
        Ok(row.is_none())
    }

    pub(crate) async fn give_install_id(&self) -> Result<(), CatalogError> {
        let during = self.during("giving the installation an id", "the catalog");
        {
            let mut conn = self.pool().acquire().await.map_err(|error| during.sql(error))?;
            if get(&mut conn, &during, INSTALL_ID).await?.is_some() {
                return Ok(());
            }
        }
        let mut tx = self.write(&during).await?;
        if get(tx.conn(), &during, INSTALL_ID).await?.is_none() {
            let id: String = uuid::Uuid::new_v4().simple().to_string().chars().take(6).collect();
            put(tx.conn(), &during, INSTALL_ID, &id).await?;
        }
        tx.commit(&during).await
    }
}

pub(crate) async fn get(
    conn: &mut SqliteConnection,
    during: &During,
    key: &str,
) -> Result<Option<String>, CatalogError> {
    let row = sqlx::query("SELECT value FROM meta WHERE key = $1")
        .bind(key)
        .fetch_optional(conn)
        .await
        .map_err(|error| during.sql(error))?;
    row.map(|row| row.try_get("value").map_err(|error| during.bad("value", error))).transpose()
}

pub(crate) async fn put(
    conn: &mut SqliteConnection,
    during: &During,
    key: &str,
    value: &str,
) -> Result<(), CatalogError> {
    sqlx::query("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
        .bind(key)
        .bind(value)
        .execute(conn)
        .await
        .map_err(|error| during.sql(error))?;
    Ok(())
}
