//! Whether a volume's newest version is as fresh as its schedule promises. One answer for metrics, console and alarms.
//!
//! A volume is *equal* to a version at a moment when a copy was made or found none needed, or, for kinds that are read
//! only when they change, when a round found nothing changed. It is *overdue* when that was longer ago than twice the
//! interval that its schedule promises: one miss may be chance, two are not.

use std::time::Duration;

use jiff::Timestamp;
use stackferry_catalog::{FleetVolume, VolumeState};
use stackferry_config::Config;
use stackferry_volume::Kind;

use crate::kinds::config_kind;

/// What a round and the copy after it may take, at least: nobody wants to be woken for a copy that runs.
const COPY: Duration = Duration::from_secs(3600);
/// How long a change may have to wait for the next window, at most.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long after a volume was found equal to a version it should be found so again, at the latest.
#[must_use]
pub fn expected_interval(config: &Config, kind: Kind) -> Duration {
    let plan = config.schedule.of(config_kind(kind));
    let window = if plan.windows.is_empty() { Duration::ZERO } else { DAY };
    let age = plan.max_age.map_or(Duration::ZERO, |age| age.duration());
    // With an age limit it is read once in that time anyway; the wait for a window is over by then.
    age.max(window) + plan.every.duration().max(COPY)
}

/// When a volume was last known to be equal to a version; none if it never was.
#[must_use]
pub fn last_equal(config: &Config, volume: &FleetVolume) -> Option<Timestamp> {
    let by_scan = config.schedule.of(config_kind(volume.id.kind())).max_age.is_none();
    let confirmed = volume.confirmed.filter(|_| by_scan && volume.good_versions > 0);
    volume.last_success.max(confirmed)
}

/// From when on a volume counts as overdue; none for one that is gone or can't be protected.
#[must_use]
pub fn overdue_from(config: &Config, volume: &FleetVolume) -> Option<Timestamp> {
    if !is_to_be_protected(volume) {
        return None;
    }
    let since = last_equal(config, volume).unwrap_or(volume.first_seen);
    since.checked_add(expected_interval(config, volume.id.kind()) * 2).ok()
}

/// Whether copies of this volume are expected: it is at its source, and nothing about it forbids them for ever.
#[must_use]
pub fn is_to_be_protected(volume: &FleetVolume) -> bool {
    volume.protectable && !matches!(volume.state, VolumeState::Gone | VolumeState::Unprotectable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> Config {
        let text = format!("state_dir = \"/s\"\n{more}");
        Config::parse(&text, std::path::Path::new("fresh.toml"), &stackferry_config::Overrides::none()).unwrap()
    }

    fn volume(id: &str) -> FleetVolume {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        FleetVolume {
            id: id.parse().unwrap(),
            name: String::new(),
            state: VolumeState::Ready,
            reason: None,
            protectable: true,
            size_bytes: None,
            first_seen: at("2026-11-01T00:00:00Z"),
            deferred_since: None,
            confirmed: Some(at("2026-11-20T00:00:00Z")),
            last_success: Some(at("2026-11-10T00:00:00Z")),
            last_attempt: None,
            has_failed: false,
            datastore: None,
            versions: 1,
            good_versions: 1,
            damaged_versions: 0,
            incidents: 0,
            logical_bytes: 0,
            stored_bytes: 0,
            last_verified: None,
            oldest_proof: None,
            last_restore_test: None,
            unusable_versions: 0,
        }
    }

    #[test]
    fn the_interval_is_what_the_schedule_promises() {
        let hours = |config: &Config, kind| expected_interval(config, kind).as_secs() as f64 / 3600.0;
        let plain = config("");
        assert_eq!((hours(&plain, Kind::Appstack), hours(&plain, Kind::Writable)), (1.0, 25.0));
        let nights =
            config("[schedule]\nevery = \"2h\"\nwindows = [\"22:00-06:00\"]\n[schedule.writable]\nmax_age = \"7d\"");
        assert_eq!((hours(&nights, Kind::Appstack), hours(&nights, Kind::Writable)), (26.0, 7.0 * 24.0 + 2.0));
    }

    #[test]
    fn a_look_counts_where_nothing_else_is_promised() {
        let (config, at) = (config(""), |text: &str| text.parse::<Timestamp>().ok());
        let office = volume("appstack/Office");
        assert_eq!(last_equal(&config, &office), at("2026-11-20T00:00:00Z"));
        assert_eq!(overdue_from(&config, &office), at("2026-11-20T02:00:00Z"));
        // A writable's times of change prove nothing.
        let jdoe = volume("writable/jdoe");
        assert_eq!(overdue_from(&config, &jdoe), at("2026-11-12T02:00:00Z"));
        // What has no good version any more is equal to none.
        let lost = FleetVolume { good_versions: 0, last_success: None, ..volume("appstack/Lost") };
        assert_eq!(overdue_from(&config, &lost), at("2026-11-01T02:00:00Z"));
        let gone = FleetVolume { state: VolumeState::Gone, ..volume("appstack/Gone") };
        let vsan = FleetVolume { protectable: false, state: VolumeState::Unprotectable, ..volume("appstack/Vsan") };
        assert_eq!((overdue_from(&config, &gone), overdue_from(&config, &vsan)), (None, None));
    }
}
