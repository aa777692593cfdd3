//! The chaos lane: every command is killed, meets full disks and failing system calls at random moments, alone and
//! beside a running service, while the sources change. After every few commands the machine is healthy again for one
//! round, and everything that is promised has to hold:
//!
//!  1. the round succeeds, and the newest version of every volume is what its source holds now;
//!  2. catalog and vault list the same versions;
//!  3. every listed version restores to a state that the source really had, byte for byte, or `verify` reports it;
//!     since nothing here damages files, a version that is reported is a fault too;
//!  4. `incoming` holds at most what the next copy of each volume can go on with;
//!  5. the audit's chain is whole.
//!
//! All that happens derives from one seed, except for how far a process gets before it is killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use jiff::Timestamp;
use serde_json::Value;

mod commands;
mod faults;
mod sources;

use super::listed::{expect, list, number, text};
use super::print::{print, step};
use crate::disk::content::RandomStream;
use crate::error::{IoContext, LabError};
use crate::lab::{Lab, RunningProcess, Tmpfs, is_stopped};
use commands::Act;
use faults::Disturbance;
use sources::ChaosVolumes;

/// The size of the file system that the state folder is on: it can be filled quickly.
const STATE_BYTES: u64 = 32 << 20;
/// The size of the file system that the vault is on.
const VAULT_BYTES: u64 = 1 << 30;
/// How many commands run between two moments in which everything has to hold.
const COMMANDS: u64 = 10;
/// How many of ten groups of commands run beside a service.
const WITH_SERVICE: u64 = 4;
/// What a healthy command may take, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(300);
/// How many lines are kept to explain a failure.
const LOG_LINES: usize = 200;

/// Kills, fills and breaks for so many minutes.
///
/// # Errors
/// A promise that did not hold, with the seed and the group of commands it happened in; or a tool that is missing.
pub fn chaos(program: &Path, keep: Option<&Path>, minutes: u32, seed: u64) -> Result<(), LabError> {
    if !Tmpfs::possible() || !faults::possible() {
        return Err(LabError::Missing("strace, or the right to mount"));
    }
    step(format_args!("commands that are killed and fail for {minutes} minutes, from seed {seed}"));
    let mut lab = match keep {
        Some(folder) => Lab::keep(program, folder)?,
        None => Lab::new(program)?,
    };
    let state = Tmpfs::mount(&lab.path("state"), STATE_BYTES)?;
    let vault = Tmpfs::mount(&lab.vault(), VAULT_BYTES)?;
    lab.add_local("nfs01")?;
    lab.config.set("schedule.every", "1s");
    lab.config.set("retention.last", 3);
    let mut chaos = Chaos {
        sources: ChaosVolumes::build(&lab, seed)?,
        chance: RandomStream::new(seed, "chaos"),
        took: BTreeMap::new(),
        tally: Tally::default(),
        log: Vec::new(),
        lab: &lab,
    };
    let result = chaos.run(Duration::from_secs(60).saturating_mul(minutes));
    chaos.tally.report();
    if result.is_err() && keep.is_some() {
        chaos.keep()?;
    }
    drop((state, vault));
    result.map_err(|error| match error {
        LabError::Stopped => LabError::Stopped,
        error => {
            let mut cause = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                cause.push_str(&format!(": {source}"));
            }
            LabError::Wrong(format!("seed {seed}, group {}: {cause}", chaos.tally.groups))
        }
    })
}

/// What happened so far.
#[derive(Default)]
struct Tally {
    groups: u64,
    commands: u64,
    changes: u64,
    kills: u64,
    faults: BTreeMap<&'static str, u64>,
    compared: u64,
}

impl Tally {
    fn report(&self) {
        let faults: Vec<String> = self.faults.iter().map(|(name, times)| format!("{times} {name}")).collect();
        print(format_args!(
            "  {} commands in {} groups, {} kills, {}; {} changes of sources; {} restored versions compared",
            self.commands,
            self.groups,
            self.kills,
            faults.join(", "),
            self.changes,
            self.compared
        ));
    }
}

struct Chaos<'l> {
    lab: &'l Lab,
    sources: ChaosVolumes,
    chance: RandomStream,
    /// How long each kind of command took when nothing disturbed it: kills fall into that time.
    took: BTreeMap<&'static str, Duration>,
    tally: Tally,
    /// The last commands, how each was disturbed, and how it ended.
    log: Vec<String>,
}

impl Chaos<'_> {
    fn run(&mut self, length: Duration) -> Result<(), LabError> {
        let began = Instant::now();
        self.check()?;
        while began.elapsed() < length && !is_stopped() {
            self.tally.groups += 1;
            self.group()?;
            self.check()?;
        }
        if is_stopped() { Err(LabError::Stopped) } else { Ok(()) }
    }

    /// Some commands, each with what disturbs it; sometimes beside a service, which is killed at the end.
    fn group(&mut self) -> Result<(), LabError> {
        let mut service = match self.chance.below(10) < WITH_SERVICE {
            true => Some(self.lab.spawn(&["run"])?),
            false => None,
        };
        for _ in 0..COMMANDS {
            if self.chance.below(3) == 0 {
                self.change()?;
            }
            self.command()?;
            // A service may end by itself only where its disk was full or a call failed; another takes its place.
            if let Some(running) = service.as_mut()
                && running.has_ended()?
            {
                service = Some(self.lab.spawn(&["run"])?);
            }
        }
        if let Some(service) = service {
            self.tally.kills += 1;
            service.kill()?;
        }
        Ok(())
    }

    fn change(&mut self) -> Result<(), LabError> {
        self.tally.changes += 1;
        let id = self.sources.change()?;
        self.record(format_args!("{id} changes"));
        Ok(())
    }

    fn record(&mut self, line: fmt::Arguments<'_>) {
        if self.log.len() >= LOG_LINES {
            self.log.remove(0);
        }
        self.log.push(format!("{} {line}", Timestamp::now()));
    }

    /// Copies state and vault, which are in memory, and the log to where the lab is kept.
    fn keep(&self) -> Result<(), LabError> {
        let path = self.lab.path("chaos.log");
        fs::write(&path, self.log.join("\n")).at("write", &path)?;
        for folder in ["state", "vault"] {
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(self.lab.path(folder)).arg(self.lab.path(&format!("kept-{folder}")));
            copy.status().map_err(|source| LabError::Start { tool: "cp".to_owned(), source })?;
        }
        Ok(())
    }

    fn command(&mut self) -> Result<(), LabError> {
        let fault = Disturbance::draw(&mut self.chance);
        let act = Act::draw(&mut self.chance, &self.sources, self.lab)?;
        let kind = act.kind();
        let usual = self.took.get(kind).copied().unwrap_or(Duration::from_millis(200));
        self.tally.commands += 1;
        let began = Instant::now();
        let filled = fault.before(self.lab)?;
        let mut running = match fault.wrap(self.lab.command(act.arguments())?) {
            Some(command) => RunningProcess::start(act.name(), command)?,
            None => self.lab.spawn(act.arguments())?,
        };
        let answer = match fault {
            Disturbance::Kill { part } => {
                let until = usual.mul_f64(part);
                let change = self.chance.below(4) == 0;
                while began.elapsed() < until && !running.has_ended()? {
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                // What is written while a copy runs must never be in a version together with what was there before.
                if change && !running.has_ended()? {
                    self.change()?;
                }
                self.tally.kills += 1;
                running.kill()?
            }
            _ => running.wait(LIMIT)?,
        };
        self.record(format_args!("{} {fault:?}: {} {}{}", act.name(), answer.code, answer.stdout, answer.stderr));
        *self.tally.faults.entry(fault.name()).or_default() += 1;
        if matches!(fault, Disturbance::None) && answer.code == 0 {
            self.took.insert(kind, began.elapsed());
        }
        drop(filled);
        act.clean()
    }

    /// The machine is healthy: all that is promised holds.
    fn check(&mut self) -> Result<(), LabError> {
        let round = self.lab.run(&["run", "--once"])?;
        self.record(format_args!("healthy round: {} {}{}", round.code, round.stdout, round.stderr));
        let round = round.expect_code(0)?.json()?;
        expect(number(&round, "failed") == 0, || format!("the healthy round failed: {round}"))?;
        let left: Vec<String> = names(&self.lab.vault().join("incoming"))?;
        expect(left.len() <= self.sources.len(), || format!("incoming holds {left:?} after a healthy round"))?;
        for at in 0..self.sources.len() {
            self.check_volume(at)?;
        }
        let verified = self.lab.run(&["verify"])?.expect_code(0)?.json()?;
        expect(list(&verified, "damaged").is_empty(), || format!("verify reports damage: {verified}"))?;
        let audit = self.lab.run_json(&["audit", "verify"])?;
        expect(audit.get("ok").and_then(Value::as_bool) == Some(true), || format!("the audit is broken: {audit}"))
    }

    fn check_volume(&mut self, at: usize) -> Result<(), LabError> {
        let Some(id) = self.sources.id(at) else { return Ok(()) };
        let listed = self.lab.versions(&id)?;
        let mut of_catalog: Vec<&str> = listed.iter().map(|one| text(one, "version")).collect();
        of_catalog.sort_unstable();
        let mut of_vault = names(&self.lab.vault_volume(&id))?;
        of_vault.retain(|name| name.starts_with("20"));
        let number = |name: &str| name.rsplit_once('-').and_then(|(_, seq)| seq.parse::<u64>().ok());
        let newest = of_vault.iter().max_by_key(|name| number(name)).cloned().unwrap_or_default();
        expect(of_catalog == of_vault, || {
            format!("{id}: the catalog lists {of_catalog:?}, the vault holds {of_vault:?}")
        })?;
        for version in &of_vault {
            // Every version was compared when it was new; later ones by turns, since a version never changes.
            if version != &newest && self.chance.below(8) != 0 {
                continue;
            }
            let to = self.lab.restore(&format!("{id}@{version}"), "compared")?;
            let state = self.sources.known(at, &to)?;
            fs::remove_dir_all(&to).at("remove", &to)?;
            self.tally.compared += 1;
            expect(state.is_some(), || format!("{id}@{version} is no state that the source ever had"))?;
            expect(version != &newest || state == Some(sources::RestoredState::Newest), || {
                format!("{id}@{version}, its newest version, is not what the source holds now")
            })?;
        }
        Ok(())
    }
}

/// What a folder holds, in order; nothing where it is missing.
fn names(folder: &Path) -> Result<Vec<String>, LabError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at("list", folder)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.at("list", folder)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}
