//! The room on the vault's disk, asked without being held up by a mount that hangs.

use std::sync::Arc;
use std::time::Duration;

use stackferry_vault::Space;
use tokio::sync::Mutex;

use super::App;
use crate::blocking::blocking;
use stackferry_problem::{Code, Problem};

/// How long the vault's disk may take to tell its space. A mount that hangs does so for ever.
const WAIT: Duration = Duration::from_secs(2);

/// Asks the vault's disk. The lock is held by the thread that asks: one that hangs is the only one that does.
#[derive(Clone, Default)]
pub struct Room(Arc<Mutex<()>>);

impl Room {
    /// The room on the vault's disk; none while the vault is not open.
    ///
    /// # Errors
    /// The disk fails, or does not answer within 2 s.
    pub async fn space(&self, app: &App) -> Result<Option<Space>, Problem> {
        let Some(vault) = app.opened_vault() else { return Ok(None) };
        let measuring = Arc::clone(&self.0);
        let measure = async {
            let one = measuring.lock_owned().await;
            blocking(move || {
                let space = vault.space();
                drop(one);
                space
            })
            .await?
            .map_err(Problem::from)
        };
        match tokio::time::timeout(WAIT, measure).await {
            Ok(space) => space.map(Some),
            Err(_) => {
                let text = format!("its disk did not answer for {} s", WAIT.as_secs());
                Err(Problem::new(Code::IoFailed, text))
            }
        }
    }
}
