//! The steps of the schema, compiled in from `migrations/`. A step that a released program has applied never changes.

use std::sync::LazyLock;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// One step: its number, what it is called, and the file that holds it.
macro_rules! step {
    ($number:literal, $name:literal, $file:literal) => {
        ($number, $name, include_str!(concat!("../migrations/", $file)))
    };
}

const STEPS: [(i64, &str, &str); 11] = [
    step!(1, "catalog", "0001_catalog.sql"),
    step!(2, "owed", "0002_owed.sql"),
    step!(3, "jobs", "0003_jobs.sql"),
    step!(4, "tokens", "0004_tokens.sql"),
    step!(5, "checkups", "0005_checkups.sql"),
    step!(6, "confirmed", "0006_confirmed.sql"),
    step!(7, "notify", "0007_notify.sql"),
    step!(8, "tallies", "0008_tallies.sql"),
    step!(9, "damages", "0009_damages.sql"),
    step!(10, "history", "0010_history.sql"),
    step!(11, "content", "0011_content.sql"),
];

/// All steps, in order. A list by hand and not `sqlx::migrate!`: that macro builds sqlx and SQLite a second time, for the
/// compiler.
pub(crate) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let step = |(number, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(number, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(STEPS.into_iter().map(step).collect())
});

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn every_file_of_the_folder_is_a_step() {
        let folder = Migrator::new(Path::new("migrations")).await.unwrap();
        let steps = |migrator: &Migrator| -> Vec<_> {
            let step = |one: &Migration| (one.version, one.description.to_string(), one.checksum.to_vec(), one.no_tx);
            migrator.migrations.iter().map(step).collect()
        };
        assert_eq!(steps(&folder), steps(&MIGRATIONS));
    }
}
