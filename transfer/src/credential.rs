//! One-time credentials: a public name, and a secret of 256 bits from the operating system's generator (through
//! `rand`'s thread generator, which it seeds). The secret is zeroised when it is dropped, and is never shown.

use stackferry_config::Secret;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A new user name and its secret.
#[derive(Debug, Clone)]
pub struct OneTimeCredential {
    /// The public name: `sf-` and 16 hexadecimal digits.
    pub user: String,
    /// 64 hexadecimal digits: 256 random bits.
    pub secret: Secret,
}

impl OneTimeCredential {
    /// Generates one.
    #[must_use]
    pub fn fresh() -> Self {
        let mut name = [0u8; 8];
        let mut secret = Zeroizing::new([0u8; 32]);
        rand::fill(&mut name);
        rand::fill(secret.as_mut_slice());
        Self { user: format!("sf-{}", hex(&name)), secret: Secret::new(hex(secret.as_slice())) }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0'));
    let mut text = String::with_capacity(bytes.len() * 2);
    text.extend(bytes.iter().flat_map(digits));
    text
}

/// A secret's hash, which a server stores: enough to recognise the secret, not to use it.
#[derive(Clone)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Of this secret.
    #[must_use]
    pub fn of(secret: &Secret) -> Self {
        Self(*blake3::hash(secret.expose().as_bytes()).as_bytes())
    }

    /// Whether this is the secret; constant time.
    #[must_use]
    pub fn matches(&self, offered: &str) -> bool {
        blake3::hash(offered.as_bytes()).as_bytes().ct_eq(&self.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_fresh_and_hide_their_secret() {
        let (one, two) = (OneTimeCredential::fresh(), OneTimeCredential::fresh());
        assert_ne!(one.user, two.user);
        assert_ne!(one.secret.expose(), two.secret.expose());
        assert_eq!(one.secret.expose().len(), 64);
        assert!(!format!("{one:?}").contains(one.secret.expose()));
        let hash = SecretHash::of(&one.secret);
        assert!(hash.matches(one.secret.expose()));
        assert!(!hash.matches(two.secret.expose()));
        assert!(!hash.matches(""));
    }
}
