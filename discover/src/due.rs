//! Whether a volume has to be read again. A pure function of what was seen and what was kept.

use jiff::{SignedDuration, Timestamp};
use stackferry_volume::fingerprint::is_known;
use stackferry_volume::reason::shown;
use stackferry_volume::{Baseline, FileStamp, Fingerprint};

use crate::volume::VolumeLocation;

/// Whether a volume has to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// It does not.
    No,
    /// It has no version.
    Never,
    /// Its location is not as it was.
    Changed {
        /// What changed, for a person.
        what: String,
    },
    /// It was not read for longer than its kind allows.
    Overdue {
        /// When it was last found equal to a version; none if that is not known.
        since: Option<Timestamp>,
    },
}

/// Whether `volume` has to be read at `location`.
///
/// `baselines` are the volume's, of any of its locations. A location without a baseline of its own is read once: that its
/// files look like those elsewhere does not prove that they hold the same bytes.
/// `max_age` is that of the volume's kind; `last_success` is when it was last found equal to a committed version.
#[must_use]
pub fn due(
    location: &VolumeLocation,
    baselines: &[Baseline],
    versions_exist: bool,
    max_age: Option<SignedDuration>,
    last_success: Option<Timestamp>,
    now: Timestamp,
) -> Due {
    if !versions_exist {
        return Due::Never;
    }
    match baselines.iter().find(|baseline| baseline.location == location.location) {
        Some(baseline) => {
            if let Some(what) = difference(&baseline.fingerprint, &location.fingerprint) {
                return Due::Changed { what };
            }
            if let Some(file) = location.fingerprint.without_mtime() {
                let what = format!(
                    "{} has no time of last change: whether it changed is only known when it is read",
                    shown(&file.name)
                );
                return Due::Changed { what };
            }
            if !baseline.settled {
                let what = "it was read so soon after a change that a later one may have gone unseen".to_owned();
                return Due::Changed { what };
            }
        }
        None => return Due::Changed { what: format!("it was never read at {}", location.location) },
    }
    let Some(max_age) = max_age else { return Due::No };
    match last_success {
        // A clock that was put back makes a success one of the future: it makes nothing due by that. One further ahead was noted
        // by a clock that was wrong, and must not put off reading for longer than the kind allows.
        Some(last) if now.duration_since(last).abs() < max_age => Due::No,
        since => Due::Overdue { since },
    }
}

/// The first difference of two fingerprints, for a person; none if they are equal.
#[must_use]
pub fn difference(before: &Fingerprint, now: &Fingerprint) -> Option<String> {
    if before == now {
        return None;
    }
    let find = |files: &[FileStamp], name: &str| files.iter().find(|file| file.name == name).cloned();
    for file in &now.files {
        let name = shown(&file.name);
        match find(&before.files, &file.name) {
            None => return Some(format!("{name} is new")),
            Some(old) if old.bytes != file.bytes => {
                return Some(format!("{name} was {} bytes long and is {} bytes long", old.bytes, file.bytes));
            }
            Some(_) if !is_known(file.mtime) => return Some(format!("{name} has no time of last change")),
            Some(old) if old.mtime != file.mtime => {
                return Some(format!("{name} was changed at {}", file.mtime));
            }
            Some(_) => {}
        }
    }
    if let Some(file) = before.files.iter().find(|file| find(&now.files, &file.name).is_none()) {
        return Some(format!("{} is gone", shown(&file.name)));
    }
    Some(format!("its content id was {} and is {}", id(before), id(now)))
}

fn id(fingerprint: &Fingerprint) -> &str {
    fingerprint.cid.as_deref().unwrap_or("not known")
}

#[cfg(test)]
mod tests;
