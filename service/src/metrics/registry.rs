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
pub enum Origin {
    /// The catalog, asked at each scrape: right after a restart too, and whoever made the change.
    Catalog,
    /// This process's memory: from its start on, and only what it did itself.
    Process,
    /// The system, asked at each scrape.
    System,
}

impl Origin {
    const fn as_str(self) -> &'static str {
        match self {
            Origin::Catalog => "catalog",
            Origin::Process => "process",
            Origin::System => "system",
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
    pub origin: Origin,
    /// What is promised of it.
    pub stability: Stability,
    /// What it tells; also its help text.
    pub meaning: &'static str,
}

/// Upper bounds of a copy's duration, in seconds: from a small AppStack to a night.
pub const DURATION_BUCKETS: [f64; 14] =
    [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0];

macro_rules! families {
    ($($id:ident $name:literal $kind:ident $unit:literal [$($label:literal),*] $origin:ident $stability:ident $meaning:literal;)+) => {
        $(#[doc = $meaning]
        pub static $id: Family = Family {
            name: $name,
            kind: Type::$kind,
            unit: $unit,
            labels: &[$($label),*],
            origin: Origin::$origin,
            stability: Stability::$stability,
            meaning: $meaning,
        };)+

        /// Every family, in the order of the document.
        pub static FAMILIES: &[&Family] = &[$(&$id),+];
    };
}

families! {
    BUILD_INFO "stackferry_build_info" Gauge "" ["version"] Process Stable
        "The running program: always 1.";
    START "stackferry_start_timestamp_seconds" Gauge "seconds" [] Process Stable
        "When the service started, as Unix time.";

    VOLUMES "stackferry_volumes" Gauge "" ["kind", "state"] Catalog Stable
        "Known volumes, those that are gone included, by kind and by state: ready, deferred, unprotectable, gone, conflict, incident.";
    NEVER_COPIED "stackferry_volumes_never_copied" Gauge "" [] Catalog Stable
        "Volumes that are at their source and could be protected, but have no version that can be relied on.";
    VERSIONS "stackferry_versions" Gauge "" [] Catalog Stable
        "Versions of all volumes, damaged ones included.";

    DISCOVERY_LAST_SUCCESS "stackferry_discovery_last_success_timestamp_seconds" Gauge "seconds" ["source"] Catalog Stable
        "When a datastore was last looked at, as Unix time. After a restart: when a volume was last seen on it. The source is its site and name.";
    DISCOVERY_ROUNDS "stackferry_discovery_rounds_total" Counter "" ["source"] Process Stable
        "Rounds in which a datastore was to be looked at.";
    DISCOVERY_FAILURES "stackferry_discovery_failures_total" Counter "" ["source"] Process Stable
        "Rounds in which a datastore could not be looked at in full.";

    COPY_ATTEMPTS "stackferry_copy_attempts_total" Counter "" ["kind"] Process Stable
        "Copies that began.";
    COPY_FAILURES "stackferry_copy_failures_total" Counter "" ["kind", "reason"] Process Stable
        "Copies that failed, by the code of the error (docs/troubleshooting.md). A series appears with its first failure.";
    COPY_SKIPPED "stackferry_copy_skipped_total" Counter "" ["reason"] Process Stable
        "Times that a round left a volume alone, or a copy ended without a version: unchanged, or the code of the reason. A series appears with its first time.";
    COPY_DURATION "stackferry_copy_duration_seconds" Histogram "seconds" [] Process Stable
        "How long copies took that made a version or found none needed.";
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

    CREDENTIALS_ISSUED "stackferry_credentials_issued_total" Counter "" ["route"] Process Stable
        "One-time credentials that were made for copies.";
    CREDENTIALS_REFUSED "stackferry_credentials_refused_total" Counter "" ["route"] Process Stable
        "One-time credentials that were refused by the host that they were made for.";
    CREDENTIALS_OUTSTANDING "stackferry_credentials_outstanding" Gauge "" [] Catalog Stable
        "Credentials that may still open something, or for which something still stands at a peer.";

    VAULT_FREE "stackferry_vault_free_bytes" Gauge "bytes" [] System Stable
        "What may still be written to the vault's file system. Absent while the vault is not open or its disk does not answer.";
    VAULT_SIZE "stackferry_vault_size_bytes" Gauge "bytes" [] System Stable
        "The size of the vault's file system. Absent while the vault is not open or its disk does not answer.";

    VOLUME_INFO "stackferry_volume_info" Gauge "" ["volume", "kind", "name", "datastore"] Catalog Stable
        "A volume: its name as a person reads it, and a datastore where it lies. Always 1.";
    VOLUME_LAST_SUCCESS "stackferry_volume_last_success_timestamp_seconds" Gauge "seconds" ["volume", "kind"] Catalog Stable
        "When the volume was last found equal to a committed version, as Unix time. Absent if it never was.";
    VOLUME_LAST_ATTEMPT "stackferry_volume_last_attempt_timestamp_seconds" Gauge "seconds" ["volume", "kind"] Catalog Stable
        "When the last copy of the volume began, as Unix time. Absent if none ever did.";
    VOLUME_VERSIONS "stackferry_volume_versions" Gauge "" ["volume", "kind"] Catalog Stable
        "Versions of the volume's current life that are not known to be damaged. 0: it is not protected.";
    VOLUME_SIZE "stackferry_volume_size_bytes" Gauge "bytes" ["volume", "kind"] Catalog Stable
        "The lengths of the volume's files together.";
    VOLUME_DEFERRED_SINCE "stackferry_volume_deferred_since_timestamp_seconds" Gauge "seconds" ["volume", "kind"] Catalog Stable
        "Since when the volume has been left alone for the reason that it has now, as Unix time. Absent while it is not.";

    PROCESS_MEMORY "process_resident_memory_bytes" Gauge "bytes" [] System Stable
        "Resident memory of the process.";
    PROCESS_FDS "process_open_fds" Gauge "" [] System Stable
        "Open file descriptors of the process.";
}

/// The text of `docs/metrics.md`.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         `stackferry run` serves them at `/metrics` of `[http] listen` (default `http://127.0.0.1:9812/metrics`), in\n\
         Prometheus' text format. Beside it, `/healthz` answers 200 while the process lives, and `/readyz` answers 200 while\n\
         the catalog answers, the vault is open and a datastore was looked at within three times `schedule.every`, else 503\n\
         with its reasons as JSON.\n\n\
         ```yaml\n\
         scrape_configs:\n\
         \x20 - job_name: stackferry\n\
         \x20   static_configs:\n\
         \x20     - targets: [\"127.0.0.1:9812\"]\n\
         ```\n\n\
         This page is made from the program's own table. Families and labels are added, never renamed. Values from the\n\
         *catalog* are asked at each scrape: they are right after a restart too, and tell of what commands did beside the\n\
         service. Values of the *process* begin with it.\n\n\
         Series of single volumes (`stackferry_volume_…`) are a handful for each volume that is at its source: 5,500 volumes\n\
         make some 33,000 series. `[metrics] per_volume = \"problems\"` leaves out those of volumes that are ready, have a\n\
         version, and whose last copy did not fail; `\"off\"` leaves out all. A volume that is gone has none: it is counted in\n\
         `stackferry_volumes{state=\"gone\"}`, and its versions in `stackferry_versions`.\n\n\
         | family | type | labels | from | what it tells |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for family in FAMILIES {
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = match family.unit {
            "" => family.kind.as_str().to_owned(),
            unit => format!("{}, {unit}", family.kind.as_str()),
        };
        let meaning = match family.stability {
            Stability::Stable => family.meaning.to_owned(),
            Stability::Experimental => format!("*{}.* {}", family.stability.as_str(), family.meaning),
        };
        let row = [format!("`{}`", family.name), kind, labels.join(" "), family.origin.as_str().to_owned(), meaning];
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    let buckets: Vec<String> = DURATION_BUCKETS.iter().map(ToString::to_string).collect();
    text.push_str(&format!(
        "\nAll of them are stable unless the table says otherwise. The buckets of `{}` end at {} seconds.\n",
        COPY_DURATION.name,
        buckets.join(", ")
    ));
    text
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
