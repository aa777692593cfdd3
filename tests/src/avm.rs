//! A stand-in for an App Volumes Manager of 2.x or 4.x: HTTPS on 127.0.0.1 with a certificate of its own authority.
//!
//! Names of fields, nestings, statuses and texts are those of the references and of what clients of real managers read. It
//! records every request, so that a test can check them, and injects faults on demand. It answers what it does not know with
//! 404, never with a guess.

mod answer;
mod fault;
mod serve;
mod shapes;
mod site;
mod state;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

pub use fault::AvmFault;
pub use site::{AvmList, AvmLocation, AvmSite, AvmVersion, AvmVolume};
pub use state::{RecordedRequest, Write};

use crate::error::LabError;
use state::World;

/// A manager that runs until it is dropped.
#[derive(Debug)]
pub struct AppVolumesDouble {
    address: SocketAddr,
    fingerprint: String,
    ca_pem: String,
    shared: SharedWorld,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The state that the server and its tests share.
#[derive(Debug, Clone)]
struct SharedWorld(Arc<Mutex<World>>);

impl SharedWorld {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AppVolumesDouble {
    /// Starts a manager of this site, on a port that the system chose.
    ///
    /// # Errors
    /// It can't create its certificate, or can't listen.
    pub fn start(site: AvmSite) -> Result<Self, LabError> {
        let shared = SharedWorld(Arc::new(Mutex::new(World::new(site))));
        let started = serve::start(shared.clone())?;
        let mut fingerprint = "sha256:".to_owned();
        for byte in Sha256::digest(&started.certificate) {
            let _ = write!(fingerprint, "{byte:02x}");
        }
        Ok(Self {
            address: started.address,
            fingerprint,
            ca_pem: started.ca_pem,
            shared,
            stop: Some(started.stop),
            thread: Some(started.thread),
        })
    }

    /// Its address, as a configuration has it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The SHA-256 of its certificate, as a configuration has it.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The certificate of its authority, in PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Changes the site while it is served.
    pub fn change<T>(&self, change: impl FnOnce(&mut AvmSite) -> T) -> T {
        change(&mut self.shared.lock().site)
    }

    /// All requests since the start, or since [`clear`](Self::clear), in order.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.lock().requests.clone()
    }

    /// The number of requests like this: `GET /cv_api/appstacks/{id}/files`, with `{id}` for any number, without its query.
    #[must_use]
    pub fn count(&self, what: &str) -> usize {
        self.shared.lock().requests.iter().filter(|request| request.shape() == what).count()
    }

    /// The number of requests about single volumes.
    #[must_use]
    pub fn details(&self) -> usize {
        self.shared.lock().requests.iter().filter(|request| request.is_detail()).count()
    }

    /// Every request other than `GET`, without logins and logouts.
    #[must_use]
    pub fn write_requests(&self) -> Vec<RecordedRequest> {
        self.requests().into_iter().filter(RecordedRequest::is_write).collect()
    }

    /// What requests changed, in order.
    #[must_use]
    pub fn writes(&self) -> Vec<Write> {
        self.shared.lock().writes.clone()
    }

    /// How many logins succeeded and how many were refused.
    #[must_use]
    pub fn logins(&self) -> (usize, usize) {
        let world = self.shared.lock();
        (world.logins, world.refusals)
    }

    /// How many sessions are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.lock().sessions.len()
    }

    /// Clears the record of requests and the counts.
    pub fn clear(&self) {
        let mut world = self.shared.lock();
        world.requests.clear();
        world.writes.clear();
        (world.logins, world.refusals) = (0, 0);
    }

    /// Ends every session now.
    pub fn expire(&self) {
        self.shared.lock().sessions.clear();
    }

    /// Ends every session after so many more authorized requests.
    pub fn expire_after(&self, requests: usize) {
        self.shared.lock().expire_after = Some(requests);
    }

    /// From now on, requests whose path (without the query) is this one, or has this `{id}` form, fail with a fault.
    pub fn fail(&self, path: &str, fault: AvmFault) {
        self.shared.lock().faults.push((path.to_owned(), fault, None));
    }

    /// Like [`fail`](Self::fail), but only so many times.
    pub fn fail_times(&self, path: &str, fault: AvmFault, times: usize) {
        self.shared.lock().faults.push((path.to_owned(), fault, Some(times)));
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.shared.lock().faults.clear();
    }
}

impl Drop for AppVolumesDouble {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
