//! The index of the vault's versions. A row here says that the vault holds the version; it never makes or deletes one.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::{QueryBuilder, Sqlite};
use stackferry_volume::content::ContentState;
use stackferry_volume::manifest::VerifyMethod;
use stackferry_volume::{Generation, VersionId, VolumeId};

use crate::audit::{self, AuditAction, AuditEntry};
use crate::baselines;
use crate::convert::{Row, opt_stamp, stamp};
use crate::damages;
use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::session::{DbSession, Statement};
use crate::tallies;

/// The incidents that stand.
pub(crate) const INCIDENTS: &str = "SELECT r.* FROM versions r JOIN volumes o ON o.id = r.volume AND o.generation = r.generation \
     WHERE r.incident IS NOT NULL AND r.seq = (SELECT max(seq) FROM versions WHERE volume = r.volume) \
     ORDER BY r.volume";
/// Good versions, those first that were proved whole longest ago.
pub(crate) const UNVERIFIED: &str = "SELECT * FROM versions WHERE damaged IS NULL AND COALESCE(last_verified, created) < $1 \
     ORDER BY COALESCE(last_verified, created), volume, seq LIMIT $2";
/// The newest good versions of current generations, those first that were opened longest ago.
pub(crate) const UNTESTED: &str = "WITH tested AS (SELECT volume, COALESCE(MAX(last_tested), '') AS at FROM tallies GROUP BY volume) \
     SELECT r.* FROM volumes o JOIN tallies n ON n.volume = o.id AND n.generation = o.generation \
     JOIN tested t ON t.volume = o.id JOIN versions r ON r.volume = o.id AND r.seq = n.newest_good_seq \
     WHERE t.at < $1 ORDER BY t.at, r.volume LIMIT $2";

/// A version, as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    /// The volume.
    pub volume: VolumeId,
    /// The version.
    pub version: VersionId,
    /// The volume's generation that it belongs to.
    pub generation: Generation,
    /// When its last byte was checked (the manifest's `ended`).
    pub created: Timestamp,
    /// The lengths of its files together, in bytes.
    pub bytes: u64,
    /// What it takes in the vault, in bytes.
    pub stored: u64,
    /// Whether the last check of its digests, on arrival or later, found every block right.
    pub verified: bool,
    /// How it was checked before it was committed.
    pub verify_method: VerifyMethod,
    /// Whether it is kept whatever retention says.
    pub pinned: bool,
    /// Why it is known to be damaged.
    pub damaged: Option<String>,
    /// When it was last read back from the vault and checked.
    pub last_verified: Option<Timestamp>,
    /// The route its bytes came by.
    pub route: String,
    /// Why it is an incident.
    pub incident: Option<String>,
    /// What its disk held when it was last inspected; none where it never was.
    pub content: Option<VersionContent>,
    /// The last time that it was opened as a disk.
    pub restore_test: Option<RestoreTest>,
    /// Since when it is being deleted.
    pub deleting: Option<Timestamp>,
}

/// What a version's disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionContent {
    /// The word for it.
    pub state: ContentState,
    /// A sentence for a person.
    pub text: String,
}

/// What opening a version as a disk came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreTest {
    /// When.
    pub at: Timestamp,
    /// Whether it could be used as a disk.
    pub ok: bool,
    /// What was found in it, or what is wrong, for a person.
    pub found: String,
    /// The word for what its disk holds; none where it could not be opened at all.
    pub content: Option<ContentState>,
}

impl Catalog {
    /// Adds a version that the vault has committed. One durable transaction.
    ///
    /// # Errors
    /// `NoSuchVolume` (see [`Catalog::adopt`] for those that only the vault knows), `VersionExists`, `Range`, or
    /// `Database`.
    pub async fn add_version(&self, version: &VersionRow) -> Result<(), CatalogError> {
        let mut tx = self.write("adding a version", format!("{}@{}", version.volume, version.version)).await?;
        need_volume(&mut tx, &version.volume).await?;
        insert(&mut tx, version).await?;
        tx.commit().await
    }

    /// The versions of a volume, newest first; none for a volume that is not known.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn versions(&self, volume: &VolumeId) -> Result<Vec<VersionRow>, CatalogError> {
        let mut session = self.session("reading the versions", volume).await?;
        let query = sqlx::query("SELECT * FROM versions WHERE volume = $1 ORDER BY seq DESC").bind(volume.to_string());
        session.all(query, version_row).await
    }

    /// Every version of every volume, by volume, newest first.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn all_versions(&self) -> Result<Vec<VersionRow>, CatalogError> {
        let mut session = self.session("reading all versions", "the catalog").await?;
        session.all(sqlx::query("SELECT * FROM versions ORDER BY volume, seq DESC"), version_row).await
    }

    /// The incidents that stand: of each volume the newest version of its current generation, where that is one.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn incidents(&self) -> Result<Vec<VersionRow>, CatalogError> {
        let mut session = self.session("reading the incidents", "the catalog").await?;
        session.all(sqlx::query(INCIDENTS), version_row).await
    }

    /// Shows a volume as one whose newest version is an incident, before the next round does. One durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn mark_incident(&self, volume: &VolumeId, text: &str, remedy: &str) -> Result<(), CatalogError> {
        let mut tx = self.write("marking an incident", volume.to_string()).await?;
        let statement = sqlx::query(
            "UPDATE volumes SET state = 'incident', reason_code = 'incident', reason_text = $2, remedy = $3 \
             WHERE id = $1",
        )
        .bind(volume.to_string())
        .bind(text)
        .bind(remedy);
        tx.execute(statement).await?;
        tx.commit().await
    }

    /// Forgets a version that the vault has deleted, and the baselines that rest on it. One durable transaction.
    ///
    /// # Errors
    /// `NoSuchVersion`, or `Database`.
    pub async fn remove_version(&self, volume: &VolumeId, version: &VersionId) -> Result<(), CatalogError> {
        let mut tx = self.about(volume, version, "removing a version").await?;
        let update = sqlx::query("DELETE FROM versions WHERE volume = $1 AND version = $2")
            .bind(volume.to_string())
            .bind(version.to_string());
        one(&mut tx, update, volume, version).await?;
        tx.commit().await
    }

    /// Records whether the vault keeps a version whatever retention says. One durable transaction.
    ///
    /// # Errors
    /// `NoSuchVersion`, or `Database`.
    pub async fn set_pinned(&self, volume: &VolumeId, version: &VersionId, pinned: bool) -> Result<(), CatalogError> {
        let mut tx = self.about(volume, version, "pinning a version").await?;
        let update = sqlx::query("UPDATE versions SET pinned = $3 WHERE volume = $1 AND version = $2")
            .bind(volume.to_string())
            .bind(version.to_string())
            .bind(pinned);
        one(&mut tx, update, volume, version).await?;
        tx.commit().await
    }

    /// Records that a version is damaged. Nothing rests on it any more: its baselines are forgotten, so the volume is
    /// due. One durable transaction.
    ///
    /// # Errors
    /// `NoSuchVersion`, or `Database`.
    pub async fn mark_damaged(&self, volume: &VolumeId, version: &VersionId, why: &str) -> Result<(), CatalogError> {
        let mut tx = self.about(volume, version, "marking a version as damaged").await?;
        let update =
            sqlx::query("UPDATE versions SET damaged = $3, verified = FALSE WHERE volume = $1 AND version = $2")
                .bind(volume.to_string())
                .bind(version.to_string())
                .bind(why);
        one(&mut tx, update, volume, version).await?;
        baselines::forget(&mut tx, volume, version).await?;
        tx.commit().await
    }

    /// Records that a whole version was read back at `at`. If all was right it is verified, and no longer damaged (it
    /// was repaired, or the reading had been at fault); if not, it is damaged, as by [`Catalog::mark_damaged`], which
    /// may say more. One durable transaction.
    ///
    /// # Errors
    /// `NoSuchVersion`, or `Database`.
    pub async fn set_verified(
        &self,
        volume: &VolumeId,
        version: &VersionId,
        at: Timestamp,
        ok: bool,
    ) -> Result<(), CatalogError> {
        let mut tx = self.about(volume, version, "recording a verification").await?;
        let update = sqlx::query(
            "UPDATE versions SET last_verified = $3, verified = $4, \
               damaged = CASE WHEN $4 THEN NULL ELSE COALESCE(damaged, 'its verification failed') END \
             WHERE volume = $1 AND version = $2",
        )
        .bind(volume.to_string())
        .bind(version.to_string())
        .bind(stamp(at))
        .bind(ok);
        one(&mut tx, update, volume, version).await?;
        match ok {
            true => damages::forget(&mut tx, volume, version).await?,
            false => baselines::forget(&mut tx, volume, version).await?,
        }
        tx.commit().await
    }

    /// Records what opening a version as a disk came to. One durable transaction.
    ///
    /// # Errors
    /// `NoSuchVersion`, or `Database`.
    pub async fn set_restore_tested(
        &self,
        volume: &VolumeId,
        version: &VersionId,
        test: &RestoreTest,
    ) -> Result<(), CatalogError> {
        let mut tx = self.about(volume, version, "recording a restore test").await?;
        let update = sqlx::query(
            "UPDATE versions SET restore_tested = $3, restore_test_ok = $4, restore_test_found = $5, \
               content = COALESCE($6, content), content_text = CASE WHEN $6 IS NULL THEN content_text ELSE $5 END \
             WHERE volume = $1 AND version = $2",
        )
        .bind(volume.to_string())
        .bind(version.to_string())
        .bind(stamp(test.at))
        .bind(test.ok)
        .bind(&test.found)
        .bind(test.content.map(ContentState::as_str));
        one(&mut tx, update, volume, version).await?;
        tx.commit().await
    }

    /// Records that the vault is about to delete a version (`since`), or that it did not after all. One durable
    /// transaction.
    ///
    /// # Errors
    /// `NoSuchVersion`, or `Database`.
    pub async fn set_deleting(
        &self,
        volume: &VolumeId,
        version: &VersionId,
        since: Option<Timestamp>,
    ) -> Result<(), CatalogError> {
        let mut tx = self.about(volume, version, "recording a deletion").await?;
        let update = sqlx::query("UPDATE versions SET deleting = $3 WHERE volume = $1 AND version = $2")
            .bind(volume.to_string())
            .bind(version.to_string())
            .bind(opt_stamp(since));
        one(&mut tx, update, volume, version).await?;
        tx.commit().await
    }

    /// Records that the vault is about to delete these versions of a volume. Those without a row are skipped. One
    /// durable transaction.
    ///
    /// # Errors
    /// `Database`.
    pub async fn set_all_deleting(
        &self,
        volume: &VolumeId,
        versions: &[VersionId],
        since: Timestamp,
    ) -> Result<(), CatalogError> {
        let mut tx = self.write("recording deletions", volume).await?;
        tallies::put_off(&mut tx).await?;
        let mut update = QueryBuilder::new("UPDATE versions SET deleting = ");
        update.push_bind(stamp(since));
        of_these(&mut tx, update, volume, versions).await?;
        // Nothing of it is counted: the tallies stay as they are.
        tallies::skip(&mut tx).await?;
        tx.commit().await
    }

    /// Records what became of deletions that were announced: those that the vault has deleted are forgotten, with the
    /// baselines that rest on them and an audit record of `detail` for each; the others stay. Those without a row are
    /// passed over. One durable transaction.
    ///
    /// # Errors
    /// `Json`, or `Database`.
    pub async fn deletions_ended(
        &self,
        volume: &VolumeId,
        deleted: &[(VersionId, Value)],
        kept: &[VersionId],
        actor: &str,
    ) -> Result<(), CatalogError> {
        let now = self.clock().now();
        let mut tx = self.write("removing versions", volume).await?;
        tallies::put_off(&mut tx).await?;
        let gone: Vec<VersionId> = deleted.iter().map(|(version, _)| version.clone()).collect();
        of_these(&mut tx, QueryBuilder::new("DELETE FROM versions"), volume, &gone).await?;
        let update = QueryBuilder::new("UPDATE versions SET deleting = NULL");
        of_these(&mut tx, update, volume, kept).await?;
        let names: Vec<String> = gone.iter().map(|version| format!("{volume}@{version}")).collect();
        let action = AuditAction::VersionDeleted;
        let entries =
            names.iter().zip(deleted).map(|(subject, (_, detail))| AuditEntry { action, actor, subject, detail });
        let entries: Vec<AuditEntry<'_>> = entries.collect();
        audit::append_all(&mut tx, now, &entries).await?;
        tallies::count(&mut tx, volume).await?;
        tx.commit().await
    }

    /// The good versions that were not read back since `before`, who waits longest first, at most `most`: the last
    /// verification counts, else the making.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn longest_unverified(&self, before: Timestamp, most: u32) -> Result<Vec<VersionRow>, CatalogError> {
        let mut session = self.session("finding versions to verify", "the catalog").await?;
        let query = sqlx::query(UNVERIFIED).bind(stamp(before)).bind(i64::from(most));
        session.all(query, version_row).await
    }

    /// The newest good versions of the current generations of volumes of which none was opened as a disk since `before`, who
    /// waits longest first, at most `most`.
    ///
    /// # Errors
    /// `Row`, or `Database`.
    pub async fn longest_untested(&self, before: Timestamp, most: u32) -> Result<Vec<VersionRow>, CatalogError> {
        let mut session = self.session("finding versions to test", "the catalog").await?;
        let query = sqlx::query(UNTESTED).bind(stamp(before)).bind(i64::from(most));
        session.all(query, version_row).await
    }

    async fn about(
        &self,
        volume: &VolumeId,
        version: &VersionId,
        operation: &'static str,
    ) -> Result<DbSession, CatalogError> {
        self.write(operation, format!("{volume}@{version}")).await
    }
}

/// Completes a statement to one about these versions of a volume, and carries it out.
async fn of_these(
    tx: &mut DbSession,
    mut statement: QueryBuilder<Sqlite>,
    volume: &VolumeId,
    versions: &[VersionId],
) -> Result<(), CatalogError> {
    if versions.is_empty() {
        return Ok(());
    }
    statement.push(" WHERE volume = ").push_bind(volume.to_string()).push(" AND version IN (");
    let mut list = statement.separated(", ");
    for version in versions {
        list.push_bind(version.to_string());
    }
    list.push_unseparated(")");
    tx.execute(statement.build()).await.map(|_| ())
}

/// Runs a statement that changes the row of one version.
async fn one(
    tx: &mut DbSession,
    statement: Statement<'_>,
    volume: &VolumeId,
    version: &VersionId,
) -> Result<(), CatalogError> {
    match tx.execute(statement).await? {
        0 => Err(CatalogError::NoSuchVersion { volume: volume.clone(), version: version.clone() }),
        _ => Ok(()),
    }
}

/// The volume's current generation.
pub(crate) async fn need_volume(tx: &mut DbSession, volume: &VolumeId) -> Result<Generation, CatalogError> {
    let query = sqlx::query("SELECT generation FROM volumes WHERE id = $1").bind(volume.to_string());
    let found = tx.optional(query, |row| Ok(Generation(row.small("generation")?))).await?;
    found.ok_or_else(|| CatalogError::NoSuchVolume(volume.clone()))
}

pub(crate) async fn insert(tx: &mut DbSession, version: &VersionRow) -> Result<(), CatalogError> {
    let statement = sqlx::query(
        "INSERT INTO versions (volume, seq, version, generation, created, bytes, stored, verified, verify_method, \
           pinned, damaged, last_verified, route, incident, content, content_text, restore_tested, restore_test_ok, \
           restore_test_found) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
    )
    .bind(version.volume.to_string())
    .bind(tx.number("seq", version.version.seq())?)
    .bind(version.version.to_string())
    .bind(i64::from(version.generation.0))
    .bind(stamp(version.created))
    .bind(tx.number("bytes", version.bytes)?)
    .bind(tx.number("stored", version.stored)?)
    .bind(version.verified)
    .bind(method_word(version.verify_method))
    .bind(version.pinned)
    .bind(&version.damaged)
    .bind(opt_stamp(version.last_verified))
    .bind(&version.route)
    .bind(&version.incident)
    .bind(version.content.as_ref().map(|content| content.state.as_str()))
    .bind(version.content.as_ref().map(|content| &content.text))
    .bind(opt_stamp(version.restore_test.as_ref().map(|test| test.at)))
    .bind(version.restore_test.as_ref().map(|test| test.ok))
    .bind(version.restore_test.as_ref().map(|test| &test.found));
    let exists = || CatalogError::VersionExists { volume: version.volume.clone(), version: version.version.clone() };
    tx.insert(statement, exists).await
}

/// Rewrites a known version's row from the vault. Where it is no longer damaged, what was found then is forgotten.
pub(crate) async fn rewrite(tx: &mut DbSession, version: &VersionRow) -> Result<(), CatalogError> {
    let update = sqlx::query(
        "UPDATE versions SET generation = $3, created = $4, bytes = $5, stored = $6, verified = $7, verify_method = $8, \
           pinned = $9, last_verified = CASE WHEN damaged IS NULL AND $10 IS NULL THEN last_verified END, damaged = $10, \
           route = $11, incident = $12 \
         WHERE volume = $1 AND version = $2",
    ).bind(version.volume.to_string())
    .bind(version.version.to_string())
    .bind(i64::from(version.generation.0))
    .bind(stamp(version.created))
    .bind(tx.number("bytes", version.bytes)?)
    .bind(tx.number("stored", version.stored)?)
    .bind(version.verified)
    .bind(method_word(version.verify_method))
    .bind(version.pinned)
    .bind(&version.damaged)
    .bind(&version.route)
    .bind(&version.incident)
    ;
    one(tx, update, &version.volume, &version.version).await?;
    match version.damaged {
        None => damages::forget(tx, &version.volume, &version.version).await,
        Some(_) => Ok(()),
    }
}

/// Writes a version's marks.
pub(crate) async fn remark(
    tx: &mut DbSession,
    volume: &VolumeId,
    version: &VersionId,
    pinned: bool,
    damaged: Option<&str>,
) -> Result<(), CatalogError> {
    let update = sqlx::query(
        "UPDATE versions SET pinned = $3, damaged = $4, verified = CASE WHEN $4 IS NULL THEN verified ELSE FALSE END \
         WHERE volume = $1 AND version = $2",
    )
    .bind(volume.to_string())
    .bind(version.to_string())
    .bind(pinned)
    .bind(damaged);
    one(tx, update, volume, version).await
}

fn version_row(row: &Row<'_>) -> Result<VersionRow, CatalogError> {
    let method = row.text("verify_method")?;
    let content = match row.opt_text("content")? {
        Some(word) => {
            let state = ContentState::from_word(&word);
            let state = state.ok_or_else(|| row.bad("content", format!("`{word}` is no content")))?;
            Some(VersionContent { state, text: row.opt_text("content_text")?.unwrap_or_default() })
        }
        None => None,
    };
    Ok(VersionRow {
        volume: row.parsed("volume")?,
        version: row.parsed("version")?,
        generation: Generation(row.small("generation")?),
        created: row.time("created")?,
        bytes: row.count("bytes")?,
        stored: row.count("stored")?,
        verified: row.flag("verified")?,
        verify_method: match method.as_str() {
            "arrival" => VerifyMethod::Arrival,
            "read_back" => VerifyMethod::ReadBack,
            _ => return Err(row.bad("verify_method", format!("`{method}` is no method"))),
        },
        pinned: row.flag("pinned")?,
        damaged: row.opt_text("damaged")?,
        last_verified: row.opt_time("last_verified")?,
        route: row.text("route")?,
        incident: row.opt_text("incident")?,
        restore_test: match (row.opt_time("restore_tested")?, row.opt_flag("restore_test_ok")?) {
            (Some(at), Some(ok)) => {
                let found = row.opt_text("restore_test_found")?.unwrap_or_default();
                Some(RestoreTest { at, ok, found, content: content.as_ref().map(|content| content.state) })
            }
            _ => None,
        },
        content,
        deleting: row.opt_time("deleting")?,
    })
}

fn method_word(method: VerifyMethod) -> &'static str {
    match method {
        VerifyMethod::Arrival => "arrival",
        VerifyMethod::ReadBack => "read_back",
    }
}
