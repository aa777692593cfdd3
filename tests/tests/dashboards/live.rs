//! A working service, a real Prometheus that scrapes it, and every query of every dashboard and rule.
//!
//! There is no Grafana here to draw the panels. The test sends their queries as Grafana would, and writes the results into
//! `docs/dashboards.md` and `README.md` with `STACKFERRY_TEST_WRITE=1`.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;
use stackferry_tests::avm::{AppVolumesDouble, AvmSite, AvmVersion};
use stackferry_tests::disk::{DiskContent, DiskSpec, Mix, Sidecar, TestDisk};
use stackferry_tests::lab::{EndpointProcess, Lab, RunningProcess, wait_for};
use stackferry_tests::tools::{find, have};

use crate::boards::{Board, Panel, rules};
use crate::prometheus::{LIMIT, Prometheus, get, post};
use crate::promql::expanded;
use crate::report::{MIB, keep, line};

const APPS: &str = "cloudvolumes/apps";

/// Questions that have no answer here, by dashboard, panel and letter, and why. All others have to have one.
const MAY_BE_EMPTY: &[(&str, &str, &str, &str)] = &[
    ("overview", "Alarms that are firing", "A", "rules are evaluated once a minute, and most alarms wait for minutes"),
    ("transfers", "Why do copies fail", "A", "none failed"),
    ("transfers", "What is tried again", "A", "nothing had to be"),
    ("credentials", "Oldest of them", "A", "credentials for an endpoint stand for a moment only"),
    ("capacity", "Room lasts for", "A", "others write to and delete from the same file system meanwhile"),
];

/// What is wrong at this site: the alarms whose expression has to find something, however long they wait then.
const WRONG_HERE: [&str; 1] = ["StackferryVolumesUnprotectable"];
/// An alarm of which this site can't say whether it should find something: others fill the same file system.
const DEPENDS: &str = "StackferryVaultFillsUp";

/// Puts a disk there, as a whole: its descriptor last, so that no round meets one that is being made.
fn build(lab: &Lab, datastore: &str, folder: &str, stem: &str, data: u64) {
    let spec =
        DiskSpec::new(stem, 256 * MIB, data).content(DiskContent::Plain { bytes: data }).sidecar(Sidecar::Metadata);
    // Half of it text, so that compressing saves something.
    let spec = DiskSpec { mix: Mix { text: 50, zero: 0 }, ..spec };
    let disk = TestDisk::build(&lab.folder("made", stem).unwrap(), spec).unwrap();
    let to = lab.folder(datastore, folder).unwrap();
    let (descriptor, others): (Vec<_>, Vec<_>) = disk.files().into_iter().partition(|file| *file == disk.path());
    for file in others.iter().chain(&descriptor) {
        fs::rename(file, to.join(file.file_name().unwrap())).unwrap();
    }
}

fn guid(number: u32) -> String {
    format!("9b1b40b0-e2f8-4fe6-b743-{number:012}")
}

/// What has to live as long as the service does.
struct Site {
    lab: Lab,
    _endpoint: EndpointProcess,
    manager: AppVolumesDouble,
}

impl Site {
    /// Another AppStack, which the manager knows of.
    fn add(&self, name: &str, datastore: &str, data: u64) {
        build(&self.lab, datastore, APPS, name, data);
        self.manager.change(|site| {
            site.appstack(name, datastore, &format!("{APPS}/{name}.vmdk"), &guid(data as u32));
        });
    }
}

/// Two datastores, one of them remote; AppStacks, one of them without a file; writables, one of them attached.
fn site() -> Site {
    let mut lab = Lab::new(env!("CARGO_BIN_EXE_stackferry-lab")).unwrap();
    let endpoint = lab.serve(&["nfs02"]).unwrap();
    lab.add_local("nfs01").unwrap();
    lab.add_endpoint("nfs02", &endpoint).unwrap();
    let mut site = AvmSite::new(AvmVersion::V2_17);
    site.storage("vsan01", "vsan", true);
    for (number, (name, datastore)) in [("Office", "nfs01"), ("Visio", "nfs02"), ("Zip", "vsan01")].iter().enumerate() {
        site.appstack(name, datastore, &format!("{APPS}/{name}.vmdk"), &guid(number as u32 + 1));
    }
    for (number, name) in ["jdoe", "asmith"].iter().enumerate() {
        let path = format!("cloudvolumes/writable/CORP!5C!{name}.vmdk");
        let writable = site.writable(&format!(r"CORP\{name}"), "nfs01", &path, &guid(number as u32 + 10));
        if *name == "jdoe" {
            writable.attach("VDI-1");
        }
    }
    build(&lab, "nfs01", APPS, "Office", 3 * MIB);
    build(&lab, "nfs02", APPS, "Visio", 3 * MIB);
    build(&lab, "nfs01", "cloudvolumes/writable", "CORP!5C!jdoe", MIB);
    build(&lab, "nfs01", "cloudvolumes/writable", "CORP!5C!asmith", 2 * MIB);
    let manager = AppVolumesDouble::start(site).unwrap();
    lab.add_app_volumes("avm1", None, &manager).unwrap();
    lab.config.set("schedule.every", "1s");
    let restored = lab.path("restored");
    fs::create_dir(&restored).unwrap();
    lab.config.set("restore.roots", vec![restored.to_string_lossy().into_owned()]);
    lab.config.set("limits.bandwidth", "1MiB/s");
    lab.config.set("retention.last", 7);
    Site { lab, _endpoint: endpoint, manager }
}

/// Starts the service, and gives its address.
fn serve(lab: &Lab) -> (RunningProcess, SocketAddr) {
    let mut service = lab.spawn(&["run"]).unwrap();
    let address = service.wait_line("its address", LIMIT, |line| {
        let from = line.find("127.0.0.1:")?;
        let rest: String = line[from..].chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
        rest.parse::<SocketAddr>().ok()
    });
    (service, address.unwrap())
}

fn wait(prometheus: &Prometheus, what: &str, expression: &str) {
    wait_for(what, LIMIT, || Ok(prometheus.query(expression).unwrap().iter().any(|(_, value)| *value > 0.0))).unwrap();
}

#[test]
fn every_panel_has_data_of_a_working_site() {
    let (prometheus, promtool) = (find("prometheus"), find("promtool"));
    let present = prometheus.is_some() && promtool.is_some();
    if !have(present, "prometheus and promtool (package prometheus)").unwrap() {
        return;
    }
    let site = site();
    let (service, address) = serve(&site.lab);
    let prometheus = Prometheus::start(&prometheus.unwrap(), &site.lab.path("prometheus"), address);
    wait(&prometheus, "three volumes to be protected", "count(stackferry_volume_versions == 1) == 3");
    wait(&prometheus, "the counters to be there", "count(stackferry_verify_attempts_total)");
    // Read back and put back by the service, which counts it.
    let token = site.lab.run_json(&["token", "create", "--name", "test", "--role", "admin"]).unwrap();
    let to = serde_json::json!({ "to": site.lab.path("restored").join("office") }).to_string();
    for (what, body) in [("verify", "{}"), ("restore", to.as_str())] {
        let path = format!("/api/v1/volumes/appstack/Office/{what}");
        let answer = post(address, &path, token["token"].as_str().unwrap(), body).unwrap();
        assert_eq!(answer.0, 202, "{}", answer.1);
    }
    wait(&prometheus, "a restore to be reported", "stackferry_restore_duration_seconds_count > 0");
    wait(&prometheus, "a verification to be reported", "stackferry_verify_attempts_total > 0");
    // When nothing is copied, of each volume the newest version is opened as a disk. The service looks each minute.
    wait(
        &prometheus,
        "restore tests to be reported",
        "count(stackferry_volume_last_restore_test_timestamp_seconds) == 3",
    );
    wait(&prometheus, "retention to be reported", "stackferry_prune_last_success_timestamp_seconds");
    // Prometheus is there by now, and sees this one from its beginning to its end.
    site.add("Outlook", "nfs02", 2 * MIB);
    wait(&prometheus, "a fourth volume to be protected", "count(stackferry_volume_versions == 1) == 4");
    wait(&prometheus, "its credentials to be reported", "increase(stackferry_credentials_issued_total[1m]) > 0");
    // One that takes minutes at this bandwidth: it runs while all is asked.
    site.add("Big", "nfs01", 200 * MIB);
    wait(&prometheus, "its copy to go on", "deriv(stackferry_volume_inflight_bytes{volume=\"appstack/Big\"}[1m]) > 0");
    wait(&prometheus, "the verification to be reported", "count(stackferry_volume_last_verified_timestamp_seconds)");

    let (mut report, mut wrong) = (Vec::new(), Vec::new());
    for board in Board::all() {
        for variable in board.queries() {
            let definition = variable["definition"].as_str().unwrap();
            let inner = definition.strip_prefix("label_values(").and_then(|text| text.strip_suffix(')')).unwrap();
            let (selector, label) = inner.rsplit_once(", ").unwrap();
            match prometheus.label_values(&expanded(selector), label) {
                Ok(values) if !values.is_empty() => {}
                other => wrong.push(format!("{}: {definition}: {other:?}", board.name)),
            }
        }
        for panel in board.panels() {
            let mut shown = Vec::new();
            for target in panel.json["targets"].as_array().unwrap() {
                let (letter, expression) = (target["refId"].as_str().unwrap(), target["expr"].as_str().unwrap());
                match prometheus.query(&expanded(expression)) {
                    Ok(series) if series.is_empty() && why_empty(&panel, letter).is_none() => {
                        wrong.push(format!("{}: {letter} has no answer: {expression}", panel.place()));
                    }
                    Ok(series) => shown.extend(series),
                    Err(error) => wrong.push(format!("{}: {expression}: {error}", panel.place())),
                }
            }
            report.push(line(&panel, &shown, why_empty(&panel, "A")));
        }
    }
    for rule in rules_of(&prometheus) {
        let name = rule["name"].as_str().unwrap();
        match (rule["type"].as_str().unwrap(), prometheus.query(rule["query"].as_str().unwrap())) {
            (_, Err(error)) => wrong.push(format!("{name}: {error}")),
            ("recording", Ok(series)) if series.is_empty() => wrong.push(format!("{name} records nothing")),
            ("alerting", Ok(series)) if name != DEPENDS && series.is_empty() == WRONG_HERE.contains(&name) => {
                wrong.push(format!("{name} finds {series:?}"));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    check(&promtool.unwrap(), &get(address, "/metrics").unwrap().1);
    keep(&report);
    service.terminate(LIMIT).unwrap().expect_code(0).unwrap();
}

/// Why this question of a panel may have no answer; none where it has to have one.
fn why_empty(panel: &Panel<'_>, letter: &str) -> Option<&'static str> {
    let own = MAY_BE_EMPTY
        .iter()
        .find(|(board, title, own, _)| (*board, *title, *own) == (panel.board, panel.title(), letter));
    own.map(|(.., why)| *why)
}

/// No question is excused that nobody asks.
#[test]
fn every_excused_panel_exists() {
    let boards = Board::all();
    for (board, title, letter, _) in MAY_BE_EMPTY {
        let mut panels =
            boards.iter().flat_map(Board::panels).filter(|panel| (panel.board, panel.title()) == (*board, *title));
        let targets =
            panels.next().unwrap_or_else(|| panic!("there is no panel {board} / {title}")).json["targets"].clone();
        assert!(
            targets.as_array().unwrap().iter().any(|target| target["refId"] == *letter),
            "{board} / {title}: {letter}"
        );
    }
    let alarms = rules("alerts.yml", "alert");
    assert!(WRONG_HERE.iter().chain([&DEPENDS]).all(|name| alarms.iter().any(|alarm| alarm == name)));
}

/// The rules as Prometheus has them: all of them, none of them ill.
fn rules_of(prometheus: &Prometheus) -> Vec<Value> {
    let data = prometheus.get("/api/v1/rules").unwrap();
    let groups = data["groups"].as_array().unwrap().iter();
    let all: Vec<Value> = groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect();
    assert_eq!(all.len(), rules("alerts.yml", "alert").len() + rules("recording.yml", "record").len());
    for rule in &all {
        assert_ne!(rule["health"], "err", "{rule}");
    }
    all
}

/// Prometheus' own check of names and form, of what the service tells now.
fn check(promtool: &std::path::Path, text: &str) {
    let mut check = Command::new(promtool);
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    std::io::Write::write_all(&mut check.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{said}");
}
