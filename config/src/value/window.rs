//! A time of day in which copies may run.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Time;

use super::{ValueError, shown, text_value};

const DAY: u16 = 24 * 60;

/// From one minute of the day to another, in the machine's local time, the end not included: `"22:00-06:00"` goes on past
/// midnight, `"00:00-24:00"` is the whole day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    start: u16,
    end: u16,
}

text_value!(Window, "a time of day, from and until", "22:00-06:00");

impl Window {
    /// From `start` (0 to 1439) until `end` (1 to 1440), both minutes after midnight and not equal; none otherwise.
    pub const fn new(start: u16, end: u16) -> Option<Self> {
        if start < DAY && end >= 1 && end <= DAY && start != end {
            Some(Self { start, end })
        } else if start < DAY && start != 0 && end == 0 {
            // Until midnight, written as the next day's first minute.
            Some(Self { start, end: DAY })
        } else {
            None
        }
    }

    /// The first minute, counted from midnight, 0 to 1439.
    pub const fn start(self) -> u16 {
        self.start
    }

    /// The minute it ends at, counted from midnight, 1 to 1440. Smaller than the start when it goes on past midnight.
    pub const fn end(self) -> u16 {
        self.end
    }

    /// Whether this local time of day lies in the window.
    pub fn contains(self, time: Time) -> bool {
        let minute = i32::from(time.hour()) * 60 + i32::from(time.minute());
        let (start, end) = (i32::from(self.start), i32::from(self.end));
        if start < end { (start..end).contains(&minute) } else { minute >= start || minute < end }
    }
}

/// `HH:MM` as minutes after midnight, `24:00` included.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !two_digits(hour) || !two_digits(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= DAY).then_some(total)
}

impl FromStr for Window {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.split_once('-').and_then(|(start, end)| Self::new(minutes(start)?, minutes(end)?)).ok_or_else(|| {
            ValueError::new(
                format!("{} is not a window", shown(text)),
                r#"write two different times of day, as "22:00-06:00", and leave `windows` out for always"#,
            )
        })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, end } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", start / 60, start % 60, end / 60, end % 60)
    }
}
