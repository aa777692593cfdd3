//! Volumes that are postponed for so long that waiting does not help.

use jiff::Timestamp;
use stackferry_volume::{Kind, SiteName, VersionId, VolumeId};

use crate::convert::{Row, stamp};
use crate::error::CatalogError;
use crate::pool::Catalog;

/// A volume that is postponed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostponedVolume {
    /// The volume.
    pub id: VolumeId,
    /// Its name as a person reads it.
    pub name: String,
    /// Whose disk it is.
    pub owner: Option<String>,
    /// A site where it is.
    pub site: Option<SiteName>,
    /// Since when it has its reason.
    pub since: Option<Timestamp>,
    /// When it was last found equal to a committed version, or the making of its newest good version.
    pub last_success: Option<Timestamp>,
    /// Its newest good version of the current generation.
    pub last_version: Option<VersionId>,
}

/// `$1` to `$4`: the kind, the reason, before when, and how many.
pub(crate) const POSTPONED: &str = "WITH postponed AS (SELECT v.*, n.newest_good, \
       CASE WHEN COALESCE(v.last_success, '') > COALESCE(n.newest_good, '') THEN v.last_success ELSE n.newest_good END \
         AS success, \
       (SELECT l.version FROM versions l WHERE l.volume = v.id AND l.generation = v.generation AND l.damaged IS NULL \
         ORDER BY l.seq DESC LIMIT 1) AS last_version, \
       (SELECT p.site FROM locations p WHERE p.volume = v.id AND p.gone_since IS NULL ORDER BY p.site LIMIT 1) AS site \
       FROM volumes v LEFT JOIN tallies n ON n.volume = v.id AND n.generation = v.generation \
       WHERE v.state = 'deferred' AND v.kind = $1 AND v.reason_code = $2) \
     SELECT h.*, COUNT(*) OVER () AS total FROM postponed h \
     WHERE h.deferred_since < $3 OR COALESCE(h.success, h.first_seen) < $3 \
     ORDER BY COALESCE(h.success, ''), h.id LIMIT $4";

impl Catalog {
    /// Volumes of a kind that are postponed for a reason, and either have been since before this moment or were not found
    /// equal to a version since: the worst first, at most `most` of them, and how many there are in all.
    ///
    /// # Errors
    /// `Row` if a row can't be understood, or `Database`.
    pub async fn postponed_too_long(
        &self,
        kind: Kind,
        reason: &str,
        before: Timestamp,
        most: u32,
    ) -> Result<(Vec<PostponedVolume>, u64), CatalogError> {
        let mut session = self.session("finding volumes that are postponed too long", "the catalog").await?;
        let query = sqlx::query(POSTPONED).bind(kind.as_str()).bind(reason).bind(stamp(before)).bind(i64::from(most));
        let read = |row: &Row<'_>| {
            let volume = PostponedVolume {
                id: row.parsed("id")?,
                name: row.text("name")?,
                owner: row.opt_text("owner_name")?,
                site: row.opt_text("site")?.map(SiteName),
                since: row.opt_time("deferred_since")?,
                last_success: row.opt_time("success")?,
                last_version: row.opt_parsed("last_version")?,
            };
            Ok((volume, row.count("total")?))
        };
        let rows = session.all(query, read).await?;
        let total = rows.first().map_or(0, |(_, total)| *total);
        Ok((rows.into_iter().map(|(volume, _)| volume).collect(), total))
    }
}
