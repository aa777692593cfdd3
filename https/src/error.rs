//! What can go wrong between Stackferry and an HTTPS server, and what to do about it.

use std::error::Error;
use std::io;

use crate::refusal::{UntrustedCertificate, WeakKey};
use crate::timeouts::CONNECT;
use crate::{Retry, Thumbprint};

/// Why a request failed. `system` is the name that the client was made with, such as `vSphere vc1`. Never holds a header's
/// value or a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpsError {
    /// The system's address is invalid.
    #[error("the address of {system} is invalid")]
    InvalidAddress {
        /// The system.
        system: String,
    },
    /// The request can't be sent.
    #[error("can't send a request to {system}: {what}")]
    InvalidRequest {
        /// The system.
        system: String,
        /// What is wrong with the request.
        what: &'static str,
    },
    /// The certificate authorities can't be loaded.
    #[error("can't load the certificate authorities for {system}: {why}")]
    NoAuthorities {
        /// The system.
        system: String,
        /// The cause.
        why: String,
    },
    /// No connection.
    #[error("{system} is unreachable: {why}")]
    Unreachable {
        /// The system.
        system: String,
        /// The cause, in the operating system's words.
        why: String,
    },
    /// The certificate is not trusted.
    #[error("the certificate of {system} is not trusted: {why}{}", presented_text(presented.as_ref()))]
    Certificate {
        /// The system.
        system: String,
        /// Why not.
        why: String,
        /// The SHA-256 of the certificate that the system presented, for comparison.
        presented: Option<Thumbprint>,
    },
    /// The certificate's key is too short to prove anything, even if the certificate is trusted.
    #[error("the certificate of {system} has a key that is too weak: RSA with {bits} bits")]
    WeakKey {
        /// The system.
        system: String,
        /// The length of the key.
        bits: usize,
    },
    /// The two sides agreed on no encryption, or the other side does not speak TLS.
    #[error("the TLS handshake with {system} failed: {why}")]
    Handshake {
        /// The system.
        system: String,
        /// The cause.
        why: String,
    },
    /// The connection broke.
    #[error("the connection to {system} broke while {doing}: {why}")]
    Broken {
        /// The system.
        system: String,
        /// `sending the request` or `receiving the response`.
        doing: &'static str,
        /// The cause, in the operating system's words.
        why: String,
    },
    /// The system did not respond in time, or stopped in the middle of a response.
    #[error("{system} did not respond within {seconds} seconds")]
    Stalled {
        /// The system.
        system: String,
        /// The timeout.
        seconds: u64,
    },
    /// The response exceeds its limit.
    #[error("the response of {system} is longer than {limit} bytes")]
    TooLong {
        /// The system.
        system: String,
        /// The limit.
        limit: u64,
    },
}

impl HttpsError {
    /// The system's name.
    #[must_use]
    pub fn system(&self) -> &str {
        match self {
            Self::InvalidAddress { system }
            | Self::InvalidRequest { system, .. }
            | Self::NoAuthorities { system, .. }
            | Self::Unreachable { system, .. }
            | Self::Certificate { system, .. }
            | Self::WeakKey { system, .. }
            | Self::Handshake { system, .. }
            | Self::Broken { system, .. }
            | Self::Stalled { system, .. }
            | Self::TooLong { system, .. } => system,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::InvalidAddress { .. } => r#"write it as "https://host.example.com""#.to_owned(),
            Self::InvalidRequest { .. } => "a name in it has characters that a URL can't carry; rename it".to_owned(),
            Self::NoAuthorities { .. } => {
                "set `ca` to a PEM file that the service may read, or `fingerprint` to the certificate's fingerprint"
                    .to_owned()
            }
            Self::Unreachable { .. } => {
                "check its address, that it is up, and that no firewall blocks this machine from its HTTPS port"
                    .to_owned()
            }
            Self::Certificate { presented: Some(presented), .. } => format!(
                "compare {presented} with the certificate on the system itself; if they are equal, set fingerprint = \
                 \"{presented}\", or set `ca` to its authority's file"
            ),
            Self::Certificate { presented: None, .. } => {
                "set `ca` to its authority's file, or `fingerprint` to its fingerprint".to_owned()
            }
            Self::WeakKey { .. } => {
                "create a new certificate for it, with RSA of at least 2,048 bits or ECDSA; its fingerprint does not help"
                    .to_owned()
            }
            Self::Handshake { .. } => {
                "check that its address has the HTTPS port, and that it offers TLS 1.2 or 1.3 with AES-GCM or ChaCha20; a \
                 proxy or firewall in between may also end the handshake"
                    .to_owned()
            }
            Self::Broken { .. } | Self::Stalled { .. } => "check whether it is overloaded or restarting".to_owned(),
            Self::TooLong { .. } => "check that the address leads to the right system".to_owned(),
        }
    }

    /// Whether another attempt may succeed.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Stalled { .. } | Self::Handshake { .. } => {
                Retry::Transient
            }
            Self::InvalidAddress { .. }
            | Self::InvalidRequest { .. }
            | Self::NoAuthorities { .. }
            | Self::Certificate { .. }
            | Self::WeakKey { .. }
            | Self::TooLong { .. } => Retry::Permanent,
        }
    }
}

fn presented_text(presented: Option<&Thumbprint>) -> String {
    presented.map_or_else(String::new, |presented| format!(" (it presented {presented})"))
}

/// Translates an error of the HTTP library. `doing` completes "broke while …".
pub(crate) fn classify(system: &str, error: reqwest::Error, doing: &'static str) -> HttpsError {
    let system = system.to_owned();
    // The URL may be long, and the caller names the file itself.
    let error = error.without_url();
    if let Some(tls) = find::<rustls::Error>(&error) {
        return from_tls(system, tls);
    }
    // Once TCP is connected, only the handshake can end a connection before the first response.
    let is_closed = was_closed(&error);
    if error.is_connect() && is_closed {
        return HttpsError::Handshake {
            system,
            why: format!("the other side closed the connection ({})", innermost(&error)),
        };
    }
    if error.is_connect() {
        let why = if error.is_timeout() {
            format!("no connection after {} seconds", CONNECT.as_secs())
        } else {
            innermost(&error)
        };
        return HttpsError::Unreachable { system, why };
    }
    HttpsError::Broken { system, doing, why: innermost(&error) }
}

/// Explains why the handshake of a connection with [`crate::tls_config`] failed.
#[must_use]
pub fn tls_error(system: &str, error: &io::Error) -> HttpsError {
    let system = system.to_owned();
    match find::<rustls::Error>(error) {
        Some(tls) => from_tls(system, tls),
        None => HttpsError::Handshake { system, why: innermost(error) },
    }
}

fn from_tls(system: String, error: &rustls::Error) -> HttpsError {
    let rustls::Error::InvalidCertificate(reason) = error else {
        return HttpsError::Handshake { system, why: handshake(error) };
    };
    let other = match reason {
        rustls::CertificateError::Other(other) => Some(&other.0),
        _ => None,
    };
    if let Some(weak) = other.and_then(|other| other.downcast_ref::<WeakKey>()) {
        return HttpsError::WeakKey { system, bits: weak.bits };
    }
    let untrusted = other.and_then(|other| other.downcast_ref::<UntrustedCertificate>());
    match untrusted {
        Some(found) => HttpsError::Certificate { system, why: found.why.clone(), presented: Some(found.presented) },
        None => HttpsError::Certificate { system, why: reason.to_string(), presented: None },
    }
}

/// Whether any error of the chain says that the other side closed the connection.
fn was_closed(error: &(dyn Error + 'static)) -> bool {
    let is_closed = |kind| {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        matches!(kind, UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
    };
    let mut error = Some(error);
    while let Some(this) = error {
        if this.downcast_ref::<io::Error>().is_some_and(|this| is_closed(this.kind())) {
            return true;
        }
        error = next(this);
    }
    false
}

/// Why a handshake failed. Adds an explanation where the library's own text needs knowledge of TLS.
fn handshake(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(_) => format!("it does not speak TLS ({error})"),
        rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(_) => {
            format!("no encryption that both sides support ({error})")
        }
        other => other.to_string(),
    }
}

/// The error of type `T` in the chain. `source` skips the error inside an `io::Error`, so [`next`] looks there itself.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut error = error;
    loop {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        error = next(error)?;
    }
}

/// The text of the root cause. The errors above it only say that there is one.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = next(error) {
        error = cause;
    }
    error.to_string()
}

fn next<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}
