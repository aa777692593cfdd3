//! What is wrong with a file of a version.

use std::fmt;

/// The maximum number of damages reported of one version. A disk that fails altogether would report every block.
pub const MAX_DAMAGE: usize = 10_000;

/// Something in a version that is not what its manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file's name.
    pub file: String,
    /// The block's number in it; none where the whole file is meant.
    pub block: Option<u64>,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.block {
            Some(block) => write!(f, "{}, block {block}: {}", self.file, self.why),
            None => write!(f, "{}: {}", self.file, self.why),
        }
    }
}
