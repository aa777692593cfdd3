//! What the catalog says of volumes, as metric families: one reading of the catalog for each scrape.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prometheus::{GaugeVec, Opts, Registry};
use stackferry_catalog::{DatastoreKey, VolumeRow, VolumeState};
use stackferry_config::PerVolume;
use stackferry_volume::Kind;

use super::registry::{self, Family};
use crate::output::escape;

/// A time as Prometheus wants it, to the millisecond.
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// Gauges of one scrape. They have what is set in them, and nothing of earlier scrapes.
pub(super) struct Gauges {
    registry: Registry,
}

impl Gauges {
    pub(super) fn new() -> Self {
        Self { registry: Registry::new() }
    }

    /// A family of gauges of this scrape.
    pub(super) fn family(&self, family: &Family) -> Result<GaugeVec, prometheus::Error> {
        let gauges = GaugeVec::new(Opts::new(family.name, family.meaning), family.labels)?;
        self.registry.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    /// A family with a single series.
    pub(super) fn single(&self, family: &Family, value: f64) -> Result<(), prometheus::Error> {
        set(&self.family(family)?, &[], value)
    }

    pub(super) fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}

fn set(gauges: &GaugeVec, labels: &[&str], value: f64) -> Result<(), prometheus::Error> {
    gauges.get_metric_with_label_values(labels)?.set(value);
    Ok(())
}

/// How a datastore is called in labels.
pub(super) fn source(key: &DatastoreKey) -> String {
    format!("{}/{}", key.site.0, key.datastore)
}

/// Everything that volumes' rows tell. `looked` is when this process last looked at each datastore.
pub(super) fn volumes(
    gauges: &Gauges,
    rows: &[VolumeRow],
    per_volume: PerVolume,
    mut looked: BTreeMap<DatastoreKey, Option<Timestamp>>,
) -> Result<(), prometheus::Error> {
    let counts = gauges.family(&registry::VOLUMES)?;
    for kind in Kind::ALL {
        for state in VolumeState::ALL {
            set(&counts, &[kind.as_str(), state.as_str()], 0.0)?;
        }
    }
    let mut never = 0u32;
    let mut versions = 0;
    for row in rows {
        counts.get_metric_with_label_values(&[row.id.kind().as_str(), row.state.as_str()])?.inc();
        versions += row.versions;
        if row.protectable && row.state != VolumeState::Gone && row.good_versions == 0 {
            never += 1;
        }
        // What App Volumes only tells of was not looked at.
        for place in row.locations.iter().filter(|place| place.fingerprint.is_some()) {
            let key = DatastoreKey { site: place.location.site.clone(), datastore: place.location.datastore.clone() };
            if let Some(last) = looked.get_mut(&key) {
                *last = (*last).max(Some(place.seen_at));
            }
        }
    }
    gauges.single(&registry::NEVER_COPIED, f64::from(never))?;
    gauges.single(&registry::VERSIONS, versions as f64)?;
    let discovery = gauges.family(&registry::DISCOVERY_LAST_SUCCESS)?;
    for (key, last) in &looked {
        if let Some(last) = last {
            set(&discovery, &[&source(key)], seconds(*last))?;
        }
    }
    match per_volume {
        PerVolume::Off => Ok(()),
        PerVolume::All => single_volumes(gauges, rows.iter()),
        PerVolume::Problems => single_volumes(gauges, rows.iter().filter(|row| has_problem(row))),
    }
}

fn has_problem(row: &VolumeRow) -> bool {
    row.state != VolumeState::Ready || row.good_versions == 0 || row.last_error.is_some()
}

/// The series of single volumes. Those that are gone have none: rows are kept for ever, and an alarm for what nobody can
/// copy any more would never end.
fn single_volumes<'r>(gauges: &Gauges, rows: impl Iterator<Item = &'r VolumeRow>) -> Result<(), prometheus::Error> {
    let info = gauges.family(&registry::VOLUME_INFO)?;
    let success = gauges.family(&registry::VOLUME_LAST_SUCCESS)?;
    let attempt = gauges.family(&registry::VOLUME_LAST_ATTEMPT)?;
    let versions = gauges.family(&registry::VOLUME_VERSIONS)?;
    let size = gauges.family(&registry::VOLUME_SIZE)?;
    let deferred = gauges.family(&registry::VOLUME_DEFERRED_SINCE)?;
    for row in rows.filter(|row| row.state != VolumeState::Gone) {
        let id = row.id.to_string();
        let kind = row.id.kind().as_str();
        let labels = [id.as_str(), kind];
        let place = row.locations.iter().find(|place| place.reachable).or(row.locations.first());
        let datastore = place.map_or("", |place| place.location.datastore.as_str());
        set(&info, &[&id, kind, &escape(&row.name), datastore], 1.0)?;
        set(&versions, &labels, row.good_versions as f64)?;
        if let Some(at) = row.last_success {
            set(&success, &labels, seconds(at))?;
        }
        if let Some(at) = row.last_attempt {
            set(&attempt, &labels, seconds(at))?;
        }
        if let Some(bytes) = row.size_bytes {
            set(&size, &labels, bytes as f64)?;
        }
        if let (VolumeState::Deferred, Some(since)) = (row.state, row.deferred_since) {
            set(&deferred, &labels, seconds(since))?;
        }
    }
    Ok(())
}
