//! What to tell of a disk that somebody has attached whenever it is looked at: waiting does not help, a person has to act.
//!
//! Words only. Nobody is logged off from here: users decide about what they have open.

use jiff::{SignedDuration, Timestamp};
use stackferry_catalog::{PostponedVolume, VolumeRow};
use stackferry_config::Config;
use stackferry_volume::{Kind, ReasonCode, SiteName, VersionId};

use crate::app::App;
use crate::kinds::config_kind;
use stackferry_problem::Problem;

/// What is said of one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedTooLong {
    /// Since when it is attached, and what the last version is, with its age.
    pub state: String,
    /// What a person can do.
    pub remedy: String,
}

/// In which time a volume of this kind is read again, whether it changed or not; none where it has no such time.
#[must_use]
pub fn age(config: &Config, kind: Kind) -> Option<SignedDuration> {
    let age = config.schedule.of(config_kind(kind)).max_age?;
    SignedDuration::try_from(age.duration()).ok()
}

/// Held and not equal to a version since before this moment, waiting does not help a volume of this kind any more: twice
/// the time is over in which it should have been copied.
#[must_use]
pub fn patience_ends(config: &Config, kind: Kind, now: Timestamp) -> Option<Timestamp> {
    now.checked_sub(age(config, kind)?.saturating_mul(2)).ok()
}

/// The volumes that are attached for so long, the worst first, at most `most`, and how many there are in all.
///
/// # Errors
/// The catalog's.
pub async fn all(app: &App, now: Timestamp, most: u32) -> Result<(Vec<PostponedVolume>, u64), Problem> {
    let (mut held, mut total) = (Vec::new(), 0u64);
    for kind in Kind::ALL {
        let Some(before) = patience_ends(app.config(), kind, now) else { continue };
        let (some, of) = app.catalog().postponed_too_long(kind, ReasonCode::Attached.as_str(), before, most).await?;
        held.extend(some);
        total = total.saturating_add(of);
    }
    held.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Ok((held, total))
}

/// What is told of a volume; none while it is worth waiting.
#[must_use]
pub fn tell(config: &Config, row: &VolumeRow, now: Timestamp) -> Option<AttachedTooLong> {
    let is_attached = row.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::Attached.as_str());
    let before = patience_ends(config, row.id.kind(), now)?;
    let is_old = |at: Option<Timestamp>| at.is_some_and(|at| at < before);
    if !is_attached || !(is_old(row.deferred_since) || is_old(Some(row.last_success.unwrap_or(row.first_seen)))) {
        return None;
    }
    let volume = PostponedVolume {
        id: row.id.clone(),
        name: row.name.clone(),
        owner: row.owner.as_ref().map(|owner| owner.name.clone()),
        site: row.locations.first().map(|location| location.location.site.clone()),
        since: row.deferred_since,
        last_success: row.last_success,
        last_version: row.last_version.clone(),
    };
    Some(AttachedTooLong {
        state: state(&volume, now),
        remedy: remedy(config, volume.owner.as_deref(), volume.site.as_ref()),
    })
}

/// Since when a volume is attached, and what its last version is.
#[must_use]
pub fn state(volume: &PostponedVolume, now: Timestamp) -> String {
    let since = volume.since.map_or_else(String::new, |at| format!(" for {}", span(now.duration_since(at))));
    format!("It has been attached{since}, and is only copied while nobody has it. {}", last(volume, now))
}

fn last(volume: &PostponedVolume, now: Timestamp) -> String {
    let made = |version: &VersionId| version.created().map(|at| format!(", made {} ago", span(now.duration_since(at))));
    match (&volume.last_version, volume.last_success) {
        (Some(version), Some(at)) => {
            format!("Its last version is {version}, the state of {} ago.", span(now.duration_since(at)))
        }
        (Some(version), None) => {
            format!(
                "Its last version, {version}{}, is damaged, or of a former life of the volume.",
                made(version).unwrap_or_default()
            )
        }
        (None, _) => "It has no good version.".to_owned(),
    }
}

/// What a person can do about a volume, or about all (`owner` is none).
#[must_use]
pub fn remedy(config: &Config, owner: Option<&str>, site: Option<&SiteName>) -> String {
    let whom = owner.unwrap_or("its user");
    let guarded =
        |system: &stackferry_config::AppVolumes| system.guard && site.is_none_or(|site| site.0 == system.site.as_str());
    let guard = match config.app_volumes.iter().any(guarded) {
        true => "",
        false => " With `guard = true` in [[app_volumes]] nobody attaches it again in the middle of that copy.",
    };
    format!(
        "Ask {whom} to log off (to disconnect is not enough), or log the session off in Horizon Console. For many: plan a \
         maintenance window in which the desktops are logged off, or have the pool log disconnected sessions off. It is copied \
         in the next round after that.{guard}"
    )
}

/// A length of time in words.
fn span(time: SignedDuration) -> String {
    match time.as_hours() {
        hours @ ..48 => format!("{} h", hours.max(0)),
        hours => format!("{} days", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> Config {
        let text = format!("state_dir = \"/s\"\n{more}");
        Config::parse(&text, std::path::Path::new("held.toml"), &stackferry_config::Overrides::none()).unwrap()
    }

    fn volume() -> PostponedVolume {
        let at = |text: &str| text.parse::<Timestamp>().ok();
        PostponedVolume {
            id: "writable/jdoe".parse().unwrap(),
            name: "jdoe".into(),
            owner: Some(r"CORP\jdoe".into()),
            site: Some(SiteName("dc1".into())),
            since: at("2026-11-20T00:00:00Z"),
            last_success: at("2026-11-12T00:00:00Z"),
            last_version: Some("20261111T000000Z-3".parse().unwrap()),
        }
    }

    #[test]
    fn the_last_version_is_named_with_its_age() {
        let now = "2026-11-22T06:00:00Z".parse().unwrap();
        let told = state(&volume(), now);
        assert!(
            told.contains("attached for 2 days") && told.contains("20261111T000000Z-3, the state of 10 days ago"),
            "{told}"
        );
        let damaged = PostponedVolume { last_success: None, ..volume() };
        let told = state(&damaged, now);
        assert!(told.contains("20261111T000000Z-3, made 11 days ago, is damaged, or of a former life"), "{told}");
        let never = PostponedVolume { last_success: None, last_version: None, since: None, ..volume() };
        let told = state(&never, now);
        assert!(told.contains("It has been attached, and") && told.contains("no good version"), "{told}");
    }

    #[test]
    fn a_guard_is_advised_only_where_there_is_none() {
        let guarded = config(
            "[[app_volumes]]\nname = \"avm1\"\nsite = \"dc1\"\nguard = true\nurl = \"https://a.example\"\n\
             username = \"u\"\npassword = { env = \"P\" }\n",
        );
        let (here, there) = (SiteName("dc1".into()), SiteName("dc2".into()));
        let said = |config: &Config, site| remedy(config, Some(r"CORP\jdoe"), Some(site)).contains("guard = true");
        assert_eq!((said(&config(""), &here), said(&guarded, &here), said(&guarded, &there)), (true, false, true));
        let text = remedy(&config(""), Some(r"CORP\jdoe"), None);
        for part in [r"Ask CORP\jdoe to log off", "Horizon Console", "maintenance window", "next round"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn patience_is_twice_the_age_and_endless_without_one() {
        let now: Timestamp = "2026-11-22T06:00:00Z".parse().unwrap();
        let of = |kind| patience_ends(&config("[schedule.writable]\nmax_age = \"12h\"\n"), kind, now);
        assert_eq!(of(Kind::Writable), "2026-11-21T06:00:00Z".parse().ok());
        assert_eq!(of(Kind::Appstack), None);
    }
}
