//! What is counted of volumes' versions, so that nobody has to count them again to report how a site stands.
//!
//! Triggers of the database keep it (`migrations/0008_tallies.sql`), so that no statement can forget to. Here is only what
//! spares a transaction that changes many versions of a volume from counting it again after each of them. It must never be
//! left begun: the transaction that puts counting off ends it, or is rolled back.

use stackferry_volume::VolumeId;

use crate::error::CatalogError;
use crate::session::DbSession;

/// Of this transaction's changes, nothing is counted until one of the others here is called.
pub(crate) async fn put_off(tx: &mut DbSession) -> Result<(), CatalogError> {
    run(tx, "INSERT INTO meta (key, value) VALUES ('tally_later', '')", None).await
}

/// Recounts everything.
pub(crate) async fn count_all(tx: &mut DbSession) -> Result<(), CatalogError> {
    run(tx, "DELETE FROM tallies", None).await?;
    run(tx, "INSERT INTO tallies SELECT * FROM tallied", None).await?;
    run(tx, "DELETE FROM meta WHERE key = 'tally_later'", None).await
}

/// Recounts the versions of one volume: the only one that this transaction changed versions of.
pub(crate) async fn count(tx: &mut DbSession, volume: &VolumeId) -> Result<(), CatalogError> {
    run(tx, "DELETE FROM tallies WHERE volume = $1", Some(volume)).await?;
    run(tx, "INSERT INTO tallies SELECT * FROM tallied WHERE volume = $1", Some(volume)).await?;
    run(tx, "DELETE FROM meta WHERE key = 'tally_later'", None).await
}

/// Nothing that is counted was changed by this transaction.
pub(crate) async fn skip(tx: &mut DbSession) -> Result<(), CatalogError> {
    run(tx, "DELETE FROM meta WHERE key = 'tally_later'", None).await
}

async fn run(tx: &mut DbSession, sql: &'static str, volume: Option<&VolumeId>) -> Result<(), CatalogError> {
    let mut query = sqlx::query(sql);
    if let Some(volume) = volume {
        query = query.bind(volume.to_string());
    }
    tx.execute(query).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use sqlx::Row as _;

    use crate::pool::Catalog;
    use crate::{fleet, versions, volumes};

    /// What is asked every few seconds, or while nothing else is done, must not walk through all versions of a site.
    #[tokio::test]
    async fn what_is_asked_often_walks_through_no_list_of_versions() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).await.unwrap();
        for sql in [
            fleet::VOLUMES,
            volumes::STANDINGS,
            volumes::FOUND,
            volumes::POSTPONED,
            versions::INCIDENTS,
            versions::UNVERIFIED,
            versions::UNTESTED,
        ] {
            let plan = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
            let mut session = catalog.session("testing", sql).await.unwrap();
            let rows = plan.fetch_all(session.conn()).await.unwrap();
            let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            assert!(!steps.is_empty());
            // Versions are `r` or `l` in them. The one index that may be walked through holds incidents alone.
            let walks = |step: &&String| {
                let of_versions = ["SCAN r", "SCAN l", "SCAN versions"].iter().any(|walk| step.starts_with(walk));
                of_versions && !step.contains("versions_with_incidents")
            };
            assert_eq!(steps.iter().find(walks), None, "{sql}\n{}", steps.join("\n"));
        }
    }
}
