//! What an interrupted copy left, what may be resumed of it, and what is thrown away.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use stackferry_discover::VolumeLocation;
use stackferry_transfer::TransferError;
use stackferry_vault::Incoming;
use stackferry_volume::Digest;
use stackferry_volume::fingerprint::is_known;

use super::run::CopyRun;
use crate::app::DatastoreAccess;
use stackferry_problem::{Code, Problem};

/// How long a file has to have had its time, where times are whole seconds, for a later change to have another one.
const UNSEEN: SignedDuration = SignedDuration::from_secs(2);

impl CopyRun<'_> {
    /// What an interrupted copy left that may be used, and whether the files were seen long enough before as they are now.
    ///
    /// What was read while a change could go unseen is thrown away: what would be read now may be another state of the
    /// disk. That it was seen so before says that no change goes unseen from now on.
    pub(super) fn resumable(&self, fingerprint: &Digest, now: Timestamp) -> Result<(Option<Incoming>, bool), Problem> {
        let mut seen = false;
        while let Some(incoming) = self.vault.resumable(&self.volume.id, fingerprint, now)? {
            if incoming.is_settled() {
                return Ok((Some(incoming), true));
            }
            seen |= now.duration_since(incoming.started()) >= UNSEEN;
            tracing::info!(volume = %self.volume.id, "an interrupted copy was begun so soon after a change that a later one may have gone unseen; all is read again");
            incoming.discard()?;
        }
        Ok((None, seen))
    }

    /// Where a change right now could leave the files' times as they are, waits until it can't: what is read after that is
    /// of one state, or shows another time in the end. Gives whether it waited.
    pub(super) fn wait_until_settled(&self, place: &VolumeLocation, source: &DatastoreAccess) -> Result<bool, Problem> {
        // Where times are not known, no waiting helps.
        let is_timed = place.files.iter().all(|file| is_known(file.mtime));
        if place.settled || !is_timed {
            return Ok(false);
        }
        self.check_disk(place, source)?;
        let until = Instant::now() + UNSEEN.unsigned_abs();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(true);
            }
            if self.cancel.is_cancelled() {
                return Err(TransferError::Cancelled.into());
            }
            std::thread::park_timeout(left.min(Duration::from_millis(50)));
        }
    }

    /// What a source that changed left is of no use; anything else may be resumed.
    pub(super) fn give_up(&self, incoming: Incoming, problem: Problem) -> Problem {
        if matches!(problem.code, Code::SourceChanged | Code::SourceMissing)
            && let Err(error) = incoming.discard()
        {
            tracing::warn!(volume = %self.volume.id, error = %stackferry_transfer::describe(&error), "what was copied could not be thrown away; it is swept later");
        }
        problem
    }
}
