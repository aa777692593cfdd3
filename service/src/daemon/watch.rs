//! Waits for vSphere to tell of a change, so that a writable that was detached need not wait for the next round. Nothing
//! depends on it: without it rounds come by the clock.

use std::sync::Arc;
use std::time::Duration;

use stackferry_vsphere::{Change, Vsphere, Watch};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use stackferry_engine::app::App;

/// How long one wait for changes lasts.
const WAIT: Duration = Duration::from_secs(60);
/// Rounds that changes bring about are so far apart at least: desktops come and go all the time.
const LEAST: Duration = Duration::from_secs(15);

/// Watches all vSphere systems of the configuration. They are watched as long as the set lives.
pub(super) fn watch(app: &App, every: Duration, changed: &Arc<Notify>) -> JoinSet<()> {
    let mut watching = JoinSet::new();
    let apart = (every / 5).max(LEAST);
    for settings in &app.config().vspheres {
        match app.vsphere(settings.name.as_str()) {
            Ok(vsphere) => {
                watching.spawn(one(vsphere, apart, Arc::clone(changed)));
            }
            // The rounds tell of it.
            Err(problem) => tracing::debug!(system = %settings.name, "not watched: {}", problem.message),
        }
    }
    watching
}

async fn one(vsphere: Vsphere, apart: Duration, changed: Arc<Notify>) {
    let mut watch = Watch::new(vsphere);
    loop {
        match watch.next(WAIT).await {
            Ok(Change::Quiet) => continue,
            Ok(Change::Changed) => changed.notify_one(),
            Err(error) => {
                tracing::debug!(error = %stackferry_transfer::describe(&error), "changes can't be watched now")
            }
        }
        tokio::time::sleep(apart).await;
    }
}
