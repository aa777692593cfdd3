//! The times of day in which copies that nobody asked for may run, and the bandwidth of each.
//!
//! A window is a span of real time, from where the clock on the wall first shows its beginning to where it then first shows its
//! end. So on the day that the clocks are put back it opens once and is not open twice, and on the day that they are put forward
//! one whose beginning is left out begins right after the gap. One that lies in the gap altogether is as long as ever, right after
//! it: nobody goes without a copy for a night.

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Span, Timestamp, Zoned};
use stackferry_catalog::StatusReason;
use stackferry_config::{Config, Limits, Window};
use stackferry_discover::ReasonCode;
use stackferry_volume::Kind;

use crate::kinds::config_kind;

/// Why volumes of this kind are left alone now; none while a copy may run.
#[must_use]
pub fn closed(config: &Config, now: &Zoned, kind: Kind) -> Option<StatusReason> {
    let windows = config.schedule.of(config_kind(kind)).windows;
    if windows.is_empty() || windows.iter().any(|window| is_open(*window, now)) {
        return None;
    }
    let times: Vec<String> = windows.iter().map(ToString::to_string).collect();
    let text = format!("it is copied between {} only", times.join(" and "));
    Some(StatusReason { code: ReasonCode::OutsideWindow.to_string(), text })
}

/// The bandwidth of all transfers together at this moment, in bytes per second; none: unlimited. The first entry of the
/// timetable that is open decides, else `limits.bandwidth`.
#[must_use]
pub fn bandwidth(limits: &Limits, now: &Zoned) -> Option<u64> {
    let open = limits.timetable.iter().find(|entry| is_open(entry.window, now));
    let rate = open.map_or(limits.bandwidth, |entry| entry.bandwidth);
    rate.map(|rate| rate.as_bytes_per_second())
}

/// Whether a window is open at this moment, in the moment's own zone.
#[must_use]
pub fn is_open(window: Window, now: &Zoned) -> bool {
    let zone = now.time_zone();
    // What began the day before may go on. Two days before: where a gap takes a whole day out of the calendar.
    let days = (0..=2).filter_map(|days| now.date().checked_sub(Span::new().days(days)).ok());
    days.filter_map(|day| opened_on(window, day, zone))
        .any(|(from, to)| from <= now.timestamp() && now.timestamp() < to)
}

/// From when to when a window that begins on this day is open.
fn opened_on(window: Window, day: Date, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
    let end_day = if window.end() > window.start() { day } else { day.tomorrow().ok()? };
    let (from, to) = (moment(day, window.start(), zone)?, moment(end_day, window.end(), zone)?);
    if to > from {
        return Some((from, to));
    }
    let minutes = i64::from(window.end()) - i64::from(window.start());
    Some((from, from.checked_add(SignedDuration::from_mins(minutes.rem_euclid(24 * 60))).ok()?))
}

/// When the clock on the wall first shows so many minutes after midnight of a day, 0 to 1440; where it leaves them out, the
/// moment at which it does.
fn moment(day: Date, minutes: u16, zone: &TimeZone) -> Option<Timestamp> {
    let (day, minutes) = if minutes == 24 * 60 { (day.tomorrow().ok()?, 0) } else { (day, minutes) };
    let time = Time::new(i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?, 0, 0).ok()?;
    let ambiguous = zone.to_ambiguous_timestamp(day.to_datetime(time));
    match ambiguous.offset() {
        AmbiguousOffset::Gap { .. } => {
            let after = ambiguous.later().ok()?;
            // Strictly before what is given: the gap itself may end exactly there.
            zone.preceding(after.checked_add(SignedDuration::from_secs(1)).ok()?).next().map(|gap| gap.timestamp())
        }
        _ => ambiguous.earlier().ok(),
    }
}

#[cfg(test)]
mod tests;
