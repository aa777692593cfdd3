//! Whose certificate is accepted. With a thumbprint it is exactly that certificate, whatever its names, dates and issuer
//! (appliances sign their own). The handshake still proves that the peer holds its key.

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

use crate::refusal::{UntrustedCertificate, WeakKey};
use crate::{HttpsError, Thumbprint};

/// The largest PEM file of authorities, in bytes. All public authorities together take about 250 KiB.
const MAX_CA_FILE: u64 = 4 * 1024 * 1024;

/// Which certificates are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those issued by the certificate authorities of this machine.
    System,
    /// Only those issued by the authorities in this PEM file.
    Ca(PathBuf),
    /// Exactly these certificates. An empty list trusts nobody.
    Certificates(Vec<Thumbprint>),
}

impl Trust {
    /// What an entry of a configuration asks for: the certificate with this SHA-256 digest, or else the authorities in this
    /// PEM file, or else the authorities of this machine.
    #[must_use]
    pub fn new(ca: Option<&Path>, certificate: Option<[u8; 32]>) -> Self {
        match (certificate, ca) {
            (Some(digest), _) => Self::Certificates(vec![Thumbprint::Sha256(digest)]),
            (None, Some(ca)) => Self::Ca(ca.to_owned()),
            (None, None) => Self::System,
        }
    }
}

/// Verifies certificates, and names in each refusal the certificate that was presented.
#[derive(Debug)]
struct Verifier {
    trusted: Trusted,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Trusted {
    Authorities(Arc<WebPkiServerVerifier>),
    Certificates(Vec<Thumbprint>),
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // No setting makes a weak key acceptable, so this comes before the question whose certificate it is.
        if let Some(bits) = weak_rsa(end_entity) {
            let weak = OtherError(Arc::new(WeakKey { bits }));
            return Err(Error::InvalidCertificate(CertificateError::Other(weak)));
        }
        let why = match &self.trusted {
            Trusted::Certificates(trusted) if trusted.iter().any(|one| one.matches(end_entity)) => {
                return Ok(ServerCertVerified::assertion());
            }
            Trusted::Certificates(trusted) if trusted.is_empty() => "no certificate is configured for it".to_owned(),
            Trusted::Certificates(trusted) => {
                let expected: Vec<String> = trusted.iter().map(ToString::to_string).collect();
                format!("expected {}", expected.join(" or "))
            }
            Trusted::Authorities(webpki) => {
                match webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
                    Ok(verified) => return Ok(verified),
                    Err(Error::InvalidCertificate(reason)) => explain(&reason),
                    Err(other) => return Err(other),
                }
            }
        };
        let untrusted = OtherError(Arc::new(UntrustedCertificate { why, presented: Thumbprint::of(end_entity) }));
        Err(Error::InvalidCertificate(CertificateError::Other(untrusted)))
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

/// The shortest RSA key whose signatures the library accepts.
const MIN_RSA_BITS: usize = 2048;

/// The length of a certificate's RSA key in bits, if it is too short. `None` for every other certificate, also for one that
/// can't be parsed here: the library verifies that one.
pub(crate) fn weak_rsa(certificate: &CertificateDer<'_>) -> Option<usize> {
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
    (bits < MIN_RSA_BITS).then_some(bits)
}

/// The first DER element: its tag, its value, and the bytes after it.
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

fn explain(reason: &CertificateError) -> String {
    match reason {
        // An authority that was created again under its old name causes a bad signature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is not issued by a trusted authority".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; check the clocks of both systems".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it was issued for another host name".to_owned()
        }
        // An appliance's self-signed certificate; the library has no variant of its own for it.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "it is a certificate of an authority, not of a server: configure its fingerprint".to_owned()
        }
        other => other.to_string(),
    }
}

/// A TLS 1.2 and 1.3 configuration with that trust, for protocols other than HTTPS. Reads the file of a [`Trust::Ca`], or
/// this machine's authorities. [`crate::tls_error`] explains why a handshake with it failed.
///
/// # Errors
/// The authorities can't be loaded.
pub fn tls_config(system: &str, trust: Trust) -> Result<ClientConfig, HttpsError> {
    let failed = |why: String| HttpsError::NoAuthorities { system: system.to_owned(), why };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trusted = match trust {
        Trust::Certificates(trusted) => Trusted::Certificates(trusted),
        Trust::Ca(path) => authorities(ca_file(&path).map_err(failed)?, &provider).map_err(failed)?,
        Trust::System => {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                return Err(failed(
                    "this machine has no certificate authorities (install the package ca-certificates)".to_owned(),
                ));
            }
            authorities(found.certs, &provider).map_err(failed)?
        }
    };
    let verifier = Verifier { trusted, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| failed(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

fn authorities(certificates: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Result<Trusted, String> {
    let mut roots = RootCertStore::empty();
    // The list may hold a certificate that this library can't parse; the others still count.
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err("none of the authorities' certificates can be parsed".to_owned());
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map(Trusted::Authorities)
        .map_err(|error| error.to_string())
}

fn ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let path_shown = path.display();
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_CA_FILE + 1).read_to_end(&mut pem))
        .map_err(|error| format!("cannot read {path_shown}: {error}"))?;
    if u64::try_from(pem.len()).unwrap_or(u64::MAX) > MAX_CA_FILE {
        return Err(format!("{path_shown} is larger than {} MiB", MAX_CA_FILE / 1024 / 1024));
    }
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{path_shown} is not a PEM file: {error}"))?;
    if certificates.is_empty() { Err(format!("{path_shown} holds no certificate")) } else { Ok(certificates) }
}
