//! What is put in order at the start and now and then: what processes that are no more left open, what is of no more use.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use stackferry_catalog::CredentialEnding;
use stackferry_vault::Vault;

use crate::app::{App, blocking};
use crate::problem::Problem;

/// How often leftovers in the vault are swept, and old history is forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// How long attempts and credentials that ended are kept: more than anybody asks about one copy, and a catalog that does
/// not grow for ever. Audit records and what volumes' rows say of their last attempts stay.
const HISTORY: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long jobs that ended are kept: what became of a volume stays with its attempts.
const JOBS: SignedDuration = SignedDuration::from_hours(30 * 24);

/// When each thing was last done.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    swept: Option<Instant>,
}

impl Upkeep {
    /// Puts in order what is due for it.
    ///
    /// # Errors
    /// The catalog's. What fails in the vault is logged: the next time may do better.
    pub(super) async fn run(&mut self, app: &App, vault: &Vault) -> Result<(), Problem> {
        for (id, volume) in app.catalog().close_interrupted_attempts().await? {
            tracing::info!(attempt = %id, %volume, "an attempt that was cut off is closed");
        }
        expire_credentials(app).await?;
        if self.swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
            sweep(vault).await?;
            let before = Timestamp::now().checked_sub(HISTORY).unwrap_or(Timestamp::MIN);
            app.catalog().trim_history(before).await?;
            let before = Timestamp::now().checked_sub(JOBS).unwrap_or(Timestamp::MIN);
            app.catalog().trim_jobs(before).await?;
            self.swept = Some(Instant::now());
        }
        Ok(())
    }
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
