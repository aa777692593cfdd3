//! What is wrong with a configuration: where, with which key, and what to do about it. Never repeats a password.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::text::Encoding;

/// Why there is no configuration. All are permanent until a person changes something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file does not exist.
    #[error("{path}: there is no configuration file; name one with --config FILE or STACKFERRY_CONFIG")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("{path}: cannot read the configuration")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The file is no configuration of this program.
    #[error("{path}: larger than {limit} bytes, which is no configuration")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// The file is in another encoding.
    #[error("{path}: {found}")]
    Encoding {
        /// The file.
        path: PathBuf,
        /// What it seems to be.
        found: Encoding,
    },
    /// Something in it is wrong.
    #[error(transparent)]
    Invalid(Box<Invalid>),
    /// A table that a command needs is not there.
    #[error("the configuration has no [{section}]; {hint}")]
    NoSection {
        /// The table's name.
        section: &'static str,
        /// What to add.
        hint: &'static str,
    },
    /// The configuration cannot be written as TOML.
    #[error("cannot write the configuration as TOML")]
    Show {
        /// The writer's answer.
        #[source]
        source: toml::ser::Error,
    },
}

/// One thing that is wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pub(crate) origin: Origin,
    pub(crate) subject: Option<String>,
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
}

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In the file, at a line and column (both from 1; columns count characters).
    Place {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// Somewhere in the file, or nowhere: what is wrong is that it is missing.
    File(PathBuf),
    /// In an environment variable.
    Variable(String),
    /// In an option on the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::File(path) => path.display().fmt(f),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "option {name}"),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Invalid {}

impl Invalid {
    /// Where the value was given.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What is wrong, without place and advice.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl ConfigError {
    fn invalid(&self) -> Option<&Invalid> {
        match self {
            Self::Invalid(invalid) => Some(invalid),
            _ => None,
        }
    }

    /// The file, where the trouble is in one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Missing { path }
            | Self::Read { path, .. }
            | Self::TooLarge { path, .. }
            | Self::Encoding { path, .. } => Some(path),
            Self::Invalid(invalid) => match &invalid.origin {
                Origin::Place { path, .. } | Origin::File(path) => Some(path),
                Origin::Variable(_) | Origin::Flag(_) => None,
            },
            Self::NoSection { .. } | Self::Show { .. } => None,
        }
    }

    /// The line in the file, from 1.
    pub fn line(&self) -> Option<usize> {
        match self.invalid()?.origin {
            Origin::Place { line, .. } => Some(line),
            _ => None,
        }
    }

    /// The column in that line, from 1, in characters.
    pub fn column(&self) -> Option<usize> {
        match self.invalid()?.origin {
            Origin::Place { column, .. } => Some(column),
            _ => None,
        }
    }

    /// The key or table it is about, as `limits.transfers` or `datastore[nfs01].path`.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::NoSection { section, .. } => Some(section),
            _ => self.invalid()?.subject.as_deref(),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Missing { .. } => Some("name one with --config FILE or STACKFERRY_CONFIG"),
            Self::Read { .. } => Some("check that the file is readable for the user that runs this"),
            Self::NoSection { hint, .. } => Some(hint),
            Self::Encoding { found, .. } => Some(found.hint()),
            _ => self.invalid()?.hint.as_deref(),
        }
    }
}
