//! What the catalog knows of itself: whose it is, and of which vault.

use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::session::DbSession;

/// Binds the catalog to a vault; false if it was already.
pub(crate) async fn bind(tx: &mut DbSession, id: &str) -> Result<bool, CatalogError> {
    match get(tx, VAULT_ID).await? {
        Some(known) if known == id => Ok(false),
        Some(known) => Err(CatalogError::OtherVault { known, other: id.to_owned() }),
        None => put(tx, VAULT_ID, id).await.map(|()| true),
    }
}

const INSTALL_ID: &str = "install_id";
const VAULT_ID: &str = "vault_id";
/// The prefix of the keys of markers.
const MARKER: &str = "note/";

impl Catalog {
    /// This installation's id: 6 hexadecimal digits, made at random when the catalog was.
    ///
    /// # Errors
    /// `Database`.
    pub async fn install_id(&self) -> Result<String, CatalogError> {
        let mut session = self.session("reading the installation's id", "the catalog").await?;
        get(&mut session, INSTALL_ID).await?.ok_or_else(|| session.bad("value", "there is no installation's id"))
    }

    /// The UUID of the vault that the catalog is the index of; none before [`Catalog::bind_vault`].
    ///
    /// # Errors
    /// `Database`.
    pub async fn vault_id(&self) -> Result<Option<String>, CatalogError> {
        let mut session = self.session("reading the vault's id", "the catalog").await?;
        get(&mut session, VAULT_ID).await
    }

    /// Binds the catalog to this vault, for ever. One durable transaction.
    ///
    /// # Errors
    /// `OtherVault` if it is already that of another, or `Database`.
    pub async fn bind_vault(&self, id: &str) -> Result<(), CatalogError> {
        let mut tx = self.write("binding the catalog to a vault", id).await?;
        match bind(&mut tx, id).await? {
            true => tx.commit().await,
            false => Ok(()),
        }
    }

    /// A value that the program stores for itself; none if there is none. Never a secret.
    ///
    /// # Errors
    /// `Database`.
    pub async fn marker(&self, key: &str) -> Result<Option<String>, CatalogError> {
        let mut session = self.session("reading a marker", key).await?;
        get(&mut session, &format!("{MARKER}{key}")).await
    }

    /// Writes a marker, or removes it. One durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn set_marker(&self, key: &str, text: Option<&str>) -> Result<(), CatalogError> {
        let mut tx = self.write("writing a marker", key).await?;
        let key = format!("{MARKER}{key}");
        match text {
            Some(text) => put(&mut tx, &key, text).await?,
            None => {
                let statement = sqlx::query("DELETE FROM meta WHERE key = $1").bind(key);
                tx.execute(statement).await?;
            }
        }
        tx.commit().await
    }

    /// Whether the catalog knows of no version at all, as a new one does.
    ///
    /// # Errors
    /// `Database`.
    pub async fn is_empty(&self) -> Result<bool, CatalogError> {
        let mut session = self.session("counting versions", "the catalog").await?;
        Ok(!session.exists(sqlx::query("SELECT 1 FROM versions LIMIT 1")).await?)
    }

    pub(crate) async fn ensure_install_id(&self) -> Result<(), CatalogError> {
        let mut session = self.session("creating the installation's id", "the catalog").await?;
        if get(&mut session, INSTALL_ID).await?.is_some() {
            return Ok(());
        }
        drop(session);
        let mut tx = self.write("creating the installation's id", "the catalog").await?;
        if get(&mut tx, INSTALL_ID).await?.is_none() {
            let id: String = uuid::Uuid::new_v4().simple().to_string().chars().take(6).collect();
            put(&mut tx, INSTALL_ID, &id).await?;
        }
        tx.commit().await
    }
}

pub(crate) async fn get(tx: &mut DbSession, key: &str) -> Result<Option<String>, CatalogError> {
    tx.optional(sqlx::query("SELECT value FROM meta WHERE key = $1").bind(key), |row| row.text("value")).await
}

pub(crate) async fn put(tx: &mut DbSession, key: &str, value: &str) -> Result<(), CatalogError> {
    let statement = sqlx::query(
        "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .bind(key)
    .bind(value);
    tx.execute(statement).await.map(|_| ())
}
