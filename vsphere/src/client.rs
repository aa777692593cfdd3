//! The client itself: one system, one session, made when it is first needed.
//!
//! A password that was refused is never sent a second time by the same client: ESXi locks an account after five failures,
//! and a service that retries would lock out the people too. A session that ended is made anew once per operation.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use stackferry_config::Secret;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::VsphereError;
use crate::model::{About, Datastore, FolderListing, Host, MachineDisks, Moid, ServiceState};
use crate::session::{Login, Session};
use crate::ticket::{ServiceTicket, TicketMethod};
use crate::watch::Watch;
use crate::{accounts, browse, inventory, services, ticket};
use stackferry_https::{HttpsClient, Trust};

/// For so long no session is made in the place of one that was just made, and ended before anything could be done in it.
const NO_RENEWAL: Duration = Duration::from_secs(60);

/// Speaks with one vCenter Server or ESXi host. Cheap to clone; clones share the session. It logs in when it is first asked
/// something; [`Vsphere::logout`] ends the session, which else ends by itself after about 30 minutes.
#[derive(Debug, Clone)]
pub struct Vsphere {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    login: Login,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    session: Option<Arc<Session>>,
    /// The answer to the last login, where it was a refusal.
    refused: Option<VsphereError>,
    /// When the last login ended that failed for another reason, and why.
    failed: Option<(Instant, VsphereError)>,
    /// The session that was made in the place of one that ended, and when.
    renewed: Option<(Arc<Session>, Instant)>,
}

impl Vsphere {
    /// A client for a system of the configuration. Connects only when something is asked; reads the file of authorities.
    ///
    /// # Errors
    /// The address can't be used, or the authorities that its certificate is judged by can't be read.
    pub fn new(config: &stackferry_config::Vsphere) -> Result<Self, VsphereError> {
        let system = format!("vSphere {}", config.name);
        // The SDK's own path is often given with the address.
        let url = config.url.as_str().trim_end_matches('/');
        let base = url.strip_suffix("/sdk").unwrap_or(url);
        let https =
            HttpsClient::new(&system, base, Trust::new(config.ca.as_deref(), config.fingerprint.map(Into::into)))?;
        let login = Login {
            https,
            system: system.into(),
            user: config.username.to_string(),
            password: config.password.clone(),
        };
        Ok(Self { inner: Arc::new(Inner { login, state: Mutex::default() }) })
    }

    /// The same for a client that was just made, of a system whose last login was refused: it tries none until
    /// [`Vsphere::forget_refusal`].
    #[must_use]
    pub fn refused_before(self) -> Self {
        let login = self.inner.login.clone();
        let refused = VsphereError::LoginRefused { system: login.system.to_string(), user: login.user.clone() };
        let state = State { refused: Some(refused), ..State::default() };
        Self { inner: Arc::new(Inner { login, state: Mutex::new(state) }) }
    }

    /// How errors call the system.
    #[must_use]
    pub fn system(&self) -> &str {
        &self.inner.login.system
    }

    /// The HTTPS client, for downloads from the system itself.
    #[must_use]
    pub fn https(&self) -> &HttpsClient {
        &self.inner.login.https
    }

    /// What answers there. Needs no login where nobody has logged in yet.
    ///
    /// # Errors
    /// The system can't be reached or is no vSphere.
    pub async fn about(&self) -> Result<About, VsphereError> {
        let session = self.inner.state.lock().await.session.clone();
        match session {
            Some(session) => Ok(session.about().clone()),
            None => self.inner.login.about().await,
        }
    }

    /// Logs in, if that has not been done, and tells whether it works.
    ///
    /// # Errors
    /// The system can't be reached, the password can't be had or is refused.
    pub async fn login(&self) -> Result<(), VsphereError> {
        self.session().await.map(|_| ())
    }

    /// Forgets that a login was refused, for instance since the password was changed: the next call tries again.
    pub async fn forget_refusal(&self) {
        self.inner.state.lock().await.refused = None;
    }

    /// Ends the session, if there is one.
    ///
    /// # Errors
    /// The system could not be told; then the session ends there by itself.
    pub async fn logout(&self) -> Result<(), VsphereError> {
        let session = self.inner.state.lock().await.session.take();
        match session {
            Some(session) => session.logout().await,
            None => Ok(()),
        }
    }

    /// Keeps the session alive through a long download: servers end one that was not used for about 30 minutes. Call it
    /// every 5 to 10 minutes.
    ///
    /// # Errors
    /// The system can't be reached.
    pub async fn keep_alive(&self) -> Result<(), VsphereError> {
        self.run(|session| async move { session.current_time().await }).await
    }

    /// All datastores, by name.
    ///
    /// # Errors
    /// The system can't be reached, refuses the login, or does not allow it.
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

    /// Every disk of every virtual machine that is seen, each base of a snapshot too, and the machines whose disks vSphere
    /// can't tell.
    ///
    /// # Errors
    /// As [`Vsphere::datastores`].
    pub async fn attached_disks(&self) -> Result<MachineDisks, VsphereError> {
        self.run(inventory::attached_disks).await
    }

    /// What lies in `folder` of a datastore (relative to it, empty for its root), and below if `recursive`; sorted by
    /// folder. The server matches `pattern` (`*.vmdk`) without regard to case and leaves out what does not fit, entries for
    /// folders too; folders below are searched all the same.
    ///
    /// # Errors
    /// [`VsphereError::NotFound`] where there is no such folder, [`VsphereError::Timeout`] after 10 minutes, and as
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

    /// A one-time ticket for one HTTPS request. `url` is the whole address that is asked for: that of a host for a download
    /// from it (see [`ticket::folder_path`]).
    ///
    /// # Errors
    /// As [`Vsphere::datastores`].
    pub async fn ticket(&self, method: TicketMethod, url: &str) -> Result<ServiceTicket, VsphereError> {
        self.run(|session| ticket::acquire(session, method, url)).await
    }

    /// The `Cookie` header of the session, for `/folder` through the system itself.
    ///
    /// # Errors
    /// As [`Vsphere::datastores`].
    pub async fn session_cookie(&self) -> Result<Secret, VsphereError> {
        self.run(|session| async move {
            // It may have ended since it was last used, and a download could not tell that from a denial.
            session.current_time().await?;
            Ok(session.cookie())
        })
        .await
    }

    /// The state of a service of a host, as `TSM-SSH`.
    ///
    /// # Errors
    /// [`VsphereError::NotFound`] where the host has no such service, and as [`Vsphere::datastores`].
    pub async fn service_state(&self, host: &Moid, key: &str) -> Result<ServiceState, VsphereError> {
        self.run(|session| services::state(session, host, key)).await
    }

    /// Starts a service of a host. Its policy stays what it is. One that runs already is left alone.
    ///
    /// # Errors
    /// As [`Vsphere::service_state`].
    pub async fn start_service(&self, host: &Moid, key: &str) -> Result<(), VsphereError> {
        self.run(|session| services::switch(session, host, key, true)).await
    }

    /// Stops a service of a host. One that is stopped already is left alone.
    ///
    /// # Errors
    /// As [`Vsphere::service_state`].
    pub async fn stop_service(&self, host: &Moid, key: &str) -> Result<(), VsphereError> {
        self.run(|session| services::switch(session, host, key, false)).await
    }

    /// Makes a local account on a host, with shell access and without any role yet.
    ///
    /// # Errors
    /// [`VsphereError::Fault`] named `AlreadyExists`, or where the host's rules refuse the password; and as
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

    /// Makes a local account an administrator of its host: less does not let it in by SSH.
    ///
    /// # Errors
    /// As [`Vsphere::datastores`].
    pub async fn grant_admin(&self, host: &Moid, name: &str) -> Result<(), VsphereError> {
        self.run(|session| accounts::grant_admin(session, host, name)).await
    }

    /// Removes a local account of a host, and its rights. False where there was none.
    ///
    /// # Errors
    /// As [`Vsphere::datastores`].
    pub async fn remove_account(&self, host: &Moid, name: &str) -> Result<bool, VsphereError> {
        self.run(|session| accounts::remove(session, host, name)).await
    }

    /// The accounts of a host that have rights there.
    ///
    /// # Errors
    /// [`VsphereError::NotSupported`] where neither the host nor its vCenter tells, and as [`Vsphere::datastores`].
    pub async fn accounts(&self, host: &Moid) -> Result<Vec<String>, VsphereError> {
        self.run(|session| accounts::list(session, host)).await
    }

    /// The inventory's root folder: what is missing there is missing everywhere.
    ///
    /// # Errors
    /// As [`Vsphere::datastores`].
    pub async fn root(&self) -> Result<Moid, VsphereError> {
        self.session().await.map(|session| session.content().root.clone())
    }

    /// Which of these privileges (see [`crate::privilege`]) our user lacks on an object.
    ///
    /// # Errors
    /// [`VsphereError::NotSupported`] where the system does not tell, and as [`Vsphere::datastores`].
    pub async fn missing_privileges(&self, entity: &Moid, privileges: &[&str]) -> Result<Vec<String>, VsphereError> {
        self.run(|session| accounts::missing_privileges(session, entity, privileges)).await
    }

    /// Tells when a virtual machine's disks or power, or a datastore, changed.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::new(self.clone())
    }

    /// Does something in a session; when the session turns out to have ended, once more in a new one.
    pub(crate) async fn run<T, F>(&self, work: impl Fn(Arc<Session>) -> F) -> Result<T, VsphereError>
    where
        F: Future<Output = Result<T, VsphereError>>,
    {
        let session = self.session().await?;
        let outcome = work(Arc::clone(&session)).await;
        match outcome {
            Err(error) if error.is_expired() => {
                if !self.may_renew(&session).await {
                    return Err(error);
                }
                self.forget(&session).await;
                let session = self.session().await?;
                self.inner.state.lock().await.renewed = Some((Arc::clone(&session), Instant::now()));
                let outcome = work(Arc::clone(&session)).await;
                if !outcome.as_ref().is_err_and(VsphereError::is_expired) {
                    session.worked();
                }
                outcome
            }
            outcome => {
                session.worked();
                outcome
            }
        }
    }

    /// Whether a new session may help where this one ended. One that took the place of another and was of no use is not
    /// replaced at once: else every operation of a round would log in anew.
    async fn may_renew(&self, ended: &Arc<Session>) -> bool {
        let state = self.inner.state.lock().await;
        let is_renewal = |(renewed, _): &&(Arc<Session>, Instant)| Arc::ptr_eq(renewed, ended);
        let renewed = state.renewed.as_ref().filter(is_renewal);
        renewed.is_none_or(|(session, since)| session.has_worked() || since.elapsed() > NO_RENEWAL)
    }

    /// The session, made if there is none. Whoever comes while one is made waits for it, and shares its failure: else each
    /// would wait for a dead server in turn.
    pub(crate) async fn session(&self) -> Result<Arc<Session>, VsphereError> {
        let came = Instant::now();
        let mut state = self.inner.state.lock().await;
        if let Some(session) = &state.session {
            return Ok(Arc::clone(session));
        }
        if let Some(refused) = &state.refused {
            return Err(refused.clone());
        }
        if let Some((_, error)) = state.failed.as_ref().filter(|(failed, _)| *failed >= came) {
            return Err(error.clone());
        }
        match self.inner.login.session().await {
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

    /// Drops a session that ended, unless somebody has replaced it already.
    async fn forget(&self, ended: &Arc<Session>) {
        let mut state = self.inner.state.lock().await;
        if state.session.as_ref().is_some_and(|session| Arc::ptr_eq(session, ended)) {
            state.session = None;
        }
    }
}

#[cfg(test)]
mod tests;
