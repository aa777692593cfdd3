//! Values that an administrator writes as text: lengths of time, sizes, rates, windows, paths, hosts and keys.
//!
//! Each is a type of its own that can hold only what is allowed, prints as text that parses back to the same value, and
//! says in its error how a right one looks. Nothing here opens a file or asks the network.

use std::fmt;

mod day_time;
mod host;
mod key;
mod mail;
mod name;
mod path;
mod period;
mod reserve;
mod size;
mod source_address;
mod url;
mod window;

pub use day_time::DayTime;
pub(crate) use host::HostText;
pub use host::{HostPort, Listen};
pub(crate) use key::check_key_line;
pub use key::{CertificateFingerprint, HostKey};
pub use mail::{MailAddress, MailServer};
pub use name::{Name, Site, UnixName};
pub use path::{AbsPath, FolderPath};
pub use period::Period;
pub use reserve::{Percent, ReserveSetting};
pub use size::{Rate, Size};
pub use source_address::SourceAddress;
pub use url::{CatalogUrl, WebUrl};
pub use window::Window;

/// Splits the text of an error from its advice. `load` takes them apart again, since serde carries only one string.
pub(crate) const HINT: &str = "; ";

/// A value that its key cannot take: what is wrong, and how a right one looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError {
    text: String,
    hint: String,
}

impl ValueError {
    pub(crate) fn new(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { text: text.into(), hint: hint.into().replace(HINT, ", ") }
    }

    /// What is wrong.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How a right value looks.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{HINT}{}", self.text, self.hint)
    }
}

impl std::error::Error for ValueError {}

/// A value as it is quoted in an error: escaped, and cut so that a pasted file cannot fill a screen.
pub(crate) fn shown(value: &str) -> String {
    const LONGEST: usize = 60;
    if value.chars().count() > LONGEST {
        let cut: String = value.chars().take(LONGEST).collect();
        format!("{cut:?}…")
    } else {
        format!("{value:?}")
    }
}

/// Gives a type with `FromStr` and `Display` its place in serde and in the JSON Schema.
macro_rules! text_value {
    ($type:ident, $what:literal, $example:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!($what, " such as \"", $example, "\""))
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $what, "examples": [$example] })
            }
        }
    };
}
pub(crate) use text_value;

#[cfg(test)]
mod tests;
