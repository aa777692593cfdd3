//! `[schedule]`: when volumes are looked for, and when they are due.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kind::KindKey;
use crate::value::{Period, Window};

/// The schedule of all kinds, and what differs for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Time between two rounds of discovery, at least 1 s. Default 5 minutes.
    pub every: Period,
    /// Times of day in which copies may run, in local time. Default none, which means always.
    pub windows: Vec<Window>,
    /// A file younger than this is left alone. Default 0 s.
    pub settle: Period,
    /// What differs for AppStacks.
    #[serde(skip_serializing_if = "PlanKeys::is_empty")]
    pub appstack: PlanKeys,
    /// What differs for packages.
    #[serde(skip_serializing_if = "PlanKeys::is_empty")]
    pub package: PlanKeys,
    /// What differs for writable volumes. `max_age` is 24 hours by default.
    #[serde(skip_serializing_if = "PlanKeys::is_empty")]
    pub writable: PlanKeys,
    /// What differs for templates.
    #[serde(skip_serializing_if = "PlanKeys::is_empty")]
    pub template: PlanKeys,
    /// What differs for other disks.
    #[serde(skip_serializing_if = "PlanKeys::is_empty")]
    pub image: PlanKeys,
}

/// The keys of `[schedule.<kind>]`. A key that is missing is taken from `[schedule]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PlanKeys {
    /// As in `[schedule]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Period>,
    /// As in `[schedule]`. An empty list means always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<Vec<Window>>,
    /// As in `[schedule]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settle: Option<Period>,
    /// A volume is read again after this even if nothing seems changed. `0s`: never for its age alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Period>,
}

/// The schedule of one kind, complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan<'a> {
    /// Time between two rounds of discovery.
    pub every: Period,
    /// Times of day in which copies may run; empty: always.
    pub windows: &'a [Window],
    /// A file younger than this is left alone.
    pub settle: Period,
    /// A volume is read again after this; none: only when it seems changed.
    pub max_age: Option<Period>,
}

impl PlanKeys {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            every: Period::seconds_unchecked(5 * 60),
            windows: Vec::new(),
            settle: Period::ZERO,
            appstack: PlanKeys::default(),
            package: PlanKeys::default(),
            writable: PlanKeys { max_age: Some(Self::WRITABLE_MAX_AGE), ..PlanKeys::default() },
            template: PlanKeys::default(),
            image: PlanKeys::default(),
        }
    }
}

impl Schedule {
    /// Writables change while they are attached and their time stamps are not to be trusted, so they are read once a day.
    pub(crate) const WRITABLE_MAX_AGE: Period = Period::seconds_unchecked(24 * 3600);

    /// The keys of one kind's own table.
    pub fn keys(&self, kind: KindKey) -> &PlanKeys {
        match kind {
            KindKey::Appstack => &self.appstack,
            KindKey::Package => &self.package,
            KindKey::Writable => &self.writable,
            KindKey::Template => &self.template,
            KindKey::Image => &self.image,
        }
    }

    /// The schedule of one kind: its own keys, else those of `[schedule]`.
    pub fn of(&self, kind: KindKey) -> Plan<'_> {
        let own = self.keys(kind);
        Plan {
            every: own.every.unwrap_or(self.every),
            windows: own.windows.as_deref().unwrap_or(&self.windows),
            settle: own.settle.unwrap_or(self.settle),
            max_age: own.max_age.filter(|age| !age.is_zero()),
        }
    }
}
