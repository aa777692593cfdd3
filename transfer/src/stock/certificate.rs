//! Certificates of our CA: one new key, one forced command, one user, valid for minutes, and no right beyond running that
//! command (no extension is set: no terminal, no forwarding, no agent, no user's rc file).
//!
//! The format is OpenSSH's (PROTOCOL.certkeys). Restrictions are critical options: a host that does not know one refuses
//! the certificate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::{Algorithm, LineEnding};
use russh::keys::{Certificate, PrivateKey};

use crate::credential::OneTimeCredential;
use crate::error::TransferError;
use crate::ssh::{KeyType, load_key};
use stackferry_config::Secret;

/// How far a host's clock may be behind ours: a certificate is valid from so long before its issue.
pub(super) const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// The key that signs certificates.
pub struct CertAuthority {
    key: Arc<PrivateKey>,
    /// For messages.
    path: String,
}

/// The contents of a certificate.
#[derive(Debug, Clone, Copy)]
pub struct CertificateRequest<'a> {
    /// The only principal.
    pub user: &'a str,
    /// The forced command.
    pub command: &'a str,
    /// The addresses and networks it may be used from, separated by commas; none for all.
    pub source_address: Option<&'a str>,
    /// The time of issue.
    pub now: Timestamp,
    /// Its validity in total, of which the first minute has passed at the time of issue. Truncated to whole seconds.
    pub life: Duration,
}

/// A new key with its certificate.
pub struct CertifiedKey {
    /// The public name, which is the certificate's key id: `sf-` and 16 hexadecimal digits.
    pub name: String,
    /// The serial number, random.
    pub serial: u64,
    /// When it expires.
    pub expires: Timestamp,
    /// The key.
    pub key: Arc<PrivateKey>,
    /// The certificate.
    pub certificate: Certificate,
}

impl std::fmt::Debug for CertifiedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertifiedKey").field("name", &self.name).field("serial", &self.serial).finish_non_exhaustive()
    }
}

impl CertAuthority {
    /// Reads the CA's private key, which only its owner may read.
    ///
    /// # Errors
    /// `Key`.
    pub fn load(path: &Path) -> Result<Self, TransferError> {
        Ok(Self { key: load_key(path)?, path: path.display().to_string() })
    }

    /// The line for `authorized_keys` by which a host trusts this CA for one user.
    #[must_use]
    pub fn authorized_keys_line(&self, user: &str) -> String {
        let mut key = self.key.public_key().clone();
        key.set_comment("stackferry");
        format!("cert-authority,restrict,principals=\"{user}\" {}", key.to_openssh().unwrap_or_default())
    }

    /// The key type that is tried first: an administrator whose CA is not Ed25519 has hosts that do not accept Ed25519.
    pub(crate) fn key_type(&self) -> KeyType {
        match self.key.algorithm() {
            Algorithm::Ecdsa { .. } => KeyType::EcdsaP256,
            _ => KeyType::Ed25519,
        }
    }

    /// Generates a key and signs its certificate.
    ///
    /// # Errors
    /// `Key` where the CA's key can't sign.
    pub fn issue(&self, request: &CertificateRequest<'_>) -> Result<CertifiedKey, TransferError> {
        self.issue_for(self.key_type(), request)
    }

    /// The same for a key of this type.
    ///
    /// # Errors
    /// As [`CertAuthority::issue`].
    pub(crate) fn issue_for(
        &self,
        key_type: KeyType,
        request: &CertificateRequest<'_>,
    ) -> Result<CertifiedKey, TransferError> {
        let bad = |why: String| TransferError::Key { path: self.path.clone(), why };
        let name = OneTimeCredential::fresh().user;
        let key = key_type.new_key(&name).map_err(|error| bad(format!("no key can be made ({error})")))?;
        let from = request.now.checked_sub(CLOCKS_DIFFER).map_err(|error| bad(error.to_string()))?;
        let life = SignedDuration::from_secs(i64::try_from(request.life.as_secs()).unwrap_or(i64::MAX));
        let until = from.checked_add(life).map_err(|error| bad(error.to_string()))?;
        let seconds = |time: Timestamp| u64::try_from(time.as_second()).unwrap_or(0);
        let mut nonce = [0u8; 32];
        rand::fill(&mut nonce);
        let serial = rand::random();
        let sign = || {
            let mut builder = Builder::new(nonce, key.public_key(), seconds(from), seconds(until))?;
            builder.serial(serial)?.key_id(&name)?.cert_type(CertType::User)?.valid_principal(request.user)?;
            builder.critical_option("force-command", request.command)?;
            if let Some(source) = request.source_address {
                builder.critical_option("source-address", source)?;
            }
            builder.sign(&*self.key)
        };
        let certificate = sign().map_err(|error: russh::keys::ssh_key::Error| {
            bad(format!(
                "it can't sign a certificate ({error}); an Ed25519 or ECDSA key can: ssh-keygen -t ed25519 -N '' -f …"
            ))
        })?;
        let expires = Timestamp::from_second(until.as_second()).unwrap_or(until);
        Ok(CertifiedKey { name, serial, expires, key: Arc::new(key), certificate })
    }
}

impl CertifiedKey {
    /// The private key in OpenSSH's format.
    ///
    /// # Errors
    /// `Key`; never for keys generated here.
    pub fn key_text(&self) -> Result<Secret, TransferError> {
        match self.key.to_openssh(LineEnding::LF) {
            Ok(text) => Ok(Secret::new(text.to_string())),
            Err(error) => Err(self.bad(&error.to_string())),
        }
    }

    /// The certificate as one line, as in a `-cert.pub` file.
    ///
    /// # Errors
    /// `Key`; never for certificates issued here.
    pub fn certificate_line(&self) -> Result<String, TransferError> {
        self.certificate.to_openssh().map_err(|error| self.bad(&error.to_string()))
    }

    fn bad(&self, why: &str) -> TransferError {
        TransferError::Key { path: self.name.clone(), why: why.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::ssh_key::HashAlg;

    fn authority() -> CertAuthority {
        CertAuthority { key: Arc::new(crate::ssh::new_key("ca")), path: "user_ca".to_owned() }
    }

    #[test]
    fn a_certificate_has_what_was_requested_and_no_more() {
        let authority = authority();
        let now: Timestamp = "2026-01-01T12:00:00.7Z".parse().unwrap();
        let command = "scp -f -p -- '/mnt/a b'\\''c'";
        let request = CertificateRequest {
            user: "backup",
            command,
            source_address: Some("10.0.0.1"),
            now,
            life: Duration::from_secs(300),
        };
        let (one, two) = (authority.issue(&request).unwrap(), authority.issue(&request).unwrap());
        assert_ne!(one.key.public_key().key_data(), two.key.public_key().key_data());
        assert_ne!((&one.name, one.serial), (&two.name, two.serial));
        let certificate = &one.certificate;
        assert_eq!(certificate.key_id(), one.name);
        assert_eq!(certificate.serial(), one.serial);
        assert_eq!(certificate.valid_principals(), ["backup"]);
        assert_eq!(certificate.cert_type(), CertType::User);
        assert!(certificate.extensions().is_empty());
        let options: Vec<_> = certificate.critical_options().iter().collect();
        assert_eq!(options.len(), 2);
        assert_eq!(certificate.critical_options()["force-command"], command);
        assert_eq!(certificate.critical_options()["source-address"], "10.0.0.1");
        assert_eq!(certificate.valid_after(), 1_767_268_740);
        assert_eq!(certificate.valid_before(), 1_767_269_040);
        assert_eq!(one.expires.to_string(), "2026-01-01T12:04:00Z");
        let ca = authority.key.public_key().fingerprint(HashAlg::Sha256);
        assert!(certificate.validate_at(1_767_268_800, &[ca]).is_ok());
        assert!(certificate.validate_at(1_767_269_041, &[ca]).is_err());
        assert!(!format!("{one:?}").contains("PRIVATE"));
        let anywhere = authority.issue(&CertificateRequest { source_address: None, ..request }).unwrap();
        assert_eq!(anywhere.certificate.critical_options().iter().count(), 1);
    }

    #[test]
    fn an_ecdsa_ca_issues_ecdsa_keys() {
        let key = KeyType::EcdsaP256.new_key("ca").unwrap();
        let authority = CertAuthority { key: Arc::new(key), path: "user_ca".to_owned() };
        let now = Timestamp::now();
        let request = CertificateRequest {
            user: "backup",
            command: "x",
            source_address: None,
            now,
            life: Duration::from_secs(300),
        };
        let issued = authority.issue(&request).unwrap();
        assert!(matches!(issued.key.algorithm(), Algorithm::Ecdsa { .. }));
        issued.certificate.verify_signature().unwrap();
        assert!(issued.key_text().unwrap().expose().contains("PRIVATE KEY"));
        assert!(issued.certificate_line().unwrap().starts_with("ecdsa-sha2-nistp256-cert-v01@openssh.com "));
    }

    #[test]
    fn the_authorized_keys_line_names_the_user() {
        let line = authority().authorized_keys_line("backup");
        assert!(line.starts_with("cert-authority,restrict,principals=\"backup\" ssh-ed25519 AAAA"), "{line}");
        assert!(line.ends_with(" stackferry"));
        assert!(!line.contains('\n'));
    }
}
