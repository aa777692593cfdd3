//! Tells that something changed, so that a round need not wait for its time. What changed is not told: the round looks for
//! itself. Nothing depends on it: where it fails, rounds still come by the clock.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::Vsphere;
use crate::error::VsphereError;
use crate::model::Moid;
use crate::properties::{self, Wanted};
use crate::session::{Session, Version};
use crate::soap;
use crate::xml::{Node, Writer};

/// Not the free space: it changes with every write.
const WATCHED: [Wanted; 2] = [
    Wanted { kind: "VirtualMachine", paths: &["config.hardware.device", "runtime.powerState"] },
    Wanted { kind: "Datastore", paths: &["name", "summary.accessible", "summary.maintenanceMode"] },
];
/// The longest single wait: what stands between us and the server may end a connection that is silent for longer.
const WAIT: Duration = Duration::from_secs(60);
/// How often at most a server is asked that says at once that nothing happened.
const PACE: Duration = Duration::from_secs(1);
/// How much longer than it was told to the server may take to answer.
const GRACE: Duration = Duration::from_secs(30);
/// How many objects one answer has.
const PAGE: &str = "100";
/// How many answers the first state may have, in which every object is told once.
const MAX_PAGES: usize = 2000;
/// How often a server without updates is looked at. A look costs it as much as a round of discovery.
const LOOK: Duration = Duration::from_secs(60);

/// What happened while it was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A machine's disks or power, or a datastore, changed; or something may have been missed.
    Changed,
    /// Nothing.
    Quiet,
}

/// Waits for changes. The first call of [`Watch::next`] begins the watch; what was before it is not told.
#[derive(Debug)]
pub struct Watch {
    vsphere: Vsphere,
    state: State,
    /// How often a server without updates is looked at.
    pub(crate) look: Duration,
}

#[derive(Debug)]
enum State {
    Fresh,
    Updates {
        session: Arc<Session>,
        collector: Moid,
        version: String,
    },
    /// The server has no updates: what it looked like, and when.
    Looks {
        seen: u64,
        at: Instant,
    },
}

impl Watch {
    pub(crate) fn new(vsphere: Vsphere) -> Self {
        Self { vsphere, state: State::Fresh, look: LOOK }
    }

    /// Waits for a change, at most for `max_wait`. Dropping the future ends the wait; the next call goes on from there.
    ///
    /// # Errors
    /// As [`Vsphere::datastores`]. The next call begins anew.
    pub async fn next(&mut self, max_wait: Duration) -> Result<Change, VsphereError> {
        let deadline = Instant::now() + max_wait;
        if matches!(self.state, State::Fresh) {
            self.state = self.begin().await?;
        }
        let outcome = self.wait(deadline).await;
        match outcome {
            Ok(change) => Ok(change),
            Err(error) => {
                self.state = State::Fresh;
                // A session that ended, or a collector that went with it: what happened meanwhile is not known.
                if error.is_expired() || matches!(error, VsphereError::Gone { .. }) {
                    self.state = self.begin().await?;
                    return Ok(Change::Changed);
                }
                Err(error)
            }
        }
    }

    /// Whether the server tells changes by itself; else it is looked at once a minute. Known after the first call of
    /// [`Watch::next`].
    #[must_use]
    pub fn is_told(&self) -> bool {
        matches!(self.state, State::Updates { .. })
    }

    async fn begin(&self) -> Result<State, VsphereError> {
        match self.vsphere.run(updates).await {
            Err(error) if error.is_not_supported() => {
                tracing::debug!(system = self.vsphere.system(), %error, "changes are looked for");
                Ok(State::Looks { seen: look(&self.vsphere).await?, at: Instant::now() })
            }
            outcome => outcome,
        }
    }

    async fn wait(&mut self, deadline: Instant) -> Result<Change, VsphereError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match &mut self.state {
                State::Fresh => return Ok(Change::Changed),
                State::Updates { session, collector, version } => {
                    let asked = Instant::now();
                    let told = wait_for_updates(session, collector, version, left.min(WAIT)).await?;
                    if told.is_some() {
                        drain(session, collector, version, told).await?;
                        return Ok(Change::Changed);
                    }
                    tokio::time::sleep_until((asked + PACE).min(deadline)).await;
                }
                State::Looks { seen, at } => {
                    let next = *at + self.look;
                    tokio::time::sleep_until(next.min(deadline)).await;
                    if next <= deadline {
                        let now = look(&self.vsphere).await?;
                        *at = Instant::now();
                        if std::mem::replace(seen, now) != now {
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

/// Makes a collector of our own, with a filter, and takes the first state from it.
async fn updates(session: Arc<Session>) -> Result<State, VsphereError> {
    let call = "CreatePropertyCollector";
    let response = session.call(call, &session.content().properties, |_| {}).await?;
    let collector =
        response.get("returnval").and_then(soap::moid).ok_or_else(|| session.asked(call).bad("it has no collector"))?;
    let view = properties::make_view(&session, &WATCHED).await?;
    session
        .call("CreateFilter", &collector, |writer| {
            writer.within("spec", |writer| properties::specification(writer, &WATCHED, &view));
            writer.text("partialUpdates", "false");
        })
        .await?;
    let mut version = String::new();
    let first = wait_for_updates(&session, &collector, &mut version, Duration::ZERO).await?;
    drain(&session, &collector, &mut version, first).await?;
    Ok(State::Updates { session, collector, version })
}

/// Takes the rest of an answer that did not fit into one.
async fn drain(
    session: &Session,
    collector: &Moid,
    version: &mut String,
    mut told: Option<Node>,
) -> Result<(), VsphereError> {
    for _ in 0..MAX_PAGES {
        match told {
            Some(update) if update.is("truncated") => {
                told = wait_for_updates(session, collector, version, Duration::ZERO).await?;
            }
            _ => return Ok(()),
        }
    }
    Err(session.asked("WaitForUpdatesEx").bad("it does not end"))
}

/// The next set of updates; none where nothing happened. What a server calls the version is handed back to it as it is.
async fn wait_for_updates(
    session: &Session,
    collector: &Moid,
    version: &mut String,
    wait: Duration,
) -> Result<Option<Node>, VsphereError> {
    // Whole seconds, upwards: a wait for less than one would be none.
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let arguments = |writer: &mut Writer| {
        writer.text("version", version);
        writer.within("options", |writer| {
            writer.text("maxWaitSeconds", &seconds.to_string());
            writer.text("maxObjectUpdates", PAGE);
        });
    };
    let response = session.call_in("WaitForUpdatesEx", collector, Version::BASE, wait + GRACE, arguments).await?;
    let update = response.children.into_iter().find(|child| &*child.name == "returnval");
    if let Some(told) = update.as_ref().and_then(|update| update.text_of("version")) {
        told.clone_into(version);
    }
    Ok(update.filter(|update| update.get("filterSet").is_some()))
}

/// What would be told, as one number. The free space is part of it: who wrote to a datastore changed it.
async fn look(vsphere: &Vsphere) -> Result<u64, VsphereError> {
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
