//! The only calls that change something in App Volumes: disabling a writable while it is copied, and enabling it again. Never
//! called by a look; whether a writable may be disabled, and whether it has to be enabled again, is decided by who calls.

use super::error::ManagerError;
use super::list::said_in;
use super::session::{ManagerOperation, ManagerSession};

/// Posts one request for each volume, so that each has its own result and none can bring in another.
pub(super) async fn act(
    session: &ManagerSession,
    run: &ManagerOperation,
    path: &'static str,
    ids: &[u64],
) -> Vec<(u64, Result<(), ManagerError>)> {
    let mut results = Vec::with_capacity(ids.len());
    // What stands in the way of one of these stands in the way of all: they are not asked.
    let mut lost: Option<ManagerError> = None;
    for id in ids {
        let result = match &lost {
            Some(error) => Err(error.clone()),
            None => one(session, run, path, *id).await,
        };
        if let Err(error @ (ManagerError::Denied { .. } | ManagerError::LoginRefused { .. })) = &result {
            lost = Some(error.clone());
        }
        results.push((*id, result));
    }
    results
}

async fn one(
    session: &ManagerSession,
    run: &ManagerOperation,
    path: &'static str,
    id: u64,
) -> Result<(), ManagerError> {
    let answer = session.post(run, path, &format!("?volumes%5B%5D={id}")).await?;
    // An answer of success may tell that nothing was done: `{"successes":[],"warnings":[],"errors":["…"]}`.
    match said_in(answer.body()) {
        Some(said) => Err(ManagerError::NotApplied { system: session.system().to_owned(), path, id, said }),
        None => Ok(()),
    }
}
