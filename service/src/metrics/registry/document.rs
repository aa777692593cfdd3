//! `docs/metrics.md`, made from the table.

use super::{COPY_DURATION, DURATION_BUCKETS, FAMILIES, Stability};

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
    text
}
