//! Passwords that satisfy a host's rules (pam_passwdqc): all four classes of characters, starting with a lower-case letter
//! and ending with a letter, since a leading capital and a trailing digit do not count there.

use rand::RngExt as _;
use stackferry_config::Secret;
use zeroize::Zeroizing;

/// The length of a password, at first …
pub(super) const LENGTH: usize = 24;
/// … and where the host requires more: its rules may demand 15 and more.
pub(super) const LONGER: usize = 40;

const LOWER: &[u8] = b"abcdefghijkmnopqrstuvwxyz";
const UPPER: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ";
const DIGITS: &[u8] = b"23456789";
const OTHERS: &[u8] = b"-_.:=+%@";

/// A new password: 24 characters hold some 140 random bits.
pub(super) fn fresh(length: usize) -> Secret {
    let mut random = rand::rng();
    let mut one_of = |set: &[u8]| {
        let at = random.random_range(0..set.len().max(1));
        char::from(set.get(at).copied().unwrap_or(b'x'))
    };
    loop {
        let mut text = Zeroizing::new(String::with_capacity(length));
        text.push(one_of(LOWER));
        let all = [LOWER, UPPER, DIGITS, OTHERS].concat();
        while text.len() + 1 < length {
            text.push(one_of(&all));
        }
        text.push(one_of(LOWER));
        let has = |set: &[u8]| text.bytes().any(|byte| set.contains(&byte));
        // Few random ones lack a class; leaving them out costs almost no entropy.
        if has(UPPER) && has(DIGITS) && has(OTHERS) {
            return Secret::new(std::mem::take(&mut *text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_follow_the_rules_and_are_fresh() {
        let mut seen = std::collections::BTreeSet::new();
        for length in [LENGTH, LONGER] {
            for _ in 0..200 {
                let secret = fresh(length);
                let text = secret.expose();
                assert_eq!(text.len(), length);
                assert!(
                    text.starts_with(|c: char| c.is_ascii_lowercase())
                        && text.ends_with(|c: char| c.is_ascii_alphabetic())
                );
                for set in [LOWER, UPPER, DIGITS, OTHERS] {
                    assert!(text.bytes().any(|byte| set.contains(&byte)), "{text}");
                }
                assert!(seen.insert(text.to_owned()));
            }
        }
    }
}
