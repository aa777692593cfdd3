//! The kinds of volumes, as the configuration names them.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{ValueError, shown};

/// The kind of a volume. The words are those of a volume's id (`appstack/Office`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum KindKey {
    /// A read-only application disk of App Volumes 2.x.
    Appstack,
    /// A read-only application disk of App Volumes 4.x.
    Package,
    /// A user's own disk.
    Writable,
    /// A disk that others are made from.
    Template,
    /// Any other disk.
    Image,
}

impl KindKey {
    /// All kinds, in the order of their tables.
    pub const ALL: [Self; 5] = [Self::Appstack, Self::Package, Self::Writable, Self::Template, Self::Image];

    /// The word in the configuration and in ids.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Appstack => "appstack",
            Self::Package => "package",
            Self::Writable => "writable",
            Self::Template => "template",
            Self::Image => "image",
        }
    }
}

impl fmt::Display for KindKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KindKey {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            ValueError::new(
                format!("{} is not a kind of volume", shown(text)),
                "write appstack, package, writable, template or image",
            )
        })
    }
}
