//! Catalogs of earlier programs: each schema that ever was, filled, opened by this one. What is new to the list of migrations is
//! tested here without a change to this file; a new table has to be filled in `full`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::json;
use sqlx::migrate::{Migrate as _, Migrator, resolve_blocking};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, Row as _, SqlSafeStr as _, SqliteConnection};
use stackferry_catalog::*;

use crate::bench::*;
use crate::full::full;

/// The migrations of the folder.
static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let files = resolve_blocking(Path::new("migrations")).unwrap();
    Migrator::with_migrations(files.into_iter().map(|(migration, _)| migration).collect())
});

/// Migrations that a released program may have applied: their files are never changed, since no catalog that has them would
/// be opened any more. One that is released is added here.
const FROZEN: &[(i64, &str)] = &[
    (1, "879ed14964f98eb9"),
    (2, "5ea872b4843d8203"),
    (3, "649ef101166eab8e"),
    (4, "ff5110aabf5e884a"),
    (5, "f7ba41a3301fecef"),
    (6, "aa0f0b2a555bc22e"),
];

/// Tables that the database keeps by itself, from what stands in others: nobody fills them.
const DERIVED: &[&str] = &["tallies"];

/// A connection past the catalog, without a look at references.
async fn raw(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(false);
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn texts(conn: &mut SqliteConnection, sql: String) -> Vec<String> {
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(conn).await.unwrap()
}

async fn run(conn: &mut SqliteConnection, sql: String) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(conn).await.unwrap();
}

/// The tables of a schema, each with its columns, and what a column holds where nobody said.
async fn shape(conn: &mut SqliteConnection, schema: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let own = "name NOT LIKE 'sqlite_%' AND name <> '_sqlx_migrations'";
    let tables = texts(conn, format!("SELECT name FROM {schema}.sqlite_master WHERE type = 'table' AND {own}")).await;
    let mut shape = BTreeMap::new();
    for table in tables {
        let sql = format!("SELECT name, COALESCE(dflt_value, 'NULL') FROM pragma_table_info('{table}', '{schema}')");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *conn).await.unwrap();
        shape.insert(table, rows.iter().map(|row| (row.get(0), row.get(1))).collect());
    }
    shape
}

/// Every row of every table, as SQL would write it.
async fn rows(path: &Path) -> BTreeMap<String, Vec<String>> {
    let mut conn = raw(path).await;
    let mut all = BTreeMap::new();
    for (table, columns) in shape(&mut conn, "main").await {
        let quoted: Vec<String> = columns.keys().map(|column| format!("'{column}=' || quote({column})")).collect();
        let sql = format!("SELECT {} AS row FROM {table} ORDER BY row", quoted.join(" || ' ' || "));
        all.insert(table, texts(&mut conn, sql).await);
    }
    conn.close().await.unwrap();
    all
}

/// How tables, indexes and triggers were made, without what spaces and line ends are between the words.
async fn schema(path: &Path) -> Vec<String> {
    let mut conn = raw(path).await;
    let sql = "SELECT type || ' ' || name || ': ' || COALESCE(sql, '') FROM sqlite_master ORDER BY type, name";
    let mut made = texts(&mut conn, sql.into()).await;
    for line in &mut made {
        *line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    conn.close().await.unwrap();
    made
}

/// Two files: a catalog of the schema `number` with all of `from` that had a place there, and one of the newest schema that
/// holds just that, made by hand: what the first has to become.
async fn old_and_expected(from: &Path, to: &Path, number: i64) -> (PathBuf, PathBuf) {
    let (old, expected) = (to.join("old.sqlite"), to.join("expected.sqlite"));
    let mut conn = raw(&old).await;
    conn.ensure_migrations_table(&MIGRATIONS.table_name).await.unwrap();
    for migration in MIGRATIONS.iter().filter(|migration| migration.version <= number) {
        conn.apply(&MIGRATIONS.table_name, migration).await.unwrap();
    }
    run(&mut conn, format!("ATTACH '{}' AS whole", from.display())).await;
    let (had, has) = (shape(&mut conn, "main").await, shape(&mut conn, "whole").await);
    for (table, columns) in had.iter().filter(|(table, _)| !DERIVED.contains(&table.as_str())) {
        let columns: Vec<&str> =
            columns.keys().map(String::as_str).filter(|one| has[table].contains_key(*one)).collect();
        let columns = columns.join(", ");
        run(&mut conn, format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM whole.{table}")).await;
    }
    conn.close().await.unwrap();

    std::fs::copy(from, &expected).unwrap();
    let mut conn = raw(&expected).await;
    for (table, columns) in has.into_iter().filter(|(table, _)| !DERIVED.contains(&table.as_str())) {
        let Some(before) = had.get(&table) else {
            run(&mut conn, format!("DELETE FROM {table}")).await;
            continue;
        };
        for (column, default) in columns.iter().filter(|(column, _)| !before.contains_key(*column)) {
            run(&mut conn, format!("UPDATE {table} SET {column} = {default}")).await;
        }
    }
    conn.close().await.unwrap();
    (old, expected)
}

/// Everything that can be read of a catalog.
async fn contents(catalog: &Catalog) -> String {
    let volumes = catalog.volumes().await.unwrap();
    let mut texts = vec![
        format!("{:?} {:?}", catalog.install_id().await.unwrap(), catalog.vault_id().await.unwrap()),
        format!("{:?}", catalog.marker("retention").await.unwrap()),
        format!("{volumes:#?}"),
        format!("{:#?}", catalog.all_versions().await.unwrap()),
        format!("{:#?}", catalog.incidents().await.unwrap()),
        format!("{:#?}", catalog.open_attempts().await.unwrap()),
        format!("{:#?}", catalog.leases().await.unwrap()),
        format!("{:#?}", catalog.outstanding_credentials().await.unwrap()),
        format!("{:#?}", catalog.audit_records(0, 1000).await.unwrap()),
        format!("{:#?}", catalog.verify_audit().await.unwrap()),
        format!("{:#?}", catalog.cached_descriptors(&key("nfs01")).await.unwrap()),
        format!("{:#?}", catalog.pending_cleanups().await.unwrap()),
        format!("{:#?}", catalog.jobs(&JobFilter::default(), 1000).await.unwrap()),
        format!("{:#?}", catalog.job_counts().await.unwrap()),
        format!("{:#?}", catalog.pauses().await.unwrap()),
        format!("{:#?}", catalog.tokens().await.unwrap()),
        format!("{:#?}", catalog.fleet().await.unwrap()),
    ];
    for volume in &volumes {
        texts.push(format!("{:#?}", catalog.baselines(&volume.id).await.unwrap()));
        texts.push(format!("{:#?}", catalog.attempts(&volume.id, 100).await.unwrap()));
    }
    texts.join("\n")
}

/// That nothing in a file is damaged, and no reference leads nowhere.
async fn is_sound(path: &Path) {
    let mut conn = raw(path).await;
    assert_eq!(texts(&mut conn, "PRAGMA integrity_check".into()).await, ["ok"]);
    let broken = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut conn).await.unwrap();
    assert!(broken.is_empty(), "{} references lead nowhere", broken.len());
    conn.close().await.unwrap();
}

/// That work goes on in a catalog that was upgraded.
async fn goes_on(catalog: &Catalog) {
    let before = catalog.verify_audit().await.unwrap();
    catalog.audit(AuditAction::Copied, "root", "appstack/ready", &json!({})).await.unwrap();
    let after = catalog.verify_audit().await.unwrap();
    assert_eq!((after.records, after.broken), (before.records + 1, None));
    let lease = catalog.acquire_lease("volume/appstack/gone", "copy").await.unwrap();
    assert_eq!(lease.fence, 2, "the number goes on");
    let newest = catalog.newest_job().await.unwrap();
    let job = NewJob { volume: Some(vol("appstack/conflict")), ..NewJob::requested(JobKind::Copy, Trigger::Api, "jo") };
    assert!(catalog.enqueue_job(&job).await.unwrap() > newest);
    let row = version("appstack/ready", 99, catalog.clock().now());
    catalog.add_version(&row).await.unwrap();
    catalog.set_deleting(&row.volume, &row.version, Some(row.created)).await.unwrap();
    catalog.confirm(&[row.volume], row.created).await.unwrap();
}

fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap()
}

#[tokio::test]
async fn a_catalog_of_every_earlier_schema_is_brought_along_whole() {
    let whole = full().await;
    for (table, rows) in rows(&whole.path).await {
        assert!(!rows.is_empty(), "{table} is empty: fill it in `full`");
    }
    assert!(newest() >= 6);
    for number in MIGRATIONS.iter().map(|migration| migration.version) {
        let dir = tempfile::tempdir().unwrap();
        let (old, expected) = old_and_expected(&whole.path, dir.path(), number).await;
        if number < newest() {
            let error = Catalog::open_read_only(&old).await.unwrap_err();
            assert!(matches!(error, CatalogError::TooOld { .. }), "{number}: {error:?}");
        }
        let catalog = Catalog::open(&old).await.unwrap();
        let model = Catalog::open(&expected).await.unwrap();
        assert_eq!(contents(&catalog).await, contents(&model).await, "schema {number}");
        assert_eq!(catalog.volumes().await.unwrap().len(), VolumeState::ALL.len() + 1);
        assert_eq!(rows(&old).await, rows(&expected).await, "schema {number}");
        assert_eq!(schema(&old).await, schema(&whole.path).await, "schema {number}");
        is_sound(&old).await;
        goes_on(&catalog).await;
        catalog.close().await;
        model.close().await;
        is_sound(&old).await;
        Catalog::open_read_only(&old).await.unwrap();
    }
}

/// The write-ahead log is cut off after each of its pages, and in the middle of each: what a loss of power leaves.
#[tokio::test]
async fn an_upgrade_that_is_cut_short_is_done_anew() {
    let whole = full().await;
    for number in [1, newest() - 1] {
        let dir = tempfile::tempdir().unwrap();
        let (old, expected) = old_and_expected(&whole.path, dir.path(), number).await;
        let model = Catalog::open(&expected).await.unwrap();
        let catalog = Catalog::open(&old).await.unwrap();
        let (main, log) = (std::fs::read(&old).unwrap(), std::fs::read(dir.path().join("old.sqlite-wal")).unwrap());
        catalog.close().await;
        // https://www.sqlite.org/fileformat2.html#the_write_ahead_log
        let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
        let frames = (log.len() - 32) / (24 + page);
        assert!(frames > 2, "{frames} pages were written");
        let (mut before, mut after) = (0, 0);
        for end in (0..=frames).map(|frame| 32 + frame * (24 + page)).flat_map(|end| [end, end + 100]) {
            let cut = tempfile::tempdir().unwrap();
            let path = cut.path().join("catalog.sqlite");
            std::fs::write(&path, &main).unwrap();
            std::fs::write(cut.path().join("catalog.sqlite-wal"), &log[..end.min(log.len())]).unwrap();
            match Catalog::open_read_only(&path).await {
                Ok(_) => after += 1,
                Err(CatalogError::TooOld { .. }) => before += 1,
                Err(error) => panic!("schema {number}, cut at {end}: {error:?}"),
            }
            let catalog = Catalog::open(&path).await.unwrap();
            assert_eq!(contents(&catalog).await, contents(&model).await, "schema {number}, cut at {end}");
            catalog.close().await;
            is_sound(&path).await;
        }
        assert!(before > 0 && after > 0, "{before} {after}");
    }
}

/// Half of a migration that was made in another way than ours, without a transaction around it.
#[tokio::test]
async fn half_a_migration_is_refused_and_left_alone() {
    let whole = full().await;
    let mut tried = 0;
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > 1) {
        let dir = tempfile::tempdir().unwrap();
        let (old, _) = old_and_expected(&whole.path, dir.path(), migration.version - 1).await;
        let mut conn = raw(&old).await;
        let lines = migration.sql.as_str().lines().filter(|line| !line.trim_start().starts_with("--"));
        let text = lines.collect::<Vec<_>>().join("\n");
        let Some((first, _)) = text.split_once(';') else { panic!("migration {} is empty", migration.version) };
        if !first.trim_start().to_uppercase().starts_with("CREATE") && !first.to_uppercase().contains("ADD COLUMN") {
            // What can be done twice can't be told from what was not done.
            continue;
        }
        run(&mut conn, first.to_owned()).await;
        conn.close().await.unwrap();
        tried += 1;

        let (before, made) = (rows(&old).await, schema(&old).await);
        let error = Catalog::open(&old).await.unwrap_err();
        assert!(matches!(error, CatalogError::Schema { .. }), "{error:?}");
        assert!(error.to_string().contains("old.sqlite"), "{error}");
        assert!(error.hint().unwrap().contains("stackferry rebuild"), "{error:?}");
        assert_eq!(rows(&old).await, before);
        assert_eq!(schema(&old).await, made);
    }
    assert!(tried >= 5);
}

#[tokio::test]
async fn a_migration_that_was_begun_and_not_ended_is_refused() {
    let bench = full().await;
    bench.tamper("UPDATE _sqlx_migrations SET success = FALSE WHERE version = 3").await;
    for error in
        [Catalog::open(&bench.path).await.unwrap_err(), Catalog::open_read_only(&bench.path).await.unwrap_err()]
    {
        assert!(matches!(&error, CatalogError::Schema { why, .. } if why.contains("migration 3")), "{error:?}");
        assert!(error.hint().unwrap().contains("stackferry rebuild"), "{error:?}");
    }
}

#[tokio::test]
async fn a_catalog_of_a_newer_program_is_refused_and_left_as_it_is() {
    let bench = full().await;
    bench
        .tamper(
            "CREATE TABLE later (a TEXT); ALTER TABLE volumes ADD COLUMN later TEXT; \
             INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9999, 'later', TRUE, x'00', 0); PRAGMA wal_checkpoint(TRUNCATE)",
        )
        .await;
    let before = std::fs::read(&bench.path).unwrap();
    for error in
        [Catalog::open(&bench.path).await.unwrap_err(), Catalog::open_read_only(&bench.path).await.unwrap_err()]
    {
        assert!(matches!(error, CatalogError::TooNew { schema: 9999, .. }), "{error:?}");
        let shown = format!("{error} {}", error.hint().unwrap());
        for word in ["catalog.sqlite", "9999", &newest().to_string(), "newer stackferry"] {
            assert!(shown.contains(word), "{shown}");
        }
    }
    assert!(std::fs::read(&bench.path).unwrap() == before);
}

/// A migration that was changed after a program applied it: the program's own is another, so the file is refused.
#[tokio::test]
async fn a_migration_that_was_edited_opens_no_catalog() {
    for number in MIGRATIONS.iter().map(|migration| migration.version) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.sqlite");
        let mut conn = raw(&path).await;
        conn.ensure_migrations_table(&MIGRATIONS.table_name).await.unwrap();
        for migration in MIGRATIONS.iter() {
            let mut migration = migration.clone();
            if migration.version == number {
                // As if the file of that day had had another comment.
                let text = format!("{}\n-- another word", migration.sql.as_str());
                migration = sqlx::migrate::Migration::new(
                    number,
                    migration.description.clone(),
                    migration.migration_type,
                    sqlx::AssertSqlSafe(text).into_sql_str(),
                    migration.no_tx,
                );
            }
            conn.apply(&MIGRATIONS.table_name, &migration).await.unwrap();
        }
        conn.close().await.unwrap();
        let error = Catalog::open(&path).await.unwrap_err();
        let why = format!("migration {number} ");
        assert!(matches!(&error, CatalogError::Schema { why: found, .. } if found.contains(&why)), "{error:?}");
    }
    for (number, checksum) in FROZEN {
        let migration = MIGRATIONS.iter().find(|migration| migration.version == *number).unwrap();
        let found: String = migration.checksum.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(found.starts_with(checksum), "migrations/{number:04}_… was changed: make a new one instead ({found})");
    }
}
