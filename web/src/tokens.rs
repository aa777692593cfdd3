//! Tokens as their bearers have them: `sf_<id>_<secret>`. The id is public and finds the token in the catalog; the secret
//! is 256 bits of the system's generator, and its digest is all that is kept.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stackferry_catalog::{NewToken, Role};
use stackferry_config::Secret;
use stackferry_volume::Digest;
use subtle::ConstantTimeEq as _;

use stackferry_problem::Problem;

/// What every token begins with, so that scanners for secrets that leaked know one when they see it.
const PREFIX: &str = "sf_";
/// The bytes of a public id.
const ID_BYTES: usize = 4;
/// The bytes of a secret: 256 bits.
const SECRET_BYTES: usize = 32;
/// The longest name of a token, in characters.
const MAX_NAME: usize = 64;

/// A token that was shown by a caller, taken apart.
pub struct Shown {
    /// Its public id.
    pub id: String,
    digest: Digest,
}

impl Shown {
    /// Takes a token apart; none if the text can't be one.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_id = id.len() == 2 * ID_BYTES && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        // 32 bytes are 43 letters of Base64.
        (is_id && secret.len() == 43).then(|| Self { id: id.to_owned(), digest: Digest::of(secret.as_bytes()) })
    }

    /// Whether its secret is the one of this digest. Takes as long whether it is or not.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.digest.as_bytes().ct_eq(digest.as_bytes()).into()
    }
}

/// Makes a token: what the catalog takes in, and what its bearer is shown once.
///
/// # Errors
/// A usage problem, where the name can't be one.
pub fn make(name: &str, role: Role) -> Result<(NewToken, Secret), Problem> {
    let fits = !name.trim().is_empty() && name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control);
    if !fits {
        return Err(Problem::usage(format!("a token's name is one line of 1 to {MAX_NAME} characters")).subject(name));
    }
    let mut id = [0_u8; ID_BYTES];
    let mut bytes = [0_u8; SECRET_BYTES];
    rand::fill(&mut id);
    rand::fill(&mut bytes);
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let secret = Secret::new(URL_SAFE_NO_PAD.encode(bytes));
    let digest = Digest::of(secret.expose().as_bytes());
    let shown = Secret::new(format!("{PREFIX}{id}_{}", secret.expose()));
    Ok((NewToken { id, name: name.to_owned(), role, digest }, shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_again_and_no_other_is_taken_for_it() {
        let (token, shown) = make("grafana", Role::Viewer).unwrap();
        let (other, _) = make("grafana", Role::Viewer).unwrap();
        let read = Shown::read(shown.expose()).unwrap();
        assert_eq!(read.id, token.id);
        assert!(read.has(&token.digest));
        assert!(!read.has(&other.digest));
        assert_ne!(token.id, other.id);
        let cut = shown.expose().len() - 1;
        for wrong in ["", "sf_", "x", &shown.expose()[1..], &shown.expose()[..cut], "sf_GGGGGGGG_x"] {
            assert!(Shown::read(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_name_is_one_short_line() {
        for name in ["", "  ", "a\nb", &"x".repeat(65)] {
            assert!(make(name, Role::Viewer).is_err(), "{name}");
        }
        assert!(make(&"ü".repeat(64), Role::Admin).is_ok());
    }
}
