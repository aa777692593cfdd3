//! What a host sends before its SSH greeting: a refusal because it is busy, an administrator's message, or another
//! protocol. The library skips these lines, and only they say why a connection ends at once.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sanitize::clean;

/// The most bytes kept.
const MAX_KEPT: usize = 1 << 10;

/// The first bytes received from a host.
#[derive(Debug, Clone, Default)]
pub(super) struct FirstBytes(Arc<Mutex<Vec<u8>>>);

impl FirstBytes {
    /// The lines before the greeting, joined; none where there are none.
    pub(super) fn text(&self) -> Option<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().take_while(|line| !line.starts_with("SSH-")).collect();
        Some(clean(&lines.join(" "))).filter(|text| !text.is_empty())
    }
}

/// A stream that keeps its first bytes.
pub(super) struct GreetingCapture<S> {
    stream: S,
    first: Option<FirstBytes>,
}

impl<S> GreetingCapture<S> {
    pub(super) fn new(stream: S, first: FirstBytes) -> Self {
        Self { stream, first: Some(first) }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let Some(first) = &self.first else { return };
        let mut kept = first.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_KEPT.saturating_sub(kept.len());
        kept.extend(bytes.iter().take(room));
        let is_over =
            kept.len() >= MAX_KEPT || kept.starts_with(b"SSH-") || kept.windows(5).any(|five| five == b"\nSSH-");
        drop(kept);
        if is_over {
            self.first = None;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GreetingCapture<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.first.is_some()
            && let Some(new) = buf.filled().get(before..)
        {
            self.keep(new);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GreetingCapture<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn words(sent: &[u8]) -> Option<String> {
        let first = FirstBytes::default();
        let mut stream = GreetingCapture::new(sent, first.clone());
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, sent);
        first.text()
    }

    #[tokio::test]
    async fn lines_before_the_greeting_are_kept() {
        assert_eq!(words(b"").await, None);
        assert_eq!(words(b"SSH-2.0-OpenSSH_9.2\r\nmore").await, None);
        assert_eq!(words(b"Exceeded MaxStartups\r\n").await.unwrap(), "Exceeded MaxStartups");
        assert_eq!(words(b"one\ntwo\x1b[2J\r\nSSH-2.0-x\r\nthree").await.unwrap(), "one two [2J");
        assert_eq!(words(&[b'x'; 5000]).await.unwrap().len(), 500);
    }
}
