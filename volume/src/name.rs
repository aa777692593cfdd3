//! File names of App Volumes disks.
//!
//! Names are used verbatim, byte for byte; they are decoded only to show them to a person, never to build a path.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest stem, in bytes: `.vmdk` must fit into a file name as well. No volume has a longer one, since its descriptor has
/// a file name.
pub const MAX_STEM_BYTES: usize = MAX_NAME_BYTES - ".vmdk".len();
/// The manifest's file name within a version's folder. No file of a volume may have it.
pub const MANIFEST_NAME: &str = "manifest.json";
/// The longest file name that Linux file systems hold, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// A name that is safe as one component of a path: not empty, not `.` or `..`, without `/`, NUL and control bytes,
/// at most 255 bytes of UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

/// Why a text can't be a file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing at all.
    #[error("a name can't be empty")]
    Empty,
    /// `.` or `..`.
    #[error("`.` and `..` are folders, not names")]
    Dots,
    /// A slash, or a control character (NUL among them).
    #[error("a name can't hold `/` or control characters")]
    Forbidden,
    /// More bytes than allowed.
    #[error("the name is {bytes} bytes long, {most} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The most allowed here.
        most: usize,
    },
    /// The file system's name is not UTF-8.
    #[error("the name is not UTF-8")]
    NotUtf8,
}

impl FileName {
    /// Takes a text that is safe as a file name.
    ///
    /// # Errors
    /// The text is not; see [`NameError`].
    pub fn new(text: &str) -> Result<Self, NameError> {
        check(text, MAX_NAME_BYTES)?;
        Ok(Self(text.to_owned()))
    }

    /// Takes a text that is safe as a volume's stem: a file name of at most [`MAX_STEM_BYTES`].
    ///
    /// # Errors
    /// The text is not; see [`NameError`].
    pub fn stem(text: &str) -> Result<Self, NameError> {
        check(text, MAX_STEM_BYTES)?;
        Ok(Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(text: &str, most: usize) -> Result<(), NameError> {
    match text {
        "" => Err(NameError::Empty),
        "." | ".." => Err(NameError::Dots),
        _ if text.chars().any(|c| c == '/' || c.is_control()) => Err(NameError::Forbidden),
        _ if text.len() > most => Err(NameError::TooLong { bytes: text.len(), most }),
        _ => Ok(()),
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for FileName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<std::path::Path> for FileName {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

impl TryFrom<String> for FileName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        check(&text, MAX_NAME_BYTES)?;
        Ok(Self(text))
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> Self {
        name.0
    }
}

/// A disk's file name without `.vmdk`, in any case; what is called otherwise stays as it is.
#[must_use]
pub fn without_vmdk(name: &str) -> &str {
    let split = name.len().checked_sub(".vmdk".len()).and_then(|at| name.split_at_checked(at));
    split.filter(|(stem, end)| end.eq_ignore_ascii_case(".vmdk") && !stem.is_empty()).map_or(name, |(stem, _)| stem)
}

/// A name as a person reads it: App Volumes writes a byte that is unusual in file names as two hexadecimal digits
/// between exclamation marks (`CORP!5C!jdoe` is `CORP\jdoe`). What is not of that form, or would not give UTF-8, or
/// a control character, stays as it is. For showing only.
#[must_use]
pub fn decode(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if let [b'!', high, low, b'!', after @ ..] = rest
            && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
            && high * 16 + low >= 0x20
            && high * 16 + low != 0x7f
        {
            bytes.push(high * 16 + low);
            rest = after;
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text,
        _ => name.to_owned(),
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_for_people() {
        assert_eq!(decode("CORP!5C!jdoe"), "CORP\\jdoe");
        assert_eq!(decode("Google!20!Chrome!20!104-update"), "Google Chrome 104-update");
        assert_eq!(decode("M!C3!!BC!ller"), "Müller");
        for same in ["Wow!", "a!5", "a!zz!b", "!!", "a!00!b", "a!0A!b", "a!C3!b", "a!7F!", "a!C2!!85!"] {
            assert_eq!(decode(same), same);
        }
    }

    #[test]
    fn what_could_leave_a_folder_is_no_name() {
        assert_eq!(FileName::new(""), Err(NameError::Empty));
        assert_eq!(FileName::new(".."), Err(NameError::Dots));
        assert_eq!(FileName::new("a/b"), Err(NameError::Forbidden));
        assert_eq!(FileName::new("a\nb"), Err(NameError::Forbidden));
        assert!(FileName::stem(&"x".repeat(250)).is_ok());
        assert_eq!(FileName::stem(&"x".repeat(251)), Err(NameError::TooLong { bytes: 251, most: 250 }));
        assert!(serde_json::from_str::<FileName>("\"../x\"").is_err());
    }
}
