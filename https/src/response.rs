//! A response, whole or streamed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::HeaderMap;

use crate::{HttpsError, error};

/// How much memory is reserved before the body arrives, in bytes, however long the server claims that it is.
const MAX_INITIAL_CAPACITY: u64 = 64 * 1024;

/// A whole response. Its headers may hold cookies, so `Debug` shows neither them nor the body.
pub struct Response {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Response {
    /// The HTTP status, 100 to 999.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the status is 200 to 299.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first header of that name, if it is plain ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// The values of all `Set-Cookie` headers.
    pub fn cookies(&self) -> impl Iterator<Item = &str> {
        self.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok())
    }

    /// The `Content-Type`, with its parameters.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.header("content-type")
    }

    /// What the body holds instead of the requested data, if the headers or its first bytes show it.
    #[must_use]
    pub fn unexpected_content(&self) -> Option<UnexpectedContent> {
        let encoding =
            self.header("content-encoding").map(|encoding| encoding.trim().to_ascii_lowercase()).unwrap_or_default();
        match (encoding.as_str(), &self.body[..]) {
            ("gzip" | "x-gzip", _) | (_, [0x1f, 0x8b, ..]) => Some(UnexpectedContent::Compressed("gzip")),
            ("deflate", _) => Some(UnexpectedContent::Compressed("deflate")),
            ("br", _) => Some(UnexpectedContent::Compressed("brotli")),
            ("zstd", _) | (_, [0x28, 0xb5, 0x2f, 0xfd, ..]) => Some(UnexpectedContent::Compressed("zstd")),
            (_, body) => is_page(body).then_some(UnexpectedContent::WebPage),
        }
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Consumes the response and returns its body.
    #[must_use]
    pub fn into_body(self) -> Bytes {
        self.body
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What a response holds instead of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnexpectedContent {
    /// A web page: a portal, a proxy's error, or a login.
    WebPage,
    /// Compressed with this method, though the request accepts none.
    Compressed(&'static str),
}

/// Whether it begins like an HTML page.
fn is_page(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    let head = body.get(..body.len().min(64)).unwrap_or_default().to_ascii_lowercase();
    ["<!doctype html", "<html", "<head", "<body"].iter().any(|begin| head.starts_with(begin.as_bytes()))
}

/// A response whose body is still to be read. Dropping it ends the download and its connection.
pub struct StreamingResponse {
    system: Arc<str>,
    response: reqwest::Response,
    limit: u64,
    read: u64,
    idle: Duration,
}

impl StreamingResponse {
    pub(crate) fn new(system: Arc<str>, response: reqwest::Response, idle: Duration) -> Self {
        Self { system, response, limit: u64::MAX, read: 0, idle }
    }

    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// The HTTP status, 100 to 999.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The first header of that name, if it is plain ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        text(self.response.headers(), name)
    }

    /// The values of all `Set-Cookie` headers.
    pub fn cookies(&self) -> impl Iterator<Item = &str> {
        self.response.headers().get_all("set-cookie").iter().filter_map(|value| value.to_str().ok())
    }

    /// The `Content-Type`, with its parameters.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.header("content-type")
    }

    /// The length of the body that the server announced. Unchecked, but a body that ends earlier is an error.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.header("content-length").and_then(|length| length.parse().ok())
    }

    /// The next chunk of the body, `None` at its end.
    ///
    /// # Errors
    /// No data arrived for 30 s, the connection broke before the end, or the body exceeds the limit.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpsError> {
        let (system, idle) = (Arc::clone(&self.system), self.idle);
        tokio::time::timeout(idle, self.next())
            .await
            .map_err(|_| HttpsError::Stalled { system: system.to_string(), seconds: idle.as_secs() })?
    }

    async fn next(&mut self) -> Result<Option<Bytes>, HttpsError> {
        let chunk = self
            .response
            .chunk()
            .await
            .map_err(|error| error::classify(&self.system, error, "receiving the response"))?;
        if let Some(chunk) = &chunk {
            self.read = self.read.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            if self.read > self.limit {
                return Err(self.too_long());
            }
        }
        Ok(chunk)
    }

    /// Reads the rest of the body. The caller sets the timeout: a server may send the headers long before the body.
    pub(crate) async fn whole(mut self) -> Result<Response, HttpsError> {
        let announced = self.content_length().unwrap_or(0);
        if announced > self.limit && !self.has_no_body() {
            return Err(self.too_long());
        }
        let mut body = BytesMut::with_capacity(usize::try_from(announced.min(MAX_INITIAL_CAPACITY)).unwrap_or(0));
        while let Some(chunk) = self.next().await? {
            body.extend_from_slice(&chunk);
        }
        let headers = std::mem::take(self.response.headers_mut());
        Ok(Response { status: self.response.status().as_u16(), headers, body: body.freeze() })
    }

    /// The response to a HEAD request announces a length but has no body.
    fn has_no_body(&self) -> bool {
        self.response.content_length() == Some(0)
    }

    fn too_long(&self) -> HttpsError {
        HttpsError::TooLong { system: self.system.to_string(), limit: self.limit }
    }
}

impl fmt::Debug for StreamingResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamingResponse")
            .field("status", &self.status())
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
