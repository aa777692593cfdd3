//! Public keys and fingerprints by which a peer is known. Never holds a private key, and an error never repeats what was
//! given, since a person may have pasted one.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use super::{ValueError, text_value};

/// The plain key types of OpenSSH (`ssh -Q key-plain`) for hosts and users, without DSA.
const KEY_TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

const HOW: &str = r#"write the line of the .pub file, as "ssh-ed25519 AAAAC3Nza…""#;

/// The longest key line, in bytes: an RSA key of 16,384 bits takes about 2,800.
const LONGEST: usize = 8192;

/// Whether the blob looks like an SSH public key: base64, and it begins with a 32-bit length under 2^14.
fn is_blob(text: &str) -> bool {
    text.len() >= 32
        && text.starts_with("AAAA")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
}

/// Checks one line in the style of OpenSSH's `authorized_keys` (sshd(8)): options, key type, key, comment.
///
/// # Errors
/// When it is not one line or holds no public key. The options are read by the endpoint, not here.
pub(crate) fn check_key_line(line: &str) -> Result<(), ValueError> {
    if line.contains("PRIVATE KEY") {
        return Err(ValueError::new("this is a private key", HOW));
    }
    if line.contains(char::is_control) {
        return Err(ValueError::new("a key is one line without control characters", HOW));
    }
    if line.len() > LONGEST {
        return Err(ValueError::new("the key is longer than 8192 bytes", HOW));
    }
    let types = line.split_ascii_whitespace();
    let blobs = line.split_ascii_whitespace().skip(1);
    if types.zip(blobs).any(|(kind, blob)| KEY_TYPES.contains(&kind) && is_blob(blob)) {
        Ok(())
    } else {
        Err(ValueError::new("there is no public key in OpenSSH's format", HOW))
    }
}

/// A host's public key as OpenSSH writes it: type, key, and perhaps a comment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostKey(String);

text_value!(HostKey, "a public key in OpenSSH's format", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI");

impl HostKey {
    /// The line as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostKey {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        check_key_line(text)?;
        let kind = text.split_ascii_whitespace().next();
        if kind.is_some_and(|kind| KEY_TYPES.contains(&kind)) {
            Ok(Self(text.trim().to_owned()))
        } else {
            Err(ValueError::new("a host key has nothing in front of its type", HOW))
        }
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of a certificate's DER form. Read with or without colons, in either case; printed in lower case without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CertificateFingerprint([u8; 32]);

text_value!(
    CertificateFingerprint,
    "the SHA-256 of a certificate",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
);

impl From<[u8; 32]> for CertificateFingerprint {
    fn from(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl From<CertificateFingerprint> for [u8; 32] {
    fn from(fingerprint: CertificateFingerprint) -> Self {
        fingerprint.0
    }
}

impl FromStr for CertificateFingerprint {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || {
            ValueError::new(
                "this is not a SHA-256 fingerprint",
                r#"write "sha256:" and 64 hex digits, as `openssl x509 -in cert.pem -noout -fingerprint -sha256` gives them"#,
            )
        };
        let hex = text
            .split_at_checked(7)
            .filter(|(prefix, _)| prefix.eq_ignore_ascii_case("sha256:"))
            .map(|(_, hex)| hex)
            .ok_or_else(wrong)?;
        let digits: Vec<u8> = if hex.contains(':') {
            if hex.split(':').any(|pair| pair.len() != 2) {
                return Err(wrong());
            }
            hex.bytes().filter(|byte| *byte != b':').collect()
        } else {
            hex.bytes().collect()
        };
        let mut bytes = [0_u8; 32];
        if digits.len() != bytes.len() * 2 {
            return Err(wrong());
        }
        let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            match pair {
                [high, low] => {
                    *byte = (nibble(*high).ok_or_else(wrong)? << 4) | nibble(*low).ok_or_else(wrong)?;
                }
                _ => return Err(wrong()),
            }
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for CertificateFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        for byte in self.0 {
            f.write_char(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'))?;
            f.write_char(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'))?;
        }
        Ok(())
    }
}
