//! A length of time in whole seconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{ValueError, shown, text_value};

/// Seconds in each unit, the largest first. Months and years have no fixed length and are left out.
const UNITS: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// A length of time: `"5m"`, `"24h"`, `"30d"`, `"1h30m"`. Whole seconds, 0 to 36,500 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(u64);

text_value!(Period, "a length of time", "1h30m");

impl Period {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The longest: a hundred years of days. Longer ones overflow calendars and are slips of the finger.
    pub const MAX: Self = Self(36_500 * 86_400);

    /// So many seconds, at most [`Period::MAX`]; none beyond.
    pub const fn from_seconds(seconds: u64) -> Option<Self> {
        if seconds <= Self::MAX.0 { Some(Self(seconds)) } else { None }
    }

    pub(crate) const fn seconds_unchecked(seconds: u64) -> Self {
        Self(seconds)
    }

    /// The number of seconds.
    pub const fn as_seconds(self) -> u64 {
        self.0
    }

    /// As the standard library's type.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }

    /// True for `"0s"`, which switches off what it sets where the key allows it.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl FromStr for Period {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || {
            ValueError::new(
                format!("{} is not a length of time", shown(text)),
                r#"write it as "90s", "5m", "24h", "30d", "2w" or "1h30m""#,
            )
        };
        let too_long = || ValueError::new(format!("{} is too long", shown(text)), r#"the longest is "36500d""#);
        let mut rest = text;
        let mut total = 0_u64;
        let mut smaller_than = u64::MAX;
        loop {
            let unit_at = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (digits, tail) = rest.split_at(unit_at);
            let mut tail = tail.chars();
            let unit = tail.next();
            let seconds = UNITS
                .iter()
                .find_map(|(name, seconds)| (Some(*name) == unit).then_some(*seconds))
                .filter(|seconds| *seconds < smaller_than && !digits.is_empty())
                .ok_or_else(wrong)?;
            let count: u64 = digits.parse().map_err(|_| too_long())?;
            total = count.checked_mul(seconds).and_then(|part| total.checked_add(part)).ok_or_else(too_long)?;
            smaller_than = seconds;
            rest = tail.as_str();
            if rest.is_empty() {
                return Self::from_seconds(total).ok_or_else(too_long);
            }
        }
    }
}

impl fmt::Display for Period {
    /// Days, hours, minutes and seconds; weeks are printed as days.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (name, seconds) in UNITS.into_iter().skip(1) {
            if rest >= seconds {
                write!(f, "{}{name}", rest / seconds)?;
                rest %= seconds;
            }
        }
        Ok(())
    }
}
