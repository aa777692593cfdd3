//! Why a descriptor is invalid.

use super::binary::BinaryFormat;
use super::{snapshot, sparse};
use crate::block::MAX_FILE_BYTES;
use crate::name::{FileName, NameError};
use crate::reason::{ReasonCode, Unprotectable, shown};

/// A descriptor can't be used. Permanent until somebody changes the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} can't be used: {flaw}", shown(.file.as_str()))]
pub struct DescriptorError {
    /// The descriptor's file name.
    pub file: FileName,
    /// What is wrong with it. Boxed, since most descriptors are good.
    pub flaw: Box<Flaw>,
}

/// What is wrong with a descriptor. Texts from the file are made harmless before they get here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// No byte, or nothing but zeros.
    #[error("it is empty")]
    Empty,
    /// Longer than a descriptor can be, and of no binary format that is known.
    #[error("not a descriptor: it is {bytes} bytes long")]
    TooLarge {
        /// Its length in bytes.
        bytes: u64,
    },
    /// A disk in one binary file instead of a text.
    #[error("it is no text, but {format}{}", .create_type.as_ref().map(|kind| format!(" of type {kind}")).unwrap_or_default())]
    Binary {
        /// Which format.
        format: BinaryFormat,
        /// The type that the text inside it names, if it could be read.
        create_type: Option<String>,
    },
    /// UTF-16, which no host writes.
    #[error("it is UTF-16; a descriptor is UTF-8 or in the encoding that it names")]
    Utf16,
    /// Some other text.
    #[error("it is no descriptor: it does not begin with `# Disk DescriptorFile`")]
    NotADescriptor,
    /// A line that has to be there.
    #[error("there is no {what}")]
    Missing {
        /// What is missing.
        what: &'static str,
    },
    /// A line that is not of the form it should have.
    #[error("line {line} can't be read: {why}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An extent is not a plain file beside the descriptor.
    #[error("line {line}: the extent `{name}` is not a file beside the descriptor")]
    ExtentElsewhere {
        /// The line, from 1.
        line: usize,
        /// The text.
        name: String,
    },
    /// An extent's name is none.
    #[error("line {line}: the extent `{name}` has a name that can't be used: {why}")]
    ExtentName {
        /// The line, from 1.
        line: usize,
        /// The text.
        name: String,
        /// What is wrong with it.
        why: NameError,
    },
    /// The descriptor names itself.
    #[error("it names itself as its extent")]
    ExtentIsDescriptor,
    /// An extent has the name of the file that the vault puts beside a version's files.
    #[error("the extent's name `{name}` is reserved")]
    ExtentReserved {
        /// The name.
        name: String,
    },
    /// Two extents share bytes of a file.
    #[error("two extents overlap in {name}")]
    Overlap {
        /// The file.
        name: String,
    },
    /// The disk, or an extent's end, is larger than vSphere allows.
    #[error("{what} is larger than {} TiB", MAX_FILE_BYTES >> 40)]
    TooLong {
        /// The disk, or an extent.
        what: String,
    },
    /// An extent's file is not there.
    #[error("its extent {name} is missing")]
    ExtentMissing {
        /// The file.
        name: String,
    },
    /// An extent's file is a folder, a link or a device.
    #[error("its extent {name} is no regular file")]
    ExtentNotAFile {
        /// The file.
        name: String,
    },
    /// An extent's file is shorter than the descriptor says.
    #[error("its extent {name} is {bytes} bytes long, {needed} are needed")]
    ExtentTooShort {
        /// The file.
        name: String,
        /// Its length in bytes.
        bytes: u64,
        /// The length needed, in bytes.
        needed: u64,
    },
    /// An extent's file is longer than vSphere allows.
    #[error("its extent {name} is {bytes} bytes long, more than {} TiB", MAX_FILE_BYTES >> 40)]
    ExtentTooLong {
        /// The file.
        name: String,
        /// Its length in bytes.
        bytes: u64,
    },
}

impl Flaw {
    /// Whether the file is the text of a descriptor all the same, one that is damaged.
    #[must_use]
    pub fn is_descriptor(&self) -> bool {
        !matches!(self, Flaw::Empty | Flaw::TooLarge { .. } | Flaw::Binary { .. } | Flaw::Utf16 | Flaw::NotADescriptor)
    }
}

impl DescriptorError {
    /// The word for it.
    #[must_use]
    pub fn code(&self) -> ReasonCode {
        match *self.flaw {
            Flaw::Binary { .. } => ReasonCode::UnsupportedDisk,
            Flaw::ExtentMissing { .. } => ReasonCode::Missing,
            _ => ReasonCode::BadDescriptor,
        }
    }

    /// Why the disk can't be copied, and what to do about it.
    #[must_use]
    pub fn unprotectable(&self) -> Unprotectable {
        let file = shown(self.file.as_str());
        let plain = || Unprotectable::new(self.code(), self.to_string());
        match &*self.flaw {
            Flaw::Binary { format, create_type } => match (format, create_type.as_deref()) {
                (BinaryFormat::HostedSparse, kind) => sparse(&file, kind.unwrap_or("monolithicSparse")),
                (BinaryFormat::Cowd, _) => snapshot(&file, "vmfsSparse"),
                (BinaryFormat::SeSparse, _) => snapshot(&file, "seSparse"),
            },
            Flaw::ExtentMissing { .. } => plain()
                .remedy("If the disk is being copied or moved, wait; else put the file back or delete the descriptor."),
            Flaw::ExtentTooShort { .. } => {
                plain().remedy("If the disk is being copied or extended, wait; else the disk is cut and needs repair.")
            }
            _ => plain()
                .remedy("Look at the file. A damaged descriptor can be recreated for its extent, as VMware describes."),
        }
    }
}
