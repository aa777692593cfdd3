//! Arguments that are more than a text.

use std::fmt;
use std::str::FromStr;

use stackferry_catalog::Role;
use stackferry_config::Period;
use stackferry_volume::VersionId;
use stackferry_volume::ids::split_version;

/// Why an argument can't be used. clap names the argument itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArgError {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// No version where one is needed.
    #[error("it names no version; write VOLUME@VERSION, as `stackferry versions VOLUME` lists them")]
    NoVersion,
    /// A length of time that is none.
    #[error("it must be longer than 0s")]
    Zero,
    /// No role.
    #[error("it is viewer, operator or admin")]
    Role,
    /// A length of time that can't be read.
    #[error("write it as 90s, 5m or 1h30m")]
    Duration,
}

/// A volume as a person names it, perhaps with a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// An id, name, owner or GUID.
    pub volume: String,
    /// The version, where one was named.
    pub version: Option<VersionId>,
    /// All of it as it was written: a volume's own id may look like a version of another.
    text: String,
}

impl FromStr for Target {
    type Err = ArgError;
    fn from_str(text: &str) -> Result<Self, ArgError> {
        let (name, version) = split_version(text);
        Ok(Self { volume: volume(name)?, version, text: text.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A version of a volume as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionTarget {
    /// An id, name, owner or GUID.
    pub volume: String,
    /// The version.
    pub version: VersionId,
}

impl FromStr for VersionTarget {
    type Err = ArgError;
    fn from_str(text: &str) -> Result<Self, ArgError> {
        let Target { volume, version, .. } = text.parse()?;
        Ok(Self { volume, version: version.ok_or(ArgError::NoVersion)? })
    }
}

/// A volume as a person names it.
pub(super) fn volume(text: &str) -> Result<String, ArgError> {
    if text.is_empty() { Err(ArgError::Empty) } else { Ok(text.to_owned()) }
}

/// What the bearer of a token may do.
pub(super) fn role(text: &str) -> Result<Role, ArgError> {
    text.parse().map_err(|_| ArgError::Role)
}

/// A length of time that is one.
pub(super) fn positive(text: &str) -> Result<Period, ArgError> {
    match text.parse::<Period>() {
        Ok(period) if period.is_zero() => Err(ArgError::Zero),
        Ok(period) => Ok(period),
        Err(_) => Err(ArgError::Duration),
    }
}
