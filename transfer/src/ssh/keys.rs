//! Our private keys: reading and generating them, and their public halves.

use std::path::Path;
use std::sync::Arc;

use russh::keys::PrivateKey;
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::private::{EcdsaKeypair, Ed25519Keypair};
use russh::keys::ssh_key::{self, EcdsaCurve};

use crate::error::TransferError;

/// Reads one of our private keys: in OpenSSH's format, without a passphrase, and readable by its owner only.
///
/// # Errors
/// `Key`, with what to do.
pub fn load_key(path: &Path) -> Result<Arc<PrivateKey>, TransferError> {
    use std::os::unix::fs::MetadataExt;
    let bad = |why: String| TransferError::Key { path: path.display().to_string(), why };
    let meta = std::fs::metadata(path).map_err(|error| bad(error.to_string()))?;
    if meta.mode() & 0o077 != 0 {
        return Err(bad(format!("others may read it (mode {:04o}); chmod 600 it", meta.mode() & 0o7777)));
    }
    if meta.len() > 64 << 10 {
        return Err(bad("it is too long for a key".to_owned()));
    }
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?);
    let key = PrivateKey::from_openssh(text.as_bytes())
        .map_err(|error| bad(format!("it is no private key in OpenSSH's format ({error})")))?;
    if key.is_encrypted() {
        return Err(bad("it has a passphrase; generate one without: ssh-keygen -t ed25519 -N '' -f …".to_owned()));
    }
    Ok(Arc::new(key))
}

/// Generates an Ed25519 key.
#[must_use]
pub fn new_key(comment: &str) -> PrivateKey {
    let mut seed = zeroize::Zeroizing::new([0u8; 32]);
    rand::fill(seed.as_mut_slice());
    let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    key.set_comment(comment);
    key
}

/// The type of a key that is generated for one certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum KeyType {
    /// The default.
    #[default]
    Ed25519,
    /// For hosts in FIPS mode and others that do not accept the default.
    EcdsaP256,
}

impl KeyType {
    /// Its usual name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "Ed25519",
            Self::EcdsaP256 => "ECDSA P-256",
        }
    }

    /// Generates a key of this type.
    pub(crate) fn new_key(self, comment: &str) -> Result<PrivateKey, ssh_key::Error> {
        let mut key = match self {
            Self::Ed25519 => return Ok(new_key(comment)),
            Self::EcdsaP256 => PrivateKey::from(EcdsaKeypair::random(&mut safe_rng(), EcdsaCurve::NistP256)?),
        };
        key.set_comment(comment);
        Ok(key)
    }
}

/// The public half of a key, as a line for `authorized_keys` or `issuers`.
#[must_use]
pub fn public_line(key: &PrivateKey) -> String {
    key.public_key().to_openssh().unwrap_or_default()
}
