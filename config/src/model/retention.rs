//! `[retention]`: how many versions are kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kind::KindKey;

/// How many versions are kept of all kinds, and what differs for one. Without any key all are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// The newest so many versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub last: Option<u32>,
    /// The newest version of each of the last so many days that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub daily: Option<u32>,
    /// The same by weeks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub weekly: Option<u32>,
    /// The same by months.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub monthly: Option<u32>,
    /// The same by years.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub yearly: Option<u32>,
    /// What differs for AppStacks.
    #[serde(skip_serializing_if = "KeepKeys::is_empty")]
    pub appstack: KeepKeys,
    /// What differs for packages.
    #[serde(skip_serializing_if = "KeepKeys::is_empty")]
    pub package: KeepKeys,
    /// What differs for writable volumes.
    #[serde(skip_serializing_if = "KeepKeys::is_empty")]
    pub writable: KeepKeys,
    /// What differs for templates.
    #[serde(skip_serializing_if = "KeepKeys::is_empty")]
    pub template: KeepKeys,
    /// What differs for other disks.
    #[serde(skip_serializing_if = "KeepKeys::is_empty")]
    pub image: KeepKeys,
}

/// The keys of `[retention.<kind>]`. A key that is missing is taken from `[retention]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeepKeys {
    /// As in `[retention]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub last: Option<u32>,
    /// As in `[retention]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub daily: Option<u32>,
    /// As in `[retention]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub weekly: Option<u32>,
    /// As in `[retention]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub monthly: Option<u32>,
    /// As in `[retention]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100_000))]
    pub yearly: Option<u32>,
}

/// How many versions of one kind are kept, complete. A version that any rule keeps is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many.
    pub last: u32,
    /// One for each of so many days.
    pub daily: u32,
    /// One for each of so many weeks.
    pub weekly: u32,
    /// One for each of so many months.
    pub monthly: u32,
    /// One for each of so many years.
    pub yearly: u32,
}

impl Keep {
    /// True when no rule keeps anything.
    pub const fn keeps_nothing(self) -> bool {
        self.last == 0 && self.daily == 0 && self.weekly == 0 && self.monthly == 0 && self.yearly == 0
    }
}

impl KeepKeys {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Retention {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The keys of one kind's own table.
    pub fn keys(&self, kind: KindKey) -> &KeepKeys {
        match kind {
            KindKey::Appstack => &self.appstack,
            KindKey::Package => &self.package,
            KindKey::Writable => &self.writable,
            KindKey::Template => &self.template,
            KindKey::Image => &self.image,
        }
    }

    /// What is kept of one kind: its own keys, else those of `[retention]`, else 0. None when neither has a key: then all
    /// are kept.
    pub fn of(&self, kind: KindKey) -> Option<Keep> {
        let own = self.keys(kind);
        let last = own.last.or(self.last);
        let daily = own.daily.or(self.daily);
        let weekly = own.weekly.or(self.weekly);
        let monthly = own.monthly.or(self.monthly);
        let yearly = own.yearly.or(self.yearly);
        last.or(daily).or(weekly).or(monthly).or(yearly)?;
        Some(Keep {
            last: last.unwrap_or(0),
            daily: daily.unwrap_or(0),
            weekly: weekly.unwrap_or(0),
            monthly: monthly.unwrap_or(0),
            yearly: yearly.unwrap_or(0),
        })
    }
}
