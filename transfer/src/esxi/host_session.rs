//! What a copy changes at a host, and undoes after it: the SSH service, and an account for each connection.
//!
//! Order, so that a crash at any point leaves nothing that is not recorded:
//!  1. the SSH service, where it is stopped: it is recorded, then started;
//!  2. an account: it is recorded, then created, then it gets its permissions;
//!  3. one connection logs in with it, and is closed;
//!  4. the account is removed, then its record is cleared;
//!  5. with the last copy of this process at that host: the service is stopped, then its record is cleared.
//!
//! A cleanup that fails stays pending: the janitor retries it. Cleaning up happens in `Drop`, so that every way out of a
//! copy does it; it blocks, like everything here.

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

/// The recorded expiry: an account stays until it is removed, at the latest by the janitor.
const ACCOUNT_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How long an SSH service may take after its start until it accepts connections.
const STARTING: Duration = Duration::from_secs(30);

/// The SSH services that this process uses, by the system's address and the host's id.
static SERVICES: LazyLock<Mutex<Services>> = LazyLock::new(Mutex::default);

type Services = HashMap<(String, String), Arc<Mutex<Service>>>;

#[derive(Default)]
struct Service {
    users: usize,
    /// The pending cleanup's number, where the service was stopped before.
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
    /// `Vsphere`, and those of [`CleanupLedger`](super::CleanupLedger).
    pub(super) fn begin(inner: &'a EsxiInner, host: &'a Host) -> Result<Self, TransferError> {
        let service = Self::of(inner, host);
        // Other copies wait here until it is known to run.
        let mut state = service.lock().unwrap_or_else(PoisonError::into_inner);
        let vsphere = &inner.datastore.vsphere;
        // Also while others use it: it may have been stopped meanwhile.
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
                // It may have started anyway.
                if state.users == 0 {
                    stop_again(inner, host, &mut state);
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

    /// Remembers that the service accepts connections.
    pub(super) fn is_up(inner: &EsxiInner, host: &Host) {
        Self::of(inner, host).lock().unwrap_or_else(PoisonError::into_inner).started = None;
    }

    /// Whether this process started the service so recently that it may not accept connections yet.
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
            stop_again(self.inner, self.host, &mut state);
        }
    }
}

fn stop_again(inner: &EsxiInner, host: &Host, state: &mut Service) {
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
            tracing::warn!(host = host.name, error, "the SSH service could not be stopped again; it is retried later");
            // The janitor retries it.
            state.cleanup = None;
        }
    }
}

/// A local account of a host, for one connection, which is closed before the account is dropped.
pub(super) struct OneTimeAccount<'a> {
    inner: &'a EsxiInner,
    host: &'a Host,
    number: u64,
    pub(super) name: String,
    pub(super) password: Secret,
}

impl<'a> OneTimeAccount<'a> {
    /// Creates one, an administrator.
    ///
    /// # Errors
    /// `Vsphere`, and those of [`CleanupLedger`](super::CleanupLedger).
    pub(super) fn create_new(
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
        // From here on, dropping it removes it.
        let mut account = Self { inner, host, number, name, password: password::fresh(LENGTH) };
        match account.create() {
            // Some hosts require longer passwords, with varying messages.
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
        // Retried once, in case only the connection broke.
        match remove().or_else(|error| if self.inner.ending.is_cancelled() { Err(error) } else { remove() }) {
            Ok(_) => self.inner.cleanups.resolve(self.number),
            Err(error) => {
                let (host, account) = (&self.host.name, &self.name);
                let error = crate::describe(&error);
                tracing::warn!(host, account, error, "a one-time account could not be removed; it is retried later");
            }
        }
    }
}
