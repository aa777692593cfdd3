//! Why a volume is not copied now, and the words for it that people, scripts and alerts read.
//!
//! Codes are part of the contract: they are added, never renamed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What may be done with a volume now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeState {
    /// It can be copied.
    Ready,
    /// It is postponed; the reason passes by itself.
    Deferred,
    /// It can't be copied as it is; somebody has to do something.
    Unprotectable,
    /// It was known and is no longer at its source. Its versions stay.
    Gone,
    /// Copies that should be one disk differ, or two disks have one name. It is copied nevertheless.
    Conflict,
    /// Its content changed unexpectedly. It is copied nevertheless.
    Incident,
}

impl VolumeState {
    /// Every state, in the order they are listed to people.
    pub const ALL: [VolumeState; 6] = [
        VolumeState::Ready,
        VolumeState::Deferred,
        VolumeState::Unprotectable,
        VolumeState::Gone,
        VolumeState::Conflict,
        VolumeState::Incident,
    ];

    /// The word used in JSON, metrics and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            VolumeState::Ready => "ready",
            VolumeState::Deferred => "deferred",
            VolumeState::Unprotectable => "unprotectable",
            VolumeState::Gone => "gone",
            VolumeState::Conflict => "conflict",
            VolumeState::Incident => "incident",
        }
    }
}

impl fmt::Display for VolumeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text is no word of the list that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}")]
pub struct UnknownWord {
    /// The text.
    pub text: String,
    /// The list's name: `state`, `reason code`.
    pub what: &'static str,
}

impl FromStr for VolumeState {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        VolumeState::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| UnknownWord { text: text.to_owned(), what: "state" })
    }
}

/// Why a volume is deferred, unprotectable, gone or in conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// A machine or a user has it attached.
    Attached,
    /// No system that could know says that it is detached.
    AttachmentUnknown,
    /// A host holds a lock on one of its files, or the lock's owner is unknown.
    Locked,
    /// It has a snapshot: what was written since is in another disk.
    Snapshot,
    /// App Volumes is making it.
    Provisioning,
    /// App Volumes is moving it.
    Moving,
    /// It was just written to, or App Volumes works on it.
    Busy,
    /// App Volumes is deleting it.
    Deleting,
    /// It, or one of the files it needs, is not there.
    Missing,
    /// Its datastore can't be read.
    Unreachable,
    /// App Volumes lost its owner.
    Orphaned,
    /// It lies only where disks are objects, not files.
    VsanOnly,
    /// Its disk format is not one that can be copied file by file.
    UnsupportedDisk,
    /// Invalid VMDK descriptor.
    BadDescriptor,
    /// Its name can't be a name in the vault.
    BadName,
    /// No window of the schedule is open.
    OutsideWindow,
    /// Somebody paused it.
    Paused,
    /// It is a backup that App Volumes itself made.
    AppVolumesBackup,
    /// Copies that should be one disk differ.
    Conflict,
    /// Its content changed unexpectedly.
    Incident,
}

impl ReasonCode {
    /// Every code.
    pub const ALL: [ReasonCode; 20] = [
        ReasonCode::Attached,
        ReasonCode::AttachmentUnknown,
        ReasonCode::Locked,
        ReasonCode::Snapshot,
        ReasonCode::Provisioning,
        ReasonCode::Moving,
        ReasonCode::Busy,
        ReasonCode::Deleting,
        ReasonCode::Missing,
        ReasonCode::Unreachable,
        ReasonCode::Orphaned,
        ReasonCode::VsanOnly,
        ReasonCode::UnsupportedDisk,
        ReasonCode::BadDescriptor,
        ReasonCode::BadName,
        ReasonCode::OutsideWindow,
        ReasonCode::Paused,
        ReasonCode::AppVolumesBackup,
        ReasonCode::Conflict,
        ReasonCode::Incident,
    ];

    /// The word used in JSON, metrics and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ReasonCode::Attached => "attached",
            ReasonCode::AttachmentUnknown => "attachment_unknown",
            ReasonCode::Locked => "locked",
            ReasonCode::Snapshot => "snapshot",
            ReasonCode::Provisioning => "provisioning",
            ReasonCode::Moving => "moving",
            ReasonCode::Busy => "busy",
            ReasonCode::Deleting => "deleting",
            ReasonCode::Missing => "missing",
            ReasonCode::Unreachable => "unreachable",
            ReasonCode::Orphaned => "orphaned",
            ReasonCode::VsanOnly => "vsan_only",
            ReasonCode::UnsupportedDisk => "unsupported_disk",
            ReasonCode::BadDescriptor => "bad_descriptor",
            ReasonCode::BadName => "bad_name",
            ReasonCode::OutsideWindow => "outside_window",
            ReasonCode::Paused => "paused",
            ReasonCode::AppVolumesBackup => "app_volumes_backup",
            ReasonCode::Conflict => "conflict",
            ReasonCode::Incident => "incident",
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ReasonCode {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        ReasonCode::ALL
            .into_iter()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| UnknownWord { text: text.to_owned(), what: "reason code" })
    }
}

/// Why a volume is not copied now: a word for scripts and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reason {
    /// The word.
    pub code: ReasonCode,
    /// The sentence. It names what it speaks of.
    pub text: String,
}

impl Reason {
    /// A reason of this code and text.
    pub fn new(code: ReasonCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a disk can't be copied as it is, and what a person can do about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Unprotectable {
    /// The word.
    pub code: ReasonCode,
    /// The sentence.
    pub text: String,
    /// What to do, where something can be done.
    pub remedy: Option<String>,
}

impl Unprotectable {
    /// Something that can't be copied, without advice.
    pub fn new(code: ReasonCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), remedy: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The word and the sentence.
    #[must_use]
    pub fn reason(&self) -> Reason {
        Reason { code: self.code, text: self.text.clone() }
    }
}

/// The longest piece of hostile text that is shown to a person, in characters.
const SHOWN_CHARS: usize = 80;

/// A text from a datastore as it may stand in a message: what could move a cursor or forge a line is replaced, and it is cut
/// after 80 characters.
#[must_use]
pub fn shown(text: &str) -> String {
    shown_up_to(text, SHOWN_CHARS)
}

/// As [`shown`], but cut after so many characters.
#[must_use]
pub fn shown_up_to(text: &str, chars: usize) -> String {
    let mut shown: String =
        text.chars().take(chars).map(|c| if is_harmful(c) { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if text.chars().nth(chars).is_some() {
        shown.push('…');
    }
    shown
}

/// Control characters, line and paragraph separators, and the invisible format characters of Unicode's Cf that occur
/// in attacks: zero-width ones, marks of direction, tags. Nowhere do they reach a terminal or a log as they are.
#[must_use]
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for code in ReasonCode::ALL {
            assert_eq!(code.as_str().parse::<ReasonCode>().unwrap(), code);
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
        for state in VolumeState::ALL {
            assert_eq!(state.as_str().parse::<VolumeState>().unwrap(), state);
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert_eq!("x".parse::<VolumeState>().unwrap_err().to_string(), "`x` is no state");
    }

    #[test]
    fn hostile_text_is_tamed() {
        assert_eq!(shown("a\u{1b}[2Jb\n\u{202e}"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}");
        assert_eq!(shown(&"x".repeat(81)), format!("{}…", "x".repeat(80)));
        assert_eq!(shown(&"x".repeat(80)), "x".repeat(80));
    }
}
