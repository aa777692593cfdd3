//! The long run: a service that protects a changing site by every route, while hosts crash and networks break.
//!
//! It shows that nothing grows that should not, and that at the end everything is protected as it is then.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

mod churn;
mod faults;
mod sample;

use super::listed::{expect, number, text};
use super::print::{print, step};
use crate::check::same_files;
use crate::disk::content::RandomStream;
use crate::error::LabError;
use crate::lab::{Lab, RunningProcess, Sshd, is_stopped, resume, wait_for};
use churn::VolumeChurn;
use faults::Peers;
use sample::{Least, Sample, Samples};

/// How often the service scans.
const EVERY: &str = "5s";
/// How often something happens on the datastores.
const CHANGE: Duration = Duration::from_secs(3);
/// How often something breaks.
const BREAK: Duration = Duration::from_secs(20);
/// How often resources of the processes are sampled; more often in a run too short for that.
const SAMPLE: Duration = Duration::from_secs(30);
/// How many samples a run has at least.
const LEAST_SAMPLES: u32 = 40;
/// How long the service may take to protect everything once nothing changes or breaks any more.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(180);
/// How often the lab checks for due work.
const TICK: Duration = Duration::from_millis(100);
/// What all that happens derives from.
const SEED: u64 = 4;

/// Lets a service run for so many minutes, and judges what it takes and what it did.
///
/// # Errors
/// What went wrong, or a tool that is missing.
pub fn soak(program: &Path, keep: Option<&Path>, minutes: u32) -> Result<(), LabError> {
    if !Sshd::possible() {
        return Err(LabError::Missing("sshd, setpriv, unshare, or the right to mount"));
    }
    step(format_args!("a changing site for {minutes} minutes, by every route"));
    let mut lab = match keep {
        Some(folder) => Lab::keep(program, folder)?,
        None => Lab::new(program)?,
    };
    let mut peers = Peers::start(&mut lab)?;
    let mut churn = VolumeChurn::begin(&lab, SEED)?;
    lab.config.set("schedule.every", EVERY);
    let mut service = lab.spawn(&["run"])?;
    print(format_args!(
        "  {} volumes on {}; the service scans every {EVERY}, something changes every {} s, breaks every {} s",
        churn.live.len(),
        churn::DATASTORES.join(", "),
        CHANGE.as_secs(),
        BREAK.as_secs()
    ));
    let length = Duration::from_secs(60).saturating_mul(minutes);
    let mut samples = Samples::default();
    let result = live(&lab, &mut peers, &mut churn, &mut service, length, &mut samples);
    let stopped = matches!(result, Err(LabError::Stopped));
    if !stopped {
        result?;
    }
    resume();
    samples.report();
    finish(&lab, &mut peers, &churn, service)?;
    if stopped {
        return Err(LabError::Stopped);
    }
    samples.judge()?;
    if keep.is_some() {
        print(format_args!("everything is kept in {}", lab.root().display()));
    }
    Ok(())
}

/// Lets time pass, with all that happens in it.
fn live(
    lab: &Lab,
    peers: &mut Peers,
    churn: &mut VolumeChurn,
    service: &mut RunningProcess,
    length: Duration,
    samples: &mut Samples,
) -> Result<(), LabError> {
    let began = Instant::now();
    let each = SAMPLE.min(length / LEAST_SAMPLES);
    let mut chance = RandomStream::new(SEED, "faults");
    let (mut next_change, mut next_break, mut next_sample) = (began + CHANGE, began + BREAK, began + each);
    let mut least = Least::default();
    Sample::header();
    while began.elapsed() < length {
        let now = Instant::now();
        if service.has_ended()? {
            return Err(LabError::Wrong(format!("the service has ended: {}", service.stderr())));
        }
        least.sample(service.id(), peers.endpoint_id());
        peers.recover(now)?;
        if now >= next_change {
            next_change += CHANGE;
            churn.change(lab)?;
        }
        if now >= next_break {
            next_break += BREAK;
            peers.inject_fault(now, &mut chance)?;
        }
        if now >= next_sample {
            next_sample += each;
            let sample = Sample::take(lab, service.id(), peers.endpoint_id(), &mut least, churn)?;
            sample.show(began.elapsed());
            samples.push(sample);
        }
        let until = now + TICK;
        wait_for("the next moment", TICK * 100, || Ok(Instant::now() >= until))?;
    }
    if is_stopped() { Err(LabError::Stopped) } else { Ok(()) }
}

/// When nothing changes any more, all is protected as it is; then the service is ended.
fn finish(lab: &Lab, peers: &mut Peers, churn: &VolumeChurn, service: RunningProcess) -> Result<(), LabError> {
    step("nothing changes or breaks any more");
    peers.recover_all()?;
    let began = Instant::now();
    let mut behind = String::new();
    let mut next = began;
    let waited = wait_for("every volume is protected as it is now", CATCH_UP_TIMEOUT, || {
        if Instant::now() < next {
            return Ok(false);
        }
        next = Instant::now() + Duration::from_secs(2);
        let late = late(lab, churn)?;
        behind = late.join(", ");
        Ok(late.is_empty())
    });
    waited.map_err(|error| LabError::Wrong(format!("{error}: behind are {behind}\n{}", tail(&service.stderr()))))?;
    print(format_args!(
        "  all {} volumes are protected as they are, {:.1} s after the last change",
        churn.live.len(),
        began.elapsed().as_secs_f64()
    ));
    let log = {
        let answer = service.terminate(Duration::from_secs(30))?.expect_code(0)?;
        answer.stderr
    };
    tell_problems(&log);
    for sign in ["panicked", "code=internal"] {
        expect(!log.contains(sign), || format!("the service says `{sign}`: {}", tail(&log)))?;
    }
    for one in &churn.live {
        let name = format!("restored-{}", one.disk.spec().stem);
        let to = lab.restore(&one.id(), &name)?;
        same_files(&one.disk.files(), &to)?;
        std::fs::remove_dir_all(&to).map_err(|error| LabError::Wrong(format!("{}: {error}", to.display())))?;
    }
    print(format_args!("  all of them restored, byte for byte the same"));
    let verified = lab.run_json(&["verify"])?;
    let (checked, ok) = (number(&verified, "checked"), number(&verified, "ok"));
    expect(checked > 0 && checked == ok, || format!("not every version is whole: {verified}"))?;
    print(format_args!("  {checked} versions read back, all whole"));
    let audit = lab.run_json(&["audit", "verify"])?;
    expect(audit.get("ok").and_then(Value::as_bool) == Some(true), || format!("the audit is broken: {audit}"))?;
    peers.end()
}

/// The volumes that are not known to be protected since their last change; and those that are gone, but not known so.
fn late(lab: &Lab, churn: &VolumeChurn) -> Result<Vec<String>, LabError> {
    let listed = lab.run_json(&["volumes"])?;
    let listed: BTreeMap<&str, &Value> =
        listed.as_array().into_iter().flatten().map(|one| (text(one, "id"), one)).collect();
    let protected = |id: &str, changed: Timestamp| {
        let last = listed.get(id).map_or("", |one| text(one, "last_success"));
        last.parse::<Timestamp>().is_ok_and(|last| last > changed)
    };
    let mut late: Vec<String> =
        churn.live.iter().filter(|one| !protected(&one.id(), one.changed)).map(churn::LiveVolume::id).collect();
    for id in &churn.gone {
        // One that was gone before it was ever seen is not listed.
        if listed.get(id.as_str()).is_some_and(|one| text(one, "state") != "gone") {
            late.push(format!("{id} (gone)"));
        }
    }
    Ok(late)
}

/// How often the service told of each kind of trouble.
fn tell_problems(log: &str) {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for line in log.lines() {
        let code = line.split("code=").nth(1).and_then(|rest| rest.split(' ').next());
        if let Some(code) = code {
            *counts.entry(code).or_default() += 1;
        }
    }
    let counts: Vec<String> = counts.iter().map(|(code, count)| format!("{code} {count}")).collect();
    print(format_args!("  what the service logged: {}", counts.join(", ")));
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n")
}
