//! What Prometheus is told. State comes from the catalog at each scrape, so that it is right after a restart and whoever
//! made the change; counters are this process's own.
//!
//! Nothing here may fail or slow down what it counts: a sample that can't be taken is left out. No label ever holds a
//! secret, or a word that is not bounded by configuration, code or the number of volumes.

mod inflight;
mod phases;
pub mod registry;
mod sources;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    CounterVec, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use stackferry_catalog::{Channel, DatastoreKey, JobKind, Outcome};
use stackferry_config::Config;
use stackferry_discover::ReasonCode;
use stackferry_volume::manifest::ByteCounts;
use stackferry_volume::{Kind, VolumeId};

use crate::about::{REVISION, RUSTC};
use inflight::Copies;
use registry::Family;
use stackferry_problem::{Code, Problem};

pub use inflight::{RunningCopy, RunningGuard};
pub use phases::{Phase, Phases};
pub use sources::{APP_VOLUMES, DATASTORE, ScanCounts, SourceCounters, SourceStatus, VSPHERE};

/// What copies are known to fail with. Their series are there from the start, at 0, so that the first failure is an
/// increase; another code's series appears with its first failure, and `rules/` count that one, too.
const OF_COPIES: &[Code] = &[
    Code::SecretUnavailable,
    Code::BadKey,
    Code::LoginRefused,
    Code::CredentialSpent,
    Code::HostKeyUnknown,
    Code::HostKeyChanged,
    Code::CertificateRefused,
    Code::KnownHostsUnusable,
    Code::Damaged,
    Code::BlockMismatch,
    Code::NoSpace,
    Code::VaultReadOnly,
    Code::VaultFailed,
    Code::PermissionDenied,
    Code::CatalogFailed,
    Code::SourceChanged,
    Code::SourceMissing,
    Code::SourceUnreadable,
    Code::SourceRefused,
    Code::WriteFailed,
    Code::Unreachable,
    Code::Silent,
    Code::Protocol,
    Code::Refused,
    Code::HostUnfit,
    Code::IoFailed,
    Code::Interrupted,
    Code::Internal,
];

/// The words for how catalog and vault may differ.
pub const RECONCILE_DIFFERENCES: [&str; 6] = ["not_indexed", "missing", "deleted", "marked", "record_lost", "failed"];

/// What became of a try to send a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notified {
    /// Its receiver took it.
    Sent,
    /// Its receiver did not; it is tried again.
    Failed,
    /// It is not tried any more.
    GivenUp,
}

impl Notified {
    const ALL: [Self; 3] = [Self::Sent, Self::Failed, Self::GivenUp];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::GivenUp => "given_up",
        }
    }
}

/// The counters of this process.
pub struct ProcessCounters {
    registry: Registry,
    attempts: IntCounterVec,
    failures: IntCounterVec,
    skipped: IntCounterVec,
    duration: Histogram,
    phases: CounterVec,
    read: IntCounterVec,
    zero: IntCounterVec,
    wire: IntCounterVec,
    stored: IntCounterVec,
    waiting: IntGauge,
    job_failures: IntCounterVec,
    retries: IntCounterVec,
    leases_lost: IntCounter,
    verifies: IntCounter,
    mismatches: IntCounter,
    verified_bytes: IntCounter,
    restore_tests: IntCounter,
    restore_test_failures: IntCounter,
    restores: IntCounter,
    restore_failures: IntCounter,
    restore_duration: Histogram,
    restored_bytes: IntCounter,
    reconciled: IntCounterVec,
    pruned_versions: IntCounter,
    pruned_bytes: IntCounter,
    issued: IntCounterVec,
    revoked: IntCounter,
    leader: IntGauge,
    notified: IntCounterVec,
    refused: IntCounterVec,
    reloaded: Gauge,
    reload_ok: IntGauge,
    copies: Copies,
    sources: SourceCounters,
}

impl ProcessCounters {
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
        let opts = |family: &Family| Opts::new(family.name, family.meaning);
        let counters = |family: &Family| put(&registry, IntCounterVec::new(opts(family), family.labels)?);
        let counter = |family: &Family| put(&registry, IntCounter::with_opts(opts(family))?);
        let gauge = |family: &Family| put(&registry, IntGauge::with_opts(opts(family))?);
        let time = |family: &Family| put(&registry, Gauge::with_opts(opts(family))?);
        let histogram = |family: &Family| {
            let opts = HistogramOpts::new(family.name, family.meaning);
            put(&registry, Histogram::with_opts(opts.buckets(registry::DURATION_BUCKETS.to_vec()))?)
        };
        let now = unix_seconds(Timestamp::now());
        time(&registry::START)?.set(now);
        let build = put(&registry, IntGaugeVec::new(opts(&registry::BUILD_INFO), registry::BUILD_INFO.labels)?)?;
        build.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION"), REVISION, RUSTC])?.set(1);
        let metrics = Self {
            attempts: counters(&registry::COPY_ATTEMPTS)?,
            failures: counters(&registry::COPY_FAILURES)?,
            skipped: counters(&registry::COPY_SKIPPED)?,
            duration: histogram(&registry::COPY_DURATION)?,
            phases: put(&registry, CounterVec::new(opts(&registry::COPY_PHASES), registry::COPY_PHASES.labels)?)?,
            read: counters(&registry::READ_BYTES)?,
            zero: counters(&registry::ZERO_BYTES)?,
            wire: counters(&registry::WIRE_BYTES)?,
            stored: counters(&registry::STORED_BYTES)?,
            waiting: gauge(&registry::TRANSFERS_WAITING)?,
            job_failures: counters(&registry::JOB_FAILURES)?,
            retries: counters(&registry::RETRIES)?,
            leases_lost: counter(&registry::LEASES_LOST)?,
            verifies: counter(&registry::VERIFIES)?,
            mismatches: counter(&registry::VERIFY_MISMATCHES)?,
            verified_bytes: counter(&registry::VERIFY_BYTES)?,
            restore_tests: counter(&registry::RESTORE_TESTS)?,
            restore_test_failures: counter(&registry::RESTORE_TEST_FAILURES)?,
            restores: counter(&registry::RESTORES)?,
            restore_failures: counter(&registry::RESTORE_FAILURES)?,
            restore_duration: histogram(&registry::RESTORE_DURATION)?,
            restored_bytes: counter(&registry::RESTORED_BYTES)?,
            reconciled: counters(&registry::RECONCILED)?,
            pruned_versions: counter(&registry::PRUNED_VERSIONS)?,
            pruned_bytes: counter(&registry::PRUNED_BYTES)?,
            issued: counters(&registry::CREDENTIALS_ISSUED)?,
            revoked: counter(&registry::CREDENTIALS_REVOKED)?,
            leader: gauge(&registry::LEADER)?,
            notified: counters(&registry::NOTIFICATIONS)?,
            refused: counters(&registry::CREDENTIALS_REFUSED)?,
            reloaded: time(&registry::CONFIG_RELOADED)?,
            reload_ok: gauge(&registry::CONFIG_RELOAD_OK)?,
            copies: Copies::default(),
            sources: SourceCounters::default(),
            registry,
        };
        metrics.config_reloaded(true);
        metrics.reconciled(&RECONCILE_DIFFERENCES.map(|difference| (difference, 0)));
        for channel in Channel::ALL {
            for result in Notified::ALL {
                add(&metrics.notified, &[channel.as_str(), result.as_str()], 0);
            }
        }
        for kind in Kind::ALL {
            add(&metrics.attempts, &[kind.as_str()], 0);
            OF_COPIES.iter().for_each(|code| add(&metrics.failures, &[kind.as_str(), code.as_str()], 0));
        }
        OF_COPIES.iter().for_each(|code| add(&metrics.retries, &[code.as_str()], 0));
        JobKind::ALL.iter().for_each(|kind| add(&metrics.job_failures, &[kind.as_str()], 0));
        let reasons = ReasonCode::ALL.into_iter().map(ReasonCode::as_str);
        reasons.chain([Outcome::Unchanged.as_str()]).for_each(|reason| add(&metrics.skipped, &[reason], 0));
        for phase in Phase::ALL {
            metrics.phases.get_metric_with_label_values(&[phase.as_str()])?;
        }
        metrics.expect(config);
        Ok(metrics)
    }

    /// The series of the routes of a configuration that comes into use, at 0 until something is counted.
    pub fn expect(&self, config: &Config) {
        let by_route = [&self.read, &self.zero, &self.wire, &self.stored, &self.issued, &self.refused];
        for datastore in &config.datastores {
            by_route.iter().for_each(|counters| add(counters, &[datastore.route.kind().as_str()], 0));
        }
    }

    /// The configuration was read again: it is in use now, or it was no good and the one before stays.
    pub fn config_reloaded(&self, ok: bool) {
        self.reload_ok.set(ok.into());
        if ok {
            self.reloaded.set(unix_seconds(Timestamp::now()));
        }
    }

    /// A copy begins, of files of so many bytes together. It runs until what is given back is dropped.
    #[must_use]
    pub fn copy_began(&self, volume: &VolumeId, bytes: u64) -> RunningGuard {
        add(&self.attempts, &[volume.kind().as_str()], 1);
        self.copies.begin(volume, bytes)
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

    /// A copy begins: in which of its phases the time goes, until what is given back is dropped.
    #[must_use]
    pub fn phases(&self) -> Phases {
        Phases::new(&self.phases)
    }

    /// A round left a volume alone: `unchanged`, or a reason's code.
    pub fn skipped(&self, reason: &str) {
        add(&self.skipped, &[reason], 1);
    }

    /// Another process took over a volume while it was copied here.
    pub fn lease_lost(&self) {
        self.leases_lost.inc();
    }

    /// So many volumes wait for a free transfer.
    pub fn waiting(&self, volumes: usize) {
        self.waiting.set(i64::try_from(volumes).unwrap_or(i64::MAX));
    }

    /// A job failed, whether it is tried again or not.
    pub fn job_failed(&self, kind: JobKind) {
        add(&self.job_failures, &[kind.as_str()], 1);
    }

    /// Something failed with this code, and is tried again later.
    pub fn retried(&self, code: Code) {
        add(&self.retries, &[code.as_str()], 1);
    }

    /// A version was read back: whether it is whole, and how many bytes were read.
    pub fn verified(&self, ok: bool, bytes: u64) {
        self.verifies.inc();
        self.mismatches.inc_by(u64::from(!ok));
        self.verified_bytes.inc_by(bytes);
    }

    /// A version was opened as a disk for a test: whether it could be used.
    pub fn restore_tested(&self, ok: bool) {
        self.restore_tests.inc();
        self.restore_test_failures.inc_by(u64::from(!ok));
    }

    /// A restore begins.
    pub fn restore_began(&self) {
        self.restores.inc();
    }

    /// A restore failed.
    pub fn restore_failed(&self) {
        self.restore_failures.inc();
    }

    /// A version was restored for somebody: the bytes of its files, and how long it took.
    pub fn restored(&self, bytes: u64, took: Duration) {
        self.restore_duration.observe(took.as_secs_f64());
        self.restored_bytes.inc_by(bytes);
    }

    /// Retention was carried out: so many versions were deleted, which had taken so many bytes in the vault.
    pub fn pruned(&self, versions: u64, bytes: u64) {
        self.pruned_versions.inc_by(versions);
        self.pruned_bytes.inc_by(bytes);
    }

    /// The catalog was compared with the vault, and this differed.
    pub fn reconciled(&self, differences: &[(&'static str, u64)]) {
        for (difference, number) in differences.iter().copied() {
            add(&self.reconciled, &[difference], number);
        }
    }

    /// Whether no copy runs in this process. Those that wait to be tried again later count as little as none.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.copies.now().is_empty()
    }

    /// A credential was made.
    pub fn credential_issued(&self, route: &str) {
        add(&self.issued, &[route], 1);
    }

    /// A credential was taken back before its time, and what stood for it is gone.
    pub fn credential_revoked(&self) {
        self.revoked.inc();
    }

    /// Whether this is the service that commands hand their jobs to.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// Whether it is, as it was last told.
    pub fn is_leader(&self) -> bool {
        self.leader.get() != 0
    }

    /// Whether the last reading of the configuration was good.
    pub fn is_config_ok(&self) -> bool {
        self.reload_ok.get() != 0
    }

    /// A message about problems was sent, or not.
    pub fn notified(&self, channel: Channel, result: Notified) {
        add(&self.notified, &[channel.as_str(), result.as_str()], 1);
    }

    /// A credential was refused.
    pub fn credential_refused(&self, route: &str) {
        add(&self.refused, &[route], 1);
    }

    /// What rounds tell of datastores and systems.
    #[must_use]
    pub fn sources(&self) -> &SourceCounters {
        &self.sources
    }

    /// The counters, as Prometheus' library has them.
    #[must_use]
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// The copies that run now.
    #[must_use]
    pub fn running_copies(&self) -> Vec<Arc<RunningCopy>> {
        self.copies.now()
    }
}

/// A time as Prometheus wants it: seconds since 1970, to the millisecond.
#[must_use]
pub fn unix_seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// How a datastore is called in labels: its site and name.
#[must_use]
pub fn datastore_label(key: &DatastoreKey) -> String {
    format!("{}/{}", key.site.0, key.datastore)
}

fn add(counters: &IntCounterVec, labels: &[&str], by: u64) {
    if let Ok(counter) = counters.get_metric_with_label_values(labels) {
        counter.inc_by(by);
    }
}
