//! Secrets, and how the configuration refers to them. The configuration itself never holds one: it says where it lies.
//!
//! A secret is wiped when it is dropped, prints as `<secret>`, and cannot be serialized. No error here repeats anything
//! that was read.

use std::fmt;

use zeroize::Zeroizing;

use crate::text;

mod command;
mod error;
mod file;
mod reference;

pub use error::SecretError;
pub use reference::SecretRef;

/// The longest secret, in bytes. Longer input is a wrong file, not a password.
pub const MAX_SECRET: usize = 64 * 1024;

/// A password or key phrase in memory: wiped on drop, printed as `<secret>`, never empty, UTF-8.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text over as a secret.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself. Call this as late as possible and pass it on by reference only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Makes a secret of bytes that were read: one newline at the end is left off, and the bytes are wiped.
    pub(crate) fn from_bytes(bytes: Zeroizing<Vec<u8>>, subject: &str) -> Result<Self, SecretError> {
        let text = text::text(&bytes).map_err(|found| SecretError::NotText { subject: subject.to_owned(), found })?;
        let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        if text.is_empty() {
            return Err(SecretError::Empty { subject: subject.to_owned() });
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}
