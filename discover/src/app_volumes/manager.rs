//! One App Volumes Manager, asked for all that it knows of its volumes.
//!
//! A look only reads: every request but the login is a `GET` of [`Ask`]. At most four go out at once, each has a deadline, and
//! so has the whole. What is read one by one is described at [`details`](super::details).

use std::time::Duration;

use futures_util::lock::Mutex;
use jiff::Timestamp;
use stackferry_config::{AppVolumes, Secret};
use stackferry_https::{HttpsClient, Response, Trust};
use stackferry_volume::SiteName;

use super::details::Details;
use super::error::ManagerError;
use super::list::{self, Fault};
use super::look::Look;
use super::paths::{Ask, DISABLE, ENABLE};
use super::report::{ManagedVolume, Report, VolumeFamily};
use super::session::{Run, Session};
use super::value::Fields;
use super::volumes::indexed;

/// How long a manager may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For one answer. Default: 60 s, since a list of thousands takes its database a while.
    pub request: Duration,
    /// For a whole look. Default: 10 minutes.
    pub look: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request: Duration::from_secs(60), look: Duration::from_secs(600) }
    }
}

/// One App Volumes Manager and our session with it. All of it can be used from several tasks at once; looks wait for each other.
pub struct Manager {
    name: String,
    site: SiteName,
    limits: Limits,
    session: Session,
    details: Mutex<Details>,
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
    pub fn new(config: &AppVolumes, site: SiteName, password: Secret, limits: Limits) -> Result<Self, ManagerError> {
        let system = format!("App Volumes {}", config.name);
        let https = HttpsClient::new(
            &system,
            config.url.as_str(),
            Trust::new(config.ca.as_deref(), config.fingerprint.map(Into::into)),
        )
        .map_err(|source| ManagerError::Https { path: "/", source })?;
        let session = Session::new(https, config.username.to_string(), password);
        Ok(Self { name: config.name.to_string(), site, limits, session, details: Mutex::default() })
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
        let asker = Asker { session: &self.session, run: Run::new(self.limits.request, self.limits.look) };
        Look::new(&asker, &mut details, now).make(&self.name, &self.site).await
    }

    /// One writable as it is now, by a single question: what a list told may be minutes old. None: there is none any more.
    /// Its assignments are not asked.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub async fn writable(&self, id: u64) -> Result<Option<ManagedVolume>, ManagerError> {
        let asker = Asker { session: &self.session, run: Run::new(self.limits.request, self.limits.request) };
        let keys = ["writable", "data"];
        let read = |told: Fields<'_>| indexed(VolumeFamily::Writable, told).map(|one| one.volume);
        // A manager of 2.x does not know the newer address, whatever it says to it.
        let first = asker.one(Ask::NewWritable(id), &keys, "id", read).await;
        let told = match first {
            Err(ManagerError::Status { .. } | ManagerError::WebPage { .. } | ManagerError::BadAnswer { .. }) => {
                asker.one(Ask::Writable(id), &keys, "id", read).await
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
        super::guard::act(&self.session, &Run::new(self.limits.request, self.limits.look), path, ids).await
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
        self.session.logout(&Run::new(self.limits.request, self.limits.request)).await
    }
}

/// Asks, and reads what comes.
pub(super) struct Asker<'a> {
    pub(super) session: &'a Session,
    pub(super) run: Run,
}

impl Asker<'_> {
    /// Gives each entry of a list to `give`. True if the list was read whole.
    pub(super) async fn each(
        &self,
        ask: Ask,
        keys: &[&str],
        mut give: impl FnMut(Fields<'_>),
    ) -> Result<bool, ManagerError> {
        let answer = self.session.ask(&self.run, ask).await?;
        if let Some(fault) = list::disguised(&answer) {
            return Err(self.fault(ask, fault));
        }
        let listed = list::each(answer.body(), keys, &mut |entry| give(Fields(&entry)));
        listed.map(|listed| !listed.cut && listed.odd == 0 && !listed.failed).map_err(|fault| self.fault(ask, fault))
    }

    /// One object: the one below one of the keys, else the whole answer if it has the field `sign`.
    pub(super) async fn one<T>(
        &self,
        ask: Ask,
        keys: &[&str],
        sign: &str,
        read: impl FnOnce(Fields<'_>) -> T,
    ) -> Result<T, ManagerError> {
        let answer = self.session.ask(&self.run, ask).await?;
        self.read_one(ask, &answer, keys, sign, read)
    }

    /// As [`one`](Self::one), without a login.
    pub(super) async fn one_openly<T>(
        &self,
        ask: Ask,
        keys: &[&str],
        sign: &str,
        read: impl FnOnce(Fields<'_>) -> T,
    ) -> Result<T, ManagerError> {
        let answer = self.session.ask_openly(&self.run, ask).await?;
        self.read_one(ask, &answer, keys, sign, read)
    }

    fn read_one<T>(
        &self,
        ask: Ask,
        answer: &Response,
        keys: &[&str],
        sign: &str,
        read: impl FnOnce(Fields<'_>) -> T,
    ) -> Result<T, ManagerError> {
        if let Some(fault) = list::disguised(answer) {
            return Err(self.fault(ask, fault));
        }
        let object = list::one(answer.body(), keys, sign).map_err(|fault| self.fault(ask, fault))?;
        Ok(read(Fields(&object)))
    }

    fn fault(&self, ask: Ask, fault: Fault) -> ManagerError {
        self.session.fault(ask.template(), fault)
    }
}
