//! The connection to a mail server: TCP, then TLS as the configuration wants it.
//!
//! STARTTLS is spoken here and not by the library: what a machine in the middle slips in behind the server's plain answer
//! must not be taken for what the server says when it is encrypted, and the certificate is judged as everywhere else.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use lettre::transport::smtp::client::AsyncTokioStream;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use stackferry_config::{Mail, MailTls};
use stackferry_https::{HttpsError, Trust};
use stackferry_transfer::dial::{DialError, dial};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{NAME, WORDS};
use stackferry_problem::output::escape;
use stackferry_problem::{Code, Problem, Retry};

/// How long making the connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// The longest answer before TLS, and all that is read of one conversation: a mail server says a few lines.
const MOST: usize = 64 << 10;
/// What the library waits for first. After STARTTLS the server says nothing by itself (RFC 3207), its greeting was read
/// before.
const GREETING: &[u8] = b"220 encrypted\r\n";

/// A connection that the library speaks over.
#[derive(Debug)]
pub(super) struct SmtpLine {
    inner: StreamInner,
    /// What is read before anything comes from the server.
    before: &'static [u8],
    /// How much may still be read.
    left: usize,
}

#[derive(Debug)]
enum StreamInner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How the server's certificate is judged; none where the connection is not encrypted.
pub(super) fn tls_config(settings: &Mail) -> Result<Option<Arc<ClientConfig>>, Problem> {
    match settings.tls {
        MailTls::None => Ok(None),
        MailTls::Starttls | MailTls::Tls => Ok(Some(Arc::new(stackferry_https::tls_config(
            NAME,
            Trust::new(settings.ca.as_deref(), settings.fingerprint.map(Into::into)),
        )?))),
    }
}

/// Connects.
pub(super) async fn open(settings: &Mail) -> Result<SmtpLine, Problem> {
    let address = settings.address();
    let config = tls_config(settings)?;
    let unreachable = |why: String| {
        Problem::new(Code::Unreachable, format!("{NAME} {address} can't be reached: {why}"))
            .subject(&address)
            .hint("check its name and port, that it is up, and that a firewall lets this machine through")
    };
    let mut tcp = match dial(&address.host, address.port, CONNECT).await {
        Ok(tcp) => tcp,
        Err(DialError::Failed(error)) => return Err(unreachable(error.to_string())),
        Err(DialError::NoAnswer(_)) => {
            return Err(unreachable(format!("no connection within {} seconds", CONNECT.as_secs())));
        }
    };
    let line = |inner, before| SmtpLine { inner, before, left: MOST };
    let Some(config) = config else { return Ok(line(StreamInner::Plain(tcp), b"")) };
    let before: &[u8] = if settings.tls == MailTls::Starttls {
        starttls(&mut tcp).await.map_err(|why| no_starttls(settings, &why))?;
        GREETING
    } else {
        b""
    };
    let name = ServerName::try_from(address.host.clone())
        .map_err(|_| Problem::new(Code::BadConfig, format!("{} can't be in a certificate", address.host)))?;
    let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(|error| not_secure(settings, &error))?;
    Ok(line(StreamInner::Tls(Box::new(tls)), before))
}

/// Why a connection does not become an encrypted one.
enum SmtpError {
    Io(io::Error),
    Said(String),
    NotOffered,
    TooMuch,
}

impl From<io::Error> for SmtpError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn no_starttls(settings: &Mail, why: &SmtpError) -> Problem {
    let address = settings.address();
    let problem = |code, text: String| Problem::new(code, text).subject(&address);
    match why {
        SmtpError::Io(error) => problem(Code::Unreachable, format!("the connection to {NAME} {address} broke: {error}"))
            .hint("does `tls` fit its port? 587 is for \"starttls\", 465 for \"tls\"")
            .retry(Retry::Transient),
        SmtpError::Said(text) => problem(Code::Protocol, format!("{NAME} {address} did not begin to encrypt: {text}"))
            .hint("is it a mail server, and does `tls` fit its port? 587 is for \"starttls\", 465 for \"tls\""),
        SmtpError::NotOffered => problem(Code::Refused, format!("{NAME} {address} does not offer to encrypt (STARTTLS)"))
            .hint("nothing was sent. Turn TLS on there, or take tls = \"tls\" where it has a port for it; if it should offer it, somebody in between may have taken the offer away"),
        SmtpError::TooMuch => problem(Code::Protocol, format!("{NAME} {address} said more than its answer to STARTTLS"))
            .hint("nothing was sent. Somebody in between may have put it in; look at the network between"),
    }
}

fn not_secure(settings: &Mail, error: &io::Error) -> Problem {
    let system = format!("{NAME} {}", settings.address());
    let error = stackferry_https::tls_error(&system, error);
    let problem = Problem::from(error.clone()).subject(settings.address());
    match error {
        HttpsError::Certificate { .. } | HttpsError::WeakKey { .. } => problem,
        _ => problem.hint("does `tls` fit its port? 587 is for \"starttls\", 465 for \"tls\""),
    }
}

/// Asks for encryption (RFC 3207), up to where the handshake begins.
async fn starttls(tcp: &mut TcpStream) -> Result<(), SmtpError> {
    let mut read = Vec::new();
    said(reply(tcp, &mut read).await?, "220")?;
    // RFC 5321, 4.1.4: who has no name of its own gives its address.
    let own = tcp.local_addr()?.ip();
    let own = if own.is_ipv6() { format!("[IPv6:{own}]") } else { format!("[{own}]") };
    tcp.write_all(format!("EHLO {own}\r\n").as_bytes()).await?;
    let hello = said(reply(tcp, &mut read).await?, "250")?;
    let offers = |line: &str| line.get(4..).is_some_and(|word| word.trim().eq_ignore_ascii_case("STARTTLS"));
    if !hello.lines().any(offers) {
        let _ = tcp.write_all(b"QUIT\r\n").await;
        return Err(SmtpError::NotOffered);
    }
    tcp.write_all(b"STARTTLS\r\n").await?;
    said(reply(tcp, &mut read).await?, "220")?;
    if read.is_empty() { Ok(()) } else { Err(SmtpError::TooMuch) }
}

/// The reply, if it begins with this code.
fn said(reply: String, code: &str) -> Result<String, SmtpError> {
    if reply.starts_with(code) { Ok(reply) } else { Err(SmtpError::Said(shown(&reply))) }
}

/// Words of a server, as they may be shown.
fn shown(text: &str) -> String {
    escape(text.trim_end()).chars().take(WORDS).collect()
}

/// One reply, of one or many lines. What came behind it stays in `read`.
async fn reply(tcp: &mut TcpStream, read: &mut Vec<u8>) -> Result<String, SmtpError> {
    let mut taken = 0;
    loop {
        while let Some(at) = read.get(taken..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
            let line = read.get(taken..taken + at).unwrap_or_default();
            if !line.get(..3).is_some_and(|code| code.iter().all(u8::is_ascii_digit)) {
                return Err(SmtpError::Said(shown(&String::from_utf8_lossy(line))));
            }
            // `250-` goes on, `250 ` (or `250`) is the last line.
            let is_last = line.get(3) != Some(&b'-');
            taken += at + 1;
            if is_last {
                let rest = read.split_off(taken);
                let reply = std::mem::replace(read, rest);
                return Ok(String::from_utf8_lossy(&reply).into_owned());
            }
        }
        if read.len() > MOST {
            return Err(SmtpError::Said("its answer does not end".to_owned()));
        }
        let mut some = [0; 1024];
        match tcp.read(&mut some).await? {
            0 => return Err(SmtpError::Io(io::ErrorKind::UnexpectedEof.into())),
            count => read.extend_from_slice(some.get(..count).unwrap_or_default()),
        }
    }
}

impl AsyncTokioStream for SmtpLine {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.inner {
            StreamInner::Plain(tcp) => tcp.peer_addr(),
            StreamInner::Tls(tls) => tls.get_ref().0.peer_addr(),
        }
    }
}

impl AsyncRead for SmtpLine {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.before.is_empty() {
            let (now, later) = self.before.split_at(self.before.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.before = later;
            return Poll::Ready(Ok(()));
        }
        let had = buffer.filled().len();
        ready!(match &mut self.inner {
            StreamInner::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            StreamInner::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        })?;
        let came = buffer.filled().len().saturating_sub(had);
        match self.left.checked_sub(came) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Err(io::Error::other("the server says more than a mail server does"))),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SmtpLine {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            StreamInner::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            StreamInner::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            StreamInner::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            StreamInner::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            StreamInner::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            StreamInner::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
