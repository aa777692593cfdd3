use super::*;

fn window(text: &str) -> Window {
    text.parse().unwrap()
}

/// The moments, minute by minute of the next 35 hours, at which a window opens and closes; local times with their offset.
fn changes(text: &str, from: &str) -> Vec<String> {
    let start: Zoned = from.parse().unwrap();
    let mut before = is_open(window(text), &start);
    let mut changes = Vec::new();
    for minute in 1..=35 * 60 {
        let now = start.checked_add(SignedDuration::from_mins(minute)).unwrap();
        let open = is_open(window(text), &now);
        if open != before {
            let word = if open { "opens" } else { "closes" };
            changes.push(format!("{word} {}", now.strftime("%d %H:%M%:z")));
            before = open;
        }
    }
    changes
}

const SPRING: &str = "2026-03-28T12:00[Europe/Berlin]";
const AUTUMN: &str = "2026-10-24T12:00[Europe/Berlin]";

#[test]
fn a_window_goes_on_past_midnight() {
    let day = "2026-11-22T12:00[Europe/Berlin]";
    assert_eq!(changes("22:00-06:00", day), ["opens 22 22:00+01:00", "closes 23 06:00+01:00", "opens 23 22:00+01:00"]);
    assert_eq!(changes("00:00-24:00", day), [""; 0]);
    assert_eq!(changes("22:00-24:00", day), ["opens 22 22:00+01:00", "closes 23 00:00+01:00", "opens 23 22:00+01:00"]);
    assert_eq!(changes("00:00-00:01", day), ["opens 23 00:00+01:00", "closes 23 00:01+01:00"]);
}

#[test]
fn where_the_clock_is_put_forward_no_window_is_left_out() {
    // 02:00 is 03:00 on 29 March 2026.
    assert_eq!(
        changes("22:00-06:00", SPRING),
        ["opens 28 22:00+01:00", "closes 29 06:00+02:00", "opens 29 22:00+02:00"]
    );
    assert_eq!(
        changes("02:30-05:00", SPRING),
        ["opens 29 03:00+02:00", "closes 29 05:00+02:00"],
        "right after the gap"
    );
    assert_eq!(changes("02:00-05:00", SPRING), ["opens 29 03:00+02:00", "closes 29 05:00+02:00"]);
    assert_eq!(changes("01:00-02:30", SPRING), ["opens 29 01:00+01:00", "closes 29 03:00+02:00"]);
    assert_eq!(changes("02:10-02:40", SPRING), ["opens 29 03:00+02:00", "closes 29 03:30+02:00"], "as long as ever");
}

#[test]
fn where_the_clock_is_put_back_a_window_opens_once() {
    // 03:00 is 02:00 again on 25 October 2026.
    assert_eq!(
        changes("22:00-06:00", AUTUMN),
        ["opens 24 22:00+02:00", "closes 25 06:00+01:00", "opens 25 22:00+01:00"]
    );
    assert_eq!(changes("02:30-05:00", AUTUMN), ["opens 25 02:30+02:00", "closes 25 05:00+01:00"], "not closed between");
    assert_eq!(
        changes("22:00-02:30", AUTUMN),
        ["opens 24 22:00+02:00", "closes 25 02:30+02:00", "opens 25 22:00+01:00"]
    );
    assert_eq!(changes("02:10-02:40", AUTUMN), ["opens 25 02:10+02:00", "closes 25 02:40+02:00"], "not twice");
}

#[test]
fn the_timetable_goes_before_the_bandwidth_of_all_day() {
    let limits: Limits = serde_json::from_value(serde_json::json!({
        "bandwidth": "10MB/s",
        "timetable": [
            { "window": "08:00-18:00", "bandwidth": "2MB/s" },
            { "window": "12:00-20:00", "bandwidth": "5MB/s" },
            { "window": "23:00-01:00" },
        ],
    }))
    .unwrap();
    let at = |time: &str| bandwidth(&limits, &format!("2026-11-22T{time}[Europe/Berlin]").parse().unwrap());
    assert_eq!(at("07:59"), Some(10_000_000));
    assert_eq!(at("08:00"), Some(2_000_000));
    assert_eq!(at("17:59"), Some(2_000_000), "the first that fits");
    assert_eq!(at("18:00"), Some(5_000_000));
    assert_eq!(at("23:30"), None);
    assert_eq!(at("00:59"), None, "over midnight");
    assert_eq!(at("01:00"), Some(10_000_000));
    assert_eq!(bandwidth(&Limits::default(), &"2026-11-22T12:00[UTC]".parse().unwrap()), None);
}
