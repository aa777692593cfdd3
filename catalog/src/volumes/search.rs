//! Finding volumes among thousands: a page of those that fit, and how all of them stand, counted by the database.
//!
//! Nothing here reads a row that it does not give back: a console that is open all day asks every few seconds.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::Sqlite;
use stackferry_volume::{Kind, VolumeId};

use super::VolumeRow;
use super::read::{counted_volumes, locations_by_volume, locations_of, volume_row};
use crate::convert::{opt_stamp, words};
use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::session::Statement;
use stackferry_volume::VolumeState;

words! {
    /// How a volume is protected: one word for each volume.
    Standing ("standing") {
        /// It has a good version, young enough for its kind.
        Protected = "protected",
        /// It has a good version, but was not found equal to one for too long.
        Overdue = "overdue",
        /// It has no good version of its current generation.
        Never = "never_copied",
        /// It can't be copied as it is.
        Unprotectable = "unprotectable",
        /// It is no longer at its source. Its versions are kept.
        Gone = "gone",
    }
}

words! {
    /// In which order volumes are listed.
    VolumeOrder ("order") {
        /// By id.
        Id = "id",
        /// By name.
        Name = "name",
        /// Those that were not protected for the longest time first.
        Oldest = "oldest",
        /// The largest first.
        Size = "size",
    }
}

/// What counts as fresh for a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FreshnessLimit {
    /// What was last known equal to a version before this moment is overdue. None: it may be as old as it likes.
    pub since: Option<Timestamp>,
    /// Whether a round that found the source unchanged, without reading it, counts as well.
    pub by_scan: bool,
}

/// What counts as fresh, for each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FreshnessByKind {
    /// AppStacks.
    pub appstack: FreshnessLimit,
    /// Packages.
    pub package: FreshnessLimit,
    /// Writable volumes.
    pub writable: FreshnessLimit,
    /// Templates.
    pub template: FreshnessLimit,
    /// Any other disk.
    pub image: FreshnessLimit,
}

impl FreshnessByKind {
    fn all(&self) -> [FreshnessLimit; 5] {
        [self.appstack, self.package, self.writable, self.template, self.image]
    }
}

/// Which volumes are wanted: all that fit everything that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeFilter {
    /// A part of the id, the name, the owner or the GUID; the case of ASCII letters does not matter.
    pub text: Option<String>,
    /// The kind.
    pub kind: Option<Kind>,
    /// How it stands at its source.
    pub state: Option<VolumeState>,
    /// How it is protected.
    pub standing: Option<Standing>,
    /// The code of its reason.
    pub reason: Option<String>,
    /// The name of a datastore where it is.
    pub datastore: Option<String>,
    /// Whether its last attempt failed.
    pub failing: bool,
    /// Whether one of its versions is damaged.
    pub damaged: bool,
}

/// Part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// So many are skipped.
    pub offset: u64,
    /// At most so many are given; at most [`Page::MOST`].
    pub limit: u32,
}

impl Page {
    /// The longest page.
    pub const MOST: u32 = 500;
}

/// A page of volumes, and how many fit in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundVolumes {
    /// The volumes, each with how it is protected.
    pub rows: Vec<(VolumeRow, Standing)>,
    /// How many fit in all.
    pub total: u64,
}

/// How many volumes stand in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StandingCount {
    /// Their kind.
    pub kind: String,
    /// How they are protected.
    pub standing: Standing,
    /// How they stand at their source.
    pub state: VolumeState,
    /// The code of their reason, where they have one.
    pub reason: Option<String>,
    /// How many.
    pub volumes: u64,
    /// How many of them failed at their last attempt.
    pub failing: u64,
    /// How many of them have a version that is damaged.
    pub damaged: u64,
    /// Their lengths together, in bytes.
    pub bytes: u64,
    /// The longest time for which one of them has had its reason: since when.
    pub deferred_since: Option<Timestamp>,
}

/// Every volume with what is counted of it and how it is protected. `$1` to `$10` are [`FreshnessByKind`].
macro_rules! standing {
    ($($rest:tt)*) => {
        concat!(
            "WITH counted AS (",
            counted_volumes!(
                concat!(
                    ", CASE v.kind WHEN 'appstack' THEN $1 WHEN 'package' THEN $2 WHEN 'writable' THEN $3 ",
                    "   WHEN 'template' THEN $4 ELSE $5 END AS overdue_before, ",
                    "CASE v.kind WHEN 'appstack' THEN $6 WHEN 'package' THEN $7 WHEN 'writable' THEN $8 ",
                    "   WHEN 'template' THEN $9 ELSE $10 END AS by_scan "
                ),
                ""
            ),
            "), ",
            "proved AS (SELECT c.*, CASE WHEN COALESCE(c.last_success, '') > COALESCE(c.newest_good, '') ",
            "   THEN c.last_success ELSE c.newest_good END AS proof FROM counted c), ",
            "judged AS (SELECT p.*, CASE WHEN p.by_scan AND COALESCE(p.confirmed, '') > COALESCE(p.proof, '') ",
            "   THEN p.confirmed ELSE p.proof END AS success FROM proved p), ",
            "rated AS (SELECT j.*, CASE WHEN j.state = 'gone' THEN 'gone' WHEN NOT j.protectable THEN 'unprotectable' ",
            "   WHEN j.good_versions = 0 THEN 'never_copied' ",
            "   WHEN j.overdue_before IS NOT NULL AND COALESCE(j.success, '') < j.overdue_before THEN 'overdue' ",
            "   ELSE 'protected' END AS standing FROM judged j) ",
            $($rest)*
        )
    };
}

/// The volumes that fit: `$11` to `$18` are the filter.
macro_rules! fitting {
    ($select:literal, $tail:literal) => {
        standing!(
            $select,
            " FROM rated t WHERE ($11 IS NULL OR LOWER(t.id) LIKE $11 ESCAPE '\\' OR LOWER(t.name) LIKE $11 ESCAPE '\\' ",
            "OR LOWER(t.owner_name) LIKE $11 ESCAPE '\\' OR LOWER(t.owner_upn) LIKE $11 ESCAPE '\\' ",
            "OR LOWER(t.guid) LIKE $11 ESCAPE '\\') ",
            "AND ($12 IS NULL OR t.kind = $12) AND ($13 IS NULL OR t.state = $13) ",
            "AND ($14 IS NULL OR t.standing = $14) AND ($15 IS NULL OR t.reason_code = $15) ",
            "AND ($16 IS NULL OR EXISTS (SELECT 1 FROM locations l WHERE l.volume = t.id AND l.datastore = $16 ",
            "AND l.gone_since IS NULL)) AND (NOT $17 OR t.last_error_code IS NOT NULL) ",
            "AND (NOT $18 OR t.damaged_versions > 0) ",
            $tail
        )
    };
}

/// How many volumes stand how.
pub(crate) const STANDINGS: &str = standing!(
    "SELECT t.kind, t.standing, t.state, t.reason_code, COUNT(*) AS volumes, COUNT(t.last_error_code) AS failing, ",
    "COUNT(CASE WHEN t.damaged_versions > 0 THEN 1 END) AS damaged, ",
    "COALESCE(SUM(t.size_bytes), 0) AS bytes, MIN(t.deferred_since) AS deferred_since FROM rated t ",
    "GROUP BY t.kind, t.standing, t.state, t.reason_code ORDER BY t.kind, t.standing, t.state, t.reason_code"
);

/// A page of the volumes that fit.
pub(crate) const FOUND: &str = fitting!(
    "SELECT t.*",
    "ORDER BY CASE WHEN $19 = 'oldest' THEN COALESCE(t.success, '') END, \
     CASE WHEN $19 = 'name' THEN LOWER(t.name) END, \
     CASE WHEN $19 = 'size' THEN -COALESCE(t.size_bytes, 0) END, t.id LIMIT $20 OFFSET $21"
);

fn limits<'q>(query: Statement<'q>, fresh: &FreshnessByKind) -> Statement<'q> {
    let query = fresh.all().into_iter().fold(query, |query, kind| query.bind(opt_stamp(kind.since)));
    fresh.all().into_iter().fold(query, |query, kind| query.bind(kind.by_scan))
}

fn filtered<'q>(query: Statement<'q>, filter: &'q VolumeFilter) -> Statement<'q> {
    query
        .bind(filter.text.as_deref().map(pattern))
        .bind(filter.kind.map(Kind::as_str))
        .bind(filter.state.map(VolumeState::as_str))
        .bind(filter.standing.map(Standing::as_str))
        .bind(filter.reason.as_deref())
        .bind(filter.datastore.as_deref())
        .bind(filter.failing)
        .bind(filter.damaged)
}

/// A pattern of `LIKE` for a text that may stand anywhere.
fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.to_ascii_lowercase().chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

impl Catalog {
    /// A page of the volumes that fit a filter, in this order, and how many fit in all. Three statements, however many
    /// volumes there are.
    ///
    /// # Errors
    /// `Row` if a row can't be understood, or `Database`.
    pub async fn find_volumes(
        &self,
        filter: &VolumeFilter,
        fresh: &FreshnessByKind,
        order: VolumeOrder,
        page: Page,
    ) -> Result<FoundVolumes, CatalogError> {
        let mut tx = self.read("finding volumes", "the catalog").await?;
        let query = limits(sqlx::query(fitting!("SELECT COUNT(*) AS total", "")), fresh);
        let total = tx.one(filtered(query, filter), |row| row.count("total")).await?;
        let query = filtered(limits(sqlx::query(FOUND), fresh), filter)
            .bind(order.as_str())
            .bind(i64::from(page.limit.min(Page::MOST)))
            // Nothing lies beyond what SQL can count.
            .bind(i64::try_from(page.offset).unwrap_or(i64::MAX));
        let rows = tx.all(query, |row| Ok((volume_row(row)?, row.parsed("standing")?))).await?;
        // One list for all: so many placeholders as a page has rows, which SQLite takes (32766).
        let mut of_these = sqlx::QueryBuilder::<Sqlite>::new("SELECT * FROM locations WHERE volume IN (");
        let mut list = of_these.separated(", ");
        for (row, _) in &rows {
            list.push_bind(row.id.to_string());
        }
        of_these.push(") ORDER BY site, datastore, path");
        let mut locations = locations_by_volume(&mut tx, of_these.build()).await?;
        let rows = rows.into_iter().map(|(row, standing): (VolumeRow, Standing)| {
            let own = locations.remove(&row.id).unwrap_or_default();
            (row.located(own), standing)
        });
        Ok(FoundVolumes { rows: rows.collect(), total })
    }

    /// One volume with how it is protected; none if it was never known.
    ///
    /// # Errors
    /// `Row` if its row can't be understood, or `Database`.
    pub async fn standing(
        &self,
        id: &VolumeId,
        fresh: &FreshnessByKind,
    ) -> Result<Option<(VolumeRow, Standing)>, CatalogError> {
        let mut tx = self.read("reading a volume", id).await?;
        let query = limits(sqlx::query(standing!("SELECT t.* FROM rated t WHERE t.id = $11")), fresh);
        let found = tx.optional(query.bind(id.to_string()), |row| Ok((volume_row(row)?, row.parsed("standing")?)));
        let Some((row, standing)) = found.await? else { return Ok(None) };
        Ok(Some((row.located(locations_of(&mut tx, id).await?), standing)))
    }

    /// How all volumes stand, counted. One statement, and a few rows.
    ///
    /// # Errors
    /// `Row` if a row can't be understood, or `Database`.
    pub async fn standings(&self, fresh: &FreshnessByKind) -> Result<Vec<StandingCount>, CatalogError> {
        let mut session = self.session("counting the volumes", "the catalog").await?;
        let query = limits(sqlx::query(STANDINGS), fresh);
        session
            .all(query, |row| {
                Ok(StandingCount {
                    kind: row.text("kind")?,
                    standing: row.parsed("standing")?,
                    state: row.parsed("state")?,
                    reason: row.opt_text("reason_code")?,
                    volumes: row.count("volumes")?,
                    failing: row.count("failing")?,
                    damaged: row.count("damaged")?,
                    bytes: row.count("bytes")?,
                    deferred_since: row.opt_time("deferred_since")?,
                })
            })
            .await
    }
}
