//! What Prometheus is told. State comes from the catalog at each scrape, so that it is right after a restart and whoever
//! made the change; counters are this process's own.
//!
//! Nothing here may fail or slow down what it counts: a sample that can't be taken is left out. No label ever holds a
//! secret, or a word that is not bounded by configuration, code or the number of volumes.

mod process;
pub mod registry;
mod state;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use stackferry_catalog::{DatastoreKey, Outcome};
use stackferry_config::Config;
use stackferry_vault::Space;
use stackferry_volume::manifest::ByteCounts;
use stackferry_volume::{Kind, SiteName};

use crate::app::App;
use crate::problem::{Code, Problem};
use registry::Family;
use state::{Gauges, source};

/// The content type of what [`Metrics::render`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The counters of this process.
pub struct Metrics {
    registry: Registry,
    attempts: IntCounterVec,
    failures: IntCounterVec,
    skipped: IntCounterVec,
    duration: Histogram,
    read: IntCounterVec,
    zero: IntCounterVec,
    wire: IntCounterVec,
    stored: IntCounterVec,
    running: IntGauge,
    waiting: IntGauge,
    issued: IntCounterVec,
    refused: IntCounterVec,
    rounds: IntCounterVec,
    round_failures: IntCounterVec,
    /// When each configured datastore was last looked at by this process.
    looked: Mutex<BTreeMap<DatastoreKey, Option<Timestamp>>>,
}

impl Metrics {
    /// The counters, at 0 wherever a series is known beforehand.
    ///
    /// # Errors
    /// `internal`: the table contradicts itself.
    pub fn new(config: &Config) -> Result<Self, Problem> {
        let made = Self::build(config);
        made.map_err(|error| Problem::internal(format!("the table of metrics can't be used: {error}")))
    }

    fn build(config: &Config) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        fn put<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, prometheus::Error> {
            registry.register(Box::new(collector.clone()))?;
            Ok(collector)
        }
        let counters = |family: &Family| {
            put(&registry, IntCounterVec::new(Opts::new(family.name, family.meaning), family.labels)?)
        };
        let gauge = |family: &Family| put(&registry, IntGauge::new(family.name, family.meaning)?);
        let buckets = registry::DURATION_BUCKETS.to_vec();
        let duration = HistogramOpts::new(registry::COPY_DURATION.name, registry::COPY_DURATION.meaning);
        let start = put(&registry, Gauge::new(registry::START.name, registry::START.meaning)?)?;
        start.set(state::seconds(Timestamp::now()));
        let build = counters_of_gauge(&registry::BUILD_INFO)?;
        registry.register(Box::new(build.clone()))?;
        build.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION")])?.set(1);
        let keys = config.datastores.iter().map(|datastore| {
            let site = SiteName(datastore.site.as_str().to_owned());
            (DatastoreKey { site, datastore: datastore.name.to_string() }, None)
        });
        let metrics = Self {
            attempts: counters(&registry::COPY_ATTEMPTS)?,
            failures: counters(&registry::COPY_FAILURES)?,
            skipped: counters(&registry::COPY_SKIPPED)?,
            duration: put(&registry, Histogram::with_opts(duration.buckets(buckets))?)?,
            read: counters(&registry::READ_BYTES)?,
            zero: counters(&registry::ZERO_BYTES)?,
            wire: counters(&registry::WIRE_BYTES)?,
            stored: counters(&registry::STORED_BYTES)?,
            running: gauge(&registry::TRANSFERS_RUNNING)?,
            waiting: gauge(&registry::TRANSFERS_WAITING)?,
            issued: counters(&registry::CREDENTIALS_ISSUED)?,
            refused: counters(&registry::CREDENTIALS_REFUSED)?,
            rounds: counters(&registry::DISCOVERY_ROUNDS)?,
            round_failures: counters(&registry::DISCOVERY_FAILURES)?,
            looked: Mutex::new(keys.collect()),
            registry,
        };
        for kind in Kind::ALL {
            add(&metrics.attempts, &[kind.as_str()], 0);
        }
        let by_route =
            [&metrics.read, &metrics.zero, &metrics.wire, &metrics.stored, &metrics.issued, &metrics.refused];
        for datastore in &config.datastores {
            by_route.iter().for_each(|counters| add(counters, &[datastore.route.kind().as_str()], 0));
        }
        for key in metrics.looked().keys() {
            add(&metrics.rounds, &[&source(key)], 0);
            add(&metrics.round_failures, &[&source(key)], 0);
        }
        Ok(metrics)
    }

    fn looked(&self) -> std::sync::MutexGuard<'_, BTreeMap<DatastoreKey, Option<Timestamp>>> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy begins. It runs until what is given back is dropped.
    #[must_use]
    pub fn copy_began(&self, kind: Kind) -> Running<'_> {
        add(&self.attempts, &[kind.as_str()], 1);
        self.running.inc();
        Running(&self.running)
    }

    /// A copy ended without an error.
    pub fn copy_ended(&self, outcome: Outcome, route: &str, bytes: &ByteCounts, reason: Option<&str>, took: Duration) {
        match outcome {
            Outcome::Copied => {}
            Outcome::Unchanged => self.skipped(Outcome::Unchanged.as_str()),
            _ => return self.skipped(reason.unwrap_or(outcome.as_str())),
        }
        self.duration.observe(took.as_secs_f64());
        for (counters, bytes) in
            [(&self.read, bytes.read), (&self.zero, bytes.zero), (&self.wire, bytes.wire), (&self.stored, bytes.stored)]
        {
            add(counters, &[route], bytes);
        }
    }

    /// A copy failed.
    pub fn copy_failed(&self, kind: Kind, code: Code) {
        add(&self.failures, &[kind.as_str(), code.as_str()], 1);
    }

    /// A round left a volume alone: `unchanged`, or a reason's code.
    pub fn skipped(&self, reason: &str) {
        add(&self.skipped, &[reason], 1);
    }

    /// So many volumes wait for a free transfer.
    pub fn waiting(&self, volumes: usize) {
        self.waiting.set(i64::try_from(volumes).unwrap_or(i64::MAX));
    }

    /// A credential was made.
    pub fn credential_issued(&self, route: &str) {
        add(&self.issued, &[route], 1);
    }

    /// A credential was refused.
    pub fn credential_refused(&self, route: &str) {
        add(&self.refused, &[route], 1);
    }

    /// A datastore was to be looked at: whether it could be, and when.
    pub fn looked_at(&self, key: &DatastoreKey, at: Timestamp, reachable: bool, complete: bool) {
        add(&self.rounds, &[&source(key)], 1);
        if !complete {
            add(&self.round_failures, &[&source(key)], 1);
        }
        if reachable {
            self.looked().insert(key.clone(), Some(at));
        }
    }

    /// Everything, in the text format.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn render(&self, app: &App, space: Option<Space>) -> Result<String, Problem> {
        let rows = app.catalog().volumes().await?;
        let outstanding = app.catalog().outstanding_credentials().await?.len();
        let per_volume = app.config().metrics.per_volume;
        let looked = self.looked().clone();
        let gather = || {
            let gauges = Gauges::new();
            state::volumes(&gauges, &rows, per_volume, looked)?;
            gauges.single(&registry::CREDENTIALS_OUTSTANDING, outstanding as f64)?;
            if let Some(space) = space {
                gauges.single(&registry::VAULT_FREE, space.free as f64)?;
                gauges.single(&registry::VAULT_SIZE, space.total as f64)?;
            }
            if let Some(bytes) = process::resident_bytes() {
                gauges.single(&registry::PROCESS_MEMORY, bytes as f64)?;
            }
            if let Some(open) = process::open_fds() {
                gauges.single(&registry::PROCESS_FDS, open as f64)?;
            }
            let mut families = self.registry.gather();
            families.extend(gauges.gather());
            families.sort_by(|one, other| one.name().cmp(other.name()));
            TextEncoder::new().encode_to_string(&families)
        };
        gather().map_err(|error: prometheus::Error| Problem::internal(format!("metrics can't be told: {error}")))
    }
}

fn counters_of_gauge(family: &Family) -> Result<prometheus::IntGaugeVec, prometheus::Error> {
    prometheus::IntGaugeVec::new(Opts::new(family.name, family.meaning), family.labels)
}

fn add(counters: &IntCounterVec, labels: &[&str], by: u64) {
    if let Ok(counter) = counters.get_metric_with_label_values(labels) {
        counter.inc_by(by);
    }
}

/// A copy that runs.
#[derive(Debug)]
pub struct Running<'m>(&'m IntGauge);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
