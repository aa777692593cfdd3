//! What is changed at a host for the time of a copy, and put back after it: the SSH service, and an account for each
//! connection.
//!
//! Order, so that a crash at any point leaves nothing that is not written down:
//!  1. the SSH service, where it is stopped: it is written down, then started;
//!  2. an account: it is written down, then made, then it gets its rights;
//!  3. one connection logs in with it, and is closed;
//!  4. the account is removed, then struck out;
//!  5. with the last copy of this process at that host: the service is stopped, then struck out.
//!
//! What can't be put back stays written down: the janitor tries it again. Putting back happens in `Drop`, so that no way
//! out of a copy leaves it undone; it blocks, as everything here.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use stackferry_config::Secret;
use stackferry_vsphere::{Host, VsphereError};

use super::cleanup::SSH_SERVICE;
use super::password::{self, LENGTH, LONGER};
use super::{EsxiCredential, EsxiInner, HostCleanup};
use crate::error::TransferError;
use crate::wait::soon_once_cancelled;

/// For the record: an account lives until it is removed, at the latest by the janitor.
const ACCOUNT_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How long an SSH service that was started may take until it takes connections.
const STARTING: Duration = Duration::from_secs(30);

/// The SSH services that this process uses, by the system's address and the host's id.
static SERVICES: LazyLock<Mutex<Services>> = LazyLock::new(Mutex::default);

type Services = HashMap<(String, String), Arc<Mutex<Service>>>;

#[derive(Default)]
struct Service {
    users: usize,
    /// It was stopped before the first of them came: the ledger's number.
    cleanup: Option<u64>,
    /// When it was last started here.
    started: Option<Instant>,
}

/// Keeps a host's SSH service running.
pub(super) struct ServiceUse<'a> {
    inner: &'a EsxiInner,
    host: &'a Host,
    service: Arc<Mutex<Service>>,
}

impl<'a> ServiceUse<'a> {
    /// Starts the service if it is stopped.
    ///
    /// # Errors
    /// `Vsphere`, and the ledger's.
    pub(super) fn begin(inner: &'a EsxiInner, host: &'a Host) -> Result<Self, TransferError> {
        let service = Self::of(inner, host);
        // Whoever comes meanwhile waits until it is known to run.
        let mut state = service.lock().unwrap_or_else(PoisonError::into_inner);
        let vsphere = &inner.datastore.vsphere;
        // Also while others use it: somebody may have stopped it under them.
        let asking = async { Ok(vsphere.service_is_running(&host.id, SSH_SERVICE).await?) };
        if !inner.wait(asking)? {
            let number = inner.cleanups.record(&HostCleanup::SshService {
                system: inner.datastore.system.clone(),
                host_id: host.id.value.clone(),
                host_name: host.name.clone(),
            })?;
            if let Some(before) = state.cleanup.replace(number) {
                inner.cleanups.resolve(before);
            }
            let starting = async { Ok(vsphere.start_service(&host.id, SSH_SERVICE).await?) };
            if let Err(error) = inner.wait(starting) {
                // It may have started all the same.
                if state.users == 0 {
                    put_back(inner, host, &mut state);
                }
                return Err(error);
            }
            state.started = Some(Instant::now());
        }
        state.users += 1;
        drop(state);
        Ok(Self { inner, host, service })
    }

    fn of(inner: &EsxiInner, host: &Host) -> Arc<Mutex<Service>> {
        let key = (inner.datastore.vsphere.https().authority(), host.id.value.clone());
        Arc::clone(SERVICES.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }

    /// The service takes connections.
    pub(super) fn is_up(inner: &EsxiInner, host: &Host) {
        Self::of(inner, host).lock().unwrap_or_else(PoisonError::into_inner).started = None;
    }

    /// Whether this process started the service so lately that it may not take connections yet.
    pub(super) fn is_starting(inner: &EsxiInner, host: &Host) -> bool {
        let service = Self::of(inner, host);
        let started = service.lock().unwrap_or_else(PoisonError::into_inner).started;
        started.is_some_and(|started| started.elapsed() < STARTING)
    }
}

impl Drop for ServiceUse<'_> {
    fn drop(&mut self) {
        let mut state = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        state.users = state.users.saturating_sub(1);
        if state.users == 0 {
            put_back(self.inner, self.host, &mut state);
        }
    }
}

fn put_back(inner: &EsxiInner, host: &Host, state: &mut Service) {
    let Some(number) = state.cleanup else { return };
    state.started = None;
    let stopping = inner.datastore.vsphere.stop_service(&host.id, SSH_SERVICE);
    match inner.runtime.block_on(soon_once_cancelled(&inner.ending, stopping)) {
        Ok(()) => {
            inner.cleanups.resolve(number);
            state.cleanup = None;
        }
        Err(error) => {
            let error = crate::describe(&error);
            tracing::warn!(host = host.name, error, "the SSH service could not be stopped again; it is tried later");
            // The janitor's from now on.
            state.cleanup = None;
        }
    }
}

/// A local account of a host, for one connection. Whatever logged in with it is closed before it is dropped.
pub(super) struct OneTimeAccount<'a> {
    inner: &'a EsxiInner,
    host: &'a Host,
    number: u64,
    pub(super) name: String,
    pub(super) password: Secret,
}

impl<'a> OneTimeAccount<'a> {
    /// Makes one, an administrator.
    ///
    /// # Errors
    /// `Vsphere`, and the ledger's.
    pub(super) fn make(
        inner: &'a EsxiInner,
        host: &'a Host,
        issued: &mut dyn FnMut(&EsxiCredential),
    ) -> Result<Self, TransferError> {
        let name = inner.public_name();
        let number = inner.cleanups.record(&HostCleanup::Account {
            system: inner.datastore.system.clone(),
            host_id: host.id.value.clone(),
            host_name: host.name.clone(),
            name: name.clone(),
        })?;
        let now = Timestamp::now();
        let expires = now.checked_add(ACCOUNT_LIFE).unwrap_or(now);
        issued(&EsxiCredential { name: name.clone(), host: format!("host {}", host.name), expires, standing: true });
        // From here on it is removed whatever happens.
        let mut account = Self { inner, host, number, name, password: password::fresh(LENGTH) };
        match account.create() {
            // Some hosts want longer ones, and say so in words that differ.
            Err(TransferError::Vsphere(VsphereError::Fault { name, .. })) if name != "AlreadyExists" => {
                account.password = password::fresh(LONGER);
                account.create()?;
            }
            done => done?,
        }
        inner.wait(async { Ok(inner.datastore.vsphere.grant_admin(&host.id, &account.name).await?) })?;
        Ok(account)
    }

    fn create(&self) -> Result<(), TransferError> {
        const DESCRIPTION: &str = "one-time account of stackferry; removed after the copy";
        let vsphere = &self.inner.datastore.vsphere;
        let creating = vsphere.create_account(&self.host.id, &self.name, &self.password, DESCRIPTION);
        self.inner.wait(async { Ok(creating.await?) })
    }
}

impl Drop for OneTimeAccount<'_> {
    fn drop(&mut self) {
        let vsphere = &self.inner.datastore.vsphere;
        let remove = || {
            let removing = vsphere.remove_account(&self.host.id, &self.name);
            self.inner.runtime.block_on(soon_once_cancelled(&self.inner.ending, removing))
        };
        // Once more where the connection just broke.
        match remove().or_else(|error| if self.inner.ending.is_cancelled() { Err(error) } else { remove() }) {
            Ok(_) => self.inner.cleanups.resolve(self.number),
            Err(error) => {
                let (host, account) = (&self.host.name, &self.name);
                let error = crate::describe(&error);
                tracing::warn!(host, account, error, "a one-time account could not be removed; it is tried later");
            }
        }
    }
}
