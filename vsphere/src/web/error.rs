//! What can go wrong between us and a web server, and what to do about it.

use std::error::Error;
use std::io;

use stackferry_config::Fingerprint;

use super::CONNECT;
use super::trust::Refused;

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
            Self::Broken { .. } | Self::Silent { .. } => "check whether it is overloaded or being restarted".to_owned(),
            Self::TooLong { .. } => "check that the address leads to the right system".to_owned(),
        }
    }

    /// Whether it may work a moment later.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Silent { .. } => Retry::Transient,
            Self::BadUrl { .. }
            | Self::BadRequest { .. }
            | Self::Trust { .. }
            | Self::Certificate { .. }
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
        None => WebError::Broken { system, doing: "asked", why: innermost(error) },
    }
}

fn of_tls(system: String, error: &rustls::Error) -> WebError {
    let rustls::Error::InvalidCertificate(wrong) = error else {
        return WebError::Unreachable { system, why: format!("TLS: {error}") };
    };
    let refused = match wrong {
        rustls::CertificateError::Other(other) => other.0.downcast_ref::<Refused>(),
        _ => None,
    };
    match refused {
        Some(refused) => WebError::Certificate { system, why: refused.why.clone(), shown: Some(refused.shown) },
        None => WebError::Certificate { system, why: wrong.to_string(), shown: None },
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
