//! Ends a running copy when the window of its kind ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stackferry_volume::Kind;
use stackferry_volume::io::Cancel;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::windows::closed;

/// How often a running copy checks whether its window is over: it has to end within 30 s of that.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Ends a copy when its window ends. Dropped, it stops watching.
pub(super) struct WindowWatch {
    over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl WindowWatch {
    pub(super) fn start(app: &App, kind: Kind, cancel: &Cancel) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (app, cancel, told) = (app.clone(), cancel.clone(), Arc::clone(&over));
        let task = tokio::spawn(async move {
            while closed(app.config(), &app.local_time(), kind).is_none() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            told.store(true, Ordering::SeqCst);
            cancel.cancel();
        });
        Self { over, task }
    }

    /// Whether it ended the copy.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

impl Drop for WindowWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
