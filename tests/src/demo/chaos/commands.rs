//! The commands of the chaos lane, and what is drawn for them.

use std::ffi::OsString;
use std::path::PathBuf;

use super::names;
use super::sources::ChaosVolumes;
use crate::disk::content::RandomStream;
use crate::error::{IoContext, LabError};
use crate::lab::Lab;

/// One command.
pub(super) struct Act {
    kind: &'static str,
    arguments: Vec<OsString>,
    /// What it may leave and nobody needs.
    target: Option<PathBuf>,
}

impl Act {
    /// Draws a command, mostly one that writes.
    pub(super) fn draw(chance: &mut RandomStream, sources: &ChaosVolumes, lab: &Lab) -> Result<Self, LabError> {
        let at = usize::try_from(chance.below(sources.len() as u64)).unwrap_or(0);
        let id = sources.id(at).unwrap_or_default();
        let act = |kind, words: &[&str]| Self { kind, arguments: words.iter().map(Into::into).collect(), target: None };
        Ok(match chance.below(16) {
            0..=3 => act("run", &["run", "--once"]),
            4..=7 => act("copy", &["copy", &id, "--wait", "5s"]),
            8..=9 => act("prune", &["prune"]),
            10 => act("verify", &["verify"]),
            11 => act("verify", &["verify", &id]),
            12..=13 => act("rebuild", &["rebuild"]),
            14 => {
                let target = lab.path("restored");
                let mut restore = act("restore", &["restore", &id, "--overwrite", "--to"]);
                restore.arguments.push(target.clone().into_os_string());
                restore.target = Some(target);
                restore
            }
            _ => {
                let versions: Vec<String> =
                    names(&lab.vault_volume(&id))?.into_iter().filter(|name| name.starts_with("20")).collect();
                let drawn = usize::try_from(chance.below(versions.len() as u64)).unwrap_or(0);
                let target = versions.get(drawn).map_or_else(|| id.clone(), |version| format!("{id}@{version}"));
                match chance.below(3) {
                    0 => act("pin", &["pin", &target]),
                    _ => act("unpin", &["unpin", &target]),
                }
            }
        })
    }

    /// What it does.
    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    /// What follows the program's own options.
    pub(super) fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// What it is called in errors.
    pub(super) fn name(&self) -> String {
        self.arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    /// Removes what it may have left.
    pub(super) fn clean(&self) -> Result<(), LabError> {
        let Some(target) = self.target.as_ref().filter(|target| target.exists()) else { return Ok(()) };
        std::fs::remove_dir_all(target).at("remove", target)
    }
}
