//! What the catalog says of volumes, as metric families: one reading of the catalog for each scrape.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use stackferry_catalog::{DatastoreKey, Fleet, FleetVolume, VolumeState};
use stackferry_config::{Config, PerVolume};
use stackferry_discover::ReasonCode;
use stackferry_volume::Kind;

use super::text::{MetricsText, labels};
use stackferry_engine::freshness;
use stackferry_engine::metrics::registry::{self, Family};
use stackferry_engine::metrics::{RunningCopy, datastore_label, unix_seconds};
use stackferry_problem::output::escape;

/// The reason of a volume that nothing stands against.
const WAITING: &str = "waiting";
/// The labels of the families of single volumes.
const OF_VOLUME: &[&str] = &["volume", "kind"];

/// What is counted of all volumes.
struct FleetCounts {
    states: BTreeMap<(Kind, &'static str), u64>,
    overdue: BTreeMap<(Kind, &'static str), u64>,
    unprotected: BTreeMap<&'static str, u64>,
    never: u64,
    versions: u64,
    damaged: u64,
    unusable: u64,
    incidents: u64,
    logical: u64,
    stored: u64,
    oldest_proof: Option<Timestamp>,
}

impl FleetCounts {
    /// 0 wherever a series is known beforehand.
    fn new() -> Self {
        let states = |kind| VolumeState::ALL.iter().map(move |state| ((kind, state.as_str()), 0));
        let pairs = || Kind::ALL.into_iter().flat_map(states);
        let late = |state: &str| !matches!(state, "gone" | "unprotectable");
        let reasons = ReasonCode::ALL.into_iter().map(ReasonCode::as_str).chain([WAITING]);
        Self {
            states: pairs().collect(),
            overdue: pairs().filter(|((_, state), _)| late(state)).collect(),
            unprotected: reasons.map(|reason| (reason, 0)).collect(),
            never: 0,
            versions: 0,
            damaged: 0,
            unusable: 0,
            incidents: 0,
            logical: 0,
            stored: 0,
            oldest_proof: None,
        }
    }

    fn add(&mut self, config: &Config, volume: &FleetVolume, now: Timestamp) {
        let place = (volume.id.kind(), volume.state.as_str());
        *self.states.entry(place).or_default() += 1;
        if freshness::overdue_from(config, volume).is_some_and(|at| at < now) {
            *self.overdue.entry(place).or_default() += 1;
        }
        if volume.state != VolumeState::Gone && volume.good_versions == 0 {
            let code = volume.reason.as_deref().and_then(|code| code.parse::<ReasonCode>().ok());
            *self.unprotected.entry(code.map_or(WAITING, ReasonCode::as_str)).or_default() += 1;
            self.never += u64::from(volume.protectable);
        }
        self.versions += volume.versions;
        self.damaged += volume.damaged_versions;
        self.unusable += volume.unusable_versions;
        self.incidents += volume.incidents;
        self.logical += volume.logical_bytes;
        self.stored += volume.stored_bytes;
        self.oldest_proof = match (self.oldest_proof, volume.oldest_proof) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    fn tell(&self, text: &mut MetricsText) {
        for (family, counts) in [(&registry::VOLUMES, &self.states), (&registry::OVERDUE, &self.overdue)] {
            for ((kind, state), count) in counts {
                text.put(family, &[kind.as_str(), state], *count as f64);
            }
        }
        for (reason, count) in &self.unprotected {
            text.put(&registry::UNPROTECTED, &[reason], *count as f64);
        }
        let single = [
            (&registry::NEVER_COPIED, self.never),
            (&registry::VERSIONS, self.versions),
            (&registry::VERSIONS_DAMAGED, self.damaged),
            (&registry::VERSIONS_UNUSABLE, self.unusable),
            (&registry::INCIDENTS, self.incidents),
            (&registry::VAULT_LOGICAL, self.logical),
            (&registry::VAULT_STORED, self.stored),
        ];
        for (family, count) in single {
            text.put(family, &[], count as f64);
        }
        if let Some(at) = self.oldest_proof {
            text.put(&registry::OLDEST_PROOF, &[], unix_seconds(at));
        }
    }
}

/// Everything that volumes' rows tell. `looked` is when this process last looked at each datastore of the
/// configuration.
pub(super) fn volumes(
    text: &mut MetricsText,
    config: &Config,
    fleet: &Fleet,
    looked: BTreeMap<DatastoreKey, Option<Timestamp>>,
) {
    let now = Timestamp::now();
    let mut counts = FleetCounts::new();
    for volume in &fleet.volumes {
        counts.add(config, volume, now);
    }
    counts.tell(text);
    for (key, last) in looked {
        if let Some(last) = last.max(fleet.seen.get(&key).copied()) {
            text.put(&registry::DISCOVERY_LAST_SUCCESS, &[&datastore_label(&key)], unix_seconds(last));
        }
    }
    // Those that are gone have no series of their own: rows are kept for ever, and an alarm for what nobody can copy any
    // more would never end.
    let here = fleet.volumes.iter().filter(|volume| volume.state != VolumeState::Gone);
    match config.metrics.per_volume {
        PerVolume::Off => {}
        PerVolume::All => here.for_each(|volume| single(text, config, volume)),
        PerVolume::Problems => {
            let has_problem = |volume: &&FleetVolume| {
                let is_late = freshness::overdue_from(config, volume).is_some_and(|at| at < now);
                volume.state != VolumeState::Ready || volume.good_versions == 0 || volume.has_failed || is_late
            };
            here.filter(has_problem).for_each(|volume| single(text, config, volume));
        }
    }
}

/// The series of a single volume.
fn single(text: &mut MetricsText, config: &Config, volume: &FleetVolume) {
    let (id, kind) = (volume.id.to_string(), volume.id.kind());
    let datastore = volume.datastore.as_deref().unwrap_or_default();
    text.put(&registry::VOLUME_INFO, &[&id, kind.as_str(), &escape(&volume.name), datastore], 1.0);
    let own = labels(OF_VOLUME, &[&id, kind.as_str()]);
    text.put_at(&registry::VOLUME_VERSIONS, &own, volume.good_versions as f64);
    if freshness::is_to_be_protected(volume) {
        let interval = freshness::expected_interval(config, kind);
        text.put_at(&registry::VOLUME_EXPECTED_INTERVAL, &own, interval.as_secs_f64());
    }
    if let Some(bytes) = volume.size_bytes {
        text.put_at(&registry::VOLUME_SIZE, &own, bytes as f64);
    }
    let deferred = volume.deferred_since.filter(|_| volume.state == VolumeState::Deferred);
    let times: [(&Family, Option<Timestamp>); 6] = [
        (&registry::VOLUME_FIRST_SEEN, Some(volume.first_seen)),
        (&registry::VOLUME_LAST_SUCCESS, freshness::last_equal(config, volume)),
        (&registry::VOLUME_LAST_ATTEMPT, volume.last_attempt),
        (&registry::VOLUME_LAST_VERIFIED, volume.last_verified),
        (&registry::VOLUME_LAST_RESTORE_TEST, volume.last_restore_test),
        (&registry::VOLUME_DEFERRED_SINCE, deferred),
    ];
    for (family, at) in times {
        if let Some(at) = at {
            text.put_at(family, &own, unix_seconds(at));
        }
    }
}

/// How far the copies are that run.
pub(super) fn running(text: &mut MetricsText, running: &[Arc<RunningCopy>]) {
    text.put(&registry::TRANSFERS_RUNNING, &[], running.len() as f64);
    // One volume has one copy: it holds the volume's lease.
    for copy in running {
        let own = labels(OF_VOLUME, &[&copy.volume.to_string(), copy.volume.kind().as_str()]);
        text.put_at(&registry::INFLIGHT, &own, copy.done() as f64);
        text.put_at(&registry::INFLIGHT_EXPECTED, &own, copy.expected as f64);
        if let Some(at) = copy.moved() {
            text.put_at(&registry::INFLIGHT_PROGRESS, &own, unix_seconds(at));
        }
    }
}
