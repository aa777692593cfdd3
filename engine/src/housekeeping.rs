//! What is put in order at the start and now and then: what processes that are no more left open, what is of no more use.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use stackferry_catalog::{CredentialEnding, HistoryLimits, VolumeState};
use stackferry_vault::Vault;

use crate::about::PROGRAM;
use crate::app::App;
use crate::blocking::blocking;
use stackferry_problem::Problem;

/// How often leftovers in the vault are swept, and old history is forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// How long jobs that ended are kept: what became of a volume stays with its attempts.
const JOBS: SignedDuration = SignedDuration::from_hours(30 * 24);

/// All of it, for who does a single round.
///
/// # Errors
/// The catalog's.
pub async fn put_in_order(app: &App, vault: &Vault) -> Result<(), Problem> {
    Housekeeping::default().run(app, vault).await
}

/// When each thing was last done.
#[derive(Debug, Default)]
pub struct Housekeeping {
    swept: Option<Instant>,
}

impl Housekeeping {
    /// Puts in order what is due for it.
    ///
    /// # Errors
    /// The catalog's. What fails in the vault is logged: the next time may do better.
    pub async fn run(&mut self, app: &App, vault: &Vault) -> Result<(), Problem> {
        for (id, volume) in app.catalog().close_interrupted_attempts().await? {
            tracing::info!(attempt = %id, %volume, "an attempt that was cut off is closed");
        }
        expire_credentials(app).await?;
        if self.swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
            clear_interrupted(app, vault).await?;
            sweep(vault).await?;
            // By a clock that is wrong everything is old.
            if app.jobs().prune_frozen().await?.is_none() {
                let trimmed = app.catalog().trim_history(&limits(app)).await?;
                if trimmed.audit > 0 {
                    tracing::info!(records = trimmed.audit, "audit records whose time was over are cut off");
                }
            }
            let before = Timestamp::now().checked_sub(JOBS).unwrap_or(Timestamp::MIN);
            app.catalog().trim_jobs(before).await?;
            self.swept = Some(Instant::now());
        }
        Ok(())
    }
}

/// What `[history]` says.
fn limits(app: &App) -> HistoryLimits {
    let history = &app.config().history;
    let before = match history.keep.is_zero() {
        true => Timestamp::MIN,
        false => Timestamp::now().checked_sub(history.keep.duration()).unwrap_or(Timestamp::MIN),
    };
    HistoryLimits { before, size: history.size.as_bytes() }
}

/// Interrupted copies of volumes that are not at their source any more: nobody resumes them.
async fn clear_interrupted(app: &App, vault: &Vault) -> Result<(), Problem> {
    let listing = vault.clone();
    let volumes = match blocking(move || listing.interrupted()).await? {
        Ok(volumes) => volumes,
        Err(error) => {
            tracing::warn!(error = %stackferry_transfer::describe(&error), "interrupted copies could not be listed");
            return Ok(());
        }
    };
    for volume in volumes {
        let row = app.catalog().volume(&volume).await?;
        if row.is_some_and(|row| row.state != VolumeState::Gone) {
            continue;
        }
        let lease = match app.catalog().hold_lease(&format!("volume/{volume}"), PROGRAM, Duration::ZERO).await {
            Ok(lease) => lease,
            Err(error) if error.is_busy() => continue,
            Err(error) => return Err(error.into()),
        };
        let (clearing, id) = (vault.clone(), volume.clone());
        let cleared = blocking(move || clearing.clear_interrupted(&id, None)).await?;
        lease.release().await?;
        match cleared {
            Ok(cleared) => tracing::info!(%volume, cleared, "interrupted copies of a volume that is gone are removed"),
            Err(error) => {
                let error = stackferry_transfer::describe(&error);
                tracing::warn!(%volume, error, "an interrupted copy of a volume that is gone stays");
            }
        }
    }
    Ok(())
}

async fn sweep(vault: &Vault) -> Result<(), Problem> {
    let vault = vault.clone();
    match blocking(move || vault.sweep(Timestamp::now())).await? {
        Ok(swept) => {
            if !swept.transfers.is_empty() || !swept.trash.is_empty() {
                let (transfers, trash) = (swept.transfers.len(), swept.trash.len());
                tracing::info!(transfers, trash, "leftovers in the vault are removed");
            }
            for problem in swept.problems {
                tracing::warn!(path = %problem.path.display(), "a leftover in the vault stays: {}", problem.why);
            }
        }
        Err(error) => {
            tracing::warn!(error = %stackferry_transfer::describe(&error), "leftovers in the vault could not be swept");
        }
    }
    Ok(())
}

/// Credentials whose time is over and for which nothing stands at a peer have ended by themselves.
async fn expire_credentials(app: &App) -> Result<(), Problem> {
    let now = Timestamp::now();
    for credential in app.catalog().outstanding_credentials().await? {
        let issued = &credential.issued;
        if !issued.standing && issued.expires <= now {
            app.catalog().credential_ended(&issued.name, CredentialEnding::Expired).await?;
        }
    }
    Ok(())
}
