//! Waiting for other systems, which ends when the program is asked to end: somebody pressed Ctrl-C, or systemd stops it.

use std::time::Duration;

use stackferry_volume::io::Cancel;

use super::App;
use stackferry_problem::Problem;

/// How often something that waits looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);
/// How long what has to be put back at another system may take once the end was asked for.
const LAST_CHANCE: Duration = Duration::from_millis(1500);

impl App {
    /// Waits for another system, but not on once the end was asked for.
    ///
    /// # Errors
    /// `interrupted`.
    pub(crate) async fn unless_ended<T>(&self, what: &str, waiting: impl Future<Output = T>) -> Result<T, Problem> {
        tokio::select! {
            biased;
            () = until(&self.cancel) => Err(Problem::interrupted(what)),
            done = waiting => Ok(done),
        }
    }

    /// Waits for what should be put back at another system also when the program is asked to end, but then not for long.
    ///
    /// # Errors
    /// `interrupted`.
    pub(crate) async fn soon_once_ended<T>(&self, what: &str, waiting: impl Future<Output = T>) -> Result<T, Problem> {
        let over = async {
            until(&self.ending).await;
            tokio::time::sleep(LAST_CHANCE).await;
        };
        tokio::select! {
            biased;
            done = waiting => Ok(done),
            () = over => Err(Problem::interrupted(what)),
        }
    }
}

async fn until(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(LOOK).await;
    }
}
