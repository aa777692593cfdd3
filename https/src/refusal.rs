//! Why a certificate is refused. rustls carries these errors through a failed handshake.

use crate::Thumbprint;

/// The certificate is not trusted.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(crate) struct UntrustedCertificate {
    pub(crate) why: String,
    /// The certificate that the peer presented, so that the error can name it.
    pub(crate) presented: Thumbprint,
}

/// The certificate has an RSA key that is too short to be accepted from anybody.
#[derive(Debug, thiserror::Error)]
#[error("an RSA key of {bits} bits")]
pub(crate) struct WeakKey {
    pub(crate) bits: usize,
}
