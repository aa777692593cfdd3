//! `docs/metrics.md`, made from the table.

use super::{
    COPY_DURATION, COPY_FAILURES, COPY_SKIPPED, CREDENTIALS_OLDEST, DISCOVERY_FAILURES, DURATION_BUCKETS, FAMILIES,
    Family, JOBS, PRUNE_LAST_SUCCESS, PRUNED_BYTES, READ_BYTES, Stability, TRANSFERS_LIMIT, TRANSFERS_RUNNING,
    VAULT_FREE, VAULT_LOGICAL, VAULT_STORED, VERIFIES, VERIFY_MISMATCHES, VOLUME_LAST_SUCCESS, VOLUME_SIZE, VOLUMES,
};

/// Where names differ from what other exporters of backups made a custom: theirs, ours, and why.
static NAMES: &[(&str, &[&Family], &str)] = &[
    (
        "ages: `…_since_last_completion_seconds`",
        &[&VOLUME_LAST_SUCCESS, &PRUNE_LAST_SUCCESS, &CREDENTIALS_OLDEST],
        "points in time, as Prometheus' guide asks: an age goes on looking young when what counts it hangs",
    ),
    (
        "`…_total` by `result`",
        &[&COPY_FAILURES, &COPY_SKIPPED, &VERIFIES, &VERIFY_MISMATCHES],
        "attempts and failures are counters of their own: a share is one division, and nothing is left out of a sum by mistake",
    ),
    ("`repository_bytes` by kind of size", &[&VAULT_LOGICAL, &VAULT_STORED], "the sum over such a label means nothing"),
    ("`repository_free_bytes`", &[&VAULT_FREE], "the vault is called so everywhere else"),
    (
        "`gc_deleted_bytes_total`, `gc_…`",
        &[&PRUNED_BYTES, &PRUNE_LAST_SUCCESS],
        "the command is `prune`; no other garbage is collected",
    ),
    ("`workers_busy`, `workers`", &[&TRANSFERS_RUNNING, &TRANSFERS_LIMIT], "the setting is `limits.transfers`"),
    ("`queue_depth`", &[&JOBS], "jobs that ended are told too, by state"),
    ("bytes by `host`", &[&READ_BYTES], "by route: which host of a cluster reads a VMFS changes from copy to copy"),
    (
        "`discovery_errors_total` by reason",
        &[&DISCOVERY_FAILURES],
        "one for each datastore and round; the reason stands in the log and in `/readyz`",
    ),
    (
        "`volumes` by kind, without a state",
        &[&VOLUMES],
        "by state too, so that one family tells who is left alone and who is gone",
    ),
    ("`…_logical_bytes` of a volume", &[&VOLUME_SIZE], "*logical* is kept for versions"),
];

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
         Series of single volumes (`stackferry_volume_…`) are up to ten for each volume that is at its source: 5,500 volumes\n\
         make some 50,000 series, 5 MB of text. `[metrics] per_volume = \"problems\"` leaves out those of volumes that are\n\
         ready, have a version, are not overdue, and whose last copy did not fail; `\"off\"` leaves out all but those of copies\n\
         that run, and with them the alarms of single volumes. A volume that is gone has none: it is counted in\n\
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
    text.push_str(
        "\nCounters stand at 0 from the start wherever a series is known beforehand. What counts in a young series or a young\n\
         process is an increase all the same: `dashboards/rules/` shows how it is asked for.\n\n\
         ## Names that differ from others'\n\n\
         Units, endings and `_total` are as [Prometheus' guide](https://prometheus.io/docs/practices/naming/) says. Where\n\
         exporters of other backups have a custom that is not followed here:\n\n\
         | here | elsewhere | why |\n\
         | --- | --- | --- |\n",
    );
    for (theirs, ours, why) in NAMES {
        let ours: Vec<String> = ours.iter().map(|family| format!("`{}`", family.name)).collect();
        text.push_str(&format!("| {} | {theirs} | {why} |\n", ours.join(", ")));
    }
    text
}
