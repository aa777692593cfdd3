//! The digest that names a certificate.

use std::fmt;

use rustls::pki_types::CertificateDer;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The digest of a certificate's DER form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Thumbprint {
    /// SHA-1, the only one that vSphere reports before 7.0.3. Nobody can yet create a second certificate for a given SHA-1.
    Sha1([u8; 20]),
    /// SHA-256.
    Sha256([u8; 32]),
}

impl Thumbprint {
    /// Reads 20 or 32 bytes in hex, with or without colons, in either case. None for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()?;
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => Some((high << 4) | low),
                _ => None,
            })
            .collect::<Option<_>>()?;
        match bytes.len() {
            20 => bytes.try_into().ok().map(Self::Sha1),
            32 => bytes.try_into().ok().map(Self::Sha256),
            _ => None,
        }
    }

    /// The SHA-256 digest of a certificate.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        Self::Sha256(Sha256::digest(certificate.as_ref()).into())
    }

    pub(crate) fn matches(&self, certificate: &CertificateDer<'_>) -> bool {
        match self {
            Self::Sha1(digest) => Sha1::digest(certificate.as_ref()).as_slice() == digest,
            Self::Sha256(digest) => Sha256::digest(certificate.as_ref()).as_slice() == digest,
        }
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes): (_, &[u8]) = match self {
            Self::Sha1(bytes) => ("sha1", bytes),
            Self::Sha256(bytes) => ("sha256", bytes),
        };
        write!(f, "{name}:")?;
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
