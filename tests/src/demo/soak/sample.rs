//! Samples of what the processes use, and whether it grows.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::churn::VolumeChurn;
use crate::demo::listed::expect;
use crate::demo::print::print;
use crate::error::{IoContext, LabError};
use crate::lab::Lab;

/// What a process takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    /// Resident memory, in KiB.
    memory: u64,
    /// The least of it since the last sample: what stays when nothing is being done.
    least: u64,
    /// Open file descriptors.
    files: u64,
    threads: u64,
}

impl Usage {
    /// All zero for a process that is not there.
    fn of(id: Option<u32>) -> Self {
        let Some(id) = id else { return Self::default() };
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let field = |name: &str| {
            let text = status.lines().find_map(|line| line.strip_prefix(name))?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        Self {
            memory: field("VmRSS:").unwrap_or(0),
            least: 0,
            files: fs::read_dir(format!("/proc/{id}/fd")).map_or(0, |entries| entries.count() as u64),
            threads: field("Threads:").unwrap_or(0),
        }
    }
}

/// What two processes took at least since the last sample. A copy takes some 10 MiB while it runs, so one look now and
/// then would tell more of when it was than of what stays.
#[derive(Debug, Default)]
pub(super) struct Least {
    service: Option<u64>,
    endpoint: Option<u64>,
}

impl Least {
    pub(super) fn sample(&mut self, service: u32, endpoint: Option<u32>) {
        for (least, id) in [(&mut self.service, Some(service)), (&mut self.endpoint, endpoint)] {
            let now = Usage::of(id).memory;
            *least = Some(least.map_or(now, |least| least.min(now)));
        }
    }
}

/// One sample of everything.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    service: Usage,
    endpoint: Usage,
    /// Transfers and files in the vault's `incoming`, of volumes that are there. What an interrupted copy left of a
    /// volume that went is kept for a day: it may come back.
    transfers: u64,
    files: u64,
    /// The catalog's bytes, in KiB.
    catalog: u64,
    volumes: u64,
}

impl Sample {
    pub(super) fn take(
        lab: &Lab,
        service: u32,
        endpoint: Option<u32>,
        least: &mut Least,
        churn: &VolumeChurn,
    ) -> Result<Self, LabError> {
        let transfers = transfers(&lab.vault().join("incoming"), churn);
        let state = lab.path("state");
        least.sample(service, endpoint);
        let least = std::mem::take(least);
        Ok(Self {
            service: Usage { least: least.service.unwrap_or(0), ..Usage::of(Some(service)) },
            endpoint: Usage { least: least.endpoint.unwrap_or(0), ..Usage::of(endpoint) },
            transfers: transfers.len() as u64,
            files: transfers.iter().map(|folder| below(folder, &|_| 1)).sum(),
            catalog: {
                fs::metadata(&state).at("inspect", &state)?;
                below(&state, &|bytes| bytes) >> 10
            },
            volumes: churn.live.len() as u64,
        })
    }

    pub(super) fn header() {
        print(format_args!("  {:>7}{:>36}{:>36}{:>22}", "", "service", "endpoint", "incoming"));
        let process = format!("{:>11}{:>9}{:>8}{:>8}", "KiB", "least", "files", "threads");
        print(format_args!(
            "  {:>7}{process}{process}{:>14}{:>8}{:>12}{:>9}",
            "minute", "transfers", "files", "catalog KiB", "volumes"
        ));
    }

    pub(super) fn show(&self, at: Duration) {
        let process = |one: &Usage| format!("{:>11}{:>9}{:>8}{:>8}", one.memory, one.least, one.files, one.threads);
        print(format_args!(
            "  {:>7.1}{}{}{:>14}{:>8}{:>12}{:>9}",
            at.as_secs_f64() / 60.0,
            process(&self.service),
            process(&self.endpoint),
            self.transfers,
            self.files,
            self.catalog,
            self.volumes
        ));
    }
}

/// The transfers into which a file of a volume that is there is being written.
fn transfers(incoming: &Path, churn: &VolumeChurn) -> Vec<PathBuf> {
    let folders = fs::read_dir(incoming).into_iter().flatten().flatten().map(|entry| entry.path());
    let live = |folder: &PathBuf| {
        let mut files = fs::read_dir(folder.join("files")).into_iter().flatten().flatten();
        files.any(|file| churn.live.iter().any(|one| one.disk.path().with_file_name(file.file_name()).exists()))
    };
    folders.filter(live).collect()
}

/// Adds something up over all files below a folder. What goes while it is looked at is not counted.
fn below(folder: &Path, add: &dyn Fn(u64) -> u64) -> u64 {
    let mut sum = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) => sum += add(meta.len()),
                Err(_) => {}
            }
        }
    }
    sum
}

/// All samples of a run.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Sample>);

/// What is looked at, and how much more of it the last quarter may have than the second: a fraction, and so much in any
/// case.
struct Series {
    name: &'static str,
    value: fn(&Sample) -> u64,
    fraction: u64,
    least: u64,
}

const SERIES: [Series; 8] = [
    Series { name: "service: least memory, KiB", value: |one| one.service.least, fraction: 8, least: 8 << 10 },
    Series { name: "service: open files", value: |one| one.service.files, fraction: 8, least: 8 },
    Series { name: "service: threads", value: |one| one.service.threads, fraction: 8, least: 4 },
    Series { name: "endpoint: least memory, KiB", value: |one| one.endpoint.least, fraction: 8, least: 8 << 10 },
    Series { name: "endpoint: open files", value: |one| one.endpoint.files, fraction: 8, least: 8 },
    Series { name: "endpoint: threads", value: |one| one.endpoint.threads, fraction: 8, least: 4 },
    Series { name: "incoming: transfers", value: |one| one.transfers, fraction: 8, least: 4 },
    Series { name: "incoming: files", value: |one| one.files, fraction: 8, least: 16 },
];

impl Samples {
    pub(super) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// The medians of the second and the last quarter, and the most.
    fn medians(&self, value: fn(&Sample) -> u64) -> (u64, u64, u64) {
        let quarter = self.0.len() / 4;
        let median = |part: &[Sample]| {
            let mut values: Vec<u64> = part.iter().map(value).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or(0)
        };
        let part = |from: usize, to: usize| self.0.get(from..to).unwrap_or_default();
        let most = self.0.iter().map(value).max().unwrap_or(0);
        let last = self.0.len();
        (median(part(quarter, 2 * quarter)), median(part(last - quarter, last)), most)
    }

    pub(super) fn report(&self) {
        print(format_args!("\n  {} samples: medians of the second and the last quarter, and the most", self.0.len()));
        for one in &SERIES {
            let (second, last, most) = self.medians(one.value);
            print(format_args!("  {:28}{second:>10}{last:>10}{most:>10}", one.name));
        }
    }

    /// Fails where something grew.
    pub(super) fn judge(&self) -> Result<(), LabError> {
        for one in &SERIES {
            let (second, last, _) = self.medians(one.value);
            expect(last <= second + (second / one.fraction).max(one.least), || {
                format!("{} grew: {second} in the second quarter, {last} in the last", one.name)
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory: impl Fn(u64) -> u64) -> Samples {
        let sample = |number| {
            let service = Usage { memory: memory(number), least: memory(number), files: 20, threads: 9 };
            Sample { service, ..Sample::default() }
        };
        Samples((0..40).map(sample).collect())
    }

    #[test]
    fn steady_growth_differs_from_fluctuation() {
        assert!(samples(|number| 60_000 + number % 7 * 2000).judge().is_ok());
        // The beginning does not count: caches fill.
        assert!(samples(|number| if number < 10 { 30_000 } else { 60_000 }).judge().is_ok());
        let grown = samples(|number| 60_000 + number * 1000).judge().unwrap_err().to_string();
        assert!(grown.contains("service: least memory"), "{grown}");
    }

    #[test]
    fn a_process_sample_has_memory_and_files() {
        let usage = Usage::of(Some(std::process::id()));
        assert!(usage.memory > 1000 && usage.files >= 3 && usage.threads >= 1, "{usage:?}");
        assert_eq!(Usage::of(None), Usage::default());
    }
}
