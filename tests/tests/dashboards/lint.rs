//! What holds for every dashboard and panel: the checks of Grafana's own linter for dashboards, for all types of panels,
//! and some of our own.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::boards::{Board, Panel};
use crate::promql::metrics;

/// The units of Grafana that are used here.
const UNITS: [&str; 5] = ["short", "s", "bytes", "Bps", "percentunit"];
const KINDS: [&str; 4] = ["stat", "timeseries", "table", "bargauge"];

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

#[test]
fn dashboards_can_be_provisioned_anywhere() {
    let mut titles = BTreeSet::new();
    for board in Board::all() {
        let (name, json) = (&board.name, &board.json);
        assert_eq!(json["uid"], format!("stackferry-{name}"));
        assert!(json["id"].is_null() && json["version"].as_u64() >= Some(1), "{name}");
        assert!(json.get("__inputs").is_none() && json.get("__requires").is_none(), "{name} asks when it is imported");
        assert_eq!((&json["schemaVersion"], &json["tags"]), (&42.into(), &json!(["stackferry"])), "{name}");
        assert_eq!((&json["editable"], &json["graphTooltip"]), (&false.into(), &1.into()), "{name}");
        assert!(json["description"].as_str().is_some_and(|text| text.ends_with(['.', '?'])), "{name}");
        assert!(titles.insert(json["title"].as_str().unwrap().to_owned()), "{name}: its title is taken");
        assert_eq!(json["time"]["to"], "now");
        assert!(["30s", "1m", "5m"].contains(&json["refresh"].as_str().unwrap()), "{name}");
    }
}

#[test]
fn variables_are_queried_from_the_data() {
    for board in Board::all() {
        let name = &board.name;
        let list = board.json["templating"]["list"].as_array().unwrap();
        let names: Vec<&str> = list.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
        assert_eq!(names[..3], ["datasource", "job", "instance"], "{name}");
        assert_eq!((&list[0]["type"], &list[0]["query"]), (&"datasource".into(), &"prometheus".into()), "{name}");
        let panels = board.panels();
        let asked: Vec<&str> = panels.iter().flat_map(Panel::expressions).collect();
        for variable in &list[1..] {
            let own = variable["name"].as_str().unwrap();
            assert_eq!((&variable["type"], &variable["datasource"]), (&"query".into(), &source()), "{name}: {own}");
            assert_eq!(variable["refresh"], 2, "{name}: {own} is read again when the time changes");
            assert_eq!(variable["definition"], variable["query"]["query"], "{name}: {own}");
            assert_eq!(variable["multi"], variable["includeAll"], "{name}: {own}");
            assert!(variable["multi"] == false || variable["allValue"] == ".+", "{name}: {own}");
            let query = variable["definition"].as_str().unwrap();
            assert!(query.starts_with("label_values(stackferry_") && query.ends_with(')'), "{name}: {own}: {query}");
            assert!(!variable["label"].as_str().unwrap().is_empty());
            let used = format!("=~\"${own}\"");
            let others = list.iter().filter_map(|other| other["definition"].as_str());
            assert!(
                asked.iter().copied().chain(others).any(|text| text.contains(&used)),
                "{name}: {own} changes nothing"
            );
        }
    }
}

#[test]
fn every_panel_has_a_title_and_a_description() {
    for board in Board::all() {
        let (mut titles, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for json in board.json["panels"].as_array().unwrap() {
            assert!(ids.insert(json["id"].as_u64().unwrap()), "{}: an id is there twice", board.name);
        }
        for panel in board.panels() {
            let (place, json) = (panel.place(), panel.json);
            assert!(!panel.title().is_empty() && titles.insert(panel.title().to_owned()), "{place}");
            assert!(KINDS.contains(&json["type"].as_str().unwrap()), "{place}");
            let description = json["description"].as_str().unwrap_or_default();
            assert!(description.len() > 20 && description.ends_with('.'), "{place}: {description}");
            let unit = json["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
            assert!(UNITS.contains(&unit), "{place}: unit {unit}");
            assert_eq!(json["datasource"], source(), "{place}");
            let mut letters = BTreeSet::new();
            assert!(!panel.expressions().is_empty(), "{place}");
            for target in json["targets"].as_array().unwrap() {
                assert_eq!(target["datasource"], source(), "{place}");
                assert!(letters.insert(target["refId"].as_str().unwrap().to_owned()), "{place}");
            }
        }
    }
}

/// Panels do not lie over each other, nor over the edge.
#[test]
fn panels_are_large_enough() {
    for board in Board::all() {
        let mut taken = BTreeSet::new();
        for json in board.json["panels"].as_array().unwrap() {
            let at = |key: &str| json["gridPos"][key].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24 && at("w") > 0 && at("h") > 0, "{}", board.name);
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{}: {} lies over another", board.name, json["title"]);
                }
            }
        }
    }
}

/// The window of a range, where the expression goes on with one.
fn window(after: &str) -> Option<&str> {
    let rest = match after.strip_prefix('{') {
        Some(rest) => rest.split_once('}')?.1,
        None => after,
    };
    Some(rest.strip_prefix('[')?.split_once(']')?.0)
}

#[test]
fn counters_are_queried_as_rates_over_the_interval() {
    for board in Board::all() {
        for panel in board.panels() {
            for expression in panel.expressions() {
                for name in metrics(expression) {
                    let place = format!("{}: {expression}", panel.place());
                    assert!(name.after.starts_with("{job=~\"$job\",instance=~\"$instance\""), "{place}");
                    let counts = ["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.text.ends_with(end));
                    let rated = name.before.ends_with("rate(") || name.before.ends_with("increase(");
                    assert!(counts == rated, "{place}: {}", name.text);
                    // A fixed window is one that a person thinks in, and that the panel names.
                    match window(name.after) {
                        None => assert!(!rated, "{place}"),
                        Some("$__rate_interval" | "$__range") => {}
                        Some(fixed) => {
                            let words = [("1h", "hour"), ("1d", "day"), ("7d", "week")];
                            let word = words.iter().find(|(window, _)| *window == fixed);
                            let (_, word) = word.unwrap_or_else(|| panic!("{place}: [{fixed}]"));
                            assert!(panel.json["description"].as_str().unwrap().contains(word), "{place}: no {word}");
                        }
                    }
                }
            }
        }
    }
}
