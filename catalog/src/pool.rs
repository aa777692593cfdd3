//! The database connection: the one place that knows it is SQLite. Another database would replace this file and
//! `migrations/`; the statements elsewhere use `$1` placeholders and what both SQLite and PostgreSQL understand.
//!
//! The file is shared by processes: the service, and commands beside it. Every write takes the database's write lock
//! at its start (`BEGIN IMMEDIATE`), since a transaction that read first and wants to write later can't wait for the
//! lock: SQLite fails it at once.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::migrate::{Migrate as _, MigrateError, Migration};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::convert::Operation;
use crate::error::{CatalogError, DatabaseCause, is_corrupt};
use crate::file::{BUSY_WAIT, create, options};
use crate::migrations::MIGRATIONS;
use crate::scratch::Scratch;
use crate::session::{DbSession, Link};

/// How long a task waits for a connection of the pool: longer than a write may wait for its lock.
const POOL_WAIT: Duration = Duration::from_secs(30);
/// Reads run beside each other and beside one write; more connections than this only cost memory.
const CONNECTIONS: u32 = 4;

/// The database of what is known and what is to be done. Cheap to clone; all clones share one pool of connections.
#[derive(Debug, Clone)]
pub struct Catalog {
    path: Arc<Path>,
    pool: SqlitePool,
    // Within one process writers queue here, in order: SQLite's own waiting is neither fair nor cheap.
    writers: Arc<Mutex<()>>,
    clock: Clock,
    // Of a copy that nothing of lasts: its folder, removed with the last clone.
    scratch: Option<Arc<Scratch>>,
}

impl Catalog {
    /// Opens the catalog, making it (mode 0600, owned by the folder's owner if root makes it) or bringing its schema
    /// up to date where needed. Several processes may do so at the same time.
    ///
    /// # Errors
    /// `Create`, `Corrupt`, `TooNew`, `Schema`, or `Database` where it can't be opened or stays locked for 10 s.
    pub async fn open(path: &Path) -> Result<Self, CatalogError> {
        Self::open_with(path, Clock::system()).await
    }

    /// Like [`Catalog::open`], with another clock.
    ///
    /// # Errors
    /// The same.
    pub async fn open_with(path: &Path, clock: Clock) -> Result<Self, CatalogError> {
        create(path).map_err(|source| CatalogError::Create { path: path.to_owned(), source })?;
        let options = options(path).journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        // Two processes that turn a new file to WAL at the same moment meet a lock that SQLite does not wait for.
        let deadline = Instant::now() + BUSY_WAIT;
        loop {
            let opened = Self::connect(path, options.clone(), clock.clone()).await;
            let done = match opened {
                Ok(catalog) => match catalog.migrate().await {
                    Ok(()) => catalog.ensure_install_id().await.map(|()| catalog),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            match done {
                Err(error) if error.is_busy() && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                done => return done,
            }
        }
    }

    /// Opens an existing catalog for reading only: every function that writes fails.
    ///
    /// # Errors
    /// `Missing`, `Corrupt`, `TooNew`, `TooOld`, or `Database`.
    pub async fn open_read_only(path: &Path) -> Result<Self, CatalogError> {
        if !path.exists() {
            return Err(CatalogError::Missing { path: path.to_owned() });
        }
        let catalog = Self::connect(path, options(path).read_only(true), Clock::system()).await?;
        if catalog.missing_migrations().await?.is_empty() {
            Ok(catalog)
        } else {
            Err(CatalogError::TooOld { path: path.to_owned() })
        }
    }

    /// Opens a copy of the catalog at `path`, in a temporary folder, for a command that only reads and may not write there.
    /// Nothing that is written to it lasts. Where there is no catalog, or it can't be read, the copy is empty.
    ///
    /// # Errors
    /// No folder for temporary files has the space for it; as [`Catalog::open`].
    pub async fn open_copy(path: &Path) -> Result<Self, CatalogError> {
        let scratch = Scratch::of(path).await?;
        let mut catalog = Self::open(&scratch.file()).await?;
        catalog.scratch = Some(Arc::new(scratch));
        Ok(catalog)
    }

    /// Whether it is a copy, so that nothing written to it lasts.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        self.scratch.is_some()
    }

    async fn connect(path: &Path, options: SqliteConnectOptions, clock: Clock) -> Result<Self, CatalogError> {
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(POOL_WAIT)
            .test_before_acquire(false)
            .before_acquire(|conn, _| Box::pin(async move { Ok(is_usable(conn)) }))
            .connect_with(options)
            .await
            .map_err(|error| {
                let subject = path.display().to_string();
                Operation { path: path.into(), name: "opening the catalog", subject }.failed(error)
            })?;
        Ok(Self { path: path.into(), pool, writers: Arc::default(), clock, scratch: None })
    }

    /// Applies what is missing, all of it in one transaction under the write lock: another process that opens the file
    /// meanwhile waits, and finds it done.
    async fn migrate(&self) -> Result<(), CatalogError> {
        if self.missing_migrations().await?.is_empty() {
            return Ok(());
        }
        let mut tx = self.write("bringing the schema up to date", "the catalog").await?;
        let table = tx.conn().ensure_migrations_table(&MIGRATIONS.table_name).await;
        table.map_err(|error| migration_failed(&tx, error))?;
        for migration in missing_migrations(&mut tx).await? {
            let done = tx.conn().apply(&MIGRATIONS.table_name, migration).await;
            done.map_err(|error| migration_failed(&tx, error))?;
        }
        tx.commit().await
    }

    async fn missing_migrations(&self) -> Result<Vec<&'static Migration>, CatalogError> {
        missing_migrations(&mut self.session("reading the schema's version", "the catalog").await?).await
    }

    /// Checks the whole file for damage: every page, every row's form, every index's order. Reads it all, which
    /// takes a second for some hundred MB.
    ///
    /// # Errors
    /// `Corrupt` with what was found, or `Database`.
    pub async fn quick_check(&self) -> Result<(), CatalogError> {
        let mut session = self.session("checking the file", "the catalog").await?;
        let mut found = session.all(sqlx::query("PRAGMA quick_check(20)"), |row| row.text("quick_check")).await?;
        found.retain(|line| line != "ok");
        if found.is_empty() {
            return Ok(());
        }
        Err(CatalogError::Corrupt { path: self.path.to_path_buf(), why: found.join("; ") })
    }

    /// Ends all connections, and copies what is in the WAL into the main file if no other process has it open.
    pub async fn close(self) {
        self.pool.close().await;
    }

    /// The catalog's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The clock that the catalog's times come from.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    fn operation(&self, name: &'static str, subject: impl ToString) -> Operation {
        Operation { path: self.path.clone(), name, subject: subject.to_string() }
    }

    /// Begins an operation that takes one statement, or several that need not see one state.
    pub(crate) async fn session(&self, name: &'static str, subject: impl ToString) -> Result<DbSession, CatalogError> {
        let operation = self.operation(name, subject);
        let conn = self.pool.acquire().await.map_err(|error| operation.failed(error))?;
        Ok(DbSession::new(Link::Connection(conn), operation, None))
    }

    /// Begins a transaction that only reads: all its statements see one state.
    pub(crate) async fn read(&self, name: &'static str, subject: impl ToString) -> Result<DbSession, CatalogError> {
        let operation = self.operation(name, subject);
        let tx = self.pool.begin().await.map_err(|error| operation.failed(error))?;
        Ok(DbSession::new(Link::Transaction(tx), operation, None))
    }

    /// Begins a transaction that may write, under the database's write lock from its start.
    pub(crate) async fn write(&self, name: &'static str, subject: impl ToString) -> Result<DbSession, CatalogError> {
        let operation = self.operation(name, subject);
        let turn = self.writers.clone().lock_owned().await;
        let tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(|error| operation.failed(error))?;
        Ok(DbSession::new(Link::Transaction(tx), operation, Some(turn)))
    }
}

/// The program's migrations that the file lacks.
async fn missing_migrations(session: &mut DbSession) -> Result<Vec<&'static Migration>, CatalogError> {
    let table = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
    if !session.exists(sqlx::query(table)).await? {
        return Ok(MIGRATIONS.iter().collect());
    }
    let query = sqlx::query("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version");
    let rows = session.all(query, |row| Ok((row.signed("version")?, row.bytes("checksum")?, row.flag("success")?)));
    let rows = rows.await?;
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let path = || session.path.to_path_buf();
    let mut applied = HashSet::new();
    for (version, checksum, success) in rows {
        if version > known {
            return Err(CatalogError::TooNew { path: path(), schema: version, known });
        }
        let refused = |why| CatalogError::Schema { path: path(), why };
        // None of ours is left so: each is done within one transaction. Another tool was here.
        if !success {
            return Err(refused(format!("migration {version} was begun and not ended")));
        }
        match MIGRATIONS.iter().find(|migration| migration.version == version) {
            Some(migration) if *migration.checksum == *checksum => applied.insert(version),
            _ => return Err(refused(format!("migration {version} of the file is not this program's"))),
        };
    }
    Ok(MIGRATIONS.iter().filter(|migration| !applied.contains(&migration.version)).collect())
}

fn migration_failed(operation: &Operation, error: MigrateError) -> CatalogError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)
            if is_corrupt(&error) || DatabaseCause::of(&error).is_busy() =>
        {
            operation.failed(error)
        }
        error => CatalogError::Schema { path: operation.path.to_path_buf(), why: error.to_string() },
    }
}

/// Whether a connection of the pool has no transaction left on it; one that has is closed, and another is opened.
///
/// After `SQLITE_FULL`, `SQLITE_IOERR` and the like SQLite may have rolled the transaction back itself. The rollback that
/// follows then fails, and sqlx counts the connection as being within a transaction for ever: every later write on it would
/// be refused, long after the disk has space again.
fn is_usable(conn: &SqliteConnection) -> bool {
    !conn.is_in_transaction()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_connection_is_durable_and_keeps_its_references() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).await.unwrap();
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(catalog.pool.acquire().await.unwrap());
        }
        for conn in &mut connections {
            let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut **conn).await.unwrap();
            assert_eq!(mode, "wal");
            // 2 is FULL: https://www.sqlite.org/pragma.html#pragma_synchronous
            for (pragma, value) in
                [("PRAGMA synchronous", 2i64), ("PRAGMA foreign_keys", 1), ("PRAGMA busy_timeout", 10_000)]
            {
                let found: i64 = sqlx::query_scalar(pragma).fetch_one(&mut **conn).await.unwrap();
                assert_eq!(found, value, "{pragma}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_committed_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).await.unwrap();
        let mut tx = catalog.write("testing", "nothing").await.unwrap();
        crate::meta::put(&mut tx, "vault_id", "a").await.unwrap();
        drop(tx);
        assert_eq!(catalog.vault_id().await.unwrap(), None);
        catalog.bind_vault("b").await.unwrap();
    }

    /// As after `SQLITE_FULL`: SQLite has rolled back by itself, and the rollback of whoever began it fails.
    #[tokio::test]
    async fn a_connection_in_a_broken_transaction_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).await.unwrap();
        for number in 0..2 * CONNECTIONS {
            let mut tx = catalog.write("testing", "nothing").await.unwrap();
            sqlx::raw_sql("ROLLBACK").execute(tx.conn()).await.unwrap();
            match number % 2 {
                0 => drop(tx),
                _ => drop(tx.commit().await.unwrap_err()),
            }
        }
        let mut reading = catalog.read("testing", "nothing").await.unwrap();
        sqlx::raw_sql("ROLLBACK").execute(reading.conn()).await.unwrap();
        drop(reading);
        catalog.bind_vault("b").await.unwrap();
        assert_eq!(catalog.vault_id().await.unwrap().as_deref(), Some("b"));
    }
}
