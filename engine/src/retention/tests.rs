//! Retention held against its definition, written another way, and against what must never happen.

use std::collections::HashSet;

use jiff::ToSpan as _;
use proptest::prelude::*;

use super::*;

fn zone() -> TimeZone {
    // The last Sunday of March has 23 hours, that of October 25.
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse::<jiff::civil::DateTime>().unwrap().to_zoned(zone()).unwrap().timestamp()
}

fn held(seq: u64, created: Timestamp) -> RetainedVersion {
    RetainedVersion {
        version: VersionId::new(created, seq),
        generation: Generation::FIRST,
        created,
        good: true,
        pinned: false,
        locked_until: None,
    }
}

fn keep(last: u32, daily: u32, weekly: u32, monthly: u32, yearly: u32) -> Keep {
    Keep { last, daily, weekly, monthly, yearly }
}

/// The numbers of the versions that are kept.
fn kept(versions: &[RetainedVersion], keep: Keep, now: Timestamp) -> Vec<u64> {
    let kept = decide(versions, keep, now, &zone());
    let mut numbers: Vec<u64> = kept.keys().map(VersionId::seq).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_nightly_copy_thins_out_with_its_age() {
    let first = at("2026-01-01T22:00:00");
    let nights: Vec<RetainedVersion> = (0u32..400)
        .map(|night| {
            held(u64::from(night) + 1, first.to_zoned(zone()).checked_add(i64::from(night).days()).unwrap().timestamp())
        })
        .collect();
    let now = nights.last().unwrap().created;
    let numbers = kept(&nights, keep(2, 5, 3, 4, 2), now);
    // 400 nights from 1 January 2026 end on 4 February 2027, a Thursday.
    let days: Vec<String> = nights
        .iter()
        .filter(|night| numbers.contains(&night.version.seq()))
        .map(|night| night.created.to_zoned(zone()).date().to_string())
        .collect();
    assert_eq!(
        days,
        // Months and the year before, a week, a month and day, days.
        [
            "2026-11-30",
            "2026-12-31",
            "2027-01-24",
            "2027-01-31",
            "2027-02-01",
            "2027-02-02",
            "2027-02-03",
            "2027-02-04",
        ]
    );
}

#[test]
fn a_day_is_local_also_with_23_or_25_hours() {
    // 23:30 and 00:30 of local time are two days, though UTC calls them one; also across the days of the change.
    for (one, other) in [
        ("2026-03-28T23:30:00", "2026-03-29T00:30:00"),
        ("2026-03-29T23:30:00", "2026-03-30T00:30:00"),
        ("2026-10-24T23:30:00", "2026-10-25T00:30:00"),
        ("2026-10-25T23:30:00", "2026-10-26T00:30:00"),
    ] {
        let versions = [held(1, at(one)), held(2, at(other))];
        assert_eq!(kept(&versions, keep(0, 2, 0, 0, 0), at(other)), [1, 2], "{one}");
    }
    // The hour that comes twice is of one day.
    let twice = at("2026-10-25T02:30:00");
    let versions = [held(1, twice), held(2, twice.checked_add(1.hour()).unwrap())];
    assert_eq!(kept(&versions, keep(0, 2, 0, 0, 0), twice), [2]);
}

#[test]
fn damaged_versions_take_no_place_and_leave_in_their_time() {
    let day = |day: u32| at(&format!("2026-11-{day:02}T22:00:00"));
    let mut versions: Vec<RetainedVersion> = (1..=6).map(|number| held(u64::from(number), day(number))).collect();
    versions[5].good = false;
    versions[4].good = false;
    // Two good ones, and the damaged ones that would be among the last two if they were good.
    assert_eq!(kept(&versions, keep(2, 0, 0, 0, 0), day(7)), [3, 4, 5, 6]);
    versions.push(held(7, day(7)));
    assert_eq!(kept(&versions, keep(2, 0, 0, 0, 0), day(7)), [4, 6, 7]);
    versions.push(held(8, day(8)));
    assert_eq!(kept(&versions, keep(2, 0, 0, 0, 0), day(8)), [7, 8]);
}

#[test]
fn each_life_keeps_its_newest_good_version() {
    let day = |day: u32| at(&format!("2026-11-{day:02}T22:00:00"));
    let mut versions: Vec<RetainedVersion> = (1..=9).map(|number| held(u64::from(number), day(number))).collect();
    for version in &mut versions[3..6] {
        version.generation = Generation(2);
        version.good = false;
    }
    for version in &mut versions[6..] {
        version.generation = Generation(3);
    }
    versions[2].good = false;
    // Life 1: 2 is its newest good one. Life 2 has none: the newest. Life 3: the rule.
    assert_eq!(kept(&versions, keep(1, 0, 0, 0, 0), day(9)), [2, 6, 9]);
}

#[test]
fn pins_and_locks_keep_and_say_so() {
    let day = |day: u32| at(&format!("2026-11-{day:02}T22:00:00"));
    let mut versions: Vec<RetainedVersion> = (1..=4).map(|number| held(u64::from(number), day(number))).collect();
    versions[0].pinned = true;
    versions[1].locked_until = Some(day(10));
    versions[2].locked_until = Some(day(5));
    let why = decide(&versions, keep(1, 0, 0, 0, 0), day(6), &zone());
    let told: Vec<String> = why.values().flatten().map(ToString::to_string).collect();
    assert_eq!(told[0], "pinned");
    assert!(told[1].starts_with("locked until 2026-11-10"), "{told:?}");
    assert_eq!(&told[2..], ["last", "latest good version of its generation"]);
    assert_eq!(kept(&versions, keep(1, 0, 0, 0, 0), day(10)), [1, 4], "at its end a lock is over");
}

/// The definition, by counting for each version on its own.
fn reference(versions: &[RetainedVersion], keep: Keep, now: Timestamp) -> HashSet<u64> {
    let span = |held: &RetainedVersion, format: &str| held.created.to_zoned(zone()).strftime(format).to_string();
    let rules = [
        (keep.last, ""),
        (keep.daily, "%Y-%m-%d"),
        (keep.weekly, "%G-%V"),
        (keep.monthly, "%Y-%m"),
        (keep.yearly, "%Y"),
    ];
    let of_rule = |held: &RetainedVersion, among: &[&RetainedVersion], most: u32, format: &str| {
        let newer: Vec<&&RetainedVersion> =
            among.iter().filter(|other| other.version.seq() > held.version.seq()).collect();
        if format.is_empty() {
            return newer.len() < most as usize;
        }
        let spans: HashSet<String> = newer.iter().map(|other| span(other, format)).collect();
        !spans.contains(&span(held, format)) && spans.len() < most as usize
    };
    let good: Vec<&RetainedVersion> = versions.iter().filter(|held| held.good).collect();
    let all: Vec<&RetainedVersion> = versions.iter().collect();
    let newest = |held: &RetainedVersion, among: &[&RetainedVersion]| {
        let mut life = among.iter().filter(|other| other.generation == held.generation);
        life.all(|other| other.version.seq() <= held.version.seq())
    };
    let is_kept = |held: &RetainedVersion| {
        let by_rules = rules.iter().any(|(most, format)| {
            of_rule(held, &all, *most, format) || (held.good && of_rule(held, &good, *most, format))
        });
        let lives_on = good.iter().any(|other| other.generation == held.generation);
        let last = if lives_on { held.good && newest(held, &good) } else { newest(held, &all) };
        by_rules || last || held.pinned || held.locked_until.is_some_and(|until| until > now)
    };
    versions.iter().filter(|held| is_kept(held)).map(|held| held.version.seq()).collect()
}

/// What may happen to a volume.
#[derive(Debug, Clone)]
enum Event {
    /// A copy, so many hours after the last event; negative where the clock was set back.
    Copy {
        hours: i16,
        locked_days: u8,
    },
    /// The volume is made anew.
    NewLife,
    /// A version is found damaged, or whole after all.
    Verify {
        which: usize,
        good: bool,
    },
    Pin {
        which: usize,
        pinned: bool,
    },
    Prune(Keep),
}

fn any_keep() -> impl Strategy<Value = Keep> {
    let number = || prop_oneof![4 => 0u32..3, 2 => 3u32..12, 1 => Just(u32::MAX)];
    (number(), number(), number(), number(), number()).prop_map(|(a, b, c, d, e)| keep(a, b, c, d, e))
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (-30i16..400, 0u8..20).prop_map(|(hours, locked_days)| Event::Copy { hours, locked_days }),
        1 => Just(Event::NewLife),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, good)| Event::Verify { which, good }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, pinned)| Event::Pin { which, pinned }),
        3 => any_keep().prop_map(Event::Prune),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn in_any_course_of_events_it_is_as_defined_and_loses_nothing(events in prop::collection::vec(any_event(), 1..60)) {
        let mut now = at("2026-03-01T12:00:00");
        let mut life = Generation::FIRST;
        let mut versions: Vec<RetainedVersion> = Vec::new();
        let mut seq = 0;
        for event in events {
            match event {
                Event::Copy { hours, locked_days } => {
                    now = now.checked_add(i64::from(hours).hours()).unwrap();
                    seq += 1;
                    let until = now.checked_add((i64::from(locked_days) * 24).hours()).unwrap();
                    versions.push(RetainedVersion { generation: life, locked_until: Some(until), ..held(seq, now) });
                }
                Event::NewLife => life = life.next(),
                Event::Verify { which, good } => {
                    let count = versions.len().max(1);
                    if let Some(held) = versions.get_mut(which % count) {
                        held.good = good;
                    }
                }
                Event::Pin { which, pinned } => {
                    let count = versions.len().max(1);
                    if let Some(held) = versions.get_mut(which % count) {
                        held.pinned = pinned;
                    }
                }
                Event::Prune(keep) => {
                    let decided = decide(&versions, keep, now, &zone());
                    let numbers: HashSet<u64> = decided.keys().map(VersionId::seq).collect();
                    prop_assert_eq!(&numbers, &reference(&versions, keep, now));
                    let (left, gone): (Vec<RetainedVersion>, Vec<RetainedVersion>) =
                        versions.iter().cloned().partition(|held| numbers.contains(&held.version.seq()));
                    for held in &gone {
                        prop_assert!(!held.pinned, "a pinned version went");
                        prop_assert!(held.locked_until.is_none_or(|until| until <= now), "a locked version went");
                        let life = left.iter().any(|other| other.generation == held.generation);
                        prop_assert!(life, "the last version of a life went");
                        if held.good {
                            let stays = left.iter().any(|other| {
                                other.good && other.generation == held.generation && other.version.seq() > held.version.seq()
                            });
                            prop_assert!(stays, "the last good version of a life went");
                        }
                    }
                    // Once more, nothing goes.
                    let again = decide(&left, keep, now, &zone());
                    prop_assert_eq!(again.len(), left.len(), "a second prune deletes more");
                    versions = left;
                }
            }
        }
    }
}
