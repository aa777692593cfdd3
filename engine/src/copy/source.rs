//! Whether the source is still what discovery saw: what changed meanwhile is of no single moment.

use stackferry_discover::{VolumeFile, VolumeLocation};
use stackferry_transfer::TransferError;
use stackferry_vault::Incoming;
use stackferry_volume::descriptor::Descriptor;
use stackferry_volume::io::{MAX_SMALL_READ, Source as _};
use stackferry_volume::manifest::{FileRole, LeftOut};
use stackferry_volume::{Entry, Folder};

use super::failure::is_about_the_file;
use super::file::CopiedFile;
use super::run::CopyRun;
use crate::app::DatastoreAccess;
use stackferry_problem::Problem;

/// Whether a file is as long as it was. vSphere may call a descriptor as long as its disk; then its bytes tell.
fn is_as_long(folder: &dyn Folder, place: &VolumeLocation, file: &VolumeFile, now: &Entry) -> Result<bool, Problem> {
    let small = u64::try_from(MAX_SMALL_READ).unwrap_or(u64::MAX);
    if now.bytes == file.bytes || file.role != FileRole::Descriptor || file.bytes >= small || now.bytes <= small {
        return Ok(now.bytes == file.bytes);
    }
    let text = folder.read(&place.location.sibling(file.name.as_str()), MAX_SMALL_READ)?;
    Ok(u64::try_from(text.len()).is_ok_and(|bytes| bytes == file.bytes))
}

/// The file is what discovery saw.
fn unchanged(folder: &dyn Folder, place: &VolumeLocation, file: &VolumeFile) -> Result<(), Problem> {
    let name = file.name.as_str();
    let changed = |what: String| TransferError::SourceChanged { file: place.location.sibling(name), what };
    let now = folder.stat(&place.location.sibling(name))?.ok_or_else(|| changed("it is gone".to_owned()))?;
    if !is_as_long(folder, place, file, &now)? || now.mtime != file.mtime {
        return Err(changed(format!("it was changed at {}", now.mtime)).into());
    }
    Ok(())
}

impl CopyRun<'_> {
    /// A file beside the disk that can't be had is no reason to have none of the disk.
    pub(super) fn left_out(&self, file: &VolumeFile, problem: &Problem) -> LeftOut {
        let why = problem.message.clone();
        tracing::warn!(volume = %self.volume.id, file = %file.name, why, "a file beside the disk is left out of the version");
        LeftOut { file: file.name.clone(), why }
    }

    /// The disk's own files are still what they were when discovery looked.
    pub(super) fn check_disk(&self, place: &VolumeLocation, source: &DatastoreAccess) -> Result<(), Problem> {
        let folder = source.folder();
        let mut own = place.files.iter().filter(|file| file.role != FileRole::Sidecar);
        own.try_for_each(|file| unchanged(&*folder, place, file))
    }

    /// The source is still what it was when discovery looked, and the descriptor that was copied is the one that
    /// discovery read.
    pub(super) fn check_source(
        &self,
        place: &VolumeLocation,
        source: &DatastoreAccess,
        incoming: &Incoming,
        copied: &mut Vec<CopiedFile>,
        left_out: &mut Vec<LeftOut>,
    ) -> Result<(), Problem> {
        let folder = source.folder();
        let changed =
            |file: &str, what: String| TransferError::SourceChanged { file: place.location.sibling(file), what };
        let is_left_out = |left_out: &[LeftOut], file: &VolumeFile| left_out.iter().any(|left| left.file == file.name);
        for file in &place.files {
            match unchanged(&*folder, place, file) {
                _ if is_left_out(left_out, file) => {}
                Err(problem) if file.role == FileRole::Sidecar && is_about_the_file(&problem) => {
                    left_out.push(self.left_out(file, &problem));
                    copied.retain(|copied| copied.file.name != file.name);
                    incoming.leave_out(&file.name)?;
                }
                other => other?,
            }
        }
        for file in copied.iter().filter(|file| file.file.role == FileRole::Descriptor) {
            // A descriptor that equals the base's is not in the sink yet; then it is compared block for block anyway.
            if !file.outcome.same_as_base.is_empty() {
                continue;
            }
            let len = usize::try_from(file.file.bytes).unwrap_or(usize::MAX).min(MAX_SMALL_READ);
            let mut text = vec![0u8; len];
            let read = |source| TransferError::Write { file: file.file.name.to_string(), source };
            file.sink.read_at(0, &mut text).map_err(read)?;
            let cid = Descriptor::parse(&text, &file.file.name).ok().and_then(|descriptor| descriptor.cid);
            if cid != place.fingerprint.cid {
                return Err(changed(file.file.name.as_str(), "its content id is another one".to_owned()).into());
            }
        }
        Ok(())
    }
}
