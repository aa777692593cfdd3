//! Whose certificate is accepted. With a fingerprint it is exactly that certificate, whatever its names, dates and issuer
//! say (appliances sign their own); that the peer holds its key is proved by the handshake all the same.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use stackferry_config::{Fingerprint, TlsTrust};

use super::WebError;

/// The longest file of authorities, in bytes: all of the world's public ones take about 250 KiB.
const MAX_CA_FILE: u64 = 4 * 1024 * 1024;

/// How a system's certificate is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// By the machine's authorities.
    System,
    /// Only by the authorities in this PEM file.
    Ca(PathBuf),
    /// It is exactly this certificate.
    Fingerprint(Fingerprint),
    /// It is exactly one of these certificates. An empty list trusts nobody.
    Thumbprints(Vec<Thumbprint>),
}

impl From<TlsTrust<'_>> for Trust {
    fn from(trust: TlsTrust<'_>) -> Self {
        match trust {
            TlsTrust::System => Self::System,
            TlsTrust::Ca(path) => Self::Ca(path.to_owned()),
            TlsTrust::Fingerprint(fingerprint) => Self::Fingerprint(*fingerprint),
        }
    }
}

/// A digest of a certificate's DER form, as vSphere names the certificates of its hosts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Thumbprint {
    /// SHA-1, the only one that vSphere names before 7.0.3. Making a second certificate for a given SHA-1 is still beyond
    /// anybody.
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

    fn fits(&self, certificate: &CertificateDer<'_>) -> bool {
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

/// Why a certificate was refused; carried through rustls, so that the fingerprint can be told.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct Refused {
    pub(super) why: String,
    pub(super) shown: Fingerprint,
}

/// A certificate's key that no handshake is accepted from; carried through rustls.
#[derive(Debug, thiserror::Error)]
#[error("an RSA key of {bits} bits")]
pub(super) struct WeakKey {
    pub(super) bits: usize,
}

/// Judges certificates, and tells in each refusal which one was shown.
#[derive(Debug)]
struct Judge {
    known: Known,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Known {
    Authorities(Arc<WebPkiServerVerifier>),
    Certificates(Vec<Thumbprint>),
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // Nothing that a person could name would make it good: that comes before whose certificate it is.
        if let Some(bits) = weak_rsa(end_entity) {
            let weak = OtherError(Arc::new(WeakKey { bits }));
            return Err(Error::InvalidCertificate(CertificateError::Other(weak)));
        }
        let why = match &self.known {
            Known::Certificates(known) if known.iter().any(|known| known.fits(end_entity)) => {
                return Ok(ServerCertVerified::assertion());
            }
            Known::Certificates(known) if known.is_empty() => "no certificate is known for it".to_owned(),
            Known::Certificates(known) => {
                let known: Vec<String> = known.iter().map(ToString::to_string).collect();
                format!("it is not the one with {}", known.join(" or "))
            }
            Known::Authorities(webpki) => {
                match webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                    Ok(verified) => return Ok(verified),
                    Err(Error::InvalidCertificate(wrong)) => words(&wrong),
                    Err(other) => return Err(other),
                }
            }
        };
        let shown = Fingerprint::from(<[u8; 32]>::from(Sha256::digest(end_entity.as_ref())));
        let refused = OtherError(Arc::new(Refused { why, shown }));
        Err(Error::InvalidCertificate(CertificateError::Other(refused)))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The fewest bits of an RSA key whose signatures the library accepts.
const LEAST_RSA_BITS: usize = 2048;

/// The length of a certificate's RSA key in bits, where it is too short. None for every other certificate, also for one that
/// can't be read here: the library judges that.
pub(super) fn weak_rsa(certificate: &CertificateDer<'_>) -> Option<usize> {
    /// 1.2.840.113549.1.1.1, with its tag and length.
    const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let (_, certificate, _) = der(certificate.as_ref())?;
    let (_, signed, _) = der(certificate)?;
    // Version (optional), serial, signature, issuer, validity, subject, and then the key.
    let mut rest = signed;
    let mut parts = 0;
    let key = loop {
        let (tag, value, after) = der(rest)?;
        rest = after;
        match (tag, parts) {
            (0xa0, 0) => {}
            (_, 5) => break value,
            _ => parts += 1,
        }
    };
    let (_, algorithm, key) = der(key)?;
    if !algorithm.starts_with(RSA) {
        return None;
    }
    let (_, bits, _) = der(key)?;
    let (_, key, _) = der(bits.get(1..)?)?;
    let (_, modulus, _) = der(key)?;
    let modulus = modulus.iter().position(|byte| *byte != 0).and_then(|first| modulus.get(first..))?;
    let first = usize::try_from(modulus.first()?.leading_zeros()).ok()?;
    let bits = modulus.len().checked_mul(8)?.checked_sub(first)?;
    (bits < LEAST_RSA_BITS).then_some(bits)
}

/// The first element of DER: its tag, its value, and what follows it.
fn der(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (length, mut rest) = rest.split_first()?;
    let mut length = usize::from(*length);
    if length >= 0x80 {
        let (digits, after) = rest.split_at_checked(length & 0x7f).filter(|(digits, _)| digits.len() <= 4)?;
        length = digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit));
        rest = after;
    }
    let (value, after) = rest.split_at_checked(length)?;
    Some((*tag, value, after))
}

fn words(wrong: &CertificateError) -> String {
    match wrong {
        // A bad signature is what an authority that was made anew under its old name gives.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is not from an authority that is trusted here".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; check the clocks".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name".to_owned()
        }
        // What an appliance gives that signed its own certificate; the library has no word of its own for it.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "it is an authority's own, which is not for servers: name it by its fingerprint".to_owned()
        }
        other => other.to_string(),
    }
}

/// TLS 1.2 and 1.3 with that trust, for whoever speaks another protocol over it. Reads the file of a [`Trust::Ca`], or the
/// machine's authorities. What a handshake by it fails with is told by [`super::tls_error`].
///
/// # Errors
/// The authorities can't be read.
pub fn tls_config(system: &str, trust: Trust) -> Result<ClientConfig, WebError> {
    let wrong = |why: String| WebError::Trust { system: system.to_owned(), why };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let known = match trust {
        Trust::Fingerprint(fingerprint) => Known::Certificates(vec![Thumbprint::Sha256(*fingerprint.as_bytes())]),
        Trust::Thumbprints(known) => Known::Certificates(known),
        Trust::Ca(path) => authorities(ca_file(&path).map_err(wrong)?, &provider).map_err(wrong)?,
        Trust::System => {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                return Err(wrong("this machine has no list of authorities (package ca-certificates)".to_owned()));
            }
            authorities(found.certs, &provider).map_err(wrong)?
        }
    };
    let judge = Judge { known, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| wrong(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(judge))
        .with_no_client_auth();
    Ok(config)
}

fn authorities(certificates: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Result<Known, String> {
    let mut roots = RootCertStore::empty();
    // A machine's list may hold one that this library does not read; the others still count.
    let (taken, _) = roots.add_parsable_certificates(certificates);
    if taken == 0 {
        return Err("none of the authorities' certificates can be read".to_owned());
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map(Known::Authorities)
        .map_err(|error| error.to_string())
}

fn ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_CA_FILE + 1).read_to_end(&mut pem))
        .map_err(|error| format!("cannot read {shown}: {error}"))?;
    if u64::try_from(pem.len()).unwrap_or(u64::MAX) > MAX_CA_FILE {
        return Err(format!("{shown} holds more than {} MiB", MAX_CA_FILE / 1024 / 1024));
    }
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{shown} is no PEM file: {error}"))?;
    if certificates.is_empty() { Err(format!("there is no certificate in {shown}")) } else { Ok(certificates) }
}
