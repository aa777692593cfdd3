//! The client: one system and one session, which is opened on first use.
//!
//! A client never sends a refused password again: ESXi locks an account after five failures, and retries would lock out
//! people who use the account too. If the session has expired, an operation opens a new one, once. So nothing has to keep
//! the session alive during a long copy, which needs it only to request tickets.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use stackferry_config::Secret;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::VsphereError;
use crate::model::{About, Datastore, FolderListing, Host, MachineDisks, Moid};
use crate::session::{LoginSettings, Session};
use crate::ticket::{ServiceTicket, TicketMethod};
use crate::{accounts, browse, inventory, services, ticket};
use stackferry_https::{HttpsClient, Trust};

/// How long a session is not replaced if it replaced another one itself and expired before it was of any use.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// The client of one vCenter Server or ESXi host. Cheap to clone; clones share the session. It logs in on first use;
/// [`Vsphere::logout`] ends the session, which otherwise expires after about 30 minutes of inactivity.
#[derive(Debug, Clone)]
pub struct Vsphere {
    login: Arc<LoginSettings>,
    state: Arc<Mutex<SessionState>>,
}

#[derive(Debug, Default)]
struct SessionState {
    session: Option<Arc<Session>>,
    /// Why the system refused the last login.
    refused: Option<VsphereError>,
    /// When and why the last login failed for another reason.
    failed: Option<(Instant, VsphereError)>,
    /// The session that replaced an expired one, and when.
    renewed: Option<(Arc<Session>, Instant)>,
}

impl Vsphere {
    /// A client for a system of the configuration. Connects on first use; reads the file of authorities now.
    ///
    /// # Errors
    /// The address is invalid, or the certificate authorities can't be loaded.
    pub fn new(config: &stackferry_config::VsphereConfig) -> Result<Self, VsphereError> {
        let system = format!("vSphere {}", config.name);
        // Users often include the SDK's path in the address.
        let url = config.url.as_str().trim_end_matches('/');
        let base = url.strip_suffix("/sdk").unwrap_or(url);
        let https =
            HttpsClient::new(&system, base, Trust::new(config.ca.as_deref(), config.fingerprint.map(Into::into)))?;
        let login = LoginSettings {
            https,
            system: system.into(),
            user: config.username.to_string(),
            password: config.password.clone(),
        };
        Ok(Self { login: Arc::new(login), state: Arc::default() })
    }

    /// A client that makes no login attempt, because this system refused the last one with the same settings.
    #[must_use]
    pub fn with_refused_login(self) -> Self {
        let login = self.login;
        let refused = VsphereError::LoginRefused { system: login.system.to_string(), user: login.user.clone() };
        let state = SessionState { refused: Some(refused), ..SessionState::default() };
        Self { login, state: Arc::new(Mutex::new(state)) }
    }

    /// The name of the system in errors.
    #[must_use]
    pub fn system(&self) -> &str {
        &self.login.system
    }

    /// The HTTPS client, for downloads from the system itself.
    #[must_use]
    pub fn https(&self) -> &HttpsClient {
        &self.login.https
    }

    /// The product and its version. Needs no login.
    ///
    /// # Errors
    /// The system is unreachable or is not vSphere.
    pub async fn about(&self) -> Result<About, VsphereError> {
        let session = self.state.lock().await.session.clone();
        match session {
            Some(session) => Ok(session.about().clone()),
            None => self.login.about().await,
        }
    }

    /// Logs in, unless there is a session already.
    ///
    /// # Errors
    /// The system is unreachable, or the password is unavailable or refused.
    pub async fn login(&self) -> Result<(), VsphereError> {
        self.session().await.map(|_| ())
    }

    /// Ends the session, if there is one.
    ///
    /// # Errors
    /// The system did not end the session; it expires by itself.
    pub async fn logout(&self) -> Result<(), VsphereError> {
        let session = self.state.lock().await.session.take();
        match session {
            Some(session) => session.logout().await,
            None => Ok(()),
        }
    }

    /// All datastores, by name.
    ///
    /// # Errors
    /// The system is unreachable, refuses the login, or denies the call.
    pub async fn datastores(&self) -> Result<Vec<Datastore>, VsphereError> {
        self.run(inventory::datastores).await
    }

    /// All hosts, by name.
    ///
    /// # Errors
    /// As [`Vsphere::datastores`].
    pub async fn hosts(&self) -> Result<Vec<Host>, VsphereError> {
        self.run(inventory::hosts).await
    }

    /// Every disk of every visible virtual machine, including the bases of snapshots, and the machines whose disks vSphere
    /// can't report.
    ///
    /// # Errors
    /// As [`Vsphere::datastores`].
    pub async fn attached_disks(&self) -> Result<MachineDisks, VsphereError> {
        self.run(inventory::attached_disks).await
    }

    /// The entries of `folder` (relative to the datastore, empty for its root), and of the folders below it if `recursive`;
    /// sorted by folder. The server matches `pattern` (`*.vmdk`) case-insensitively and omits every other entry, also
    /// entries for folders; it still searches the folders below.
    ///
    /// # Errors
    /// [`VsphereError::NotFound`] if the folder does not exist, [`VsphereError::Timeout`] after 10 minutes, and as
    /// [`Vsphere::datastores`].
    pub async fn browse(
        &self,
        datastore: &Datastore,
        folder: &str,
        recursive: bool,
        pattern: Option<&str>,
    ) -> Result<Vec<FolderListing>, VsphereError> {
        self.run(|session| browse::browse(session, datastore, folder, recursive, pattern)).await
    }

    /// A one-time ticket for one HTTPS request to `url`, which names the host for a download from a host (see
    /// [`ticket::folder_path`]).
    ///
    /// # Errors
    /// As [`Vsphere::datastores`].
    pub async fn ticket(&self, method: TicketMethod, url: &str) -> Result<ServiceTicket, VsphereError> {
        self.run(|session| ticket::acquire(session, method, url)).await
    }

    /// The `Cookie` header of the session, for `/folder` of the system itself.
    ///
    /// # Errors
    /// As [`Vsphere::datastores`].
    pub async fn session_cookie(&self) -> Result<Secret, VsphereError> {
        self.run(|session| async move {
            // The session may have expired, and the response to a download does not distinguish that from a denial.
            session.current_time().await?;
            Ok(session.cookie())
        })
        .await
    }

    /// Whether a service of a host, such as `TSM-SSH`, is running.
    ///
    /// # Errors
    /// [`VsphereError::NotFound`] if the host has no such service, and as [`Vsphere::datastores`].
    pub async fn service_is_running(&self, host: &Moid, key: &str) -> Result<bool, VsphereError> {
        self.run(|session| services::is_running(session, host, key)).await
    }

    /// Starts a service of a host, unless it is running. Its startup policy is unchanged.
    ///
    /// # Errors
    /// As [`Vsphere::service_is_running`].
    pub async fn start_service(&self, host: &Moid, key: &str) -> Result<(), VsphereError> {
        self.run(|session| services::set_running(session, host, key, true)).await
    }

    /// Stops a service of a host, unless it is stopped.
    ///
    /// # Errors
    /// As [`Vsphere::service_is_running`].
    pub async fn stop_service(&self, host: &Moid, key: &str) -> Result<(), VsphereError> {
        self.run(|session| services::set_running(session, host, key, false)).await
    }

    /// Creates a local account on a host, with shell access and no role.
    ///
    /// # Errors
    /// [`VsphereError::Fault`], named `AlreadyExists` or because the host's rules refuse the password; and as
    /// [`Vsphere::datastores`].
    pub async fn create_account(
        &self,
        host: &Moid,
        name: &str,
        password: &Secret,
        description: &str,
    ) -> Result<(), VsphereError> {
        self.run(|session| accounts::create(session, host, name, password, description)).await
    }

    /// Makes a local account an administrator of its host: SSH logins need that role.
    ///
    /// # Errors
    /// As [`Vsphere::datastores`].
    pub async fn grant_admin(&self, host: &Moid, name: &str) -> Result<(), VsphereError> {
        self.run(|session| accounts::grant_admin(session, host, name)).await
    }

    /// Removes a local account of a host and its permissions. Returns false if there was none.
    ///
    /// # Errors
    /// As [`Vsphere::datastores`].
    pub async fn remove_account(&self, host: &Moid, name: &str) -> Result<bool, VsphereError> {
        self.run(|session| accounts::remove(session, host, name)).await
    }

    /// The accounts that have permissions on a host.
    ///
    /// # Errors
    /// [`VsphereError::NotSupported`] if neither the host nor its vCenter lists them, and as [`Vsphere::datastores`].
    pub async fn accounts(&self, host: &Moid) -> Result<Vec<String>, VsphereError> {
        self.run(|session| accounts::list(session, host)).await
    }

    /// The root folder of the inventory. A privilege that is missing there is missing everywhere.
    ///
    /// # Errors
    /// As [`Vsphere::datastores`].
    pub async fn root(&self) -> Result<Moid, VsphereError> {
        self.session().await.map(|session| session.content().root.clone())
    }

    /// Which of these privileges (see [`crate::privilege`]) the user lacks on an object.
    ///
    /// # Errors
    /// [`VsphereError::NotSupported`] if the system does not report privileges, and as [`Vsphere::datastores`].
    pub async fn missing_privileges(&self, entity: &Moid, privileges: &[&str]) -> Result<Vec<String>, VsphereError> {
        self.run(|session| accounts::missing_privileges(session, entity, privileges)).await
    }

    /// Runs an operation in the session. If the session has expired, runs the operation again in a new one.
    pub(crate) async fn run<T, F>(&self, operation: impl Fn(Arc<Session>) -> F) -> Result<T, VsphereError>
    where
        F: Future<Output = Result<T, VsphereError>>,
    {
        let session = self.session().await?;
        let outcome = operation(Arc::clone(&session)).await;
        match outcome {
            Err(error) if error.is_expired() => {
                if !self.may_renew(&session).await {
                    return Err(error);
                }
                self.forget(&session).await;
                let session = self.session().await?;
                self.state.lock().await.renewed = Some((Arc::clone(&session), Instant::now()));
                let outcome = operation(Arc::clone(&session)).await;
                if !outcome.as_ref().is_err_and(VsphereError::is_expired) {
                    session.mark_used();
                }
                outcome
            }
            outcome => {
                session.mark_used();
                outcome
            }
        }
    }

    /// Whether to replace an expired session. One that is a replacement itself and was of no use is not replaced at once:
    /// otherwise every operation would log in again.
    async fn may_renew(&self, expired: &Arc<Session>) -> bool {
        let state = self.state.lock().await;
        let is_renewal = |(renewed, _): &&(Arc<Session>, Instant)| Arc::ptr_eq(renewed, expired);
        let renewed = state.renewed.as_ref().filter(is_renewal);
        renewed.is_none_or(|(session, since)| session.was_used() || since.elapsed() > RENEWAL_PAUSE)
    }

    /// The session, opened if there is none. Callers that arrive during a login wait for it and share its failure:
    /// otherwise each of them would wait for a dead server in turn.
    pub(crate) async fn session(&self) -> Result<Arc<Session>, VsphereError> {
        let called = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(session) = &state.session {
            return Ok(Arc::clone(session));
        }
        if let Some(refused) = &state.refused {
            return Err(refused.clone());
        }
        if let Some((_, error)) = state.failed.as_ref().filter(|(failed, _)| *failed >= called) {
            return Err(error.clone());
        }
        match self.login.session().await {
            Ok(session) => Ok(Arc::clone(state.session.insert(Arc::new(session)))),
            Err(error) => {
                if matches!(error, VsphereError::LoginRefused { .. } | VsphereError::Lockdown { .. }) {
                    state.refused = Some(error.clone());
                } else {
                    state.failed = Some((Instant::now(), error.clone()));
                }
                Err(error)
            }
        }
    }

    /// Drops an expired session, unless it was replaced already.
    async fn forget(&self, expired: &Arc<Session>) {
        let mut state = self.state.lock().await;
        if state.session.as_ref().is_some_and(|session| Arc::ptr_eq(session, expired)) {
            state.session = None;
        }
    }
}

#[cfg(test)]
mod tests;
