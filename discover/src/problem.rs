//! Problems of datastores and systems that users should know of.

/// The kind of a problem. The words are part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemCode {
    /// A datastore or a system is unreachable.
    Unreachable,
    /// A folder, or an entry of it, can't be read.
    NotListed,
    /// None of a datastore's folders exists.
    NothingThere,
    /// A datastore that skip volumes is empty.
    Emptied,
    /// A file next to a volume is not copied with it.
    LeftOut,
    /// A lock that no host renews.
    OldLock,
    /// Something else that users should know.
    Notice,
}

impl ProblemCode {
    /// The word used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::NotListed => "not_listed",
            Self::NothingThere => "nothing_there",
            Self::Emptied => "emptied",
            Self::LeftOut => "left_out",
            Self::OldLock => "old_lock",
            Self::Notice => "notice",
        }
    }

    /// Whether there may be volumes that the scan could not see.
    #[must_use]
    pub fn hides_volumes(self) -> bool {
        matches!(self, Self::Unreachable | Self::NotListed | Self::NothingThere | Self::Emptied)
    }
}

/// A problem with a datastore or a system that users should know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanProblem {
    /// Its kind.
    pub code: ProblemCode,
    /// Its subject: a datastore, a folder or a file, in vSphere's notation.
    pub subject: String,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub hint: String,
}
