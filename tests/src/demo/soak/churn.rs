//! Volumes that come, change and go.

use std::fs;

use jiff::Timestamp;

use crate::disk::content::RandomStream;
use crate::disk::{DiskContent, DiskSpec, Sidecar, TestDisk};
use crate::error::{IoContext, LabError};
use crate::lab::Lab;

/// The datastores, as [`super::faults`] makes them reachable.
pub(super) const DATASTORES: [&str; 5] = ["nfs01", "nfs02", "nfs03", "nfs04", "nfs05"];
/// The folders of App Volumes that are used.
pub(super) const FOLDERS: [&str; 2] = ["cloudvolumes/apps", "cloudvolumes/writable"];
/// A disk's length and its data, in bytes.
const BYTES: u64 = 48 << 20;
const DATA: u64 = 2 << 20;
/// How many of a kind there are at most; then one goes before another comes.
const MOST: usize = 25;

/// A volume that exists.
pub(super) struct LiveVolume {
    kind: &'static str,
    pub(super) disk: TestDisk,
    /// When its last change was over.
    pub(super) changed: Timestamp,
}

impl LiveVolume {
    pub(super) fn id(&self) -> String {
        format!("{}/{}", self.kind, self.disk.spec().stem)
    }
}

/// All volumes.
pub(super) struct VolumeChurn {
    chance: RandomStream,
    count: u64,
    pub(super) live: Vec<LiveVolume>,
    /// The ids of those that went.
    pub(super) gone: Vec<String>,
}

impl VolumeChurn {
    /// Three AppStacks and three writables on each datastore.
    pub(super) fn begin(lab: &Lab, seed: u64) -> Result<Self, LabError> {
        let mut churn = Self { chance: RandomStream::new(seed, "churn"), count: 0, live: Vec::new(), gone: Vec::new() };
        for datastore in DATASTORES {
            for _ in 0..3 {
                churn.add(lab, "appstack", datastore)?;
                churn.add(lab, "writable", datastore)?;
            }
        }
        Ok(churn)
    }

    /// Does one thing: mostly a writable changes; sometimes a volume comes or goes.
    pub(super) fn change(&mut self, lab: &Lab) -> Result<(), LabError> {
        let datastore = DATASTORES.get(self.pick(DATASTORES.len())).copied().unwrap_or("nfs01");
        match self.chance.below(10) {
            0 => self.add(lab, "appstack", datastore),
            1 => self.add(lab, "writable", datastore),
            2 => self.remove("writable"),
            _ => self.overwrite(),
        }
    }

    fn pick(&mut self, of: usize) -> usize {
        usize::try_from(self.chance.below(of as u64)).unwrap_or(0)
    }

    /// The place in the list of one of a kind.
    fn one_of(&mut self, kind: &str) -> Option<usize> {
        let places: Vec<usize> = (0..).zip(&self.live).filter(|(_, one)| one.kind == kind).map(|(at, _)| at).collect();
        let at = self.pick(places.len());
        places.get(at).copied()
    }

    fn add(&mut self, lab: &Lab, kind: &'static str, datastore: &str) -> Result<(), LabError> {
        if self.live.iter().filter(|one| one.kind == kind).count() >= MOST {
            self.remove(kind)?;
        }
        self.count += 1;
        let (stem, folder) = match kind {
            "appstack" => (format!("App{:04}", self.count), FOLDERS[0]),
            _ => (format!("CORP!5C!user{:04}", self.count), FOLDERS[1]),
        };
        let spec = DiskSpec::new(stem, BYTES, self.count).content(DiskContent::Plain { bytes: DATA });
        let disk = TestDisk::build(&lab.folder(datastore, folder)?, spec.sidecar(Sidecar::Metadata))?;
        self.live.push(LiveVolume { kind, disk, changed: Timestamp::now() });
        Ok(())
    }

    fn remove(&mut self, kind: &str) -> Result<(), LabError> {
        let Some(at) = self.one_of(kind) else { return Ok(()) };
        let one = self.live.swap_remove(at);
        for file in one.disk.files() {
            fs::remove_file(&file).at("remove", &file)?;
        }
        self.gone.push(one.id());
        Ok(())
    }

    fn overwrite(&mut self) -> Result<(), LabError> {
        let Some(at) = self.one_of("writable") else { return Ok(()) };
        let (seed, offset) = (self.chance.number(), self.chance.below(BYTES - (1 << 20)));
        let Some(one) = self.live.get_mut(at) else { return Ok(()) };
        one.disk.overwrite(seed, offset, 64 << 10)?;
        one.changed = Timestamp::now();
        Ok(())
    }
}
