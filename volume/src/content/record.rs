//! What is kept of a disk's content: one word, the file systems' names, a sentence.

use serde::{Deserialize, Serialize};

/// What a version's disk holds. The order is that of concern: of several file systems the worst one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentState {
    /// Its file systems can be used, as far as this program reads them.
    Healthy,
    /// A file system was recognised that this program does not read, or not to the end.
    #[serde(rename = "not_looked_into")]
    NotInspected,
    /// No file system that this program knows. So a disk looks that was never formatted, wiped, or encrypted by an
    /// intruder.
    NotRecognised,
    /// What is there contradicts itself: no machine can use it as it is.
    Damaged,
}

impl ContentState {
    /// Every state, in the order of concern.
    pub const ALL: [ContentState; 4] =
        [ContentState::Healthy, ContentState::NotInspected, ContentState::NotRecognised, ContentState::Damaged];

    /// The word used in JSON and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ContentState::Healthy => "healthy",
            ContentState::NotInspected => "not_looked_into",
            ContentState::NotRecognised => "not_recognised",
            ContentState::Damaged => "damaged",
        }
    }

    /// The state that a word stands for.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// The words for a person: `not recognised`.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            ContentState::Healthy => "healthy",
            ContentState::NotInspected => "not inspected",
            ContentState::NotRecognised => "not recognised",
            ContentState::Damaged => "damaged",
        }
    }
}

/// What a version's disk held when it was inspected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentRecord {
    /// The word for it.
    pub state: ContentState,
    /// The names of the file systems that were recognised, in the disk's order.
    pub systems: Vec<String>,
    /// A sentence for a person.
    pub text: String,
}

impl ContentRecord {
    /// A version whose disk could not be inspected at all.
    #[must_use]
    pub fn damaged(why: String) -> Self {
        Self { state: ContentState::Damaged, systems: Vec::new(), text: why }
    }

    /// That of several disks of one version: the worst state counts. None of no disk.
    pub fn all(disks: impl IntoIterator<Item = Self>) -> Option<Self> {
        disks.into_iter().reduce(|one, other| Self {
            state: one.state.max(other.state),
            systems: [one.systems, other.systems].concat(),
            text: format!("{}; {}", one.text, other.text),
        })
    }

    /// Whether it may have been another disk before: there is something in it that is no file system.
    #[must_use]
    pub fn can_be_lost(&self) -> bool {
        matches!(self.state, ContentState::NotRecognised | ContentState::Damaged)
    }

    /// Why this content can't have become of that of an earlier version by use: a file system is missing that was
    /// there. None if it can.
    #[must_use]
    pub fn lost_since(&self, before: &Self) -> Option<String> {
        (self.can_be_lost() && self.systems.len() < before.systems.len())
            .then(|| format!("it held {} and now is {}", before.systems.join(" and "), self.text))
    }
}
