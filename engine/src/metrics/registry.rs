//! Every metric family that is exposed, with what is promised of it: one table, from which `docs/metrics.md` is made and
//! every family gets its type, labels and help. Families and labels are added, never renamed.

/// What the values of a family are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// It only grows, from 0 at the start of the process.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts of observations, by size.
    Histogram,
}

impl Type {
    /// The word of the text format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        }
    }
}

/// Where the values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricOrigin {
    /// The catalog, asked at each scrape: right after a restart too, and whoever made the change.
    Catalog,
    /// This process's memory: from its start on, and only what it did itself.
    Process,
    /// The system, asked at each scrape.
    System,
}

impl MetricOrigin {
    const fn as_str(self) -> &'static str {
        match self {
            MetricOrigin::Catalog => "catalog",
            MetricOrigin::Process => "process",
            MetricOrigin::System => "system",
        }
    }
}

/// What is promised of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stability {
    /// Name, type, unit and labels stay; labels may be added.
    Stable,
    /// It may change with any release, which the changelog says.
    Experimental,
}

impl Stability {
    const fn as_str(self) -> &'static str {
        match self {
            Stability::Stable => "stable",
            Stability::Experimental => "experimental",
        }
    }
}

/// One family.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What its values are.
    pub kind: Type,
    /// The unit of its values; empty where they are plain numbers.
    pub unit: &'static str,
    /// Its labels, in the order in which their values are given.
    pub labels: &'static [&'static str],
    /// Where its values come from.
    pub origin: MetricOrigin,
    /// What is promised of it.
    pub stability: Stability,
    /// What it tells; also its help text.
    pub meaning: &'static str,
}

/// Upper bounds of a copy's duration, in seconds: from a small AppStack to a night.
pub const DURATION_BUCKETS: [f64; 14] =
    [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0];

mod document;

pub use document::document;

macro_rules! families {
    ($($id:ident $name:literal $kind:ident $unit:literal [$($label:literal),*] $origin:ident $stability:ident $meaning:literal;)+) => {
        $(#[doc = $meaning]
        pub static $id: Family = Family {
            name: $name,
            kind: Type::$kind,
            unit: $unit,
            labels: &[$($label),*],
            origin: MetricOrigin::$origin,
            stability: Stability::$stability,
            meaning: $meaning,
        };)+

        /// Every family, in the order of the document.
        pub static FAMILIES: &[&Family] = &[$(&$id),+];
    };
}

families! {
    BUILD_INFO "stackferry_build_info" Gauge "" ["version", "revision", "rustc"] Process Stable
        "The running program: its version, the revision that it was built from (12 digits, or unknown) and the compiler. Always 1.";
    START "stackferry_start_timestamp_seconds" Gauge "seconds" [] Process Stable
        "When the service started, as Unix time.";
    CLOCK "stackferry_clock_timestamp_seconds" Gauge "seconds" [] System Stable
        "What the clock of the machine showed at the scrape, as Unix time.";
    LEADER "stackferry_leader" Gauge "" [] Process Stable
        "Whether this is the service that commands hand their jobs to: 1, or 0 while another process is.";
    CONFIG_RELOADED "stackferry_config_last_reload_success_timestamp_seconds" Gauge "seconds" [] Process Stable
        "When the configuration in use was read, as Unix time.";
    CONFIG_RELOAD_OK "stackferry_config_last_reload_successful" Gauge "" [] Process Stable
        "Whether the last reading of the configuration was good: 1, or 0 while the one before stays in use.";

    VOLUMES "stackferry_volumes" Gauge "" ["kind", "state"] Catalog Stable
        "Known volumes, those that are gone included, by kind and by state: ready, deferred, unprotectable, gone, conflict, incident.";
    UNPROTECTED "stackferry_volumes_unprotected" Gauge "" ["reason"] Catalog Stable
        "Volumes that are at their source and have no version that can be relied on, by the code of the reason; waiting: nothing stands against copying them.";
    NEVER_COPIED "stackferry_volumes_never_copied" Gauge "" [] Catalog Stable
        "Volumes that are at their source and could be protected, but have no version that can be relied on.";
    OVERDUE "stackferry_volumes_overdue" Gauge "" ["kind", "state"] Catalog Stable
        "Volumes that could be protected, by kind and state, that were not found equal to a version for twice the interval that their schedule promises.";
    VERSIONS "stackferry_versions" Gauge "" [] Catalog Stable
        "Versions of all volumes, damaged ones included.";
    VERSIONS_DAMAGED "stackferry_versions_damaged" Gauge "" [] Catalog Stable
        "Versions that are known to be damaged.";
    INCIDENTS "stackferry_incidents" Gauge "" [] Catalog Stable
        "Versions that hold an unexpected change: a read-only disk with other content, or a disk without its file system.";
    VERSIONS_UNUSABLE "stackferry_versions_unusable" Gauge "" [] Catalog Stable
        "Versions that could not be used as a disk when they were last opened for a test, though all their blocks are as they were copied.";
    OLDEST_PROOF "stackferry_versions_oldest_proof_timestamp_seconds" Gauge "seconds" [] Catalog Stable
        "Of all versions that are not known to be damaged, the one that was proved whole longest ago: when it was made or last read back, as Unix time. Absent without a version.";

    DISCOVERY_INTERVAL "stackferry_discovery_interval_seconds" Gauge "seconds" [] Process Stable
        "The time between two rounds of discovery.";
    DISCOVERY_UP "stackferry_discovery_up" Gauge "" ["source"] Process Stable
        "Whether the last round could look at the datastore in full: 1 or 0; 0 before the first. The source is its site and name.";
    DISCOVERY_LAST_SUCCESS "stackferry_discovery_last_success_timestamp_seconds" Gauge "seconds" ["source"] Catalog Stable
        "When a datastore was last looked at, as Unix time. After a restart: when a volume was last seen on it. The source is its site and name.";
    DISCOVERY_ROUNDS "stackferry_discovery_rounds_total" Counter "" ["source"] Process Stable
        "Rounds in which a datastore was to be looked at.";
    DISCOVERY_FAILURES "stackferry_discovery_failures_total" Counter "" ["source"] Process Stable
        "Rounds in which a datastore could not be looked at in full.";
    SYSTEM_UP "stackferry_system_up" Gauge "" ["product", "system"] Process Stable
        "Whether an App Volumes Manager (app_volumes) or a vSphere system (vsphere) answered when it was last asked: 1 or 0; 0 before the first time.";
    SYSTEM_LAST_SUCCESS "stackferry_system_last_success_timestamp_seconds" Gauge "seconds" ["product", "system"] Process Stable
        "When the system last told all that was asked of it, as Unix time. Absent until it did since the start of the service.";
    SYSTEM_ROUNDS "stackferry_system_rounds_total" Counter "" ["product", "system"] Process Stable
        "Times that the system was asked for all that it knows.";
    SYSTEM_FAILURES "stackferry_system_failures_total" Counter "" ["product", "system"] Process Stable
        "Times that the system did not answer, or not with what was asked.";

    COPY_ATTEMPTS "stackferry_copy_attempts_total" Counter "" ["kind"] Process Stable
        "Copies that began.";
    COPY_FAILURES "stackferry_copy_failures_total" Counter "" ["kind", "reason"] Process Stable
        "Copies that failed, by the code of the error (docs/troubleshooting.md). 0 for the codes that copies are known to fail with; any other appears with its first failure.";
    COPY_SKIPPED "stackferry_copy_skipped_total" Counter "" ["reason"] Process Stable
        "Times that a round left a volume alone, or a copy ended without a version: unchanged, or the code of the reason.";
    COPY_DURATION "stackferry_copy_duration_seconds" Histogram "seconds" [] Process Stable
        "How long copies took that made a version or found none needed.";
    COPY_PHASES "stackferry_copy_phase_seconds_total" Counter "seconds" ["phase"] Process Stable
        "Where the time of copies goes, however they end: plan (may it be copied, is there room, what is there already), transfer (reading, sending, checking and writing blocks), check (is the source still what it was), commit (onto the disk, and reading back where vault.read_back wants it).";
    READ_BYTES "stackferry_source_read_bytes_total" Counter "bytes" ["route"] Process Stable
        "Bytes read at the source by copies that ended well.";
    ZERO_BYTES "stackferry_source_zero_bytes_total" Counter "bytes" ["route"] Process Stable
        "Bytes of the source that are zero, and were not stored, of copies that ended well.";
    WIRE_BYTES "stackferry_wire_bytes_total" Counter "bytes" ["route"] Process Stable
        "Bytes on the wire, both directions, of copies that ended well. 0 on route local.";
    STORED_BYTES "stackferry_stored_bytes_total" Counter "bytes" ["route"] Process Stable
        "Bytes written to the vault by copies that ended well.";

    TRANSFERS_RUNNING "stackferry_transfers_running" Gauge "" [] Process Stable
        "Copies that run in this process now.";
    TRANSFERS_WAITING "stackferry_transfers_waiting" Gauge "" [] Process Stable
        "Volumes that are due and wait for a free transfer.";
    TRANSFERS_LIMIT "stackferry_transfers_limit" Gauge "" [] Process Stable
        "How many copies may run at once.";
    JOBS "stackferry_jobs" Gauge "" ["state"] Catalog Stable
        "Jobs of the queue by state: queued, running, and those that ended and are not forgotten yet.";
    JOB_FAILURES "stackferry_job_failures_total" Counter "" ["kind"] Process Stable
        "Jobs that failed, by what they were to do: copies that are tried again, too. Verifications that found damage are not among them: those have series of their own.";
    RETRIES "stackferry_retries_total" Counter "" ["reason"] Process Stable
        "Work that failed and is tried again, by the code of the error. 0 for the codes that copies are known to fail with; any other appears with its first time.";
    LEASES_LOST "stackferry_leases_lost_total" Counter "" [] Process Stable
        "Copies that were given up since another process took their volume over: this one was suspended, or its clock was set.";

    RECONCILED "stackferry_reconcile_differences_total" Counter "" ["difference"] Process Stable
        "Where the catalog differed from the vault, by what: not_indexed (a version without its row), missing (a row without its version), deleted (a row of a deleted version), marked (a pin or mark of damage), record_lost (a volume.json that was lost and made anew), failed (a volume that could not be brought in line). All but failed are brought in line at once.";
    VERIFY_INTERVAL "stackferry_verify_interval_seconds" Gauge "seconds" [] Process Stable
        "In which time each version is to be read back once. Absent if none is by itself.";
    VERIFIES "stackferry_verify_attempts_total" Counter "" [] Process Stable
        "Versions that were read back.";
    VERIFY_MISMATCHES "stackferry_verify_mismatches_total" Counter "" [] Process Stable
        "Versions that were read back and are damaged.";
    VERIFY_BYTES "stackferry_verify_bytes_total" Counter "bytes" [] Process Stable
        "Bytes of versions that were read back.";
    RESTORE_TESTS "stackferry_restore_test_attempts_total" Counter "" [] Process Stable
        "Versions that were opened as a disk for a test: of each volume the newest one that can be relied on, where it lies.";
    RESTORE_TEST_FAILURES "stackferry_restore_test_failures_total" Counter "" [] Process Stable
        "Versions that were opened as a disk for a test and could not be used as one, though all their blocks are as they were copied.";
    RESTORES "stackferry_restore_attempts_total" Counter "" [] Process Stable
        "Restores that began, onto this machine or a datastore.";
    RESTORE_FAILURES "stackferry_restore_failures_total" Counter "" [] Process Stable
        "Restores that failed, were refused, or were cancelled.";
    RESTORE_DURATION "stackferry_restore_duration_seconds" Histogram "seconds" [] Process Stable
        "How long restores took that ended well.";
    RESTORED_BYTES "stackferry_restored_bytes_total" Counter "bytes" [] Process Stable
        "Bytes of files that were restored.";
    PRUNED_VERSIONS "stackferry_prune_deleted_versions_total" Counter "" [] Process Stable
        "Versions that retention deleted.";
    PRUNED_BYTES "stackferry_prune_deleted_bytes_total" Counter "bytes" [] Process Stable
        "Bytes that those versions took in the vault.";
    PRUNE_FROZEN "stackferry_prune_frozen" Gauge "" [] Catalog Stable
        "1 while retention deletes nothing since the clock was set, until a person says that it is right; else 0.";
    PRUNE_LAST_SUCCESS "stackferry_prune_last_success_timestamp_seconds" Gauge "seconds" [] Catalog Stable
        "When retention was last carried out for all volumes, as Unix time. Absent if it never was.";
    PRUNE_INTERVAL "stackferry_prune_interval_seconds" Gauge "seconds" [] Process Stable
        "How often retention is carried out by itself. Absent where none is configured.";

    CREDENTIALS_ISSUED "stackferry_credentials_issued_total" Counter "" ["route"] Process Stable
        "One-time credentials that were made for copies.";
    CREDENTIALS_REFUSED "stackferry_credentials_refused_total" Counter "" ["route"] Process Stable
        "One-time credentials that were refused by the host that they were made for.";
    CREDENTIALS_REVOKED "stackferry_credentials_revoked_total" Counter "" [] Process Stable
        "One-time credentials that were taken back before their time, with what stood for them.";
    CREDENTIALS_OUTSTANDING "stackferry_credentials_outstanding" Gauge "" [] Catalog Stable
        "Credentials that may still open something, or for which something still stands at a peer.";
    CREDENTIALS_OLDEST "stackferry_credentials_oldest_outstanding_timestamp_seconds" Gauge "seconds" [] Catalog Stable
        "When the oldest of these was made, as Unix time. Absent without one.";
    OWED "stackferry_cleanups_pending" Gauge "" ["what"] Catalog Stable
        "What is changed at other systems for the time of a copy and has to be put back: account, ssh_service, writable. Copies that run own some.";
    OWED_UNPAID "stackferry_cleanups_overdue" Gauge "" ["what"] Catalog Stable
        "Of these, what no running copy will put back any more: each round tries.";
    HOSTKEY_MISMATCHES "stackferry_hostkey_mismatches_total" Counter "" ["host"] Process Stable
        "Times that a host showed another SSH key than the one that is known, by its name and port. A series of a host that is not in the configuration itself appears when it is first met.";

    NOTIFICATIONS "stackferry_notifications_total" Counter "" ["channel", "result"] Process Stable
        "Tries to send a message about problems, by webhook or mail: sent, failed (it is tried again), given_up (it is not tried any more).";
    NOTIFICATIONS_WAITING "stackferry_notifications_waiting" Gauge "" ["channel"] Catalog Stable
        "Messages about problems that their receiver has not taken yet.";

    VAULT_FREE "stackferry_vault_free_bytes" Gauge "bytes" [] System Stable
        "What may still be written to the vault's file system. Absent while the vault is not open or its disk does not answer.";
    VAULT_SIZE "stackferry_vault_size_bytes" Gauge "bytes" [] System Stable
        "The size of the vault's file system. Absent while the vault is not open or its disk does not answer.";
    VAULT_RESERVE "stackferry_vault_reserve_bytes" Gauge "bytes" [] System Stable
        "What is kept free of it: a copy that would leave less does not start. Absent as its size is.";
    VAULT_LOGICAL "stackferry_vault_logical_bytes" Gauge "bytes" [] Catalog Stable
        "The lengths of all versions' files together.";
    VAULT_STORED "stackferry_vault_stored_bytes" Gauge "bytes" [] Catalog Stable
        "What was written for all versions.";

    VOLUME_INFO "stackferry_volume_info" Gauge "" ["volume", "kind", "name", "datastore"] Catalog Stable
        "A volume: its name as a person reads it, and a datastore where it lies. Always 1.";
    VOLUME_FIRST_SEEN "stackferry_volume_first_seen_timestamp_seconds" Gauge "seconds" ["volume", "kind"] Catalog Stable
        "When the volume was first known, as Unix time.";
    VOLUME_LAST_SUCCESS "stackferry_volume_last_success_timestamp_seconds" Gauge "seconds" ["volume", "kind"] Catalog Stable
        "When the volume was last found equal to a committed version, as Unix time: by its content, or, for kinds without max_age, by a round that found nothing changed. Absent if it never was.";
    VOLUME_LAST_ATTEMPT "stackferry_volume_last_attempt_timestamp_seconds" Gauge "seconds" ["volume", "kind"] Catalog Stable
        "When the last copy of the volume began, as Unix time. Absent if none ever did.";
    VOLUME_LAST_VERIFIED "stackferry_volume_last_verified_timestamp_seconds" Gauge "seconds" ["volume", "kind"] Catalog Stable
        "When a version of the volume was last read back and found whole, as Unix time. Absent if none ever was.";
    VOLUME_LAST_RESTORE_TEST "stackferry_volume_last_restore_test_timestamp_seconds" Gauge "seconds" ["volume", "kind"] Catalog Stable
        "When a version of the volume was last opened as a disk and could be used, as Unix time. Absent if none ever was.";
    VOLUME_EXPECTED_INTERVAL "stackferry_volume_expected_interval_seconds" Gauge "seconds" ["volume", "kind"] Catalog Stable
        "The expected interval of the volume's kind, for each volume that could be protected: older than twice this, it is overdue.";
    VOLUME_VERSIONS "stackferry_volume_versions" Gauge "" ["volume", "kind"] Catalog Stable
        "Versions of the volume's current life that are not known to be damaged. 0: it is not protected.";
    VOLUME_SIZE "stackferry_volume_size_bytes" Gauge "bytes" ["volume", "kind"] Catalog Stable
        "The lengths of the volume's files together.";
    VOLUME_DEFERRED_SINCE "stackferry_volume_deferred_since_timestamp_seconds" Gauge "seconds" ["volume", "kind"] Catalog Stable
        "Since when the volume has been left alone for the reason that it has now, as Unix time. Absent while it is not.";
    INFLIGHT "stackferry_volume_inflight_bytes" Gauge "bytes" ["volume", "kind"] Process Stable
        "How much of the volume's running copy is done, in whatever way. Told of every copy that runs, whatever per_volume says.";
    INFLIGHT_EXPECTED "stackferry_volume_inflight_expected_bytes" Gauge "bytes" ["volume", "kind"] Process Stable
        "How much there is to do in the volume's running copy: the lengths of its files.";
    INFLIGHT_PROGRESS "stackferry_volume_inflight_progress_timestamp_seconds" Gauge "seconds" ["volume", "kind"] Process Stable
        "When the volume's running copy last went on, as Unix time.";

    PROCESS_CPU "process_cpu_seconds_total" Counter "seconds" [] System Stable
        "Processor time that the process has taken.";
    PROCESS_MEMORY "process_resident_memory_bytes" Gauge "bytes" [] System Stable
        "Resident memory of the process.";
    PROCESS_FDS "process_open_fds" Gauge "" [] System Stable
        "Open file descriptors of the process.";
    PROCESS_MAX_FDS "process_max_fds" Gauge "" [] System Stable
        "How many file descriptors the process may have open. Absent where there is no limit.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The rules of Prometheus' own naming guide that a table can be held to.
    #[test]
    fn names_follow_the_conventions() {
        let mut seen = BTreeSet::new();
        for family in FAMILIES {
            let name = family.name;
            assert!(seen.insert(name), "{name} is there twice");
            assert!(name.starts_with("stackferry_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), family.kind == Type::Counter, "{name}");
            let stem = name.trim_end_matches("_total");
            match family.unit {
                "" => assert!(!stem.ends_with("_bytes") && !stem.ends_with("_seconds"), "{name} has no unit"),
                unit => assert!(stem.ends_with(&format!("_{unit}")), "{name} is in {unit}"),
            }
            assert!(family.meaning.ends_with('.') && !family.meaning.contains(['|', '\n']), "{name}");
            for label in family.labels {
                let clash =
                    ["job", "instance", "region", "zone", "cluster", "env", "stage", "owner", "service", "type"];
                assert!(!clash.contains(label), "{name}: {label} clashes with labels of targets");
            }
        }
    }
}
