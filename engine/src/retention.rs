//! Which versions are kept: a pure function of what is known of a volume's versions. It deletes nothing.
//!
//! The rules, each of which keeps:
//! - `last`, `daily`, `weekly`, `monthly`, `yearly`: the newest version of each of the last so many days (weeks, …) that
//!   have one. Damaged versions take no place of a good one; they are kept as long as they would be if they were good,
//!   since most of their blocks are, and a verification may have erred.
//! - The newest good version of each life of the volume, and the newest one of a life that has no good one.
//! - What is pinned, until it is unpinned; what is locked, until its time.
//!
//! Days are those of the machine's zone. Nothing but locks depends on what time it is now: the rules count days that have
//! a version, so a volume that is copied no more keeps its versions, and a clock that jumps deletes nothing by them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use stackferry_catalog::VersionRow;
use stackferry_config::Keep;
use stackferry_vault::VolumeRecord;
use stackferry_volume::{Generation, VersionId};

/// A version, as far as retention asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedVersion {
    /// Its id; its number says which is newer.
    pub version: VersionId,
    /// The life of the volume that it is of.
    pub generation: Generation,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it can be relied on.
    pub good: bool,
    /// Whether somebody wants it kept.
    pub pinned: bool,
    /// Until when it may not be deleted.
    pub locked_until: Option<Timestamp>,
}

/// Why a version is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeepReason {
    /// One of the newest.
    Last,
    /// The newest of its day.
    Daily,
    /// The newest of its week.
    Weekly,
    /// The newest of its month.
    Monthly,
    /// The newest of its year.
    Yearly,
    /// Somebody wants it kept.
    Pinned,
    /// Its time is not over.
    Locked(Timestamp),
    /// The newest of its life that can be relied on, or the newest at all where none can.
    Newest,
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepReason::Last => f.write_str("last"),
            KeepReason::Daily => f.write_str("daily"),
            KeepReason::Weekly => f.write_str("weekly"),
            KeepReason::Monthly => f.write_str("monthly"),
            KeepReason::Yearly => f.write_str("yearly"),
            KeepReason::Pinned => f.write_str("pinned"),
            KeepReason::Locked(until) => write!(f, "locked until {until:.0}"),
            KeepReason::Newest => f.write_str("latest good version of its generation"),
        }
    }
}

/// Why each version is kept, by id. One that is not in it is kept by nothing.
pub type KeptVersion = BTreeMap<VersionId, BTreeSet<KeepReason>>;

/// Decides about all versions of one volume.
#[must_use]
pub fn decide(versions: &[RetainedVersion], keep: Keep, now: Timestamp, zone: &TimeZone) -> KeptVersion {
    let mut newest_first: Vec<&RetainedVersion> = versions.iter().collect();
    newest_first.sort_by_key(|held| std::cmp::Reverse(held.version.seq()));
    let mut kept = KeptVersion::new();
    let mut add = |held: &RetainedVersion, why: KeepReason| {
        kept.entry(held.version.clone()).or_default().insert(why);
    };
    // Those that count, and then all as if they did.
    let good: Vec<&RetainedVersion> = newest_first.iter().copied().filter(|held| held.good).collect();
    for list in [&good, &newest_first] {
        for (why, most) in [
            (KeepReason::Last, keep.last),
            (KeepReason::Daily, keep.daily),
            (KeepReason::Weekly, keep.weekly),
            (KeepReason::Monthly, keep.monthly),
            (KeepReason::Yearly, keep.yearly),
        ] {
            by_rule(list, why, most, zone).into_iter().for_each(|held| add(held, why));
        }
        let mut seen = BTreeSet::new();
        for held in list.iter().filter(|held| held.good || !good.iter().any(|one| one.generation == held.generation)) {
            if seen.insert(held.generation) {
                add(held, KeepReason::Newest);
            }
        }
    }
    for held in newest_first {
        if held.pinned {
            add(held, KeepReason::Pinned);
        }
        if let Some(until) = held.locked_until.filter(|until| *until > now) {
            add(held, KeepReason::Locked(until));
        }
    }
    kept
}

/// The first version of each of the first `most` spans of a list with the newest first.
fn by_rule<'h>(list: &[&'h RetainedVersion], why: KeepReason, most: u32, zone: &TimeZone) -> Vec<&'h RetainedVersion> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut spans = BTreeSet::new();
    let mut kept = Vec::new();
    for held in list {
        if kept.len() >= most {
            break;
        }
        if span(held, why, zone).is_none_or(|span| spans.insert(span)) {
            kept.push(*held);
        }
    }
    kept
}

/// The span of time that a version falls into; none where each version is one of its own.
fn span(held: &RetainedVersion, why: KeepReason, zone: &TimeZone) -> Option<(i16, i16)> {
    let day: Date = held.created.to_zoned(zone.clone()).date();
    match why {
        KeepReason::Daily => Some((day.year(), day.day_of_year())),
        KeepReason::Weekly => {
            let week = day.iso_week_date();
            Some((week.year(), i16::from(week.week())))
        }
        KeepReason::Monthly => Some((day.year(), i16::from(day.month()))),
        KeepReason::Yearly => Some((day.year(), 0)),
        _ => None,
    }
}

/// A version as retention asks of it.
pub(crate) fn as_held(row: &VersionRow, record: &VolumeRecord) -> RetainedVersion {
    RetainedVersion {
        version: row.version.clone(),
        generation: row.generation,
        created: row.created,
        // What an incident left takes no place of a version from before it.
        good: row.verified
            && row.damaged.is_none()
            && row.incident.is_none()
            && !record.damaged.contains_key(&row.version),
        pinned: row.pinned || record.pins.contains_key(&row.version),
        locked_until: record.locks.get(&row.version).copied(),
    }
}

#[cfg(test)]
mod tests;
