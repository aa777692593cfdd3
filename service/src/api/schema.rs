//! Shapes of answers that other rooms make, as the OpenAPI document tells them.
#![allow(dead_code, reason = "these types describe; nothing makes one")]

use jiff::Timestamp;

/// A word for scripts and a sentence for people.
#[derive(utoipa::ToSchema)]
pub(crate) struct ReasonBody {
    /// The word.
    code: String,
    /// The sentence.
    text: String,
}

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
