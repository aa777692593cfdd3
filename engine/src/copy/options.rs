//! How a copy is wanted: by whom, and for how long it waits.

use std::sync::Arc;
use std::time::Duration;

use stackferry_catalog::Trigger;
use stackferry_transfer::Progress;

/// How a copy is wanted.
#[derive(Clone)]
pub struct CopyOptions {
    /// Makes no version where the source equals the last one.
    pub if_changed: bool,
    /// What wants it.
    pub trigger: Trigger,
    /// The name of who wants it, for the audit.
    pub actor: String,
    /// How long to wait for another copy of the volume to end.
    pub wait: Duration,
    /// Is told how it goes.
    pub progress: Arc<dyn Progress>,
}
