//! Copying one volume: from choosing where to read it to the committed version.
//!
//! Order, and why a crash at any point loses nothing and shows nothing half-made:
//!  1. The volume's lease is taken: nobody else copies it. It ends with this process.
//!  2. The vault learns of the volume; the attempt is recorded as open. A crash leaves an open attempt, which the next
//!     one closes as interrupted.
//!  3. Files are copied into the vault's incoming folder, with a journal; a crash leaves them there to be resumed.
//!  4. The source is looked at again: what changed meanwhile is thrown away, journal and all.
//!  5. The vault commits, after asking whether the lease is still ours. From here on the version exists.
//!  6. The catalog gets its row, the locations' baselines and the attempt's end. What keeps it from being written leaves
//!     a version without a row, which the next round or the next copy of the volume adds: it begins with that ([`reconcile`]).

mod base;
mod commit;
mod failure;
mod file;
mod incoming;
mod location;
mod monitor;
mod options;
mod outcome;
mod run;
mod source;
mod window;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use stackferry_catalog::{LeaseGuard, StatusReason, Trigger};
use stackferry_discover::{Volume, VolumeState};
use stackferry_volume::VolumeId;
use stackferry_volume::io::Cancel;

pub(crate) use failure::record_failure;
pub(super) use file::note_used;
pub use location::{choose, choose_bytes, first_place};
pub use options::CopyOptions;
pub use outcome::CopyOutcome;

use self::failure::{CopyFailure, about};
use self::location::changed_places;
use self::monitor::SourceMonitor;
use self::run::CopyRun;
use super::decide::{self, Decision};
use super::reconcile;
use crate::about::PROGRAM;
use crate::app::App;
use crate::blocking::blocking;
use stackferry_problem::Problem;
use window::WindowWatch;

/// Copies a volume as discovery just saw it. Every failure is counted, and marks the volume, however early it came.
///
/// # Errors
/// Why nothing was committed. What can be resumed is kept.
pub async fn copy(app: &App, volume: &Volume, wanted: CopyOptions) -> Result<CopyOutcome, Problem> {
    let trigger = wanted.trigger;
    match try_copy(app, volume, wanted).await {
        Ok(done) => Ok(done),
        Err(failure) => {
            if !failure.is_recorded {
                record_failure(app, &volume.id, trigger, &failure.problem).await;
            }
            Err(failure.problem)
        }
    }
}

async fn try_copy(app: &App, volume: &Volume, wanted: CopyOptions) -> Result<CopyOutcome, CopyFailure> {
    match volume.state {
        VolumeState::Unprotectable => {
            let why = volume.reason.as_ref().map_or("it can't be copied", |reason| reason.text.as_str());
            return Err(Problem::not_protectable(&volume.id, why, volume.remedy.as_deref()).into());
        }
        VolumeState::Deferred | VolumeState::Gone => {
            let reason = volume.reason.as_ref();
            return Ok(CopyOutcome::deferred(StatusReason {
                code: reason.map_or_else(|| "missing".to_owned(), |reason| reason.code.to_string()),
                text: reason.map_or_else(|| "it is not at its source".to_owned(), |reason| reason.text.clone()),
            }));
        }
        VolumeState::Ready | VolumeState::Conflict | VolumeState::Incident => {}
    }
    let vault = app.vault().await?;
    let holder = format!("{PROGRAM} ({})", wanted.trigger);
    let lease = app.catalog().hold_lease(&format!("volume/{}", volume.id), &holder, wanted.wait).await?;
    // Whatever else is known of the volume rests on the catalog being in line with the vault: an earlier copy may have
    // committed a version and not have got its row written.
    reconcile::under_lease(app, &vault, &volume.id, &lease).await;
    // It may have waited for hours, and another process may have copied it meanwhile: only who holds the lease knows.
    if wanted.trigger == Trigger::Schedule
        && let Decision::Leave(left) = decide::decide_again(app, volume).await?
    {
        release(&volume.id, lease).await;
        return Ok(CopyOutcome::left(*left));
    }
    let changed = changed_places(app, volume).await?;
    let cancel = app.cancel().child();
    let lost = watch_lease(&cancel, &lease);
    // What a person asks for is done at any time of the day.
    let window = (wanted.trigger == Trigger::Schedule).then(|| WindowWatch::start(app, volume.kind, &cancel));
    let lease = Arc::new(lease);
    let reading = Arc::new(SourceMonitor::default());
    let result = {
        let (copying, copied, lease) = (app.clone(), volume.clone(), Arc::clone(&lease));
        let (run_reading, run_cancel, kind, actor) =
            (Arc::clone(&reading), cancel.clone(), volume.kind, wanted.actor.clone());
        let work = move || {
            let (app, vault, volume) = (&copying, &vault, &copied);
            let (changed, lease, wanted, cancel, reading) = (&changed, &lease, &wanted, &run_cancel, &*run_reading);
            let phases = app.metrics().phases();
            CopyRun { app, vault, volume, changed, lease, wanted, window, cancel, phases, reading }.copy()
        };
        let mut work = std::pin::pin!(blocking(work));
        tokio::select! {
            result = &mut work => result,
            problem = reading.stops_answering(app) => match reading.is_over.swap(true, Ordering::SeqCst) {
                // It ended in this very moment.
                true => work.await,
                // Its thread is left behind with the lease: until the mount answers nobody else begins. It commits nothing then.
                false => {
                    cancel.cancel();
                    let problem = about(problem, &volume.id);
                    reading.record_failure(app, kind, &volume.id, &actor, &problem).await;
                    Ok(Err(problem.into()))
                }
            },
        }
    };
    lost.abort();
    if let Some(lease) = Arc::into_inner(lease) {
        release(&volume.id, lease).await;
    }
    result?
}

/// It would end by itself; giving it back spares others the wait.
async fn release(volume: &VolumeId, lease: LeaseGuard) {
    if let Err(error) = lease.release().await {
        tracing::warn!(%volume, error = %stackferry_transfer::describe(&error), "a lease could not be given back");
    }
}

/// Without its lease a copy must not go on: another may have begun. What it would commit is refused anyway.
fn watch_lease(cancel: &Cancel, lease: &LeaseGuard) -> tokio::task::JoinHandle<()> {
    let (mut lost, cancel) = (lease.lost(), cancel.clone());
    tokio::spawn(async move {
        if lost.wait_for(|lost| *lost).await.is_ok() {
            cancel.cancel();
        }
    })
}
