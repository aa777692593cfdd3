//! Watches for changes, so that a scan can start before its scheduled time. It reports that something changed, not what:
//! the scan finds that out. Nothing depends on it: if it fails, scans still run on schedule.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::Vsphere;
use crate::error::VsphereError;
use crate::model::Moid;
use crate::properties::{self, PropertySpec};
use crate::session::{ApiVersion, Session};
use crate::soap;
use crate::xml::{XmlNode, XmlWriter};

/// Without the free space, which changes with every write.
const WATCHED: [PropertySpec; 2] = [
    PropertySpec { kind: "VirtualMachine", paths: &["config.hardware.device", "runtime.powerState"] },
    PropertySpec { kind: "Datastore", paths: &["name", "summary.accessible", "summary.maintenanceMode"] },
];
/// The longest single wait: a firewall in between may close a connection that is idle for longer.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The shortest time between two calls to a server that responds at once without a change.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// How much longer than the requested wait the server may take to respond.
const GRACE: Duration = Duration::from_secs(30);
/// How many objects one response has.
const PAGE: &str = "100";
/// The most responses with the initial state, which contains every object once.
const MAX_PAGES: usize = 2000;
/// How often a server without updates is polled. A poll costs it as much as a scan.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

/// The result of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A machine's disks or power, or a datastore, changed; or something may have been missed.
    Changed,
    /// Nothing changed.
    Quiet,
}

/// Waits for changes. The first call of [`Watch::next`] starts the watch; earlier changes are not reported.
#[derive(Debug)]
pub struct Watch {
    vsphere: Vsphere,
    state: WatchState,
    /// How often a server without updates is polled.
    pub(crate) poll_interval: Duration,
}

#[derive(Debug)]
enum WatchState {
    NotStarted,
    Updates {
        session: Arc<Session>,
        collector: Moid,
        version: String,
    },
    /// The server has no updates: a hash of the last poll, and its time.
    Polling {
        hash: u64,
        at: Instant,
    },
}

impl Watch {
    /// Watches this system once [`Watch::next`] is called.
    #[must_use]
    pub fn new(vsphere: Vsphere) -> Self {
        Self { vsphere, state: WatchState::NotStarted, poll_interval: POLL_INTERVAL }
    }

    /// Waits up to `max_wait` for a change. Dropping the future ends the wait; the next call continues from there.
    ///
    /// # Errors
    /// As [`Vsphere::datastores`]. The next call starts a new watch.
    pub async fn next(&mut self, max_wait: Duration) -> Result<Change, VsphereError> {
        let deadline = Instant::now() + max_wait;
        if matches!(self.state, WatchState::NotStarted) {
            self.state = self.start().await?;
        }
        let outcome = self.wait(deadline).await;
        match outcome {
            Ok(change) => Ok(change),
            Err(error) => {
                self.state = WatchState::NotStarted;
                // The session expired, or the collector with it: changes may have been missed.
                if error.is_expired() || matches!(error, VsphereError::Gone { .. }) {
                    self.state = self.start().await?;
                    return Ok(Change::Changed);
                }
                Err(error)
            }
        }
    }

    async fn start(&self) -> Result<WatchState, VsphereError> {
        match self.vsphere.run(updates).await {
            Err(error) if error.is_not_supported() => {
                tracing::debug!(system = self.vsphere.system(), %error, "the server reports no changes; polling it");
                Ok(WatchState::Polling { hash: poll(&self.vsphere).await?, at: Instant::now() })
            }
            outcome => outcome,
        }
    }

    async fn wait(&mut self, deadline: Instant) -> Result<Change, VsphereError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match &mut self.state {
                WatchState::NotStarted => return Ok(Change::Changed),
                WatchState::Updates { session, collector, version } => {
                    let called = Instant::now();
                    let update = wait_for_updates(session, collector, version, left.min(MAX_WAIT)).await?;
                    if update.is_some() {
                        drain(session, collector, version, update).await?;
                        return Ok(Change::Changed);
                    }
                    tokio::time::sleep_until((called + MIN_INTERVAL).min(deadline)).await;
                }
                WatchState::Polling { hash, at } => {
                    let next = *at + self.poll_interval;
                    tokio::time::sleep_until(next.min(deadline)).await;
                    if next <= deadline {
                        let now = poll(&self.vsphere).await?;
                        *at = Instant::now();
                        if std::mem::replace(hash, now) != now {
                            return Ok(Change::Changed);
                        }
                    }
                }
            }
            if Instant::now() >= deadline {
                return Ok(Change::Quiet);
            }
        }
    }
}

/// Creates a collector with a filter, and reads the initial state from it.
async fn updates(session: Arc<Session>) -> Result<WatchState, VsphereError> {
    let call = "CreatePropertyCollector";
    let response = session.call(call, &session.content().properties, |_| {}).await?;
    let collector = response
        .get("returnval")
        .and_then(soap::moid)
        .ok_or_else(|| session.context(call).invalid_response("it has no collector"))?;
    let view = properties::create_view(&session, &WATCHED).await?;
    session
        .call("CreateFilter", &collector, |writer| {
            writer.within("spec", |writer| properties::specification(writer, &WATCHED, &view));
            writer.text("partialUpdates", "false");
        })
        .await?;
    let mut version = String::new();
    let first = wait_for_updates(&session, &collector, &mut version, Duration::ZERO).await?;
    drain(&session, &collector, &mut version, first).await?;
    Ok(WatchState::Updates { session, collector, version })
}

/// Reads the remaining responses of an update that did not fit into one.
async fn drain(
    session: &Session,
    collector: &Moid,
    version: &mut String,
    mut update: Option<XmlNode>,
) -> Result<(), VsphereError> {
    for _ in 0..MAX_PAGES {
        match update {
            Some(part) if part.is("truncated") => {
                update = wait_for_updates(session, collector, version, Duration::ZERO).await?;
            }
            _ => return Ok(()),
        }
    }
    Err(session.context("WaitForUpdatesEx").invalid_response("it never ends"))
}

/// The next set of updates, `None` without a change. The server's version string is sent back unchanged.
async fn wait_for_updates(
    session: &Session,
    collector: &Moid,
    version: &mut String,
    wait: Duration,
) -> Result<Option<XmlNode>, VsphereError> {
    // Whole seconds, rounded up: less than one second would be no wait at all.
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let arguments = |writer: &mut XmlWriter| {
        writer.text("version", version);
        writer.within("options", |writer| {
            writer.text("maxWaitSeconds", &seconds.to_string());
            writer.text("maxObjectUpdates", PAGE);
        });
    };
    let response = session.call_in("WaitForUpdatesEx", collector, ApiVersion::BASE, wait + GRACE, arguments).await?;
    let update = response.children.into_iter().find(|child| &*child.name == "returnval");
    if let Some(next) = update.as_ref().and_then(|update| update.text_of("version")) {
        next.clone_into(version);
    }
    Ok(update.filter(|update| update.get("filterSet").is_some()))
}

/// A hash of the watched state. It includes the free space, since every write to a datastore changes that.
async fn poll(vsphere: &Vsphere) -> Result<u64, VsphereError> {
    let mut hasher = DefaultHasher::new();
    for datastore in vsphere.datastores().await? {
        (datastore.id, datastore.name, datastore.accessible, datastore.maintenance, datastore.free).hash(&mut hasher);
    }
    let mut disks: Vec<_> = vsphere
        .attached_disks()
        .await?
        .attached
        .into_iter()
        .map(|disk| (disk.vm, disk.powered_on, disk.datastore, disk.path, disk.mode))
        .collect();
    disks.sort();
    disks.hash(&mut hasher);
    Ok(hasher.finish())
}
