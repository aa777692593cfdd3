//! A request.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, Url};
use zeroize::Zeroizing;

use crate::timeouts::IDLE;

/// The default limit for a response that is read as a whole, in bytes.
const DEFAULT_LIMIT: u64 = 4 * 1024 * 1024;

/// A request. Header values and the body may be secret: they are wiped from memory as far as this crate can do so, and
/// `Debug` omits them and the query.
pub struct Request {
    method: Method,
    path: String,
    headers: Vec<(&'static str, Zeroizing<String>)>,
    body: Option<Bytes>,
    limit: Option<u64>,
    timeout: Duration,
}

impl Request {
    /// A request for `path`, which is relative to the client's base, begins with `/`, may have a query, and is
    /// percent-encoded where needed.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: None, limit: None, timeout: IDLE }
    }

    /// `GET`.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// `POST` with a body.
    #[must_use]
    pub fn post(path: impl Into<String>, content_type: &str, body: Vec<u8>) -> Self {
        Self::new(Method::POST, path).body(content_type, body)
    }

    /// Adds a body. It is wiped after it was sent, since it may hold a password.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: Vec<u8>) -> Self {
        self.body = Some(Bytes::from_owner(Zeroizing::new(body)));
        self.header("content-type", content_type)
    }

    /// Adds a header; `name` is in lower case. The value may be secret.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, Zeroizing::new(value.to_owned())));
        self
    }

    /// The size limit of the response body, in bytes. Default: 4 MiB, none for a streamed response.
    #[must_use]
    pub fn limit(mut self, bytes: u64) -> Self {
        self.limit = Some(bytes);
        self
    }

    /// The timeout for the whole response; for a streamed one, for its headers. Default: 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn explicit_limit(&self) -> Option<u64> {
        self.limit
    }

    pub(crate) fn response_limit(&self) -> u64 {
        self.limit.unwrap_or(DEFAULT_LIMIT)
    }

    pub(crate) fn response_timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn build(self, url: Url) -> Result<reqwest::Request, &'static str> {
        let mut request = reqwest::Request::new(self.method, url);
        for (name, value) in &self.headers {
            let name = HeaderName::from_lowercase(name.as_bytes()).map_err(|_| "a header name is invalid")?;
            let mut value = HeaderValue::from_str(value).map_err(|_| "a header value is invalid")?;
            value.set_sensitive(true);
            request.headers_mut().append(name, value);
        }
        *request.body_mut() = self.body.map(Into::into);
        Ok(request)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path.split('?').next().unwrap_or_default())
            .field("headers", &names)
            .field("body_bytes", &self.body.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}
