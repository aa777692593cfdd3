//! One set of names: the exported metrics, those in the documentation, and those in dashboards and rules.

use std::collections::BTreeSet;
use std::fs;

use stackferry_engine::metrics::registry::{FAMILIES, Type};

use crate::boards::{Board, files, root, rules};
use crate::promql;

/// What Prometheus itself tells.
const OF_PROMETHEUS: [&str; 3] = ["ALERTS", "scrape_duration_seconds", "scrape_samples_scraped"];

fn families() -> BTreeSet<String> {
    FAMILIES.iter().map(|family| family.name.to_owned()).collect()
}

/// The family that a name in an expression means.
fn family(name: &str) -> String {
    let histograms = FAMILIES.iter().filter(|family| family.kind == Type::Histogram);
    let own = histograms.into_iter().find(|family| {
        let rest = name.strip_prefix(family.name).unwrap_or_default();
        ["_bucket", "_sum", "_count"].contains(&rest)
    });
    own.map_or_else(|| name.to_owned(), |family| family.name.to_owned())
}

fn asked(expressions: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let expressions: Vec<String> = expressions.into_iter().collect();
    expressions.iter().flat_map(|text| promql::metrics(text)).map(|name| family(name.text)).collect()
}

fn of_dashboards() -> BTreeSet<String> {
    let boards = Board::all();
    let panels = boards.iter().flat_map(Board::panels);
    let of_panels: Vec<String> =
        panels.flat_map(|panel| panel.expressions().into_iter().map(str::to_owned).collect::<Vec<_>>()).collect();
    let variables = boards.iter().flat_map(Board::queries);
    let of_variables = variables.map(|variable| variable["definition"].as_str().unwrap().to_owned());
    asked(of_panels.into_iter().chain(of_variables))
}

fn of_rules() -> BTreeSet<String> {
    let texts = files("dashboards/rules", "yml").into_iter().map(|path| fs::read_to_string(path).unwrap());
    // The lines of expressions only.
    let names = texts.flat_map(|text| {
        let lines = text.lines().map(str::trim).filter(|line| {
            !["#", "- ", "summary:", "description:", "runbook_url:", "severity:"].iter().any(|no| line.starts_with(no))
        });
        lines.map(str::to_owned).collect::<Vec<_>>()
    });
    asked(names)
}

#[test]
fn every_metric_is_used_and_every_used_metric_exists() {
    let exported = families();
    let recorded: BTreeSet<String> = rules("recording.yml", "record").into_iter().collect();
    let (dashboards, rules) = (of_dashboards(), of_rules());
    let all: BTreeSet<String> = dashboards.union(&rules).cloned().collect();
    let unknown: Vec<_> = all.iter().filter(|name| !exported.contains(*name) && !recorded.contains(*name)).collect();
    assert!(unknown.is_empty(), "not exported: {unknown:?}");
    let unused: Vec<_> = exported.iter().chain(&recorded).filter(|name| !all.contains(*name)).collect();
    assert!(unused.is_empty(), "no panel and no rule asks for {unused:?}");
    assert!(rules.len() > 20, "the rules were not read: {rules:?}");
}

#[test]
fn only_listed_metrics_of_prometheus_are_used() {
    for board in Board::all() {
        for panel in board.panels() {
            for expression in panel.expressions() {
                let named = promql::names(expression);
                let selected = named.iter().filter(|name| name.after.starts_with('{'));
                for name in selected.filter(|name| !name.text.contains("stackferry_")) {
                    let known = OF_PROMETHEUS.contains(&name.text) || name.text.starts_with("process_");
                    assert!(known, "{}: {}", panel.place(), name.text);
                }
            }
        }
    }
}

#[test]
fn the_documentation_lists_every_metric() {
    let text = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let listed: BTreeSet<String> = rows.map(|(name, _)| name.to_owned()).collect();
    assert_eq!(listed, families());
}

/// What to do about an alarm is found under its name.
#[test]
fn every_alert_has_its_section() {
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let sections: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("### Stackferry")).collect();
    let alarms = rules("alerts.yml", "alert");
    let written: Vec<String> = sections.iter().map(|name| format!("Stackferry{name}")).collect();
    assert_eq!(written, alarms, "sections of docs/operations.md, in the order of alerts.yml");
    for (name, rest) in written.iter().zip(text.split("### Stackferry").skip(1)) {
        let section = rest.split("\n## ").next().unwrap();
        for part in ["**Means.**", "**How bad.**", "**Still works.**", "**Do.**"] {
            assert!(section.contains(part), "{name} does not say {part}");
        }
    }
    let rules = fs::read_to_string(root().join("dashboards/rules/alerts.yml")).unwrap();
    for alarm in &alarms {
        let url = format!("runbook_url: docs/operations.md#{}\n", alarm.to_lowercase());
        assert!(rules.contains(&url), "{alarm} does not lead to its section");
    }
}
