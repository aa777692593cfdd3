//! The values of the panels for people: all of them in `docs/dashboards.md`, a few in `README.md`.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::boards::{Panel, root};

pub(crate) const MIB: u64 = 1 << 20;

/// Between these the README is written by the test.
const BEGIN: &str = "<!-- dashboards: written by tests/tests/dashboards.rs -->";
const END: &str = "<!-- dashboards: end -->";
const NOT_DRAWN: &str = "The dashboard *Overview* as a table of panel and value: what a real Prometheus returned of a small site while a test ran.\n\
    No Grafana server was to be had to render it. All seven: [docs/dashboards.md](docs/dashboards.md).";

/// A panel, and what it showed.
pub(crate) struct Row {
    board: String,
    panel: String,
    description: String,
    value: String,
}

/// A row of the document: what the panel asks, and what it would show.
pub(crate) fn line(panel: &Panel<'_>, shown: &[(Value, f64)], empty: Option<&str>) -> Row {
    let unit = panel.json["fieldConfig"]["defaults"]["unit"].as_str().unwrap();
    let mut values: Vec<String> = shown
        .iter()
        .take(4)
        .map(|(labels, value)| {
            let worth = ["volume", "source", "host", "reason", "state", "what", "route", "kind", "system", "phase"];
            let name = worth.iter().find_map(|label| labels[label].as_str());
            let value = shown_as(*value, unit);
            name.map_or_else(|| value.clone(), |name| format!("{name}: {value}"))
        })
        .collect();
    if shown.len() > values.len() {
        values.push(format!("and {} more", shown.len() - values.len()));
    }
    let text = match (values.is_empty(), empty) {
        (true, Some(why)) => format!("nothing: {why}"),
        _ => values.join("; "),
    };
    Row {
        board: panel.board.to_owned(),
        panel: panel.title().to_owned(),
        description: panel.json["description"].as_str().unwrap().to_owned(),
        value: text,
    }
}

/// A value with its unit, as a person writes it.
fn shown_as(value: f64, unit: &str) -> String {
    let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
    match unit {
        "percentunit" => format!("{} %", rounded(value * 100.0)),
        "s" => format!("{} s", rounded(value)),
        "bytes" => format!("{} MiB", rounded(value / MIB as f64)),
        "Bps" => format!("{} MiB/s", rounded(value / MIB as f64)),
        _ => rounded(value).to_string(),
    }
}

/// Keeps the documents up to date: their values are of one run, their panels are those that there are.
pub(crate) fn keep(report: &[Row]) {
    let (path, readme) = (root().join("docs/dashboards.md"), root().join("README.md"));
    if std::env::var_os("STACKFERRY_TEST_WRITE").is_some() {
        fs::write(&path, document(report)).unwrap();
        let text = fs::read_to_string(&readme).unwrap();
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        fs::write(&readme, format!("{before}{BEGIN}\n\n{}\n{END}{after}", short(report))).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    for row in report {
        let begins = format!("| {} | {} | ", row.panel, row.description);
        assert!(written.contains(&begins), "{begins} is not in docs/dashboards.md: run with STACKFERRY_TEST_WRITE=1");
    }
    let text = fs::read_to_string(&readme).unwrap();
    let block = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).unwrap().0;
    assert!(block.contains(NOT_DRAWN), "README.md does not say where its values come from");
    for row in in_short(report) {
        let begins = format!("| {} | ", row.panel);
        assert!(block.contains(&begins), "{begins} is not in README.md: run with STACKFERRY_TEST_WRITE=1");
    }
}

fn document(report: &[Row]) -> String {
    let mut text = String::from(
        "# Dashboards\n\n\
         To install them, see [operations.md](operations.md#dashboards-and-rules). A test generates this page: it\n\
         runs a small site (two datastores, one of them behind an endpoint, an App Volumes Manager, five volumes, a copy under\n\
         way), lets a real Prometheus scrape it, and asks it what each panel asks. **The values are what Prometheus answered.\n\
         No Grafana drew them**: none was to be had where the tests run.\n",
    );
    let mut last = "";
    for row in report {
        if row.board != last {
            let _ = write!(text, "\n## {}\n\n| panel | what it shows | value |\n| --- | --- | --- |\n", row.board);
            last = &row.board;
        }
        let _ = writeln!(text, "| {} | {} | {} |", row.panel, row.description, row.value);
    }
    text
}

/// What the README shows: the first panels of the first dashboard.
fn in_short(report: &[Row]) -> impl Iterator<Item = &Row> {
    report.iter().filter(|row| row.board == "overview" && row.panel != "Alarms that are firing").take(10)
}

fn short(report: &[Row]) -> String {
    let mut text = format!("{NOT_DRAWN}\n\n| panel | value |\n| --- | --- |\n");
    for row in in_short(report) {
        let _ = writeln!(text, "| {} | {} |", row.panel, row.value);
    }
    text
}
