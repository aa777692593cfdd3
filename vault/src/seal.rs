//! JSON files that prove themselves: the last key is the BLAKE3 of every byte before it, as in a manifest.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stackferry_volume::Digest;

use crate::VaultError;

const SEAL: &[u8] = b",\n  \"blake3\": \"";
const END: &[u8] = b"\"\n}\n";

/// The format that a JSON file says it has. It is read first: a newer format may have other keys.
pub(crate) fn format_of(text: &[u8]) -> serde_json::Result<u32> {
    #[derive(serde::Deserialize)]
    struct FormatKey {
        format: u32,
    }
    serde_json::from_slice(text).map(|FormatKey { format }| format)
}

/// The bytes of a struct with at least one field.
pub(crate) fn to_bytes(value: &impl Serialize, path: &Path) -> Result<Vec<u8>, VaultError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| VaultError::Io {
        op: "write down",
        path: path.to_owned(),
        source: error.into(),
    })?;
    // Pretty JSON of a struct ends with a newline and a brace; the seal goes before them.
    text.truncate(text.len().saturating_sub(2));
    let digest = Digest::of(&text);
    text.extend_from_slice(SEAL);
    text.extend_from_slice(digest.to_string().as_bytes());
    text.extend_from_slice(END);
    Ok(text)
}

/// What such bytes say, if they are whole and of a format up to `known`.
pub(crate) fn from_bytes<T: DeserializeOwned>(text: &[u8], known: u32, path: &Path) -> Result<T, VaultError> {
    let damaged = |why: String| VaultError::RecordDamaged { path: path.to_owned(), why };
    let sealed = text.len().checked_sub(SEAL.len() + 64 + END.len()).and_then(|len| text.split_at_checked(len));
    let (body, seal) = sealed.ok_or_else(|| damaged("it is cut".into()))?;
    let recorded = seal
        .strip_prefix(SEAL)
        .and_then(|rest| rest.strip_suffix(END))
        .and_then(|hex| std::str::from_utf8(hex).ok())
        .and_then(|hex| hex.parse::<Digest>().ok())
        .ok_or_else(|| damaged("its end with its own digest is missing".into()))?;
    if recorded != Digest::of(body) {
        return Err(damaged("its own digest does not match".into()));
    }
    let mut whole = body.to_vec();
    whole.extend_from_slice(b"\n}");
    let format = format_of(&whole).map_err(|error| damaged(error.to_string()))?;
    if format > known {
        return Err(VaultError::NewerFormat { path: path.to_owned(), found: format, known });
    }
    serde_json::from_slice(&whole).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Sample {
        format: u32,
        text: String,
    }

    #[test]
    fn any_change_is_seen() {
        let path = Path::new("x");
        let sample = Sample { format: 1, text: "ä".into() };
        let bytes = to_bytes(&sample, path).unwrap();
        assert_eq!(from_bytes::<Sample>(&bytes, 1, path).unwrap(), sample);
        assert!(serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["blake3"].is_string());
        assert!(matches!(from_bytes::<Sample>(&bytes, 0, path), Err(VaultError::NewerFormat { found: 1, .. })));
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(from_bytes::<Sample>(&other, 1, path).is_err(), "byte {at}");
            assert!(from_bytes::<Sample>(&bytes[..at], 1, path).is_err(), "cut at {at}");
        }
    }
}
