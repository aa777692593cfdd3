//! Names that people give: of datastores, sites, systems, users.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use super::{ValueError, shown, text_value};

/// The longest name, in bytes: what a directory entry and a metric label bear.
const LONGEST: usize = 255;

fn check(text: &str) -> Result<(), ValueError> {
    let wrong = |why: &str| {
        Err(ValueError::new(format!("name {} {why}", shown(text)), r#"write it plainly, as "nfs01" or "dc1""#))
    };
    if text.is_empty() {
        return wrong("is empty");
    }
    if text.len() > LONGEST {
        return wrong("is longer than 255 bytes");
    }
    if text.contains(char::is_control) {
        return wrong("has a control character in it");
    }
    if text.trim() != text {
        return wrong("begins or ends with a space");
    }
    Ok(())
}

/// The name of a thing: 1 to 255 bytes, no control characters, no space at either end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

text_value!(Name, "a name", "nfs01");

impl Name {
    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        check(text).map(|()| Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The site of an entry: one App Volumes / vCenter pair. In a loaded configuration it is always set; an entry that names
/// none belongs to the only one there is, or to `default` when none is named anywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Site(String);

text_value!(Site, "the name of a site", "dc1");

impl Site {
    /// The name of the site when no entry names one.
    pub const DEFAULT: &str = "default";

    /// The site's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True only before the configuration is complete.
    pub(crate) fn is_unset(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn only() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl FromStr for Site {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        check(text).map(|()| Self(text.to_owned()))
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user or group of a Unix machine. Never begins with `-`, so it cannot be taken for an option.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixName(String);

text_value!(UnixName, "a user or group name", "backup");

impl UnixName {
    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UnixName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let fits = !text.is_empty()
            && text.len() <= LONGEST
            && !text.starts_with('-')
            && !text.contains(|c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/'));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError::new(
                format!("{} is not a user or group name", shown(text)),
                r#"write it without spaces, as "backup""#,
            ))
        }
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
