//! Running statements. A session serves one operation, whose name and subject begin the text of every error.

use std::ops::Deref;

use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Sqlite, SqliteConnection, Transaction};
use tokio::sync::OwnedMutexGuard;

use crate::convert::{Operation, Row};
use crate::error::CatalogError;

/// A statement with its values bound.
pub(crate) type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

/// A connection, or a transaction, for one operation. Dropped before [`DbSession::commit`], a transaction is rolled back.
pub(crate) struct DbSession {
    // Before `_turn`: a transaction is rolled back before it is the next writer's turn.
    link: Link,
    operation: Operation,
    _turn: Option<OwnedMutexGuard<()>>,
}

/// What a session's statements run on.
pub(crate) enum Link {
    Connection(PoolConnection<Sqlite>),
    Transaction(Transaction<'static, Sqlite>),
}

impl Deref for DbSession {
    type Target = Operation;
    fn deref(&self) -> &Operation {
        &self.operation
    }
}

impl DbSession {
    /// `turn` is the writer's turn within this process, given up when the session ends.
    pub(crate) fn new(link: Link, operation: Operation, turn: Option<OwnedMutexGuard<()>>) -> Self {
        Self { link, operation, _turn: turn }
    }

    pub(crate) fn conn(&mut self) -> &mut SqliteConnection {
        match &mut self.link {
            Link::Connection(conn) => conn,
            Link::Transaction(tx) => tx,
        }
    }

    /// Runs a statement. Returns how many rows it changed.
    pub(crate) async fn execute(&mut self, statement: Statement<'_>) -> Result<u64, CatalogError> {
        let done = statement.execute(self.conn()).await;
        done.map(|done| done.rows_affected()).map_err(|error| self.failed(error))
    }

    /// Inserts one row. Where its key is in use the error is `exists`.
    pub(crate) async fn insert(
        &mut self,
        statement: Statement<'_>,
        exists: impl FnOnce() -> CatalogError,
    ) -> Result<(), CatalogError> {
        match statement.execute(self.conn()).await {
            Ok(_) => Ok(()),
            Err(sqlx::Error::Database(cause)) if cause.is_unique_violation() => Err(exists()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Every row of a statement, as the database gives it.
    pub(crate) async fn rows(&mut self, statement: Statement<'_>) -> Result<Vec<SqliteRow>, CatalogError> {
        statement.fetch_all(self.conn()).await.map_err(|error| self.failed(error))
    }

    /// Every row of a statement, as `read` reads it.
    pub(crate) async fn all<T>(
        &mut self,
        statement: Statement<'_>,
        mut read: impl FnMut(&Row<'_>) -> Result<T, CatalogError>,
    ) -> Result<Vec<T>, CatalogError> {
        let rows = self.rows(statement).await?;
        rows.iter().map(|row| read(&self.row(row))).collect()
    }

    /// The first row of a statement, as `read` reads it; none where there is none.
    pub(crate) async fn optional<T>(
        &mut self,
        statement: Statement<'_>,
        read: impl FnOnce(&Row<'_>) -> Result<T, CatalogError>,
    ) -> Result<Option<T>, CatalogError> {
        let row = statement.fetch_optional(self.conn()).await.map_err(|error| self.failed(error))?;
        row.map(|row| read(&self.row(&row))).transpose()
    }

    /// The row of a statement that always gives one, as `read` reads it.
    pub(crate) async fn one<T>(
        &mut self,
        statement: Statement<'_>,
        read: impl FnOnce(&Row<'_>) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let row = statement.fetch_one(self.conn()).await.map_err(|error| self.failed(error))?;
        read(&self.row(&row))
    }

    /// Whether a statement gives any row.
    pub(crate) async fn exists(&mut self, statement: Statement<'_>) -> Result<bool, CatalogError> {
        Ok(self.optional(statement, |_| Ok(())).await?.is_some())
    }

    /// Ends the transaction, durably.
    pub(crate) async fn commit(self) -> Result<(), CatalogError> {
        match self.link {
            Link::Connection(_) => Ok(()),
            Link::Transaction(tx) => tx.commit().await.map_err(|error| self.operation.failed(error)),
        }
    }
}
