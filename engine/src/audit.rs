//! Records of what has happened already.

use stackferry_catalog::{AuditAction, Catalog};

/// Writes an audit record of what has happened already: one that can't be written undoes nothing, and is logged.
pub async fn record(catalog: &Catalog, action: AuditAction, actor: &str, subject: &str, detail: &serde_json::Value) {
    if let Err(error) = catalog.audit(action, actor, subject, detail).await {
        let error = stackferry_transfer::describe(&error);
        tracing::error!(action = action.as_str(), subject, error, "an audit record could not be written");
    }
}
