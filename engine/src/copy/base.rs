//! The last version, where comparing with it saves something.

use jiff::Timestamp;
use serde_json::json;
use stackferry_catalog::AuditAction;
use stackferry_discover::VolumeLocation;
use stackferry_vault::Version;
use stackferry_volume::manifest::{FileRecord, FileRole, LeftOut};
use stackferry_volume::{BlockIndex, Manifest};

use super::file::CopiedFile;
use super::run::CopyRun;
use crate::app::DatastoreAccess;
use stackferry_problem::Problem;

impl CopyRun<'_> {
    /// The last good version of this life of the volume, where comparing with it saves something: a version that need
    /// not be made, or bytes that need not be sent.
    pub(super) fn base(&self, source: &DatastoreAccess) -> Result<Option<Version>, Problem> {
        if !self.wanted.if_changed && !matches!(source, DatastoreAccess::Endpoint { .. }) {
            return Ok(None);
        }
        let entries = self.vault.versions(&self.volume.id)?;
        let good = entries.iter().rev().filter(|entry| entry.is_good());
        let last = good
            .filter(|entry| entry.summary.as_ref().is_ok_and(|summary| summary.generation == self.volume.generation));
        for entry in last {
            match self.vault.version(&self.volume.id, &entry.id) {
                Ok(version) => return Ok(Some(version)),
                // It was deleted meanwhile, or found damaged: an older one does as well.
                Err(error) if error.is_not_found() || error.is_damaged() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Whether what was read equals a version. A replica's descriptor has a content id of its own.
    pub(super) fn is_same(
        &self,
        base: &Manifest,
        records: &[FileRecord],
        left_out: &[LeftOut],
        place: &VolumeLocation,
    ) -> bool {
        if base.same_content(records, left_out) {
            return true;
        }
        let is_replica = self.volume.kind.is_replicated() && base.location != place.location;
        let without_descriptor = |files: &[FileRecord]| {
            let is_left_out = |file: &&FileRecord| left_out.iter().any(|left| left.file == file.name);
            let others = files.iter().filter(|file| file.role != FileRole::Descriptor && !is_left_out(file));
            others.map(|file| (file.name.clone(), file.blake3)).collect::<std::collections::BTreeMap<_, _>>()
        };
        is_replica && without_descriptor(&base.files) == without_descriptor(records)
    }

    pub(super) fn mark_damaged(&self, base: &Version, file: &CopiedFile, blocks: &[BlockIndex]) {
        let shown: Vec<String> = blocks.iter().take(5).map(ToString::to_string).collect();
        let why = format!("block {} of {} does not match its digest", shown.join(", "), file.file.name);
        let version = &base.manifest().version;
        tracing::error!(volume = %self.volume.id, %version, why, "an earlier version is damaged; its blocks were read at the source again");
        let detail = json!({ "version": version.to_string(), "why": why });
        self.audit(AuditAction::DamageFound, &detail);
        let marked = self.vault.mark_damaged(&self.volume.id, version, &why, Timestamp::now()).map_err(Problem::from);
        let marked =
            marked.and_then(|()| Ok(self.catalog(self.app.catalog().mark_damaged(&self.volume.id, version, &why))?));
        if let Err(problem) = marked {
            tracing::error!(volume = %self.volume.id, %version, error = problem.message, "the damage could not be recorded");
        }
    }
}
