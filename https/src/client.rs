//! The client: one system, its connections, and the timeouts and limits of each request.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::redirect::Policy;

use crate::timeouts::{CONNECT, IDLE, KEEP_IDLE};
use crate::{HttpsError, Request, Response, StreamingResponse, Trust, error, trust};

/// How many idle connections are kept.
const MAX_IDLE_CONNECTIONS: usize = 4;

/// An HTTPS client for one system. Cheap to clone; clones share the connections.
#[derive(Debug, Clone)]
pub struct HttpsClient {
    system: Arc<str>,
    base: Arc<Url>,
    client: reqwest::Client,
    /// How long a streamed response may pause.
    pub(crate) idle: Duration,
}

impl HttpsClient {
    /// A client for `base` (`https://host[:port][/path]`), named `system` in errors, such as `vSphere vc1`. Connects only
    /// when something is sent. Reads the file of a [`Trust::Ca`], or this machine's authorities, so don't call it often.
    ///
    /// # Errors
    /// The address is invalid, or the authorities can't be loaded.
    pub fn new(system: &str, base: &str, trust: Trust) -> Result<Self, HttpsError> {
        let invalid = || HttpsError::InvalidAddress { system: system.to_owned() };
        let url = Url::parse(base).map_err(|_| invalid())?;
        let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !matches!(url.scheme(), "https" | "http")
            || url.host_str().is_none()
            || url.fragment().is_some()
            || !is_plain
        {
            return Err(invalid());
        }
        let config = trust::tls_config(system, trust)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .http1_only()
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(CONNECT)
            .pool_idle_timeout(KEEP_IDLE)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .tcp_nodelay(true)
            .tcp_keepalive(IDLE)
            .user_agent(concat!("stackferry/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| HttpsError::NoAuthorities { system: system.to_owned(), why: error::innermost(&error) })?;
        Ok(Self { system: system.into(), base: Arc::new(url), client, idle: IDLE })
    }

    /// The name of the system in errors.
    #[must_use]
    pub fn system(&self) -> &str {
        &self.system
    }

    /// The host name or IP address of the system; an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// The host and, unless it is the default, the port.
    #[must_use]
    pub fn authority(&self) -> String {
        match self.base.port() {
            Some(port) => format!("{}:{port}", self.host()),
            None => self.host().to_owned(),
        }
    }

    /// Sends a request and reads the whole response, whatever its status.
    ///
    /// # Errors
    /// The system is unreachable or its certificate is refused; the response exceeds the request's limit, is cut off, or is
    /// not complete within the timeout.
    pub async fn send(&self, request: Request) -> Result<Response, HttpsError> {
        let (limit, timeout) = (request.response_limit(), request.response_timeout());
        let whole = async {
            let mut response = self.begin(request).await?;
            response.set_limit(limit);
            response.whole().await
        };
        tokio::time::timeout(timeout, whole).await.map_err(|_| self.stalled(timeout))?
    }

    /// Sends a request and returns the response's headers; its body is read in chunks. The request's timeout applies to the
    /// headers; its limit, if one was set, to the body.
    ///
    /// # Errors
    /// The system is unreachable, its certificate is refused, or it sends no headers within the timeout.
    pub async fn stream(&self, request: Request) -> Result<StreamingResponse, HttpsError> {
        let (limit, timeout) = (request.explicit_limit(), request.response_timeout());
        let mut response =
            tokio::time::timeout(timeout, self.begin(request)).await.map_err(|_| self.stalled(timeout))??;
        if let Some(limit) = limit {
            response.set_limit(limit);
        }
        Ok(response)
    }

    async fn begin(&self, request: Request) -> Result<StreamingResponse, HttpsError> {
        let url = self.url(request.path())?;
        let request = request.build(url).map_err(|what| self.invalid_request(what))?;
        let response = self
            .client
            .execute(request)
            .await
            .map_err(|error| error::classify(&self.system, error, "sending the request"))?;
        Ok(StreamingResponse::new(Arc::clone(&self.system), response, self.idle))
    }

    /// The URL of `path` below the base. A path that the URL standard would rewrite (a space, `..`, a backslash) is refused:
    /// the server has to receive exactly what the caller meant.
    pub(crate) fn url(&self, path: &str) -> Result<Url, HttpsError> {
        let text = format!("{}{path}", self.base.path().trim_end_matches('/'));
        let url = self.base.join(&text).map_err(|_| self.invalid_request("its path is invalid"))?;
        let sent = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let same_host = url.origin() == self.base.origin();
        if path.starts_with('/') && sent == text && same_host && url.fragment().is_none() {
            Ok(url)
        } else {
            Err(self.invalid_request("its path can't be sent unchanged"))
        }
    }

    fn invalid_request(&self, what: &'static str) -> HttpsError {
        HttpsError::InvalidRequest { system: self.system.to_string(), what }
    }

    fn stalled(&self, timeout: Duration) -> HttpsError {
        HttpsError::Stalled { system: self.system.to_string(), seconds: timeout.as_secs() }
    }
}
