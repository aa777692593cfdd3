//! One session with a system: who is asked, by which cookie, in which version of the API.

mod version;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stackferry_config::{Secret, SecretRef};
use zeroize::Zeroizing;

use crate::error::VsphereError;
use crate::model::{About, Moid};
use crate::soap::{self, Asked};
use crate::xml::{Node, Writer};
use stackferry_https::{HttpsClient, HttpsError, Request, Response};

pub(crate) use version::Version;

/// How long one call may take, in which the server does nothing slow.
const CALL: Duration = Duration::from_secs(60);
/// The longest answer to a call, in bytes: a folder with 100,000 files gives about 40 MiB.
const LONGEST: u64 = 64 * 1024 * 1024;
/// The longest list of versions, in bytes. A real one has about 4 KiB.
const LONGEST_VERSIONS: u64 = 256 * 1024;
const SDK: &str = "/sdk";

/// What a login needs. The password is fetched for each login and wiped after it.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) https: HttpsClient,
    pub(crate) system: Arc<str>,
    pub(crate) user: String,
    pub(crate) password: SecretRef,
}

/// The objects of a system that everything else begins with.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) root: Moid,
    pub(crate) properties: Moid,
    pub(crate) sessions: Moid,
    pub(crate) views: Option<Moid>,
    pub(crate) authorization: Option<Moid>,
    pub(crate) accounts: Option<Moid>,
    pub(crate) users: Option<Moid>,
}

/// A session. Its cookie is as good as the password while it lives: `Debug` leaves it out.
pub(crate) struct Session {
    https: HttpsClient,
    system: Arc<str>,
    cookies: Vec<(String, Zeroizing<String>)>,
    versions: Vec<Version>,
    content: Content,
    about: About,
    /// The session's key, which the authorization manager wants.
    key: String,
    /// Whether anything was ever done in it.
    worked: AtomicBool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("system", &self.system).field("about", &self.about).finish_non_exhaustive()
    }
}

impl Login {
    pub(crate) async fn about(&self) -> Result<About, VsphereError> {
        Ok(self.begin().await?.about)
    }

    /// Logs in.
    pub(crate) async fn session(&self) -> Result<Session, VsphereError> {
        let mut session = self.begin().await?;
        let password = self.password().await?;
        let manager = session.content.sessions.clone();
        let call = "Login";
        let asked = Asked { system: &self.system, call };
        let body = soap::envelope(call, &manager, |writer| {
            writer.text("userName", &self.user);
            writer.text("password", password.expose());
        });
        drop(password);
        let answer = session.post(body, Version::BASE, CALL).await?;
        let response = soap::response(asked, &answer).map_err(|error| self.refused(error))?;
        session.take_cookies(&answer);
        if session.cookies.is_empty() {
            return Err(asked.bad("it gave no cookie"));
        }
        session.key = response
            .at(&["returnval", "key"])
            .map(|key| key.text.clone())
            .ok_or_else(|| asked.bad("it gave no session"))?;
        tracing::debug!(system = %self.system, version = %session.about.api_version, "logged in");
        Ok(session)
    }

    /// What a fault means where it is the answer to a login.
    fn refused(&self, error: VsphereError) -> VsphereError {
        let (system, user) = (self.system.to_string(), self.user.clone());
        match error {
            VsphereError::Fault { name, .. } if name == "InvalidLogin" => VsphereError::LoginRefused { system, user },
            VsphereError::NoPermission { .. } => VsphereError::Lockdown { system, user },
            other => other,
        }
    }

    async fn password(&self) -> Result<Secret, VsphereError> {
        let failed = |source| VsphereError::Secret { system: self.system.to_string(), source: Arc::new(source) };
        let reference = self.password.clone();
        // It may wait for a program.
        match tokio::task::spawn_blocking(move || reference.resolve()).await {
            Ok(secret) => secret.map_err(failed),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Asked { system: &self.system, call: "Login" }.bad("the program is ending")),
            },
        }
    }

    /// What can be had without a login.
    async fn begin(&self) -> Result<Session, VsphereError> {
        let versions = self.versions().await?;
        let call = "RetrieveServiceContent";
        let asked = Asked { system: &self.system, call };
        let instance = Moid { kind: "ServiceInstance".to_owned(), value: "ServiceInstance".to_owned() };
        let version = Version::choose(&versions, Version::BASE);
        let request = request(soap::envelope(call, &instance, |_| {}), &version, CALL);
        let answer = self.https.send(request).await?;
        let response = soap::response(asked, &answer)?;
        let content = response.get("returnval").ok_or_else(|| asked.bad("it has no content"))?;
        let object = |name: &str| content.get(name).and_then(soap::moid);
        let needed = |name: &str| object(name).ok_or_else(|| asked.bad(format!("it has no {name}")));
        let about = content.get("about").ok_or_else(|| asked.bad("it has no about"))?;
        let text = |name: &str| about.text_of(name).unwrap_or_default().to_owned();
        let mut session = Session {
            https: self.https.clone(),
            system: Arc::clone(&self.system),
            cookies: Vec::new(),
            versions,
            content: Content {
                root: needed("rootFolder")?,
                properties: needed("propertyCollector")?,
                sessions: needed("sessionManager")?,
                views: object("viewManager"),
                authorization: object("authorizationManager"),
                accounts: object("accountManager"),
                users: object("userDirectory"),
            },
            about: About {
                full_name: text("fullName"),
                api_version: text("apiVersion"),
                is_vcenter: about.text_of("apiType") == Some("VirtualCenter"),
                instance_uuid: about.text_of("instanceUuid").filter(|uuid| !uuid.is_empty()).map(str::to_owned),
            },
            key: String::new(),
            worked: AtomicBool::new(false),
        };
        session.take_cookies(&answer);
        Ok(session)
    }

    /// Which versions of the API the system speaks. One that does not tell is asked in the oldest that is used here.
    async fn versions(&self) -> Result<Vec<Version>, VsphereError> {
        let request = Request::get("/sdk/vimServiceVersions.xml").limit(LONGEST_VERSIONS);
        let answer = match self.https.send(request).await {
            Ok(answer) => answer,
            Err(HttpsError::TooLong { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        Ok(if answer.status() == 200 { version::listed(answer.body()) } else { Vec::new() })
    }
}

impl Session {
    pub(crate) fn system(&self) -> &str {
        &self.system
    }

    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Something was done in it.
    pub(crate) fn worked(&self) {
        self.worked.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_worked(&self) -> bool {
        self.worked.load(Ordering::Relaxed)
    }

    pub(crate) fn asked(&self, call: &'static str) -> Asked<'_> {
        Asked { system: &self.system, call }
    }

    /// All cookies as one header.
    pub(crate) fn cookie(&self) -> Secret {
        Secret::new(self.cookie_header().to_string())
    }

    /// Calls a method that answers soon.
    pub(crate) async fn call(
        &self,
        call: &'static str,
        this: &Moid,
        arguments: impl FnOnce(&mut Writer),
    ) -> Result<Node, VsphereError> {
        self.call_in(call, this, Version::BASE, CALL, arguments).await
    }

    /// Calls a method, in a version of the API that is at least `version` where the system has one.
    pub(crate) async fn call_in(
        &self,
        call: &'static str,
        this: &Moid,
        version: Version,
        timeout: Duration,
        arguments: impl FnOnce(&mut Writer),
    ) -> Result<Node, VsphereError> {
        let body = soap::envelope(call, this, arguments);
        let answer = self.post(body, version, timeout).await?;
        tracing::trace!(system = %self.system, call, status = answer.status(), bytes = answer.body().len(), "answered");
        if answer.status() == 401 {
            // What stands before the SDK (a gateway of newer vCenter Servers) tells so that the session ended.
            return Err(VsphereError::Expired { system: self.system.to_string() });
        }
        soap::response(self.asked(call), &answer)
    }

    pub(crate) async fn current_time(&self) -> Result<(), VsphereError> {
        let instance = Moid { kind: "ServiceInstance".to_owned(), value: "ServiceInstance".to_owned() };
        self.call("CurrentTime", &instance, |_| {}).await.map(|_| ())
    }

    pub(crate) async fn logout(&self) -> Result<(), VsphereError> {
        match self.call("Logout", &self.content.sessions, |_| {}).await {
            // Then there is nothing left to end.
            Err(error) if error.is_expired() => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    async fn post(&self, body: Vec<u8>, version: Version, timeout: Duration) -> Result<Response, VsphereError> {
        let version = Version::choose(&self.versions, version);
        let mut request = request(body, &version, timeout);
        if !self.cookies.is_empty() {
            request = request.header("cookie", &self.cookie_header());
        }
        Ok(self.https.send(request).await?)
    }

    fn cookie_header(&self) -> Zeroizing<String> {
        let mut header =
            Zeroizing::new(String::with_capacity(self.cookies.iter().map(|(n, v)| n.len() + v.len() + 3).sum()));
        for (name, value) in &self.cookies {
            if !header.is_empty() {
                header.push_str("; ");
            }
            header.push_str(name);
            header.push('=');
            header.push_str(value);
        }
        header
    }

    fn take_cookies(&mut self, answer: &Response) {
        for cookie in answer.cookies() {
            let pair = cookie.split(';').next().unwrap_or_default().trim();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies.retain(|(known, _)| known != name);
                self.cookies.push((name.to_owned(), Zeroizing::new(value.to_owned())));
            }
        }
    }
}

fn request(body: Vec<u8>, version: &Version, timeout: Duration) -> Request {
    Request::post(SDK, "text/xml; charset=utf-8", body)
        .header("soapaction", &format!("\"urn:vim25/{version}\""))
        .limit(LONGEST)
        .timeout(timeout)
}

#[cfg(test)]
mod tests;
