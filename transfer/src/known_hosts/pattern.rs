//! Which hosts a line of a list is for: names with wildcards and negations, or one hashed name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// What begins a hashed name: `|1|salt|hash`, both in base64.
const HASHED: &str = "|1|";

/// Whether a line's first field names the host. `name` is as a list has it: `host`, or `[host]:port`.
pub(super) fn names_match(field: &str, name: &str) -> bool {
    match field.strip_prefix(HASHED) {
        Some(hashed) => hash_matches(hashed, name),
        None => patterns_match(field.split(','), name),
    }
}

/// HashKnownHosts writes the HMAC-SHA1 of the name in lower case.
fn hash_matches(hashed: &str, name: &str) -> bool {
    let Some((salt, hash)) = hashed.split_once('|') else { return false };
    let (Ok(salt), Ok(hash)) = (BASE64.decode(salt), BASE64.decode(hash)) else { return false };
    let name = name.to_ascii_lowercase();
    Hmac::<Sha1>::new_from_slice(&salt).is_ok_and(|hmac| hmac.chain_update(name.as_bytes()).verify_slice(&hash).is_ok())
}

fn patterns_match<'a>(patterns: impl Iterator<Item = &'a str>, name: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if wildcard(pattern, name) => return false,
            Some(_) => {}
            None => found |= wildcard(pattern, name),
        }
    }
    found
}

/// OpenSSH's patterns: `*` for any number of characters, `?` for one, case ignored.
pub(crate) fn wildcard(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().flat_map(char::to_lowercase).collect();
    let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
    // The last star and where its match began: on a mismatch the star takes one character more.
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(c) if *c == '?' || Some(c) == text.get(seen) => {
                at += 1;
                seen += 1;
            }
            _ => match star {
                Some((star_at, began)) => {
                    star = Some((star_at, began + 1));
                    at = star_at + 1;
                    seen = began + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_openssh_does() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*.*.com", "a.b.com", true),
            ("**", "x", true),
            ("", "x", false),
        ] {
            assert_eq!(wildcard(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hashed_name_is_found_in_any_case() {
        let salt = [7u8; 20];
        let hash = Hmac::<Sha1>::new_from_slice(&salt).unwrap().chain_update(b"stor1").finalize().into_bytes();
        let field = format!("|1|{}|{}", BASE64.encode(salt), BASE64.encode(hash));
        assert!(names_match(&field, "stor1") && names_match(&field, "STOR1"));
        assert!(!names_match(&field, "stor2"));
        for broken in ["|1|", "|1|x", "|1|x|y", "|1||", "|2|AAAA|AAAA"] {
            assert!(!names_match(broken, "stor1"), "{broken}");
        }
    }
}
