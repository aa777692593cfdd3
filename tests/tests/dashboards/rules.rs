//! The rules under Prometheus' own checks and tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use stackferry_tests::tools::{find, have};

use crate::boards::{Board, files, rules};
use crate::promql::expanded;

fn promtool() -> Option<PathBuf> {
    let found = find("promtool");
    have(found.is_some(), "promtool (package prometheus)").unwrap().then_some(found).flatten()
}

fn ok(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn prometheus_accepts_the_rules() {
    let Some(promtool) = promtool() else { return };
    let mut check = Command::new(promtool);
    check.args(["check", "rules", "--lint=all", "--lint-fatal"]).args(files("dashboards/rules", "yml"));
    let said = ok(&check.output().unwrap());
    let number = rules("alerts.yml", "alert").len();
    assert!(said.contains(&format!("{number} rules found")), "{said}");
}

#[test]
fn the_rules_pass_their_promtool_tests() {
    let Some(promtool) = promtool() else { return };
    let tests = files("dashboards/rules/tests", "yml");
    let said = ok(&Command::new(promtool).args(["test", "rules"]).args(&tests).output().unwrap());
    assert_eq!(said.matches("SUCCESS").count(), tests.len(), "{said}");
}

/// Each alarm is tested just before it fires and just after.
#[test]
fn every_alert_is_tested_silent_and_firing() {
    let (mut silent, mut firing) = (BTreeSet::new(), BTreeSet::new());
    for path in files("dashboards/rules/tests", "yml") {
        let text = fs::read_to_string(path).unwrap();
        for one in text.split("alertname: ").skip(1) {
            let (name, rest) = one.split_once('\n').unwrap();
            let is_silent = rest.trim_start().starts_with("exp_alerts: []");
            if is_silent { &mut silent } else { &mut firing }.insert(name.to_owned());
        }
    }
    let alarms: BTreeSet<String> = rules("alerts.yml", "alert").into_iter().collect();
    assert_eq!((&silent, &firing), (&alarms, &alarms));
}

/// Every expression of every panel, as a rule: Prometheus' own parser reads them.
#[test]
fn prometheus_parses_every_expression() {
    let Some(promtool) = promtool() else { return };
    let mut text = String::from("groups:\n  - name: panels\n    rules:\n");
    for board in Board::all() {
        for panel in board.panels() {
            for expression in panel.expressions() {
                let quoted = serde_json::to_string(&expanded(expression)).unwrap();
                let panel = serde_json::to_string(&panel.place()).unwrap();
                text += &format!(
                    "      - record: panel:expression\n        expr: {quoted}\n        labels: {{ panel: {panel} }}\n"
                );
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("panels.yml");
    fs::write(&path, text).unwrap();
    let output = Command::new(promtool).args(["check", "rules", "--lint=none"]).arg(&path).output().unwrap();
    ok(&output);
}
