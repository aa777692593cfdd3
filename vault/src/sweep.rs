//! Sweeping: what interrupted copies and deletions left is removed.
//!
//! Only what nobody holds is touched: every folder that is worked in is locked. A leftover copy goes through the trash
//! like a version: it is renamed while its lock is held, so that nobody resumes it, and removed from there. A crash in
//! between leaves it in the trash for the next sweep.

use std::collections::BTreeSet;

use jiff::Timestamp;
use stackferry_volume::{TransferId, VolumeId};

use crate::delete::trash_name;
use crate::dir::{Dir, Item, Moved};
use crate::error::Chain;
use crate::incoming::{FILES, is_fresh, last_change, read_transfer};
use crate::volumes::VaultProblem;
use crate::{Vault, VaultError};

/// What a sweep removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// The folders of transfers that were too old, or could not be read.
    pub transfers: Vec<String>,
    /// What was in the trash.
    pub trash: Vec<String>,
    /// What could not be removed, and why.
    pub problems: Vec<VaultProblem>,
}

impl Vault {
    /// Removes copies that can no longer be resumed, and empties the trash. What is in use is skipped.
    ///
    /// # Errors
    /// `ReadOnly`; else the system's, where `incoming` or `trash` can't be listed. A single entry that can't be removed
    /// is reported as a problem.
    pub fn sweep(&self, now: Timestamp) -> Result<Swept, VaultError> {
        let parts = self.0.writable("sweep")?;
        let (incoming, trash) = (&parts.incoming, &parts.trash);
        let mut swept = Swept::default();
        // Alone with `incoming`: nothing is just being begun.
        let alone = incoming.need(".")?;
        alone.lock(true)?;
        for item in incoming.items()? {
            match clear_transfer(incoming, trash, &item, now) {
                Ok(true) => swept.transfers.push(item.shown),
                Ok(false) => {}
                Err(error) => swept.problem(incoming, &item, &error),
            }
        }
        drop(alone);
        for item in trash.items()? {
            match clear_trash(trash, &item) {
                Ok(true) => swept.trash.push(item.shown),
                Ok(false) => {}
                Err(error) => swept.problem(trash, &item, &error),
            }
        }
        Ok(swept)
    }
}

impl Vault {
    /// The volumes of which interrupted copies are left, each once.
    ///
    /// # Errors
    /// `ReadOnly`; else the system's, where `incoming` can't be listed.
    pub fn interrupted(&self) -> Result<BTreeSet<VolumeId>, VaultError> {
        let incoming = &self.0.writable("list interrupted copies")?.incoming;
        let mut volumes = BTreeSet::new();
        for item in incoming.items()? {
            if let Ok(Some(dir)) = incoming.sub(&item.shown)
                && let Ok(Some(record)) = read_transfer(&dir)
            {
                volumes.insert(record.volume);
            }
        }
        Ok(volumes)
    }

    /// Removes interrupted copies of a volume that nobody will resume: all but `keep`. Whoever calls it holds the volume's
    /// lease. Returns how many were removed.
    ///
    /// # Errors
    /// `ReadOnly`; else the system's. What can't be removed now is swept later.
    pub fn clear_interrupted(&self, volume: &VolumeId, keep: Option<TransferId>) -> Result<usize, VaultError> {
        let parts = self.0.writable("clear interrupted copies")?;
        let (incoming, trash) = (&parts.incoming, &parts.trash);
        let mut cleared = 0;
        for item in incoming.items()? {
            let Ok(Some(dir)) = incoming.sub(&item.shown) else { continue };
            let Ok(Some(record)) = read_transfer(&dir) else { continue };
            let is_other = record.volume == *volume && Some(record.transfer) != keep;
            if !is_other || !dir.try_lock(true)? || !dir.is_still(incoming, &item.shown)? {
                continue;
            }
            let name = trash_name(&item.shown);
            if incoming.move_to(&item.shown, trash, &name)? == Moved::Done {
                trash.sync()?;
                incoming.sync()?;
                trash.remove(&name)?;
                cleared += 1;
            }
        }
        Ok(cleared)
    }
}

impl Swept {
    fn problem(&mut self, dir: &Dir, item: &Item, error: &VaultError) {
        self.problems.push(VaultProblem { path: dir.child(&item.shown), why: Chain(error).to_string() });
    }
}

/// Moves what is left of a transfer into the trash, if it is of no use.
fn clear_transfer(incoming: &Dir, trash: &Dir, item: &Item, now: Timestamp) -> Result<bool, VaultError> {
    let Some(name) = &item.name else {
        return Err(VaultError::RecordDamaged {
            path: incoming.child(&item.shown),
            why: "its name is not one that the vault gives".into(),
        });
    };
    let name = name.as_str();
    if !item.is_folder {
        incoming.unlink(name)?;
        return Ok(true);
    }
    let Some(dir) = incoming.sub(name)? else { return Ok(false) };
    if !dir.try_lock(true)? || is_useful(&dir, name, now)? {
        return Ok(false);
    }
    incoming.move_to(name, trash, &trash_name(name))?;
    trash.sync()?;
    incoming.sync()?;
    Ok(true)
}

fn is_useful(dir: &Dir, name: &str, now: Timestamp) -> Result<bool, VaultError> {
    let record = match read_transfer(dir) {
        Ok(Some(record)) => record,
        Ok(None) => return Ok(false),
        // A newer program can read it: only its age counts here.
        Err(VaultError::NewerFormat { .. }) => {
            return Ok(last_change(dir)?.is_some_and(|changed| is_fresh(changed, now)));
        }
        Err(error) if error.is_damaged() => return Ok(false),
        Err(error) => return Err(error),
    };
    let changed = last_change(dir)?.unwrap_or(record.started);
    Ok(record.transfer.to_string() == name && dir.sub(FILES)?.is_some() && is_fresh(changed, now))
}

/// Removes an entry of the trash, unless the one who put it there is still at it.
fn clear_trash(trash: &Dir, item: &Item) -> Result<bool, VaultError> {
    let Some(name) = &item.name else {
        return Err(VaultError::RecordDamaged {
            path: trash.child(&item.shown),
            why: "its name is not one that the vault gives".into(),
        });
    };
    let held = if item.is_folder { trash.sub(name.as_str())? } else { None };
    if let Some(dir) = &held
        && !dir.try_lock(true)?
    {
        return Ok(false);
    }
    trash.remove(name.as_str())?;
    Ok(true)
}
