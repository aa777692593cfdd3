//! What can go wrong between us and a web server, and what to do about it.

use std::error::Error;
use std::io;

use stackferry_config::Fingerprint;

use super::CONNECT;
use super::trust::{Refused, WeakKey};

/// Whether what failed may succeed when it is tried again as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not before somebody changed something.
    Permanent,
    /// It may: the network, a restart, a busy server.
    Transient,
}

/// Why a system gave no answer. `system` is what it was called, as `vSphere vc1`. Never holds a header's value or a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebError {
    /// Its address is no address.
    #[error("the address of {system} can't be used")]
    BadUrl {
        /// Who.
        system: String,
    },
    /// What was to be sent can't be sent.
    #[error("a request to {system} can't be sent: {what}")]
    BadRequest {
        /// To whom.
        system: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The authorities by which its certificate is to be judged are not there.
    #[error("nothing to judge the certificate of {system} by: {why}")]
    Trust {
        /// Whose.
        system: String,
        /// What is wrong.
        why: String,
    },
    /// No connection.
    #[error("{system} can't be reached: {why}")]
    Unreachable {
        /// Who.
        system: String,
        /// The system's words.
        why: String,
    },
    /// Its certificate is not one that is trusted.
    #[error("the certificate of {system} is not trusted: {why}{}", shown_text(shown.as_ref()))]
    Certificate {
        /// Whose.
        system: String,
        /// Why not.
        why: String,
        /// The SHA-256 of the certificate that it showed, so that a person can compare.
        shown: Option<Fingerprint>,
    },
    /// Its certificate's key is too short to prove anything, whoever trusts the certificate.
    #[error("the certificate of {system} has a key that is too weak: RSA with {bits} bits")]
    WeakKey {
        /// Whose.
        system: String,
        /// The length of the key.
        bits: usize,
    },
    /// The two sides agreed on no encryption, or the other side speaks none.
    #[error("the TLS handshake with {system} failed: {why}")]
    Handshake {
        /// With whom.
        system: String,
        /// What went wrong.
        why: String,
    },
    /// The connection broke while it was asked or answered.
    #[error("the connection to {system} broke while it was {doing}: {why}")]
    Broken {
        /// To whom.
        system: String,
        /// `asked` or `answering`.
        doing: &'static str,
        /// The system's words.
        why: String,
    },
    /// It did not answer in time, or stopped in the middle.
    #[error("{system} gave no answer for {seconds} seconds")]
    Silent {
        /// Who.
        system: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Its answer is longer than one of this kind can be.
    #[error("{system} answered with more than {limit} bytes")]
    TooLong {
        /// Who.
        system: String,
        /// How much would have been taken.
        limit: u64,
    },
}

impl WebError {
    /// Whose error it is.
    #[must_use]
    pub fn system(&self) -> &str {
        match self {
            Self::BadUrl { system }
            | Self::BadRequest { system, .. }
            | Self::Trust { system, .. }
            | Self::Unreachable { system, .. }
            | Self::Certificate { system, .. }
            | Self::WeakKey { system, .. }
            | Self::Handshake { system, .. }
            | Self::Broken { system, .. }
            | Self::Silent { system, .. }
            | Self::TooLong { system, .. } => system,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::BadUrl { .. } => r#"write it as "https://host.example.com""#.to_owned(),
            Self::BadRequest { .. } => "a name in it has characters that can't be asked for; rename it".to_owned(),
            Self::Trust { .. } => {
                "name a PEM file that the service may read as `ca`, or the certificate's own fingerprint as `fingerprint`"
                    .to_owned()
            }
            Self::Unreachable { .. } => {
                "check its address, that it is up, and that a firewall lets this machine through to its HTTPS port"
                    .to_owned()
            }
            Self::Certificate { shown: Some(shown), .. } => format!(
                "compare {shown} with the certificate on the system itself; if it is the same, set fingerprint = \"{shown}\", \
                 or name its authority's file as `ca`"
            ),
            Self::Certificate { shown: None, .. } => {
                "name the file of its authority as `ca`, or its fingerprint as `fingerprint`".to_owned()
            }
            Self::WeakKey { .. } => {
                "make a new certificate for it, of RSA with at least 2,048 bits or of ECDSA; naming its fingerprint does not help"
                    .to_owned()
            }
            Self::Handshake { .. } => {
                "check that its address has the port of HTTPS, and that it offers TLS 1.2 or 1.3 with AES-GCM or ChaCha20; a \
                 proxy or firewall between may also end the handshake"
                    .to_owned()
            }
            Self::Broken { .. } | Self::Silent { .. } => "check whether it is overloaded or being restarted".to_owned(),
            Self::TooLong { .. } => "check that the address leads to the right system".to_owned(),
        }
    }

    /// Whether it may work a moment later.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Silent { .. } | Self::Handshake { .. } => {
                Retry::Transient
            }
            Self::BadUrl { .. }
            | Self::BadRequest { .. }
            | Self::Trust { .. }
            | Self::Certificate { .. }
            | Self::WeakKey { .. }
            | Self::TooLong { .. } => Retry::Permanent,
        }
    }
}

fn shown_text(shown: Option<&Fingerprint>) -> String {
    shown.map_or_else(String::new, |shown| format!(" (it shows {shown})"))
}

/// Says what a client's error means. `doing` is what the system was doing, `asked` or `answering`.
pub(super) fn classify(system: &str, error: reqwest::Error, doing: &'static str) -> WebError {
    let system = system.to_owned();
    // The address may be long, and a file's name is told elsewhere.
    let error = error.without_url();
    if let Some(tls) = find::<rustls::Error>(&error) {
        return of_tls(system, tls);
    }
    // Once TCP is connected, what ends it before the first answer is the handshake.
    let is_cut = was_cut(&error);
    if error.is_connect() && is_cut {
        return WebError::Handshake { system, why: format!("the other side ended it ({})", innermost(&error)) };
    }
    if error.is_connect() {
        let why = if error.is_timeout() {
            format!("no connection within {} seconds", CONNECT.as_secs())
        } else {
            innermost(&error)
        };
        return WebError::Unreachable { system, why };
    }
    WebError::Broken { system, doing, why: innermost(&error) }
}

/// Says what the failed handshake of a connection by [`super::tls_config`] means.
#[must_use]
pub fn tls_error(system: &str, error: &io::Error) -> WebError {
    let system = system.to_owned();
    match find::<rustls::Error>(error) {
        Some(tls) => of_tls(system, tls),
        None => WebError::Handshake { system, why: innermost(error) },
    }
}

fn of_tls(system: String, error: &rustls::Error) -> WebError {
    let rustls::Error::InvalidCertificate(wrong) = error else {
        return WebError::Handshake { system, why: handshake(error) };
    };
    let other = match wrong {
        rustls::CertificateError::Other(other) => Some(&other.0),
        _ => None,
    };
    if let Some(weak) = other.and_then(|other| other.downcast_ref::<WeakKey>()) {
        return WebError::WeakKey { system, bits: weak.bits };
    }
    let refused = other.and_then(|other| other.downcast_ref::<Refused>());
    match refused {
        Some(refused) => WebError::Certificate { system, why: refused.why.clone(), shown: Some(refused.shown) },
        None => WebError::Certificate { system, why: wrong.to_string(), shown: None },
    }
}

/// Whether the other side ended the connection, by any error of the chain.
fn was_cut(error: &(dyn Error + 'static)) -> bool {
    let is_cut = |kind| {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        matches!(kind, UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
    };
    let mut error = Some(error);
    while let Some(this) = error {
        if this.downcast_ref::<io::Error>().is_some_and(|this| is_cut(this.kind())) {
            return true;
        }
        error = next(this);
    }
    false
}

/// What a handshake failed at, where its own words are for those who know TLS.
fn handshake(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(_) => format!("it does not answer in TLS ({error})"),
        rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(_) => {
            format!("no encryption that both sides accept ({error})")
        }
        other => other.to_string(),
    }
}

/// The error of type `T` in the chain. An `io::Error` hides the one that it carries from `source`.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut error = error;
    loop {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        error = next(error)?;
    }
}

/// The words of the cause at the end of the chain: those above only say that there is one.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
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
