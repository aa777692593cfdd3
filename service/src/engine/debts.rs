//! Putting back at other systems what a process that is gone had changed there: the janitor.

use stackferry_catalog::{DebtKind, DebtRow};

use super::attached::enable;
use crate::app::App;
use crate::problem::{Code, Problem};

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
    for row in app.catalog().owed().await? {
        if !row.is_abandoned && (!row.is_own || app.debt_runs(row.id)) {
            continue;
        }
        let (system, subject) = (row.debt.system.clone(), row.debt.subject.clone());
        match undo(app, &row).await {
            Ok(()) => {
                app.catalog().settle(row.id).await?;
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
