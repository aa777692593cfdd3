//! Numbers of bytes, and bytes per second.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ValueError, shown, text_value};

/// Bytes in each unit, the largest first, so that printing takes the largest that divides without a rest.
const UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
];

const HOW: &str = r#"write it as "96MiB", "200MB" or a plain number of bytes"#;

/// A number of bytes: `"96MiB"` (powers of 1024), `"200MB"` (powers of 1000) or plain. 0 to 2^63 - 1, which is what a TOML
/// integer and an SQL `bigint` hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(u64);

impl Size {
    /// The largest: 2^63 - 1 bytes.
    pub const MAX: Self = Self(i64::MAX.unsigned_abs());

    /// So many bytes, at most [`Size::MAX`]; none beyond.
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        if bytes <= Self::MAX.0 { Some(Self(bytes)) } else { None }
    }

    pub(crate) const fn bytes_unchecked(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::new(format!("{} is not a size", shown(text)), HOW);
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(unit_at);
        if digits.is_empty() {
            return Err(wrong());
        }
        let factor = match unit {
            "" | "B" => 1,
            "KB" => 1_000,
            unit => UNITS.iter().find_map(|(name, factor)| (*name == unit).then_some(*factor)).ok_or_else(wrong)?,
        };
        digits
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(factor))
            .and_then(Self::from_bytes)
            .ok_or_else(|| ValueError::new(format!("{} is too large", shown(text)), HOW))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrBytes;
        impl Visitor<'_> for TextOrBytes {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"96MiB\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes)
                    .map(Size)
                    .map_err(|_| E::custom(ValueError::new(format!("{bytes} is not a size"), HOW)))
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<Size, E> {
                Size::from_bytes(bytes).ok_or_else(|| E::custom(ValueError::new(format!("{bytes} is too large"), HOW)))
            }
        }
        deserializer.deserialize_any(TextOrBytes)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "description": "a number of bytes",
            "examples": ["96MiB", "200MB", 4096],
        })
    }
}

/// Bytes per second: `"200MB/s"`. At least 64 KiB/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(Size);

text_value!(Rate, "a number of bytes per second", "200MB/s");

impl Rate {
    /// The slowest: at this rate a block of 1 MiB takes 16 s and still passes within one lease of 30 s.
    pub const MIN: Self = Self(Size(64 * 1024));

    /// So many bytes per second, from [`Rate::MIN`] to [`Size::MAX`]; none outside.
    pub fn from_bytes_per_second(bytes: u64) -> Option<Self> {
        Size::from_bytes(bytes).map(Self).filter(|rate| *rate >= Self::MIN)
    }

    /// Bytes per second.
    pub const fn as_bytes_per_second(self) -> u64 {
        self.0.as_bytes()
    }
}

impl FromStr for Rate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let how = r#"write bytes per second, as "200MB/s" (a link of 1 Gbit/s carries about "118MB/s")"#;
        let size: Size = text
            .strip_suffix("/s")
            .and_then(|size| size.parse().ok())
            .ok_or_else(|| ValueError::new(format!("{} is not a rate", shown(text)), how))?;
        Self::from_bytes_per_second(size.as_bytes()).ok_or_else(|| {
            ValueError::new(
                format!("{} is too slow to finish a block", shown(text)),
                format!(r#"the slowest is "{}", and without the key there is no limit"#, Self::MIN),
            )
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}
