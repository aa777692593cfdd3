//! The volumes of the chaos lane, and every state that they ever had.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::disk::content::RandomStream;
use crate::disk::{DiskContent, DiskSpec, Sidecar, TestDisk};
use crate::error::{IoContext, LabError};
use crate::lab::Lab;

const MIB: u64 = 1 << 20;
/// What is written at a time, in bytes: one page, so that whoever reads sees it whole or not at all.
const PAGE: usize = 4096;
/// Kind, folder, stem, and how much data it has. The largest takes long enough to be met in the middle.
const VOLUMES: [(&str, &str, &str, u64); 4] = [
    ("appstack", "cloudvolumes/apps", "Office", 24 * MIB),
    ("appstack", "cloudvolumes/apps", "Visio", 2 * MIB),
    ("writable", "cloudvolumes/writable", "CORP!5C!jdoe", 6 * MIB),
    ("writable", "cloudvolumes/writable", "CORP!5C!asmith", MIB),
];

/// What a restored version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RestoredState {
    /// What the source holds now.
    Newest,
    /// What it held before.
    Older,
}

struct ChaosVolume {
    id: String,
    disk: TestDisk,
    states: BTreeSet<[u8; 32]>,
    newest: [u8; 32],
}

/// All volumes.
pub(super) struct ChaosVolumes {
    all: Vec<ChaosVolume>,
    chance: RandomStream,
}

impl ChaosVolumes {
    pub(super) fn build(lab: &Lab, seed: u64) -> Result<Self, LabError> {
        let mut all = Vec::new();
        for (kind, folder, stem, bytes) in VOLUMES {
            let spec = DiskSpec::new(stem, bytes + 8 * MIB, seed).content(DiskContent::Plain { bytes });
            let disk = TestDisk::build(&lab.folder("nfs01", folder)?, spec.sidecar(Sidecar::Metadata))?;
            let newest = digest(&disk, None)?;
            all.push(ChaosVolume { id: format!("{kind}/{stem}"), disk, states: BTreeSet::from([newest]), newest });
        }
        Ok(Self { all, chance: RandomStream::new(seed, "changes") })
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn id(&self, at: usize) -> Option<String> {
        self.all.get(at).map(|one| one.id.clone())
    }

    /// Changes some pages of one volume, far apart from each other: each page makes another state. Gives its id.
    pub(super) fn change(&mut self) -> Result<String, LabError> {
        let at = usize::try_from(self.chance.below(self.all.len() as u64)).unwrap_or(0);
        let Some(one) = self.all.get_mut(at) else { return Ok(String::new()) };
        let Some(path) = one.disk.extents().into_iter().next() else { return Ok(String::new()) };
        let file = File::options().write(true).open(&path).at("open", &path)?;
        let pages = one.disk.spec().bytes / PAGE as u64;
        for _ in 0..=self.chance.below(3) {
            let mut page = [0; PAGE];
            self.chance.fill(&mut page);
            let offset = self.chance.below(pages) * PAGE as u64;
            // The state is known before it can be read: a copy that runs may meet it at once.
            let next = digest(&one.disk, Some((offset, &page)))?;
            one.states.insert(next);
            one.newest = next;
            file.write_all_at(&page, offset).at("write", &path)?;
        }
        Ok(one.id.clone())
    }

    /// Which state of a volume lies in this folder; none for one that it never had.
    pub(super) fn known(&self, at: usize, folder: &Path) -> Result<Option<RestoredState>, LabError> {
        let Some(one) = self.all.get(at) else { return Ok(None) };
        let mut hasher = blake3::Hasher::new();
        for file in one.disk.files() {
            let restored = folder.join(file.file_name().unwrap_or_default());
            hasher.update(&fs::read(&restored).at("read", &restored)?);
        }
        let found = *hasher.finalize().as_bytes();
        Ok(match one.states.contains(&found) {
            true if found == one.newest => Some(RestoredState::Newest),
            true => Some(RestoredState::Older),
            false => None,
        })
    }
}

/// The digest of all files of a disk, with a page of its first extent as it is going to be.
fn digest(disk: &TestDisk, change: Option<(u64, &[u8; PAGE])>) -> Result<[u8; 32], LabError> {
    let extent = disk.extents().into_iter().next();
    let mut hasher = blake3::Hasher::new();
    for file in disk.files() {
        let mut bytes = fs::read(&file).at("read", &file)?;
        if let Some((offset, page)) = change
            && Some(&file) == extent.as_ref()
            && let Some(part) = usize::try_from(offset).ok().and_then(|at| bytes.get_mut(at..at + PAGE))
        {
            part.copy_from_slice(page);
        }
        hasher.update(&bytes);
    }
    Ok(*hasher.finalize().as_bytes())
}
