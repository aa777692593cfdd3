//! One session with a system: its cookies, its root objects, and the versions of the API that it speaks.

mod version;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stackferry_config::{Secret, SecretRef};
use zeroize::Zeroizing;

use crate::error::VsphereError;
use crate::model::{About, Moid};
use crate::soap::{self, ErrorContext};
use crate::xml::{XmlNode, XmlWriter};
use stackferry_https::{HttpsClient, HttpsError, Request, Response};

pub(crate) use version::ApiVersion;

/// The timeout of a call that starts no long operation on the server.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The size limit of a response, in bytes: a folder with 100,000 files takes about 40 MiB.
const MAX_RESPONSE: u64 = 64 * 1024 * 1024;
/// The size limit of the list of versions, in bytes. A real one has about 4 KiB.
const MAX_VERSIONS_FILE: u64 = 256 * 1024;
const SDK: &str = "/sdk";

/// What a login needs. The password is fetched for each login and wiped afterwards.
#[derive(Debug, Clone)]
pub(crate) struct LoginSettings {
    pub(crate) https: HttpsClient,
    pub(crate) system: Arc<str>,
    pub(crate) user: String,
    pub(crate) password: SecretRef,
}

/// The root objects of a system, from `ServiceContent` of the API.
#[derive(Debug, Clone)]
pub(crate) struct ServiceContent {
    pub(crate) root: Moid,
    pub(crate) properties: Moid,
    pub(crate) sessions: Moid,
    pub(crate) views: Option<Moid>,
    pub(crate) authorization: Option<Moid>,
    pub(crate) accounts: Option<Moid>,
    pub(crate) users: Option<Moid>,
}

/// A session. Its cookie grants as much as the password until the session ends, so `Debug` omits it.
pub(crate) struct Session {
    https: HttpsClient,
    system: Arc<str>,
    cookies: Vec<(String, Zeroizing<String>)>,
    versions: Vec<ApiVersion>,
    content: ServiceContent,
    about: About,
    /// The session's key, which the authorization manager requires.
    key: String,
    /// Whether any operation has succeeded in it.
    used: AtomicBool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("system", &self.system).field("about", &self.about).finish_non_exhaustive()
    }
}

impl LoginSettings {
    pub(crate) async fn about(&self) -> Result<About, VsphereError> {
        Ok(self.connect().await?.about)
    }

    /// Logs in.
    pub(crate) async fn session(&self) -> Result<Session, VsphereError> {
        let mut session = self.connect().await?;
        let password = self.password().await?;
        let manager = session.content.sessions.clone();
        let call = "Login";
        let context = ErrorContext { system: &self.system, call };
        let body = soap::envelope(call, &manager, |writer| {
            writer.text("userName", &self.user);
            writer.text("password", password.expose());
        });
        drop(password);
        let response = session.post(body, ApiVersion::BASE, CALL_TIMEOUT).await?;
        let login = soap::response(context, &response).map_err(|error| self.login_error(error))?;
        session.store_cookies(&response);
        if session.cookies.is_empty() {
            return Err(context.invalid_response("it has no cookie"));
        }
        session.key = login
            .at(&["returnval", "key"])
            .map(|key| key.text.clone())
            .ok_or_else(|| context.invalid_response("it has no session key"))?;
        tracing::debug!(system = %self.system, version = %session.about.api_version, "logged in");
        Ok(session)
    }

    /// Translates a fault in the response to a login.
    fn login_error(&self, error: VsphereError) -> VsphereError {
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
        // The reference may run a program and wait for it.
        match tokio::task::spawn_blocking(move || reference.resolve()).await {
            Ok(secret) => secret.map_err(failed),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(ErrorContext { system: &self.system, call: "Login" }
                    .invalid_response("Stackferry is shutting down")),
            },
        }
    }

    /// A session before the login, with what a system reports without one.
    async fn connect(&self) -> Result<Session, VsphereError> {
        let versions = self.versions().await?;
        let call = "RetrieveServiceContent";
        let context = ErrorContext { system: &self.system, call };
        let instance = Moid { kind: "ServiceInstance".to_owned(), value: "ServiceInstance".to_owned() };
        let version = ApiVersion::choose(&versions, ApiVersion::BASE);
        let request = request(soap::envelope(call, &instance, |_| {}), &version, CALL_TIMEOUT);
        let response = self.https.send(request).await?;
        let result = soap::response(context, &response)?;
        let content = result.get("returnval").ok_or_else(|| context.invalid_response("it has no content"))?;
        let object = |name: &str| content.get(name).and_then(soap::moid);
        let needed = |name: &str| object(name).ok_or_else(|| context.invalid_response(format!("it has no {name}")));
        let about = content.get("about").ok_or_else(|| context.invalid_response("it has no about"))?;
        let text = |name: &str| about.text_of(name).unwrap_or_default().to_owned();
        let mut session = Session {
            https: self.https.clone(),
            system: Arc::clone(&self.system),
            cookies: Vec::new(),
            versions,
            content: ServiceContent {
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
            },
            key: String::new(),
            used: AtomicBool::new(false),
        };
        session.store_cookies(&response);
        Ok(session)
    }

    /// The versions of the API that the system speaks. If it reports none, calls use the oldest supported version.
    async fn versions(&self) -> Result<Vec<ApiVersion>, VsphereError> {
        let request = Request::get("/sdk/vimServiceVersions.xml").limit(MAX_VERSIONS_FILE);
        let response = match self.https.send(request).await {
            Ok(response) => response,
            Err(HttpsError::TooLong { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        Ok(if response.status() == 200 { version::listed(response.body()) } else { Vec::new() })
    }
}

impl Session {
    pub(crate) fn system(&self) -> &str {
        &self.system
    }

    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    pub(crate) fn content(&self) -> &ServiceContent {
        &self.content
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Records that an operation succeeded in it.
    pub(crate) fn mark_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    pub(crate) fn was_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn context(&self, call: &'static str) -> ErrorContext<'_> {
        ErrorContext { system: &self.system, call }
    }

    /// All cookies as one header.
    pub(crate) fn cookie(&self) -> Secret {
        Secret::new(self.cookie_header().to_string())
    }

    /// Calls a method that responds soon.
    pub(crate) async fn call(
        &self,
        call: &'static str,
        this: &Moid,
        arguments: impl FnOnce(&mut XmlWriter),
    ) -> Result<XmlNode, VsphereError> {
        self.call_in(call, this, ApiVersion::BASE, CALL_TIMEOUT, arguments).await
    }

    /// Calls a method in the lowest version of the API from `version` on that the system speaks.
    pub(crate) async fn call_in(
        &self,
        call: &'static str,
        this: &Moid,
        version: ApiVersion,
        timeout: Duration,
        arguments: impl FnOnce(&mut XmlWriter),
    ) -> Result<XmlNode, VsphereError> {
        let body = soap::envelope(call, this, arguments);
        let response = self.post(body, version, timeout).await?;
        tracing::trace!(system = %self.system, call, status = response.status(), bytes = response.body().len(), "response");
        if response.status() == 401 {
            // The gateway before the SDK of newer vCenter Servers reports an expired session this way.
            return Err(VsphereError::Expired { system: self.system.to_string() });
        }
        soap::response(self.context(call), &response)
    }

    pub(crate) async fn current_time(&self) -> Result<(), VsphereError> {
        let instance = Moid { kind: "ServiceInstance".to_owned(), value: "ServiceInstance".to_owned() };
        self.call("CurrentTime", &instance, |_| {}).await.map(|_| ())
    }

    pub(crate) async fn logout(&self) -> Result<(), VsphereError> {
        match self.call("Logout", &self.content.sessions, |_| {}).await {
            // The session has ended already.
            Err(error) if error.is_expired() => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    async fn post(&self, body: Vec<u8>, version: ApiVersion, timeout: Duration) -> Result<Response, VsphereError> {
        let version = ApiVersion::choose(&self.versions, version);
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

    fn store_cookies(&mut self, response: &Response) {
        for cookie in response.cookies() {
            let pair = cookie.split(';').next().unwrap_or_default().trim();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies.retain(|(stored, _)| stored != name);
                self.cookies.push((name.to_owned(), Zeroizing::new(value.to_owned())));
            }
        }
    }
}

fn request(body: Vec<u8>, version: &ApiVersion, timeout: Duration) -> Request {
    Request::post(SDK, "text/xml; charset=utf-8", body)
        .header("soapaction", &format!("\"urn:vim25/{version}\""))
        .limit(MAX_RESPONSE)
        .timeout(timeout)
}

#[cfg(test)]
mod tests;
