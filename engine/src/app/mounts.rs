//! Datastores that are mounted here and don't answer. A call to such a mount may never return, so what asks one runs on a
//! thread that nobody waits for, and as long as one call hangs no other thread is sent after it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use stackferry_config::{DatastoreConfig, Route};
use stackferry_https::Retry;
use stackferry_volume::local::Pulse;

use super::App;
use stackferry_problem::{Code, Problem};

/// How long a call may take before its mount counts as one that does not answer. A file server that is taken over by its
/// partner is back before; a scan that was given up is done again in the next round.
pub(crate) const NO_ANSWER: Duration = Duration::from_secs(20);
/// The same while a disk is copied: giving that up costs more.
pub(crate) const NO_ANSWER_COPYING: Duration = Duration::from_secs(60);
/// The same for a program that was asked to end.
pub(crate) const NO_ANSWER_ENDING: Duration = Duration::from_secs(1);
/// How often it is looked whether a mount answers.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Where a datastore is mounted here; none where it is reached otherwise.
pub(crate) fn mount(datastore: &DatastoreConfig) -> Option<&Path> {
    match &datastore.route {
        Route::Local(local) => Some(&local.path),
        _ => None,
    }
}

/// A mount that does not answer, for a person.
pub(crate) fn not_answering(path: &Path, waiting: Duration) -> Problem {
    let text = format!("{} does not answer: a call has been waiting for {} s", path.display(), waiting.as_secs());
    Problem::new(Code::Unreachable, text)
        .subject(path.display())
        .hint("see that its file server is up and can be reached; it is looked at again as soon as it answers")
        .retry(Retry::Transient)
}

impl App {
    /// The calls to what is mounted at a path.
    pub(crate) fn pulse(&self, path: &Path) -> Arc<Pulse> {
        let mut mounts = self.shared.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(mounts.entry(PathBuf::from(path)).or_default())
    }

    /// Fails where a call to what is mounted at a path has not returned for so long.
    pub(crate) fn answers(&self, path: &Path, within: Duration) -> Result<(), Problem> {
        match self.pulse(path).waiting().filter(|waiting| *waiting >= within) {
            Some(waiting) => Err(not_answering(path, waiting)),
            None => Ok(()),
        }
    }

    /// Runs what asks a mount on a thread of its own, and waits for it as long as the mount answers and nobody wants the
    /// program to end. What does not ask a mount has deadlines of its own. Blocks.
    ///
    /// # Errors
    /// The mount does not answer; the end was asked for; the work panicked.
    pub(crate) fn within<T: Send + 'static>(
        &self,
        mount: Option<&Path>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        if let Some(path) = mount {
            self.answers(path, NO_ANSWER)?;
        }
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new().name("datastore".to_owned());
        let started = thread.spawn(move || drop(sender.send(work())));
        started.map_err(|error| Problem::io("start", "a thread", &error))?;
        loop {
            match receiver.recv_timeout(POLL_INTERVAL) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Problem::internal("a part of the program failed; its log says where"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.cancel().is_cancelled() {
                return Err(Problem::interrupted("the scan"));
            }
            if let Some(path) = mount {
                self.answers(path, NO_ANSWER)?;
            }
        }
    }
}
