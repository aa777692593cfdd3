//! Reading volumes with all that is known of them.

use std::collections::HashMap;

use stackferry_volume::content::ContentState;
use stackferry_volume::manifest::Owner;
use stackferry_volume::{Generation, Location, SiteName, VolumeId};

use super::{LocationRow, StatusReason, VolumeRow};
use crate::convert::Row;
use crate::error::CatalogError;
use crate::pool::Catalog;
use crate::session::{DbSession, Statement};

/// Volumes with what is counted of their versions: `versions`, `damaged_versions`, and of the current generation `good_versions` and `newest_good`.
/// `$more` is further columns, `$tail` what follows `FROM`.
macro_rules! counted_volumes {
    ($more:expr, $tail:literal) => {
        concat!(
            "SELECT v.*, COALESCE((SELECT SUM(a.versions) FROM tallies a WHERE a.volume = v.id), 0) AS versions, ",
            "COALESCE((SELECT SUM(d.damaged) FROM tallies d WHERE d.volume = v.id), 0) AS damaged_versions, ",
            "COALESCE(n.good, 0) AS good_versions, n.newest_good, ",
            "(SELECT l.version FROM versions l WHERE l.volume = v.id ORDER BY l.seq DESC LIMIT 1) AS last_version, ",
            "(SELECT l.content FROM versions l WHERE l.volume = v.id AND l.generation = v.generation \
               ORDER BY l.seq DESC LIMIT 1) AS last_content ",
            $more,
            "FROM volumes v LEFT JOIN tallies n ON n.volume = v.id AND n.generation = v.generation ",
            $tail
        )
    };
}
pub(super) use counted_volumes;

impl Catalog {
    /// Every volume that was ever known, by id.
    ///
    /// # Errors
    /// `Row` if a row can't be understood, or `Database`.
    pub async fn volumes(&self) -> Result<Vec<VolumeRow>, CatalogError> {
        let mut tx = self.read("reading the volumes", "the catalog").await?;
        let locations = "SELECT * FROM locations ORDER BY site, datastore, path";
        let mut locations = locations_by_volume(&mut tx, sqlx::query(locations)).await?;
        let query = sqlx::query(counted_volumes!("", "ORDER BY v.id"));
        let rows = tx.all(query, volume_row).await?.into_iter();
        Ok(rows
            .map(|row| {
                let own = locations.remove(&row.id).unwrap_or_default();
                row.located(own)
            })
            .collect())
    }

    /// One volume; none if it was never known.
    ///
    /// # Errors
    /// `Row` if its row can't be understood, or `Database`.
    pub async fn volume(&self, id: &VolumeId) -> Result<Option<VolumeRow>, CatalogError> {
        let mut tx = self.read("reading a volume", id).await?;
        let query = sqlx::query(counted_volumes!("", "WHERE v.id = $1")).bind(id.to_string());
        let Some(row) = tx.optional(query, volume_row).await? else { return Ok(None) };
        Ok(Some(row.located(locations_of(&mut tx, id).await?)))
    }
}

impl VolumeRow {
    /// The same volume at its locations.
    pub(super) fn located(self, locations: Vec<LocationRow>) -> Self {
        let (locations, former_locations) = locations.into_iter().partition(|location| location.gone_since.is_none());
        Self { locations, former_locations, ..self }
    }
}

pub(super) async fn locations_of(tx: &mut DbSession, id: &VolumeId) -> Result<Vec<LocationRow>, CatalogError> {
    let query = sqlx::query("SELECT * FROM locations WHERE volume = $1 ORDER BY site, datastore, path");
    tx.all(query.bind(id.to_string()), location_row).await
}

/// The locations that a statement finds, by the ids of their volumes.
pub(super) async fn locations_by_volume(
    tx: &mut DbSession,
    statement: Statement<'_>,
) -> Result<HashMap<VolumeId, Vec<LocationRow>>, CatalogError> {
    let mut by_volume: HashMap<VolumeId, Vec<LocationRow>> = HashMap::new();
    for (volume, location) in tx.all(statement, |row| Ok((row.parsed("volume")?, location_row(row)?))).await? {
        by_volume.entry(volume).or_default().push(location);
    }
    Ok(by_volume)
}

fn location_row(row: &Row<'_>) -> Result<LocationRow, CatalogError> {
    Ok(LocationRow {
        location: Location {
            site: SiteName(row.text("site")?),
            datastore: row.text("datastore")?,
            path: row.text("path")?,
        },
        datastore_type: row.opt_text("type")?,
        reachable: row.flag("reachable")?,
        fingerprint: row.opt_json("fingerprint")?,
        settled: row.flag("settled")?,
        seen_at: row.time("seen_at")?,
        gone_since: row.opt_time("gone_since")?,
    })
}

/// A volume without its locations.
pub(super) fn volume_row(row: &Row<'_>) -> Result<VolumeRow, CatalogError> {
    let owner = match row.opt_text("owner_name")? {
        Some(name) => Some(Owner { name, sid: row.opt_text("owner_sid")?, upn: row.opt_text("owner_upn")? }),
        None => None,
    };
    Ok(VolumeRow {
        id: row.parsed("id")?,
        stem: row.text("stem")?,
        name: row.text("name")?,
        owner,
        guid: row.opt_text("guid")?,
        generation: Generation(row.small("generation")?),
        size_bytes: row.opt_count("size_bytes")?,
        state: row.parsed("state")?,
        attached: row.opt_flag("attached")?,
        protectable: row.flag("protectable")?,
        reason: StatusReason::read(row, "reason_code", "reason_text")?,
        remedy: row.opt_text("remedy")?,
        first_seen: row.time("first_seen")?,
        last_seen: row.opt_time("last_seen")?,
        gone_since: row.opt_time("gone_since")?,
        deferred_since: row.opt_time("deferred_since")?,
        locations: Vec::new(),
        former_locations: Vec::new(),
        versions: row.count("versions")?,
        good_versions: row.count("good_versions")?,
        damaged_versions: row.count("damaged_versions")?,
        last_version: row.opt_parsed("last_version")?,
        content: row.opt_text("last_content")?.and_then(|word| ContentState::from_word(&word)),
        last_success: row.opt_time("last_success")?.max(row.opt_time("newest_good")?),
        last_attempt: row.opt_time("last_attempt")?,
        last_error: StatusReason::read(row, "last_error_code", "last_error_text")?,
    })
}
