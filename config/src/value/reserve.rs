//! How much of a file system stays free.

use std::fmt;
use std::str::FromStr;

use super::{Size, ValueError, shown, text_value};

/// What is kept free on the vault's file system: a share of it (`"5%"`, 0 to 90) or a size (`"10GiB"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReserveSetting {
    /// Percent of the file system's size, 0 to 90.
    Percent(Percent),
    /// A fixed number of bytes.
    Size(Size),
}

/// A whole number of percent, 0 to 90: a vault that must stay nine tenths empty is a slip of the finger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u8);

impl Percent {
    /// The number, 0 to 90.
    pub const fn get(self) -> u8 {
        self.0
    }
}

text_value!(ReserveSetting, "a share of the file system or a size", "5%");

impl ReserveSetting {
    /// So many percent, 0 to 90; none beyond.
    pub const fn percent(percent: u8) -> Option<Self> {
        if percent <= 90 { Some(Self::Percent(Percent(percent))) } else { None }
    }

    /// The bytes to keep free on a file system of `total` bytes, rounded down.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Size(size) => size.as_bytes(),
            // Dividing first cannot overflow; the rest adds what that cuts off.
            Self::Percent(Percent(percent)) => {
                let percent = u64::from(percent);
                (total / 100) * percent + (total % 100) * percent / 100
            }
        }
    }
}

impl Default for ReserveSetting {
    fn default() -> Self {
        Self::Percent(Percent(5))
    }
}

impl FromStr for ReserveSetting {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || {
            ValueError::new(
                format!("{} is not a reserve", shown(text)),
                r#"write a share from "0%" to "90%", or a size as "10GiB""#,
            )
        };
        match text.strip_suffix('%') {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().and_then(Self::percent).ok_or_else(wrong)
            }
            Some(_) => Err(wrong()),
            None => text.parse().map(Self::Size).map_err(|_| wrong()),
        }
    }
}

impl fmt::Display for ReserveSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(Percent(percent)) => write!(f, "{percent}%"),
            Self::Size(size) => size.fmt(f),
        }
    }
}
