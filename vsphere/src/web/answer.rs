//! What a system answers, as a whole or piece by piece.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use reqwest::header::HeaderMap;

use super::{WebError, error};

/// How much room is made before anything came, in bytes: a server's word about the length is not taken for more.
const FIRST_ROOM: u64 = 64 * 1024;

/// A whole answer. Its headers may hold cookies, so `Debug` shows neither them nor the body.
pub struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
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

    /// All `Set-Cookie` headers, as they came.
    pub fn cookies(&self) -> impl Iterator<Item = &str> {
        self.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok())
    }

    /// The `Content-Type`, with its parameters.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.header("content-type")
    }

    /// What the body is instead of data that was asked for, where its head and its first bytes say so.
    #[must_use]
    pub fn disguise(&self) -> Option<Disguise> {
        let encoding = self.header("content-encoding").map(|how| how.trim().to_ascii_lowercase()).unwrap_or_default();
        match (encoding.as_str(), &self.body[..]) {
            ("gzip" | "x-gzip", _) | (_, [0x1f, 0x8b, ..]) => Some(Disguise::Compressed("gzip")),
            ("deflate", _) => Some(Disguise::Compressed("deflate")),
            ("br", _) => Some(Disguise::Compressed("brotli")),
            ("zstd", _) | (_, [0x28, 0xb5, 0x2f, 0xfd, ..]) => Some(Disguise::Compressed("zstd")),
            (_, body) => is_page(body).then_some(Disguise::WebPage),
        }
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body, taken out.
    #[must_use]
    pub fn into_body(self) -> Bytes {
        self.body
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// What an answer is instead of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disguise {
    /// A web page: of a portal, a proxy, or a login.
    WebPage,
    /// Compressed by this, though nobody asked for it.
    Compressed(&'static str),
}

/// Whether it begins as an HTML page does.
fn is_page(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    let head = body.get(..body.len().min(64)).unwrap_or_default().to_ascii_lowercase();
    ["<!doctype html", "<html", "<head", "<body"].iter().any(|begin| head.starts_with(begin.as_bytes()))
}

/// An answer whose body is still to come. Dropping it ends the download and its connection.
pub struct Streaming {
    system: Arc<str>,
    response: Response,
    limit: u64,
    read: u64,
    idle: Duration,
}

impl Streaming {
    pub(super) fn new(system: Arc<str>, response: Response, idle: Duration) -> Self {
        Self { system, response, limit: u64::MAX, read: 0, idle }
    }

    pub(super) fn set_limit(&mut self, limit: u64) {
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

    /// All `Set-Cookie` headers, as they came.
    pub fn cookies(&self) -> impl Iterator<Item = &str> {
        self.response.headers().get_all("set-cookie").iter().filter_map(|value| value.to_str().ok())
    }

    /// The `Content-Type`, with its parameters.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.header("content-type")
    }

    /// How many bytes of body the server announced; not checked yet, but a body that ends earlier is an error.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.header("content-length").and_then(|length| length.parse().ok())
    }

    /// The next piece of the body, none at its end.
    ///
    /// # Errors
    /// Nothing came for 30 s, the connection broke before the end, or the body is longer than the limit.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, WebError> {
        let (system, idle) = (Arc::clone(&self.system), self.idle);
        tokio::time::timeout(idle, self.next())
            .await
            .map_err(|_| WebError::Silent { system: system.to_string(), seconds: idle.as_secs() })?
    }

    async fn next(&mut self) -> Result<Option<Bytes>, WebError> {
        let chunk = self.response.chunk().await.map_err(|error| error::classify(&self.system, error, "answering"))?;
        if let Some(chunk) = &chunk {
            self.read = self.read.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            if self.read > self.limit {
                return Err(self.too_long());
            }
        }
        Ok(chunk)
    }

    /// Reads the rest. The caller has the deadline: a server may send the head long before it knows the answer.
    pub(super) async fn whole(mut self) -> Result<Answer, WebError> {
        let told = self.content_length().unwrap_or(0);
        if told > self.limit && !self.has_no_body() {
            return Err(self.too_long());
        }
        let mut body = BytesMut::with_capacity(usize::try_from(told.min(FIRST_ROOM)).unwrap_or(0));
        while let Some(chunk) = self.next().await? {
            body.extend_from_slice(&chunk);
        }
        let headers = std::mem::take(self.response.headers_mut());
        Ok(Answer { status: self.response.status().as_u16(), headers, body: body.freeze() })
    }

    /// The answer to a HEAD has a length, but no body: then the real length is known to be 0.
    fn has_no_body(&self) -> bool {
        self.response.content_length() == Some(0)
    }

    fn too_long(&self) -> WebError {
        WebError::TooLong { system: self.system.to_string(), limit: self.limit }
    }
}

impl fmt::Debug for Streaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming").field("status", &self.status()).field("read", &self.read).finish_non_exhaustive()
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
