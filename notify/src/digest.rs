//! When a digest is due: once for each day of the calendar, at its local time, whatever the clocks do that day.

use jiff::Zoned;
use jiff::civil::Date;
use stackferry_config::DayTime;

/// The day whose digest is to be made now; none if that was done, or it is too early. `last` is the day of the last one.
///
/// A digest that was missed (the service was not running) is made late, but only that of the last day. On the day that
/// clocks are put forward over its time it comes right after the gap; on the day that they are put back it comes once.
pub(super) fn due(last: Date, now: &Zoned, at: DayTime) -> Option<Date> {
    let today = now.date();
    let latest = if is_past(today, now, at) { today } else { today.yesterday().ok()? };
    (latest > last).then_some(latest)
}

/// The day to begin with: the digest of that day counts as made, so that the first one comes at its time.
pub(super) fn first(now: &Zoned, at: DayTime) -> Date {
    let today = now.date();
    if is_past(today, now, at) { today } else { today.yesterday().unwrap_or(today) }
}

/// The day that was noted last; none if it is none, or lies in the future: the clock was wrong when it was noted.
pub(super) fn noted(text: Option<&str>, now: &Zoned) -> Option<Date> {
    let day = text?.parse::<Date>().ok()?;
    (day <= now.date()).then_some(day)
}

fn is_past(day: Date, now: &Zoned, at: DayTime) -> bool {
    // A time that the clock leaps over is taken after the gap, one that comes twice the first time (jiff's `Compatible`).
    let moment = day.to_datetime(at.time()).to_zoned(now.time_zone().clone());
    moment.is_ok_and(|moment| moment.timestamp() <= now.timestamp())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn zoned(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    /// The times at which digests are made by a service that looks every 10 minutes, and what the clock shows then.
    fn made(from: &str, hours: i64, at: &str, is_down: impl Fn(&Zoned) -> bool) -> Vec<String> {
        let (at, mut now) = (at.parse().unwrap(), zoned(from));
        let (end, mut last) = (&now + SignedDuration::from_hours(hours), first(&now, at));
        let mut times = Vec::new();
        while now < end {
            // What is noted is all that a restart knows.
            let known = noted(Some(&last.to_string()), &now).unwrap();
            if let Some(day) = due(known, &now, at).filter(|_| !is_down(&now)) {
                times.push(now.strftime("%m-%d %H:%M %Z").to_string());
                last = day;
            }
            now = &now + SignedDuration::from_mins(10);
        }
        times
    }

    fn always_up(_: &Zoned) -> bool {
        false
    }

    #[test]
    fn it_comes_once_a_day_at_its_time() {
        let days = made("2026-11-20T12:00[Europe/Berlin]", 72, "07:00", always_up);
        assert_eq!(days, ["11-21 07:00 CET", "11-22 07:00 CET", "11-23 07:00 CET"]);
        let midnight = made("2026-11-20T12:00[Europe/Berlin]", 48, "00:00", always_up);
        assert_eq!(midnight, ["11-21 00:00 CET", "11-22 00:00 CET"]);
    }

    #[test]
    fn it_comes_once_on_the_days_when_clocks_are_set() {
        // 02:30 does not exist on 29 March 2026, and comes twice on 25 October 2026.
        let forward = made("2026-03-28T12:00[Europe/Berlin]", 47, "02:30", always_up);
        assert_eq!(forward, ["03-29 03:30 CEST", "03-30 02:30 CEST"]);
        let back = made("2026-10-24T12:00[Europe/Berlin]", 48, "02:30", always_up);
        assert_eq!(back, ["10-25 02:30 CEST", "10-26 02:30 CET"]);
    }

    #[test]
    fn one_that_was_missed_is_made_late_and_only_once() {
        let down = |now: &Zoned| (zoned("2026-11-21T06:00[UTC]")..zoned("2026-11-23T09:00[UTC]")).contains(now);
        let days = made("2026-11-20T12:00[UTC]", 96, "07:00", down);
        assert_eq!(days, ["11-23 09:00 UTC", "11-24 07:00 UTC"]);
    }

    #[test]
    fn a_note_of_the_future_is_not_believed() {
        let now = zoned("2026-11-22T12:00[UTC]");
        assert_eq!(noted(Some("2030-01-01"), &now), None);
        assert_eq!(noted(Some("tomorrow"), &now), None);
        assert_eq!(noted(None, &now), None);
        assert_eq!(noted(Some("2026-11-22"), &now), Some(now.date()));
        assert_eq!(first(&now, "07:00".parse().unwrap()), now.date());
        assert_eq!(first(&now, "13:00".parse().unwrap()), now.date().yesterday().unwrap());
    }
}
