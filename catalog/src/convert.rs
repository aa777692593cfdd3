//! Between rows and types. Everything that is read from the database is checked: a row that this program could not
//! have written is an error that names its column, never a guess.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::error::{CatalogError, DatabaseCause, is_corrupt};

/// A time as it is in the database: always nine digits of fraction, so that texts sort as times do.
pub(crate) fn stamp(at: Timestamp) -> String {
    format!("{at:.9}")
}

pub(crate) fn opt_stamp(at: Option<Timestamp>) -> Option<String> {
    at.map(stamp)
}

/// An operation on a subject: the start of every error's text.
pub(crate) struct Operation {
    pub(crate) path: Arc<Path>,
    pub(crate) name: &'static str,
    pub(crate) subject: String,
}

impl Operation {
    pub(crate) fn failed(&self, error: sqlx::Error) -> CatalogError {
        if is_corrupt(&error) {
            let why = DatabaseCause::of(&error).to_string();
            return CatalogError::Corrupt { path: self.path.to_path_buf(), why };
        }
        CatalogError::Database {
            operation: self.name,
            subject: self.subject.clone(),
            source: DatabaseCause::at(&self.path, &error),
        }
    }

    /// A number as the database holds it.
    pub(crate) fn number(&self, field: &'static str, value: u64) -> Result<i64, CatalogError> {
        i64::try_from(value).map_err(|_| CatalogError::Range {
            operation: self.name,
            subject: self.subject.clone(),
            field,
            value: u128::from(value),
        })
    }

    pub(crate) fn json<T: Serialize>(&self, field: &'static str, value: &T) -> Result<String, CatalogError> {
        serde_json::to_string(value).map_err(|source| CatalogError::Json {
            operation: self.name,
            subject: self.subject.clone(),
            field,
            source,
        })
    }

    pub(crate) fn row<'a>(&'a self, row: &'a SqliteRow) -> Row<'a> {
        Row { row, operation: self }
    }

    pub(crate) fn bad(&self, column: &'static str, why: impl fmt::Display) -> CatalogError {
        CatalogError::Row { operation: self.name, subject: self.subject.clone(), column, why: why.to_string() }
    }
}

/// One row, read by the names of its columns.
pub(crate) struct Row<'a> {
    row: &'a SqliteRow,
    operation: &'a Operation,
}

impl Row<'_> {
    pub(crate) fn bad(&self, column: &'static str, why: impl fmt::Display) -> CatalogError {
        self.operation.bad(column, why)
    }

    fn get<'r, T>(&'r self, column: &'static str) -> Result<T, CatalogError>
    where
        T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        self.row.try_get(column).map_err(|error| self.bad(column, error))
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String, CatalogError> {
        self.get(column)
    }

    pub(crate) fn opt_text(&self, column: &'static str) -> Result<Option<String>, CatalogError> {
        self.get(column)
    }

    pub(crate) fn bytes(&self, column: &'static str) -> Result<Vec<u8>, CatalogError> {
        self.get(column)
    }

    pub(crate) fn flag(&self, column: &'static str) -> Result<bool, CatalogError> {
        self.get(column)
    }

    pub(crate) fn opt_flag(&self, column: &'static str) -> Result<Option<bool>, CatalogError> {
        self.get(column)
    }

    pub(crate) fn signed(&self, column: &'static str) -> Result<i64, CatalogError> {
        self.get(column)
    }

    pub(crate) fn count(&self, column: &'static str) -> Result<u64, CatalogError> {
        u64::try_from(self.get::<i64>(column)?).map_err(|error| self.bad(column, error))
    }

    pub(crate) fn opt_count(&self, column: &'static str) -> Result<Option<u64>, CatalogError> {
        match self.get::<Option<i64>>(column)? {
            Some(value) => u64::try_from(value).map(Some).map_err(|error| self.bad(column, error)),
            None => Ok(None),
        }
    }

    pub(crate) fn small(&self, column: &'static str) -> Result<u32, CatalogError> {
        u32::try_from(self.get::<i64>(column)?).map_err(|error| self.bad(column, error))
    }

    pub(crate) fn parsed<T>(&self, column: &'static str) -> Result<T, CatalogError>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.text(column)?.parse().map_err(|error| self.bad(column, error))
    }

    pub(crate) fn opt_parsed<T>(&self, column: &'static str) -> Result<Option<T>, CatalogError>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        match self.opt_text(column)? {
            Some(text) => text.parse().map(Some).map_err(|error| self.bad(column, error)),
            None => Ok(None),
        }
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp, CatalogError> {
        self.parsed(column)
    }

    pub(crate) fn opt_time(&self, column: &'static str) -> Result<Option<Timestamp>, CatalogError> {
        self.opt_parsed(column)
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T, CatalogError> {
        serde_json::from_str(&self.text(column)?).map_err(|error| self.bad(column, error))
    }

    pub(crate) fn opt_json<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>, CatalogError> {
        match self.opt_text(column)? {
            Some(text) => serde_json::from_str(&text).map(Some).map_err(|error| self.bad(column, error)),
            None => Ok(None),
        }
    }
}

/// An enum whose values are words: in the database, in JSON and for people the same.
macro_rules! words {
    ($(#[$about:meta])* $name:ident ($what:literal) { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word for it, in the database and in JSON.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = stackferry_volume::reason::UnknownWord;
            fn from_str(word: &str) -> Result<Self, Self::Err> {
                $name::ALL
                    .iter()
                    .copied()
                    .find(|value| value.as_str() == word)
                    .ok_or_else(|| stackferry_volume::reason::UnknownWord { what: $what, text: word.to_owned() })
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_sort_as_times_do_and_are_read_back() {
        let texts = [
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.000000001Z",
            "2026-01-01T00:00:00.5Z",
            "2026-01-01T00:00:01Z",
        ];
        let times: Vec<Timestamp> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let stamps: Vec<String> = times.iter().copied().map(stamp).collect();
        assert!(stamps.is_sorted(), "{stamps:?}");
        for (time, stamp) in times.iter().zip(&stamps) {
            assert_eq!(stamp.parse::<Timestamp>().unwrap(), *time);
            assert_eq!(stamp.len(), "2026-01-01T00:00:00.000000000Z".len());
        }
    }
}
