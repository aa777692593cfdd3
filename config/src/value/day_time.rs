//! A minute of the day.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Time;

use super::{ValueError, shown, text_value};

/// A time of day in the machine's local time, to the minute: `"07:00"`, from `"00:00"` to `"23:59"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DayTime(Time);

text_value!(DayTime, "a time of day", "07:00");

impl DayTime {
    /// As the calendar's type; its seconds are 0.
    pub const fn time(self) -> Time {
        self.0
    }
}

/// Seven in the morning: before the first person looks.
impl Default for DayTime {
    fn default() -> Self {
        Self(Time::constant(7, 0, 0, 0))
    }
}

impl FromStr for DayTime {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let two_digits = |part: &str| {
            (part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse::<i8>().ok())?
        };
        text.split_once(':')
            .and_then(|(hour, minute)| Time::new(two_digits(hour)?, two_digits(minute)?, 0, 0).ok())
            .map(Self)
            .ok_or_else(|| ValueError::new(format!("{} is not a time of day", shown(text)), r#"write it as "07:00""#))
    }
}

impl fmt::Display for DayTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0.hour(), self.0.minute())
    }
}
