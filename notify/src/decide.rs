//! What is told now: a pure function of what is wrong, what was told, and the time.
//!
//! Each problem is told once, when it has lasted long enough, and its end once, when it has stayed away long enough.
//! Problems of one kind come together: a message about a kind is followed by the next one of that kind after `apart` only,
//! but the last end of a kind is told at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use stackferry_catalog::ReportedProblem;
use stackferry_config::Notify;

use super::snapshot::{FoundProblem, SiteSnapshot};
use super::trouble::{ReportWhen, Trouble};

/// Problems of one kind.
pub(super) type Kinds = BTreeMap<Trouble, Vec<ReportedProblem>>;

/// What is to be told and written down.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decided {
    /// Problems to tell.
    pub(super) new: Kinds,
    /// Problems whose end is to be told.
    pub(super) over: Kinds,
    /// Rows that are new or changed.
    pub(super) put: Vec<ReportedProblem>,
    /// Rows that go, by code and subject.
    pub(super) forget: Vec<(String, String)>,
}

impl Decided {
    /// The kinds that something is told of.
    pub(super) fn codes(&self) -> Vec<String> {
        let kinds: BTreeSet<Trouble> = self.new.keys().chain(self.over.keys()).copied().collect();
        kinds.into_iter().map(|trouble| trouble.row().word.to_owned()).collect()
    }
}

/// Decides. `rows` is what was written before, `told` when each kind was last told of.
pub(super) fn decide(
    settings: &Notify,
    look: &SiteSnapshot,
    rows: Vec<ReportedProblem>,
    told: &BTreeMap<String, Timestamp>,
    now: Timestamp,
) -> Decided {
    let mut decided = Decided::default();
    let mut found: HashMap<(Trouble, String), &FoundProblem> =
        look.found.iter().map(|found| ((found.trouble, found.subject.clone()), found)).collect();
    // What is not known now is neither new nor over, however long ago that began.
    let mut hidden: BTreeSet<(Trouble, String)> = BTreeSet::new();
    let mut kinds: BTreeMap<Trouble, Vec<(ReportedProblem, bool)>> = BTreeMap::new();
    for row in rows {
        let Some(trouble) = Trouble::from_word(&row.code) else {
            decided.forget.push((row.code, row.subject));
            continue;
        };
        let (before, key) = (row.clone(), (trouble, row.subject.clone()));
        let row = match found.remove(&key) {
            Some(found) => still(row, found, now),
            None if look.unknown.contains(&key) => {
                hidden.insert(key);
                match row.reported {
                    Some(_) => ReportedProblem { gone: None, ..row },
                    None => ReportedProblem { seen: now, ..row },
                }
            }
            None if row.reported.is_none() => {
                decided.forget.push((row.code, row.subject));
                continue;
            }
            None => ReportedProblem { gone: Some(row.gone.map_or(now, |gone| gone.min(now))), ..row },
        };
        let is_changed = row != before;
        kinds.entry(trouble).or_default().push((row, is_changed));
    }
    for ((trouble, _), found) in found {
        kinds.entry(trouble).or_default().push((first(found, now), true));
    }
    for (trouble, mut rows) in kinds {
        rows.sort_by(|(one, _), (two, _)| one.subject.cmp(&two.subject));
        let settle = match trouble.row().told {
            ReportWhen::Now => Duration::ZERO,
            ReportWhen::Settled => settings.settle.duration(),
        };
        let last = told.get(trouble.row().word).filter(|at| **at <= now);
        let may_tell = last.is_none_or(|last| passed(*last, now, settings.apart.duration()));
        let is_known = |row: &ReportedProblem| !hidden.contains(&(trouble, row.subject.clone()));
        let is_new = |row: &ReportedProblem| row.reported.is_none() && is_known(row) && passed(row.seen, now, settle);
        let is_over = |row: &ReportedProblem| row.gone.is_some_and(|gone| passed(gone, now, settle));
        // A single end that leaves others behind is told with the next message.
        let all_over = rows.iter().all(|(row, _)| row.reported.is_none() || is_over(row));
        for (mut row, is_changed) in rows {
            if may_tell && is_new(&row) {
                row.reported = Some(now);
                decided.new.entry(trouble).or_default().push(row.clone());
                decided.put.push(row);
            } else if is_over(&row) && (may_tell || all_over) {
                decided.forget.push((row.code.clone(), row.subject.clone()));
                decided.over.entry(trouble).or_default().push(row);
            } else if is_changed {
                decided.put.push(row);
            }
        }
    }
    decided
}

/// A problem that is there still, or again.
fn still(row: ReportedProblem, found: &FoundProblem, now: Timestamp) -> ReportedProblem {
    // A clock that was set back must not make it wait for the old time.
    let seen = row.seen.min(now);
    ReportedProblem { name: found.name.clone(), detail: found.detail.clone(), seen, gone: None, ..row }
}

fn first(found: &FoundProblem, now: Timestamp) -> ReportedProblem {
    ReportedProblem {
        code: found.trouble.row().word.to_owned(),
        subject: found.subject.clone(),
        name: found.name.clone(),
        detail: found.detail.clone(),
        since: found.since.unwrap_or(now),
        seen: now,
        reported: None,
        gone: None,
    }
}

/// Whether so much time has passed since then.
fn passed(since: Timestamp, now: Timestamp, time: Duration) -> bool {
    Duration::try_from(now.duration_since(since)).is_ok_and(|passed| passed >= time)
}

#[cfg(test)]
mod tests;
