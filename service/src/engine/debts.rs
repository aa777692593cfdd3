//! Putting back at other systems what a process that is gone had changed there: the janitor.

use jiff::{SignedDuration, Timestamp};
use stackferry_catalog::{CredentialEnding, DebtKind, DebtRow};

use super::attached::enable;
use crate::app::App;
use crate::problem::{Code, Problem};

/// A debt of this process that is younger is left to the copy that made it.
const YOUNG: SignedDuration = SignedDuration::from_secs(60);

/// What was put back, and what could not be.
#[derive(Debug, Default)]
pub struct Paid {
    /// How many were put back.
    pub paid: usize,
    /// What is still owed, and why.
    pub left: Vec<(DebtRow, Problem)>,
}

/// Puts back whatever nobody else will.
///
/// # Errors
/// The catalog's. A system that can't be asked leaves its debts.
pub async fn pay(app: &App) -> Result<Paid, Problem> {
    let mut done = Paid::default();
    let owed = app.catalog().owed().await?;
    let now = Timestamp::now();
    let host = |row: &DebtRow| (row.debt.system.clone(), row.debt.detail.get("host_id").cloned());
    let runs = |row: &DebtRow| row.is_own && app.running_debts().has(row.id);
    // A host's SSH service is needed as long as any copy, of whatever process, has an account there.
    let in_use = |row: &&DebtRow| row.debt.what == DebtKind::Account && !row.is_abandoned && (!row.is_own || runs(row));
    let needed: Vec<_> = owed.iter().filter(in_use).map(&host).collect();
    for row in owed {
        let is_needed = row.debt.what == DebtKind::SshService && needed.contains(&host(&row));
        // A copy of this process writes its debt a moment before it says that it works on it.
        let is_ours = row.is_own && now.duration_since(row.since) > YOUNG;
        if is_needed || runs(&row) || (!row.is_abandoned && !is_ours) {
            continue;
        }
        let (system, subject) = (row.debt.system.clone(), row.debt.subject.clone());
        match undo(app, &row).await {
            Ok(()) => {
                app.catalog().settle(row.id).await?;
                if let Some(name) = row.debt.detail.get("name").and_then(|name| name.as_str()) {
                    // Its record may be gone already.
                    let _ = app.catalog().credential_ended(name, CredentialEnding::Revoked).await;
                }
                tracing::warn!(what = %row.debt.what.as_str(), system, subject, "what an earlier copy had changed was put back");
                done.paid += 1;
            }
            Err(problem) => {
                tracing::error!(
                    what = %row.debt.what.as_str(), system, subject, hint = problem.hint,
                    "what an earlier copy had changed could not be put back; it is tried again: {}", problem.message
                );
                done.left.push((row, problem));
            }
        }
    }
    Ok(done)
}

async fn undo(app: &App, row: &DebtRow) -> Result<(), Problem> {
    match row.debt.what {
        DebtKind::Writable => {
            let id = row.debt.subject.parse().map_err(|_| {
                Problem::new(Code::CatalogDamaged, format!("`{}` is no number of a writable", row.debt.subject))
            })?;
            enable(app, &row.debt.system, id).await
        }
        _ => app.undo_at_host(&row.debt).await,
    }
}
