//! Shapes of answers that other rooms make, as the OpenAPI document tells them.
#![allow(dead_code, reason = "these types describe; nothing makes one")]

use jiff::Timestamp;

/// One record of what was done. Records are only ever added.
#[derive(utoipa::ToSchema)]
pub(crate) struct AuditBody {
    /// Its number, from 1, without gaps.
    id: u64,
    /// When it was written.
    at: Timestamp,
    /// What was done.
    action: String,
    /// By whom.
    actor: String,
    /// To what.
    subject: String,
    /// What else there is to say.
    #[schema(value_type = Object)]
    detail: serde_json::Value,
    /// The digest that seals it and all before it.
    digest: String,
}

/// What a volume is used for.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KindWord {
    Appstack,
    Package,
    Writable,
    Template,
    Image,
}

/// How a volume stands at its source.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StateWord {
    Ready,
    Deferred,
    Unprotectable,
    Gone,
    Conflict,
    Incident,
}

/// How a volume is protected.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StandingWord {
    Protected,
    Overdue,
    NeverCopied,
    Unprotectable,
    Gone,
}

/// How a list of volumes is ordered.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OrderWord {
    Id,
    Name,
    Oldest,
    Size,
}

/// How a job stands.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobStateWord {
    Queued,
    Running,
    Done,
    Failed,
    Cancelled,
    Deferred,
}

/// What a job does.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobKindWord {
    Copy,
    Verify,
    Restore,
    RestoreTest,
    Prune,
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::Value;
    use utoipa::PartialSchema;

    use super::*;

    /// The words that the document lists.
    fn listed<T: PartialSchema>() -> Vec<String> {
        let schema = serde_json::to_value(T::schema()).unwrap();
        schema["enum"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    }

    /// The words that the program takes, as it tells whoever gives another.
    fn taken<T: DeserializeOwned>() -> Vec<String> {
        let why = serde_json::from_value::<T>(Value::from("\u{1}")).err().unwrap().to_string();
        let (_, words) = why.split_once("expected one of").unwrap();
        words.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_document_lists_the_words_that_are_taken() {
        assert_eq!(listed::<KindWord>(), taken::<stackferry_volume::Kind>());
        assert_eq!(listed::<StateWord>(), taken::<stackferry_catalog::VolumeState>());
        assert_eq!(listed::<StandingWord>(), taken::<stackferry_catalog::Standing>());
        assert_eq!(listed::<OrderWord>(), taken::<stackferry_catalog::VolumeOrder>());
        assert_eq!(listed::<JobStateWord>(), taken::<stackferry_catalog::JobState>());
        assert_eq!(listed::<JobKindWord>(), taken::<stackferry_catalog::JobKind>());
    }
}
