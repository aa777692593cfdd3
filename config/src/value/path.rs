//! Paths: on this machine (absolute) and inside a datastore (relative).

use std::fmt;
use std::ops::Deref;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use super::{ValueError, shown, text_value};

/// The longest path that Linux takes (`PATH_MAX`, with its closing NUL), in bytes.
const PATH_MAX: usize = 4096;

/// An absolute path on the machine that reads it: UTF-8, no `..`, no control characters, under 4096 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbsPath(PathBuf);

text_value!(AbsPath, "an absolute path", "/srv/stackferry");

impl AbsPath {
    /// This path with one more component.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether one of the two is the other or lies inside it. Compares names only and follows no link.
    pub fn overlaps(&self, other: &Path) -> bool {
        self.0.starts_with(other) || other.starts_with(&self.0)
    }

    pub(crate) fn trusted(path: &str) -> Self {
        Self(PathBuf::from(path))
    }
}

impl Deref for AbsPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for AbsPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl FromStr for AbsPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = |why: &str| {
            Err(ValueError::new(format!("{} {why}", shown(text)), r#"write a full path, as "/srv/stackferry""#))
        };
        let path = Path::new(text);
        if !path.is_absolute() {
            return wrong("is not an absolute path");
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return wrong("has a `..` in it");
        }
        if text.contains(char::is_control) {
            return wrong("has a control character in it");
        }
        if text.len() >= PATH_MAX {
            return wrong("is too long");
        }
        Ok(Self(path.to_owned()))
    }
}

impl fmt::Display for AbsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// A folder inside a datastore, relative to its root: `cloudvolumes/apps`. No empty, `.` or `..` component, no control
/// character, at most 1024 bytes; never decoded or changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FolderPath(String);

text_value!(FolderPath, "a folder, relative to the datastore", "cloudvolumes/apps");

impl FolderPath {
    /// The folder as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn trusted(path: &str) -> Self {
        Self(path.to_owned())
    }
}

impl FromStr for FolderPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = |why: &str| {
            Err(ValueError::new(
                format!("folder {} {why}", shown(text)),
                r#"write it from the datastore's root without a slash in front, as "cloudvolumes/apps""#,
            ))
        };
        if text.is_empty() {
            return wrong("is empty");
        }
        if text.starts_with('/') {
            return wrong("is not relative to the datastore");
        }
        if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return wrong("has an empty, `.` or `..` part");
        }
        if text.contains(char::is_control) {
            return wrong("has a control character in it");
        }
        if text.len() > 1024 {
            return wrong("is longer than 1024 bytes");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for FolderPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
