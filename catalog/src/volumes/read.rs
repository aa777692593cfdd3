//! Reading volumes with all that is known of them.

use std::collections::HashMap;

use sqlx::SqliteConnection;
use stackferry_volume::content::ContentState;
use stackferry_volume::manifest::Owner;
use stackferry_volume::{Generation, Location, SiteName, VolumeId};

use super::{LastError, LocationRow, Reason, VolumeRow};
use crate::convert::{During, Row};
use crate::error::CatalogError;
use crate::pool::Catalog;

/// Volumes with what is counted of their versions: `versions`, `damaged_versions`, and of the present life `good_versions` and `newest_good`.
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
        let during = self.during("reading the volumes", "the catalog");
        let mut tx = self.read(&during).await?;
        let rows = sqlx::query(counted_volumes!("", "ORDER BY v.id"))
            .fetch_all(&mut *tx)
            .await
            .map_err(|error| during.sql(error))?;
        let locations = sqlx::query("SELECT * FROM locations ORDER BY site, datastore, path")
            .fetch_all(&mut *tx)
            .await
            .map_err(|error| during.sql(error))?;
        let mut by_volume: HashMap<String, Vec<LocationRow>> = HashMap::new();
        for row in &locations {
            let volume = during.row(row).text("volume")?;
            by_volume.entry(volume).or_default().push(location_row(&during, row)?);
        }
        rows.iter()
            .map(|row| {
                let id = during.row(row).text("id")?;
                volume_row(&during, row, by_volume.remove(&id).unwrap_or_default())
            })
            .collect()
    }

    /// One volume; none if it was never known.
    ///
    /// # Errors
    /// `Row` if its row can't be understood, or `Database`.
    pub async fn volume(&self, id: &VolumeId) -> Result<Option<VolumeRow>, CatalogError> {
        let during = self.during("reading a volume", id);
        let mut tx = self.read(&during).await?;
        let row = sqlx::query(counted_volumes!("", "WHERE v.id = $1"))
            .bind(id.to_string())
            .fetch_optional(&mut *tx)
            .await
            .map_err(|error| during.sql(error))?;
        let Some(row) = row else { return Ok(None) };
        let locations = locations_of(&mut tx, &during, id).await?;
        volume_row(&during, &row, locations).map(Some)
    }
}

pub(super) async fn locations_of(
    conn: &mut SqliteConnection,
    during: &During,
    id: &VolumeId,
) -> Result<Vec<LocationRow>, CatalogError> {
    let rows = sqlx::query("SELECT * FROM locations WHERE volume = $1 ORDER BY site, datastore, path")
        .bind(id.to_string())
        .fetch_all(conn)
        .await
        .map_err(|error| during.sql(error))?;
    rows.iter().map(|row| location_row(during, row)).collect()
}

pub(super) fn location_row(during: &During, row: &Row) -> Result<LocationRow, CatalogError> {
    let row = during.row(row);
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

pub(super) fn volume_row(during: &During, row: &Row, locations: Vec<LocationRow>) -> Result<VolumeRow, CatalogError> {
    let row = during.row(row);
    let owner = match row.opt_text("owner_name")? {
        Some(name) => Some(Owner { name, sid: row.opt_text("owner_sid")?, upn: row.opt_text("owner_upn")? }),
        None => None,
    };
    let reason = match row.opt_text("reason_code")? {
        Some(code) => Some(Reason { code, text: row.opt_text("reason_text")?.unwrap_or_default() }),
        None => None,
    };
    let last_error = match row.opt_text("last_error_code")? {
        Some(code) => Some(LastError { code, text: row.opt_text("last_error_text")?.unwrap_or_default() }),
        None => None,
    };
    let (locations, former_locations) = locations.into_iter().partition(|location| location.gone_since.is_none());
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
        reason,
        remedy: row.opt_text("remedy")?,
        first_seen: row.time("first_seen")?,
        last_seen: row.opt_time("last_seen")?,
        gone_since: row.opt_time("gone_since")?,
        deferred_since: row.opt_time("deferred_since")?,
        locations,
        former_locations,
        versions: row.count("versions")?,
        good_versions: row.count("good_versions")?,
        damaged_versions: row.count("damaged_versions")?,
        last_version: row.opt_parsed("last_version")?,
        content: row.opt_text("last_content")?.and_then(|word| ContentState::from_word(&word)),
        last_success: row.opt_time("last_success")?.max(row.opt_time("newest_good")?),
        last_attempt: row.opt_time("last_attempt")?,
        last_error,
    })
}
