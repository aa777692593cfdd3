//! Putting back at other systems what a process that is gone had changed there: the janitor.

use std::collections::{HashMap, HashSet};

use stackferry_catalog::{CleanupId, CleanupKind, CredentialEnding, PendingCleanup};

use super::attached::enable;
use crate::app::App;
use stackferry_problem::{Code, Problem};

/// What was put back, and what could not be.
#[derive(Debug, Default)]
pub struct CleanupReport {
    /// How many were put back.
    pub paid: usize,
    /// What is still owed, and why.
    pub left: Vec<(PendingCleanup, Problem)>,
}

/// Puts back whatever nobody else will.
///
/// # Errors
/// The catalog's. A system that can't be asked leaves its debts.
pub async fn run(app: &App) -> Result<CleanupReport, Problem> {
    let mut done = CleanupReport::default();
    let (owed, at_work) = app.running_debts().owed(app.catalog()).await?;
    let due = due(&owed, &at_work);
    // Systems that did not answer, and why: each is waited for once.
    let mut silent: HashMap<String, Problem> = HashMap::new();
    for row in due.into_iter().cloned() {
        let (system, subject) = (row.cleanup.system.clone(), row.cleanup.subject.clone());
        let undone = match silent.get(&system) {
            Some(problem) => Err(problem.clone()),
            None => app.unless_ended("putting back", undo(app, &row)).await.and_then(|undone| undone),
        };
        match undone {
            Ok(()) => {
                app.catalog().end_cleanup(row.id).await?;
                if let Some(name) = row.cleanup.detail.get("name").and_then(|name| name.as_str()) {
                    // Its record may be gone already.
                    if let Ok(true) = app.catalog().credential_ended(name, CredentialEnding::Revoked).await {
                        app.metrics().credential_revoked();
                    }
                }
                tracing::warn!(what = %row.cleanup.what.as_str(), system, subject, "what an earlier copy had changed was put back");
                done.paid += 1;
            }
            Err(problem) if problem.code == Code::Interrupted => return Err(problem),
            Err(problem) => {
                tracing::error!(
                    what = %row.cleanup.what.as_str(), system, subject, hint = problem.hint,
                    "what an earlier copy had changed could not be put back; it is tried again: {}", problem.message
                );
                if matches!(problem.code, Code::Unreachable | Code::Silent) {
                    silent.entry(system).or_insert_with(|| problem.clone());
                }
                done.left.push((row, problem));
            }
        }
    }
    Ok(done)
}

/// All that is owed, and what of it nobody pays any more but the janitor.
///
/// # Errors
/// The catalog's.
pub async fn standing(app: &App) -> Result<(Vec<PendingCleanup>, Vec<PendingCleanup>), Problem> {
    let (owed, at_work) = app.running_debts().owed(app.catalog()).await?;
    let unpaid = due(&owed, &at_work).into_iter().cloned().collect();
    Ok((owed, unpaid))
}

/// The debts that nobody pays any more, oldest first. `at_work` are those that this process works on.
fn due<'a>(owed: &'a [PendingCleanup], at_work: &HashSet<CleanupId>) -> Vec<&'a PendingCleanup> {
    let runs = |row: &PendingCleanup| if row.is_own { at_work.contains(&row.id) } else { !row.is_abandoned };
    let host = |row: &PendingCleanup| (row.cleanup.system.clone(), row.cleanup.detail.get("host_id").cloned());
    // A host's SSH service is needed as long as any copy of any process has an account there.
    let accounts = owed.iter().filter(|row| row.cleanup.what == CleanupKind::Account && runs(row));
    let needed: HashSet<_> = accounts.map(&host).collect();
    let is_needed = |row: &PendingCleanup| row.cleanup.what == CleanupKind::SshService && needed.contains(&host(row));
    owed.iter().filter(|row| !runs(row) && !is_needed(row)).collect()
}

async fn undo(app: &App, row: &PendingCleanup) -> Result<(), Problem> {
    match row.cleanup.what {
        CleanupKind::Writable => {
            let id = row.cleanup.subject.parse().map_err(|_| {
                Problem::new(Code::CatalogDamaged, format!("`{}` is no number of a writable", row.cleanup.subject))
            })?;
            enable(app, &row.cleanup.system, id).await
        }
        _ => app.undo_at_host(&row.cleanup).await,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;
    use stackferry_catalog::Cleanup;

    use super::*;

    /// Who made a debt.
    #[derive(Clone, Copy)]
    enum By {
        Us,
        Another,
        Dead,
    }

    fn row(number: u64, what: CleanupKind, host: &str, by: By) -> PendingCleanup {
        PendingCleanup {
            id: CleanupId::from_number(number).unwrap(),
            cleanup: Cleanup {
                what,
                system: "vc1".to_owned(),
                subject: host.to_owned(),
                detail: json!({ "host_id": host, "host_name": host }),
            },
            since: Timestamp::UNIX_EPOCH,
            is_abandoned: matches!(by, By::Dead),
            is_own: matches!(by, By::Us),
        }
    }

    #[test]
    fn what_a_copy_needs_is_left_alone_whoever_makes_it() {
        let owed = [
            row(1, CleanupKind::SshService, "esx1", By::Dead),
            row(2, CleanupKind::Account, "esx1", By::Another),
            row(3, CleanupKind::SshService, "esx2", By::Dead),
            row(4, CleanupKind::Account, "esx2", By::Us),
            row(5, CleanupKind::SshService, "esx3", By::Dead),
            row(6, CleanupKind::Account, "esx3", By::Dead),
            row(7, CleanupKind::Writable, "1", By::Another),
            row(8, CleanupKind::Writable, "2", By::Us),
            row(9, CleanupKind::Writable, "3", By::Us),
        ];
        let at_work = HashSet::from([owed[3].id, owed[7].id]);
        let numbers = |at_work: &HashSet<CleanupId>| -> Vec<u64> {
            due(&owed, at_work).into_iter().map(|row| row.id.number()).collect()
        };
        assert_eq!(numbers(&at_work), [5, 6, 9]);
        assert_eq!(numbers(&HashSet::new()), [3, 4, 5, 6, 8, 9]);
    }
}
