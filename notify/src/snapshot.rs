//! What is wrong now: one reading of the same summaries that metrics and the console are made from.
//!
//! What can't be told now (a datastore before the first round after a start, the room on a disk that does not answer) is
//! neither found nor over: it stays as it was.

use std::collections::{BTreeMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use stackferry_catalog::{Channel, CleanupKind, Fleet, FleetVolume, VolumeState};
use stackferry_config::Config;
use stackferry_volume::ReasonCode;

use super::standing::VolumeCounts;
use super::trouble::Trouble;
use stackferry_engine::app::{App, Room, reserve};
use stackferry_engine::health::Health;
use stackferry_engine::jobs;
use stackferry_engine::metrics::{DATASTORE, SourceStatus};
use stackferry_engine::{cleanups, freshness};
use stackferry_problem::Problem;

/// A credential that still opens something after this is one that was left behind.
const CREDENTIAL_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// Messages that wait for so long tell that a way does not work.
const MESSAGE_WAITS: SignedDuration = SignedDuration::from_hours(1);
/// The subject of what there is one of.
const VAULT: &str = "vault";

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundProblem {
    pub(super) trouble: Trouble,
    /// What it is about: an id that stays. With the trouble, its key.
    pub(super) subject: String,
    /// The subject as a person reads it.
    pub(super) name: String,
    /// Since when it is so, where that is known.
    pub(super) since: Option<Timestamp>,
    /// What more there is to say.
    pub(super) detail: Option<String>,
}

/// Everything that is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SiteSnapshot {
    pub(super) found: Vec<FoundProblem>,
    /// What stays as it was, by trouble and subject.
    pub(super) unknown: HashSet<(Trouble, String)>,
    /// How the volumes stand.
    pub(super) volumes: VolumeCounts,
}

impl SiteSnapshot {
    fn add(&mut self, trouble: Trouble, subject: &str, since: Option<Timestamp>, detail: Option<String>) {
        self.put(trouble, subject, subject, since, detail);
    }

    fn put(&mut self, trouble: Trouble, subject: &str, name: &str, since: Option<Timestamp>, detail: Option<String>) {
        let (subject, name) = (subject.to_owned(), name.to_owned());
        self.found.push(FoundProblem { trouble, subject, name, since, detail });
    }
}

/// Looks at everything.
///
/// # Errors
/// The catalog's.
///
/// `is_new`: the first round may still end.
pub(super) async fn look(
    app: &App,
    (health, is_new): (&Health, bool),
    room: &Room,
    now: Timestamp,
) -> Result<SiteSnapshot, Problem> {
    let mut look = SiteSnapshot::default();
    let away = sources(&mut look, &app.metrics().sources().status(app.config()));
    let fleet = app.catalog().fleet().await?;
    volumes(&mut look, app.config(), &fleet, &away, now);
    drop(fleet);
    vault(&mut look, app, (health, is_new), room).await;
    if let Some(why) = health.discovery()
        && !is_new
    {
        look.put(Trouble::DiscoveryFailing, "discovery", "discovery", None, Some(why));
    }
    left_behind(&mut look, app, now).await?;
    for job in jobs::failed(app.catalog(), now).await? {
        let volume = job.volume.map(|volume| volume.to_string());
        let subject = format!("{} {}", job.kind, volume.as_deref().unwrap_or("all"));
        let detail = job.error.map(|error| format!("{} ({})", error.text, error.code));
        look.add(Trouble::JobFailed, &subject, job.ended, detail);
    }
    match app.jobs().prune_frozen().await {
        Ok(None) => {}
        Ok(Some(frozen)) => look.add(Trouble::PruneFrozen, "retention", Some(frozen.since), Some(frozen.why)),
        Err(problem) => look.add(Trouble::PruneFrozen, "retention", None, Some(problem.message)),
    }
    if !app.metrics().is_config_ok() {
        look.add(Trouble::ConfigRefused, "configuration", None, None);
    }
    for channel in Channel::ALL {
        let waiting = app.catalog().next_message(*channel).await?;
        let Some(waiting) = waiting.filter(|one| now.duration_since(one.made) > MESSAGE_WAITS) else { continue };
        look.add(Trouble::NotificationsFail, channel.as_str(), Some(waiting.made), waiting.last_error);
    }
    Ok(look)
}

/// Datastores and systems. Gives the names of the datastores that can't be looked at.
fn sources(look: &mut SiteSnapshot, standing: &[SourceStatus]) -> HashSet<String> {
    let mut away = HashSet::new();
    for one in standing {
        let (trouble, subject, detail) = match one.what {
            DATASTORE => (Trouble::DatastoreAway, one.name.clone(), None),
            what => {
                let cause = one.problem.as_ref().map(|problem| format!(": {} ({})", problem.message, problem.code));
                let detail = format!("{}{}", what.replace('_', " "), cause.unwrap_or_default());
                (Trouble::SystemAway, format!("{what}/{}", one.name), Some(detail))
            }
        };
        match one.up {
            Some(true) => {}
            Some(false) => {
                if trouble == Trouble::DatastoreAway {
                    away.insert(one.name.rsplit('/').next().unwrap_or(&one.name).to_owned());
                }
                look.put(trouble, &subject, &one.name, one.last, detail);
            }
            None => {
                look.unknown.insert((trouble, subject));
            }
        }
    }
    away
}

/// What is wrong with volumes. What keeps those of a datastore that is away from being copied is that datastore: they are
/// counted there, and are no troubles of their own.
fn volumes(look: &mut SiteSnapshot, config: &Config, fleet: &Fleet, away: &HashSet<String>, now: Timestamp) {
    let mut there: BTreeMap<&str, u64> = BTreeMap::new();
    for volume in &fleet.volumes {
        let id = volume.id.to_string();
        let wrong =
            |look: &mut SiteSnapshot, trouble, since, detail| look.put(trouble, &id, &volume.name, since, detail);
        if volume.damaged_versions > 0 {
            wrong(look, Trouble::VersionDamaged, None, Some(versions(volume.damaged_versions)));
        }
        if volume.unusable_versions > 0 {
            wrong(look, Trouble::VersionUnusable, None, Some(versions(volume.unusable_versions)));
        }
        let reason = volume.reason.as_deref();
        if volume.state == VolumeState::Gone || reason == Some(ReasonCode::AppVolumesBackup.as_str()) {
            continue;
        }
        let detail = reason.map(str::to_owned);
        match volume.state {
            VolumeState::Incident => wrong(look, Trouble::Incident, volume.deferred_since, None),
            VolumeState::Conflict => wrong(look, Trouble::Conflict, volume.deferred_since, None),
            VolumeState::Unprotectable => wrong(look, Trouble::Unprotectable, volume.deferred_since, detail.clone()),
            _ => {}
        }
        if volume.state == VolumeState::Deferred {
            // What it was before hides behind that it can't be looked at, or is in use, just now.
            for hidden in [Trouble::Incident, Trouble::Conflict, Trouble::Unprotectable] {
                look.unknown.insert((hidden, id.clone()));
            }
        }
        let late = freshness::overdue_from(config, volume).filter(|at| *at < now);
        if late.is_some() {
            // It is late all the same, whatever it is called now.
            for other in [Trouble::Held, Trouble::NeverCopied, Trouble::Overdue] {
                look.unknown.insert((other, id.clone()));
            }
            let trouble = late_as(volume);
            let datastore = volume.datastore.as_deref().filter(|name| away.contains(*name));
            match datastore.filter(|_| reason == Some(ReasonCode::Unreachable.as_str())) {
                Some(datastore) => {
                    *there.entry(datastore).or_default() += 1;
                    look.unknown.insert((trouble, id.clone()));
                }
                None => wrong(look, trouble, late, detail),
            }
        }
        look.volumes.total += 1;
        let is_safe = late.is_none()
            && volume.good_versions > 0
            && !matches!(volume.state, VolumeState::Incident | VolumeState::Unprotectable);
        // A volume that was just found waits for its first copy: nothing is wrong with it yet.
        let is_new = late.is_none() && volume.good_versions == 0 && freshness::is_to_be_protected(volume);
        look.volumes.not_safe += u64::from(!is_safe && !is_new);
        look.volumes.new += u64::from(is_new);
    }
    for found in look.found.iter_mut().filter(|found| found.trouble == Trouble::DatastoreAway) {
        let name = found.name.rsplit('/').next().unwrap_or(&found.name);
        found.detail = there.get(name).map(|count| match count {
            1 => "1 volume there is overdue".to_owned(),
            _ => format!("{count} volumes there are overdue"),
        });
    }
}

/// What a volume that is late suffers from.
fn late_as(volume: &FleetVolume) -> Trouble {
    if volume.state == VolumeState::Deferred {
        Trouble::Held
    } else if volume.good_versions == 0 {
        Trouble::NeverCopied
    } else {
        Trouble::Overdue
    }
}

fn versions(count: u64) -> String {
    if count == 1 { "1 version".to_owned() } else { format!("{count} versions") }
}

async fn vault(look: &mut SiteSnapshot, app: &App, (health, is_new): (&Health, bool), room: &Room) {
    let rooms = [Trouble::VaultFull, Trouble::VaultNearlyFull].map(|trouble| (trouble, VAULT.to_owned()));
    let space = match room.space(app).await {
        Ok(Some(space)) => space,
        Ok(None) if is_new => {
            look.unknown.extend(rooms);
            look.unknown.insert((Trouble::VaultAway, VAULT.to_owned()));
            return;
        }
        Ok(None) => {
            look.unknown.extend(rooms);
            return look.add(Trouble::VaultAway, VAULT, None, Some(health.vault()));
        }
        Err(problem) => {
            look.unknown.extend(rooms);
            return look.add(Trouble::VaultAway, VAULT, None, Some(problem.message));
        }
    };
    let kept = app.config().vault().map_or(0, |vault| reserve(vault.reserve).of(space.total));
    if !space.is_known() {
        return;
    }
    look.volumes.vault_free = Some(space.free);
    look.volumes.vault_size = Some(space.total);
    let percent = space.free.saturating_mul(100).checked_div(space.total).unwrap_or(0);
    // How full it is to the percent: an exact number would be another at each look.
    let detail = Some(format!("{percent} % of it is free"));
    if space.free <= kept {
        look.add(Trouble::VaultFull, VAULT, None, detail);
    } else if space.free <= near(kept) {
        look.add(Trouble::VaultNearlyFull, VAULT, None, detail);
    }
}

/// The vault is nearly full when no more than this is free: twice what is kept free. Who keeps nothing free is told when it
/// is full.
fn near(kept: u64) -> u64 {
    kept.saturating_mul(2)
}

/// What copies changed elsewhere and nobody puts back any more.
async fn left_behind(look: &mut SiteSnapshot, app: &App, now: Timestamp) -> Result<(), Problem> {
    let (_, unpaid) = cleanups::standing(app).await?;
    for row in unpaid {
        let trouble = match row.cleanup.what {
            CleanupKind::Account => Trouble::CredentialLeft,
            _ => Trouble::NotPutBack,
        };
        let subject = format!("{} {} {}", row.cleanup.what.as_str(), row.cleanup.system, row.cleanup.subject);
        look.add(trouble, &subject, Some(row.since), None);
    }
    for credential in app.catalog().outstanding_credentials().await? {
        let issued = &credential.issued;
        if now.duration_since(issued.issued) > CREDENTIAL_LIFE {
            look.add(Trouble::CredentialLeft, &issued.name, Some(issued.issued), None);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(id: &str) -> FleetVolume {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        FleetVolume {
            id: id.parse().unwrap(),
            name: "A\r\nname".to_owned(),
            state: VolumeState::Ready,
            reason: None,
            protectable: true,
            size_bytes: None,
            first_seen: at("2026-11-01T00:00:00Z"),
            deferred_since: None,
            confirmed: Some(at("2026-11-22T00:00:00Z")),
            last_success: Some(at("2026-11-22T00:00:00Z")),
            last_attempt: None,
            has_failed: false,
            datastore: Some("nfs01".to_owned()),
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

    fn seen(volumes: Vec<FleetVolume>, standing: &[SourceStatus]) -> SiteSnapshot {
        let mut look = SiteSnapshot::default();
        let away = sources(&mut look, standing);
        let config: Config = "state_dir = \"/s\"".parse().unwrap();
        let fleet = Fleet { volumes, ..Fleet::default() };
        super::volumes(&mut look, &config, &fleet, &away, "2026-11-22T01:00:00Z".parse().unwrap());
        look
    }

    fn datastore(name: &str, up: Option<bool>) -> SourceStatus {
        SourceStatus { what: DATASTORE, name: name.to_owned(), up, last: None, problem: None }
    }

    #[test]
    fn what_hides_behind_another_trouble_is_not_over() {
        let old = "2026-11-20T00:00:00Z".parse::<Timestamp>().ok();
        let deferred = FleetVolume { state: VolumeState::Deferred, ..volume("appstack/Changed") };
        let held = FleetVolume { last_success: old, confirmed: None, ..deferred };
        let look = seen(vec![held], &[]);
        let is_unknown = |trouble| look.unknown.contains(&(trouble, "appstack/Changed".to_owned()));
        let hidden = [Trouble::Incident, Trouble::Conflict, Trouble::Unprotectable, Trouble::Overdue];
        assert!(hidden.into_iter().all(is_unknown), "{:?}", look.unknown);
        assert_eq!(look.found.iter().map(|found| found.trouble).collect::<Vec<_>>(), [Trouble::Held]);
        assert!(seen(vec![volume("appstack/Good")], &[]).unknown.is_empty());
    }

    #[test]
    fn each_volume_is_wrong_in_its_own_way() {
        let old = "2026-11-20T00:00:00Z".parse::<Timestamp>().ok();
        let late = |id: &str| FleetVolume { last_success: old, confirmed: None, ..volume(id) };
        let never =
            |id: &str| FleetVolume { good_versions: 0, versions: 0, last_success: None, confirmed: None, ..volume(id) };
        let state = |state, reason: &str, one| FleetVolume { state, reason: Some(reason.to_owned()), ..one };
        let first_seen = "2026-11-22T00:30:00Z".parse().unwrap();
        let look = seen(
            vec![
                volume("appstack/Good"),
                late("appstack/Late"),
                never("appstack/Never"),
                FleetVolume { first_seen, ..never("appstack/New") },
                state(VolumeState::Deferred, "attached", late("appstack/Held")),
                state(VolumeState::Deferred, "attached", volume("appstack/Busy")),
                FleetVolume {
                    protectable: false,
                    ..state(VolumeState::Unprotectable, "vsan_only", never("appstack/Vsan"))
                },
                FleetVolume {
                    protectable: false,
                    ..state(VolumeState::Unprotectable, "app_volumes_backup", never("writable/Backup"))
                },
                state(VolumeState::Gone, "missing", never("appstack/Gone")),
                state(VolumeState::Incident, "incident", volume("appstack/Changed")),
                FleetVolume { damaged_versions: 2, versions: 3, ..volume("appstack/Damaged") },
                FleetVolume {
                    unusable_versions: 1,
                    ..state(VolumeState::Gone, "missing", volume("appstack/Unusable"))
                },
            ],
            &[datastore("dc1/nfs01", Some(true))],
        );
        let found: Vec<(&str, &str)> =
            look.found.iter().map(|found| (found.trouble.row().word, found.subject.as_str())).collect();
        assert_eq!(
            found,
            [
                ("overdue", "appstack/Late"),
                ("never_copied", "appstack/Never"),
                ("held", "appstack/Held"),
                ("unprotectable", "appstack/Vsan"),
                ("incident", "appstack/Changed"),
                ("version_damaged", "appstack/Damaged"),
                ("version_unusable", "appstack/Unusable"),
            ]
        );
        let VolumeCounts { total, not_safe, new, .. } = look.volumes;
        assert_eq!((total, not_safe, new), (9, 5, 1));
    }

    #[test]
    fn the_volumes_of_a_datastore_that_is_away_are_told_with_it() {
        let old = "2026-11-20T00:00:00Z".parse::<Timestamp>().ok();
        let lost = |number: usize| FleetVolume {
            last_success: old,
            confirmed: None,
            state: VolumeState::Deferred,
            reason: Some("unreachable".to_owned()),
            ..volume(&format!("appstack/A{number}"))
        };
        let look = seen((0..1000).map(lost).collect(), &[datastore("dc1/nfs01", Some(false))]);
        let [found] = look.found.as_slice() else { panic!("{:?}", look.found) };
        assert_eq!((found.trouble, found.subject.as_str()), (Trouble::DatastoreAway, "dc1/nfs01"));
        assert_eq!(found.detail.as_deref(), Some("1000 volumes there are overdue"));
        assert_eq!((look.volumes.not_safe, look.unknown.len()), (1000, 6000), "nothing of them is told as over");
        // Another datastore's volumes are told one by one.
        let look = seen(vec![lost(1)], &[datastore("dc1/nfs02", Some(false))]);
        assert_eq!(look.found.len(), 2);
    }

    #[test]
    fn what_was_not_asked_yet_is_not_known() {
        let system = SourceStatus { what: "vsphere", name: "vc1".to_owned(), up: None, last: None, problem: None };
        let look = seen(Vec::new(), &[datastore("dc1/nfs01", None), system]);
        assert_eq!(look.found, []);
        let unknown = HashSet::from([
            (Trouble::DatastoreAway, "dc1/nfs01".to_owned()),
            (Trouble::SystemAway, "vsphere/vc1".to_owned()),
        ]);
        assert_eq!(look.unknown, unknown);
    }

    #[test]
    fn a_vault_is_nearly_full_before_it_is_full() {
        assert_eq!((near(0), near(50), near(u64::MAX)), (0, 100, u64::MAX));
    }
}
