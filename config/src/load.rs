//! Makes a [`Config`] of a file, the environment and flags, and says precisely what is wrong with it.
//!
//! 1. The file is parsed into a tree in which every key and value knows its place.
//! 2. Variables, then flags, replace values in the tree; their places point at the variable or flag.
//! 3. The tree is compared with the schema: unknown keys, wrong types, words and ranges, missing keys.
//! 4. Each `[[datastore]]` is checked by its route, then serde makes the types.
//! 5. What depends on other keys is filled in, and what several keys say together is checked.
//!
//! Nothing here fetches a secret or touches a path other than the file itself.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

mod check;
pub(crate) mod near;
mod overrides;
pub(crate) mod place;

pub use overrides::Overrides;

use crate::error::ConfigError;
use crate::model::{Config, DatastoreConfig, DatastoreKeys};
use crate::value::HINT;
use crate::{schema, text, validate};
use place::{Issue, PathStep, SourceMap};

/// The largest configuration file, in bytes: room for thousands of datastores, and small enough to be held several times.
pub const MAX_FILE: u64 = 4 * 1024 * 1024;

impl Config {
    /// Reads the file at `path`, with `overrides` before it, and checks everything that can be checked without asking
    /// another system.
    ///
    /// # Errors
    /// When the file cannot be read, or something in it or in the overrides is wrong: the first such thing, with its place.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let read_error = |source: std::io::Error| match source.kind() {
            ErrorKind::NotFound => ConfigError::Missing { path: path.to_owned() },
            _ => ConfigError::Read { path: path.to_owned(), source },
        };
        let file = File::open(path).map_err(read_error)?;
        let mut bytes = Vec::new();
        let length = file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(read_error)?;
        if u64::try_from(length).unwrap_or(u64::MAX) > MAX_FILE {
            return Err(ConfigError::TooLarge { path: path.to_owned(), limit: MAX_FILE });
        }
        let text = text::text(&bytes).map_err(|found| ConfigError::Encoding { path: path.to_owned(), found })?;
        Self::parse(text, path, overrides)
    }

    /// As [`Config::load`] with a text that was already read; `path` only names it in errors.
    ///
    /// # Errors
    /// When something in it or in the overrides is wrong.
    pub fn parse(text: &str, path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let mut sources = SourceMap::new(path, text);
        match build(text, overrides, &mut sources) {
            Ok(config) => Ok(config),
            Err((issue, root)) => Err(ConfigError::Invalid(Box::new(sources.locate(issue, root.as_ref())))),
        }
    }
}

/// For tests and tools: no file, no overrides.
impl FromStr for Config {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::parse(text, Path::new("<text>"), &Overrides::none())
    }
}

type LoadFailure<'i> = (Issue, Option<DeTable<'i>>);

fn build<'i>(text: &'i str, overrides: &'i Overrides, sources: &mut SourceMap) -> Result<Config, LoadFailure<'i>> {
    let mut root = DeTable::parse(text)
        .map_err(|error| (Issue::at_span(error.span(), error.message()).with_hint("see https://toml.io"), None))?;
    let schema = schema::inlined();
    let shape = schema::Shape::new(&schema);
    let outcome = overrides
        .apply(root.get_mut(), &shape, sources)
        .and_then(|()| check::root(root.get_ref(), &shape))
        .and_then(|()| check_datastores(root.get_ref()))
        .and_then(|()| Config::deserialize(toml::Deserializer::from(root.clone())).map_err(|error| from_toml(&error)))
        .and_then(validate::complete);
    outcome.map_err(|issue| (issue, Some(root.into_inner())))
}

/// What serde says, with the advice that our own types put behind it.
fn from_toml(error: &toml::de::Error) -> Issue {
    match error.message().rsplit_once(HINT) {
        Some((text, hint)) => Issue::at_span(error.span(), text).with_hint(hint),
        None => Issue::at_span(error.span(), error.message()),
    }
}

/// Checks each `[[datastore]]` by its route, while the place of every key is still known.
fn check_datastores(root: &DeTable<'_>) -> Result<(), Issue> {
    let entries = root.get("datastore").and_then(|value| value.get_ref().as_array());
    for (at, entry) in entries.into_iter().flatten().enumerate() {
        let value: Spanned<DeValue<'_>> = entry.clone();
        let keys =
            DatastoreKeys::deserialize(toml::de::ValueDeserializer::from(value)).map_err(|error| from_toml(&error))?;
        DatastoreConfig::try_from(keys).map_err(|misfit| {
            Issue::at(vec![PathStep::key("datastore"), PathStep::Item(at), PathStep::key(misfit.key)], misfit.text)
                .with_hint(misfit.hint)
        })?;
    }
    Ok(())
}
