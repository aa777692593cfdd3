//! HTTPS to a system whose certificate is known by its authority or by its fingerprint.
//!
//! One [`WebClient`] speaks with one system and keeps its connections. Every wait has a deadline and every answer a limit.
//! It follows no redirect and uses no proxy: a password or ticket goes to the system that was named, or nowhere. Values of
//! headers, and bodies, never reach an error or a `Debug` text.

mod answer;
mod error;
mod request;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::redirect::Policy;

pub use answer::{Answer, Disguise, Streaming};
pub use error::{Retry, WebError, tls_error};
pub use request::Request;
pub use reqwest::Method;
pub use trust::{Thumbprint, Trust, tls_config};

/// How long making a connection may take, TLS included.
pub const CONNECT: Duration = Duration::from_secs(10);
/// How long a system may be silent in the middle of an answer. A dead peer is noticed within this time.
pub const IDLE: Duration = Duration::from_secs(30);
/// How long an unused connection is kept. Shorter than the servers' own 60 s or more, so that they seldom close one that
/// is just being used again.
const KEPT: Duration = Duration::from_secs(20);
/// How many unused connections are kept.
const KEPT_CONNECTIONS: usize = 4;

/// Speaks HTTPS with one system. Cheap to clone; clones share the connections.
#[derive(Debug, Clone)]
pub struct WebClient {
    system: Arc<str>,
    base: Arc<Url>,
    client: reqwest::Client,
    /// How long a streamed answer may pause.
    idle: Duration,
}

impl WebClient {
    /// A client for `base` (`https://host[:port][/path]`), which errors call `system`, as `vSphere vc1`. Connects only
    /// when something is sent. Reads the file of a [`Trust::Ca`], or the machine's authorities: call it seldom.
    ///
    /// # Errors
    /// The address is none, or the authorities can't be read.
    pub fn new(system: &str, base: &str, trust: Trust) -> Result<Self, WebError> {
        let bad = || WebError::BadUrl { system: system.to_owned() };
        let url = Url::parse(base).map_err(|_| bad())?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() || url.fragment().is_some() || !plain {
            return Err(bad());
        }
        let config = trust::tls_config(system, trust)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .http1_only()
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(CONNECT)
            .pool_idle_timeout(KEPT)
            .pool_max_idle_per_host(KEPT_CONNECTIONS)
            .tcp_nodelay(true)
            .tcp_keepalive(IDLE)
            .user_agent(concat!("stackferry/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| WebError::Trust { system: system.to_owned(), why: error::innermost(&error) })?;
        Ok(Self { system: system.into(), base: Arc::new(url), client, idle: IDLE })
    }

    /// How errors call the system.
    #[must_use]
    pub fn system(&self) -> &str {
        &self.system
    }

    /// The host's name or address, as it stands in the address; an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// The host and, where it is not HTTPS's own, the port, as they stand in the address.
    #[must_use]
    pub fn authority(&self) -> String {
        match self.base.port() {
            Some(port) => format!("{}:{port}", self.host()),
            None => self.host().to_owned(),
        }
    }

    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// The system can't be reached or is not who it should be; the answer is longer than the request's limit, breaks off,
    /// or is not complete in time.
    pub async fn send(&self, request: Request) -> Result<Answer, WebError> {
        let (limit, timeout) = (request.answer_limit(), request.answer_timeout());
        let whole = async {
            let mut streaming = self.begin(request).await?;
            streaming.set_limit(limit);
            streaming.whole().await
        };
        tokio::time::timeout(timeout, whole).await.map_err(|_| self.silent(timeout))?
    }

    /// Sends a request and gives the answer's head; its body is read piece by piece. The request's timeout is for the head;
    /// its limit, where one was set, for the body.
    ///
    /// # Errors
    /// The system can't be reached or is not who it should be, or sends no head in time.
    pub async fn stream(&self, request: Request) -> Result<Streaming, WebError> {
        let (limit, timeout) = (request.own_limit(), request.answer_timeout());
        let mut streaming =
            tokio::time::timeout(timeout, self.begin(request)).await.map_err(|_| self.silent(timeout))??;
        if let Some(limit) = limit {
            streaming.set_limit(limit);
        }
        Ok(streaming)
    }

    async fn begin(&self, request: Request) -> Result<Streaming, WebError> {
        let url = self.url(request.path())?;
        let request = request.build(url).map_err(|what| self.bad_request(what))?;
        let response =
            self.client.execute(request).await.map_err(|error| error::classify(&self.system, error, "asked"))?;
        Ok(Streaming::new(Arc::clone(&self.system), response, self.idle))
    }

    /// The address of `path` below the base. What the URL standard would rewrite (a space, `..`, a backslash) is refused:
    /// the server has to see exactly what the caller meant.
    fn url(&self, path: &str) -> Result<Url, WebError> {
        let text = format!("{}{path}", self.base.path().trim_end_matches('/'));
        let url = self.base.join(&text).map_err(|_| self.bad_request("its path is no path"))?;
        let (seen_path, seen_query) = (url.path(), url.query());
        let seen = seen_query.map_or_else(|| seen_path.to_owned(), |query| format!("{seen_path}?{query}"));
        let same_host = url.origin() == self.base.origin();
        if path.starts_with('/') && seen == text && same_host && url.fragment().is_none() {
            Ok(url)
        } else {
            Err(self.bad_request("its path is not one that can be sent as it is"))
        }
    }

    fn bad_request(&self, what: &'static str) -> WebError {
        WebError::BadRequest { system: self.system.to_string(), what }
    }

    fn silent(&self, timeout: Duration) -> WebError {
        WebError::Silent { system: self.system.to_string(), seconds: timeout.as_secs() }
    }
}

#[cfg(test)]
mod tests;
