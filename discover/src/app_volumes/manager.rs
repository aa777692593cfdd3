//! One App Volumes Manager, asked for all that it knows of its volumes.
//!
//! A look only reads: every request but the login is a `GET` of [`ManagerRequest`]. At most four go out at once, each has a deadline, and
//! so has the whole. What is read one by one is described at [`details`](super::detail_cache).

use std::time::Duration;

use futures_util::lock::Mutex;
use jiff::Timestamp;
use stackferry_config::{AppVolumes, Secret};
use stackferry_https::{HttpsClient, Trust};
use stackferry_volume::SiteName;

use super::api::ManagerApi;
use super::build::ReportBuilder;
use super::detail_cache::DetailCache;
use super::error::ManagerError;
use super::report::{ManagedVolume, Report, VolumeFamily};
use super::requests::{DISABLE, ENABLE, ManagerRequest};
use super::session::{ManagerOperation, ManagerSession};
use super::value::Fields;
use super::volumes::listed_volume;

/// How long a manager may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTimeouts {
    /// For one answer. Default: 60 s, since a list of thousands takes its database a while.
    pub request: Duration,
    /// For a whole look. Default: 10 minutes.
    pub scan: Duration,
}

impl Default for RequestTimeouts {
    fn default() -> Self {
        Self { request: Duration::from_secs(60), scan: Duration::from_secs(600) }
    }
}

/// One App Volumes Manager and our session with it. All of it can be used from several tasks at once; looks wait for each other.
pub struct Manager {
    name: String,
    site: SiteName,
    timeouts: RequestTimeouts,
    session: ManagerSession,
    details: Mutex<DetailCache>,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager").field("name", &self.name).field("site", &self.site).finish_non_exhaustive()
    }
}

impl Manager {
    /// The manager of a configuration. Connects only when it is asked something; reads the file of `ca`, if there is one.
    ///
    /// # Errors
    /// Its address or its certificate authorities can't be used.
    pub fn new(
        config: &AppVolumes,
        site: SiteName,
        password: Secret,
        timeouts: RequestTimeouts,
    ) -> Result<Self, ManagerError> {
        let system = format!("App Volumes {}", config.name);
        let https = HttpsClient::new(
            &system,
            config.url.as_str(),
            Trust::new(config.ca.as_deref(), config.fingerprint.map(Into::into)),
        )
        .map_err(|source| ManagerError::Https { path: "/", source })?;
        let session = ManagerSession::new(https, config.username.to_string(), password);
        Ok(Self { name: config.name.to_string(), site, timeouts, session, details: Mutex::default() })
    }

    /// The same, of a manager whose last login was refused: it tries none until [`set_password`](Self::set_password).
    #[must_use]
    pub fn with_refused_login(mut self) -> Self {
        self.session.refused_before();
        self
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its site.
    #[must_use]
    pub fn site(&self) -> &SiteName {
        &self.site
    }

    /// Asks for everything. `now` is when it is asked, and decides which details are old.
    ///
    /// # Errors
    /// It can't be reached, refuses the login, or does not give the lists of its volumes. Lists that only add to them may be
    /// missing, and single details too: the report's problems tell so.
    pub async fn look(&self, now: Timestamp) -> Result<Report, ManagerError> {
        let mut details = self.details.lock().await;
        let api = ManagerApi {
            session: &self.session,
            run: ManagerOperation::new(self.timeouts.request, self.timeouts.scan),
        };
        ReportBuilder::new(&api, &mut details, now).make(&self.name, &self.site).await
    }

    /// One writable as it is now, by a single question: what a list told may be minutes old. None: there is none any more.
    /// Its assignments are not asked.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub async fn writable(&self, id: u64) -> Result<Option<ManagedVolume>, ManagerError> {
        let api = ManagerApi {
            session: &self.session,
            run: ManagerOperation::new(self.timeouts.request, self.timeouts.request),
        };
        let keys = ["writable", "data"];
        let read = |told: Fields<'_>| listed_volume(VolumeFamily::Writable, told).map(|one| one.volume);
        // A manager of 2.x does not know the newer address, whatever it says to it.
        let first = api.object(ManagerRequest::NewWritable(id), &keys, "id", read).await;
        let told = match first {
            Err(ManagerError::Status { .. } | ManagerError::WebPage { .. } | ManagerError::InvalidResponse { .. }) => {
                api.object(ManagerRequest::Writable(id), &keys, "id", read).await
            }
            told => told,
        };
        match told {
            Err(error) if error.is_not_found() => Ok(None),
            told => told,
        }
    }

    /// Disables these writables, so that nobody gets them attached. Each is asked for by itself and has its own result, in the
    /// order of `ids`; no other is touched. After a [`ManagerError::Https`] it is not known whether it was done.
    pub async fn disable(&self, ids: &[u64]) -> Vec<(u64, Result<(), ManagerError>)> {
        self.act(DISABLE, ids).await
    }

    /// Enables these writables again, as [`disable`](Self::disable) disables them. Give it only those that were enabled before.
    pub async fn enable(&self, ids: &[u64]) -> Vec<(u64, Result<(), ManagerError>)> {
        self.act(ENABLE, ids).await
    }

    async fn act(&self, path: &'static str, ids: &[u64]) -> Vec<(u64, Result<(), ManagerError>)> {
        super::guard::act(&self.session, &ManagerOperation::new(self.timeouts.request, self.timeouts.scan), path, ids)
            .await
    }

    /// Takes another password, and forgets that one was refused: the next look tries it.
    pub async fn set_password(&self, password: Secret) {
        self.session.set_password(password).await;
    }

    /// Whether the password was refused, so that nothing is tried until [`set_password`](Self::set_password).
    pub async fn is_refused(&self) -> bool {
        self.session.is_refused().await
    }

    /// Ends the session at the manager. For the end of the program: a look leaves it open for the next.
    ///
    /// # Errors
    /// The manager did not take it; it will end by itself.
    pub async fn logout(&self) -> Result<(), ManagerError> {
        self.session.logout(&ManagerOperation::new(self.timeouts.request, self.timeouts.request)).await
    }
}
