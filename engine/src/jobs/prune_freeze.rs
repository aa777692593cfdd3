//! Whether retention may delete: not while the clock is doubted.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stackferry_catalog::AuditAction;

use super::Jobs;
use crate::about::PROGRAM;
use stackferry_problem::{Code, Problem};

const NOTE: &str = "prune_frozen";

/// Why retention deletes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneFrozen {
    /// Since when, by the clock that is doubted.
    pub since: Timestamp,
    /// Why, for a person.
    pub why: String,
}

impl Jobs {
    /// From now on nothing is deleted by retention, until [`Jobs::confirm_clock`]; restarts don't change that.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn freeze_prune(&self, why: &str) -> Result<(), Problem> {
        if self.prune_frozen().await?.is_some() {
            return Ok(());
        }
        let frozen = PruneFrozen { since: Timestamp::now(), why: why.to_owned() };
        let text = serde_json::to_string(&frozen).map_err(|error| Problem::internal(error.to_string()))?;
        self.0.catalog.set_marker(NOTE, Some(&text)).await?;
        self.0.catalog.audit(AuditAction::PruneFrozen, PROGRAM, "retention", &json!({ "why": why })).await?;
        Ok(())
    }

    /// Why nothing may be deleted by retention; none while it may.
    ///
    /// # Errors
    /// `catalog_damaged` where the note can't be read: then nothing may be deleted; the catalog's.
    pub async fn prune_frozen(&self) -> Result<Option<PruneFrozen>, Problem> {
        let Some(text) = self.0.catalog.marker(NOTE).await? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            Problem::new(Code::CatalogDamaged, format!("the note why nothing is deleted can't be read: {error}"))
                .hint("look at the machine's clock, then run `stackferry prune --confirm-clock`")
        })
    }

    /// A person looked at the clock: retention may delete again. False if it might before.
    ///
    /// # Errors
    /// The catalog's.
    pub async fn confirm_clock(&self, actor: &str) -> Result<bool, Problem> {
        let was = self.0.catalog.marker(NOTE).await?;
        if was.is_none() {
            return Ok(false);
        }
        self.0.catalog.set_marker(NOTE, None).await?;
        self.0.catalog.audit(AuditAction::ClockConfirmed, actor, "retention", &json!({})).await?;
        Ok(true)
    }
}
