//! A disk that is written to may be attached at any moment. What discovery told is asked again right before its copy and
//! right after it, of all that would know; what was copied while somebody had it is thrown away.
//!
//! With `guard` it is disabled in App Volumes for the copy, so that nobody gets it attached:
//! 1. that it has to be enabled again is written down, durably;
//! 2. it is disabled; it is asked again whether it is attached; it is copied;
//! 3. it is enabled again, and the note is deleted.
//!
//! A crash after 1 leaves the note, and the next start enables it. Only what was enabled before is ever touched.

use std::time::Duration;

use serde_json::json;
use stackferry_catalog::{Cleanup, CleanupId, CleanupKind, StatusReason};
use stackferry_discover::app_volumes::{ManagedCopy, VolumeFamily};
use stackferry_discover::decide::CopyFacts;
use stackferry_discover::{
    Attachment, AttachmentReport, Volume, VolumeLocation, VsphereInventory, VsphereView, may_copy,
};
use stackferry_vsphere::MachineDisks;

use crate::app::App;
use stackferry_problem::Problem;

/// How old what the round was told may be for a look before a copy: all disks of all machines are much to ask for.
const RECENT: Duration = Duration::from_secs(60);

/// When it is looked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttachmentCheck {
    /// Before anything is read. Were it attached since, the look after the copy finds it.
    Before,
    /// After all was read.
    After,
}

/// Why a volume may not be copied after all; none if it may. AppStacks and packages are attached read-only: they are not
/// asked about.
///
/// # Errors
/// The manager that knows it can't be asked.
pub(super) async fn look_again(
    app: &App,
    volume: &Volume,
    place: &VolumeLocation,
    when: AttachmentCheck,
) -> Result<Option<StatusReason>, Problem> {
    app.unless_ended("the copy", look(app, volume, place, when)).await?
}

async fn look(
    app: &App,
    volume: &Volume,
    place: &VolumeLocation,
    when: AttachmentCheck,
) -> Result<Option<StatusReason>, Problem> {
    if volume.kind.is_replicated() {
        return Ok(None);
    }
    let location = &place.location;
    let told = app.told();
    let mut words = Vec::new();
    let mut listed = None;
    if let Some(info) = &volume.app_volumes {
        let manager = app.manager_named(&info.manager).await?;
        let Some(now) = manager.writable(info.at.id).await? else {
            let text = format!("App Volumes Manager {} does not know it any more", info.manager);
            return Ok(Some(StatusReason { code: "missing".to_owned(), text }));
        };
        words.push(AttachmentReport::of_manager(&info.manager, Some(&now), true));
        listed = Some((info.manager.as_str(), now));
    } else {
        for view in told.managers.iter().filter(|view| view.site == location.site) {
            words.push(match &view.report {
                Ok(report) => AttachmentReport::of_manager(&view.name, None, report.complete),
                Err(why) => AttachmentReport::of_absent(&format!("App Volumes Manager {}", view.name), why),
            });
        }
    }
    let is_recent = told.asked.is_some_and(|asked| asked.elapsed() < RECENT);
    for view in told.vspheres.iter().filter(|view| view.site == location.site) {
        let answered = view.inventory.is_ok() && (when == AttachmentCheck::After || !is_recent);
        let now = if answered { Some(disks_now(app, view).await) } else { None };
        let view = now.as_ref().unwrap_or(view);
        words.push(view.word(location, view.holder(location)));
    }
    // Its places were judged by discovery; only its state is asked about here.
    let managed = listed
        .as_ref()
        .and_then(|(manager, volume)| volume.places.first().map(|place| ManagedCopy { manager, volume, place }));
    let attachment = Attachment::of(words);
    let facts = CopyFacts { kind: volume.kind, location, folder: None, managed, attachment, maintenance: None };
    let held = may_copy(&facts).map(|held| held.reason);
    Ok(held.map(|reason| StatusReason { code: reason.code.to_string(), text: reason.text }))
}

/// What a vSphere says of the disks of machines now; of its datastores and hosts what it said in the last round.
async fn disks_now(app: &App, view: &VsphereView) -> VsphereView {
    let asking = async { Ok::<_, Problem>(app.vsphere(&view.name)?.attached_disks().await?) };
    let inventory = match (asking.await, &view.inventory) {
        (Ok(MachineDisks { attached, unreadable }), Ok(before)) => {
            let (datastores, hosts) = (before.datastores.clone(), before.hosts.clone());
            let mut inventory = VsphereInventory { datastores, hosts, attached, unreadable };
            app.configured_names().align_inventory(&view.site, &mut inventory);
            Ok(inventory)
        }
        (Err(problem), _) => Err(problem.message),
        (_, Err(why)) => Err(why.clone()),
    };
    VsphereView { name: view.name.clone(), site: view.site.clone(), inventory }
}

/// A writable that we disabled, and owe to enable.
pub(super) struct Guarded {
    debt: CleanupId,
    manager: String,
    id: u64,
}

/// Disables a writable for its copy, where its manager's `guard` says so and it is enabled.
///
/// # Errors
/// The catalog's; the manager's, then nothing was changed or it is put back at the next start.
pub(super) async fn guard(app: &App, volume: &Volume) -> Result<Option<Guarded>, Problem> {
    let Some(info) = volume.app_volumes.as_ref().filter(|info| info.at.family == VolumeFamily::Writable) else {
        return Ok(None);
    };
    let is_wanted = |one: &&stackferry_config::AppVolumes| one.name.as_str() == info.manager && one.guard;
    if !app.config().app_volumes.iter().any(|one| is_wanted(&one)) {
        return Ok(None);
    }
    let manager = app.manager_named(&info.manager).await?;
    let now = app.unless_ended("the copy", manager.writable(info.at.id)).await??;
    if now.is_none_or(|now| now.status.word != "enabled" || now.attached == Some(true)) {
        return Ok(None);
    }
    let debt = Cleanup {
        what: CleanupKind::Writable,
        system: info.manager.clone(),
        subject: info.at.id.to_string(),
        detail: json!({ "volume": volume.id.to_string() }),
    };
    let debt = app.running_debts().owe(app.catalog(), &debt).await?;
    let guarded = Guarded { debt, manager: info.manager.clone(), id: info.at.id };
    let disabled = app.unless_ended("the copy", manager.disable(&[info.at.id])).await;
    let disabled = disabled.and_then(|results| match results.into_iter().next() {
        Some((_, Err(error))) => Err(error.into()),
        _ => Ok(()),
    });
    if let Err(problem) = disabled {
        // It may have been done all the same.
        unguard(app, guarded).await;
        return Err(problem);
    }
    Ok(Some(guarded))
}

/// Enables a writable again when it is dropped, on a thread that may block: when its copy ends, however it ends.
pub(super) struct Enabling<'a> {
    app: &'a App,
    guarded: Option<Guarded>,
}

impl<'a> Enabling<'a> {
    pub(super) fn new(app: &'a App, guarded: Guarded) -> Self {
        Self { app, guarded: Some(guarded) }
    }
}

impl Drop for Enabling<'_> {
    fn drop(&mut self) {
        if let Some(guarded) = self.guarded.take() {
            self.app.runtime().block_on(unguard(self.app, guarded));
        }
    }
}

/// Enables it again. What fails stays owed, and is tried again in every round.
async fn unguard(app: &App, guarded: Guarded) {
    let Guarded { debt, manager, id } = guarded;
    let enabling = app.soon_once_ended("enabling it", enable(app, &manager, id));
    if let Err(problem) = enabling.await.and_then(|enabled| enabled) {
        tracing::error!(
            manager,
            id,
            hint = problem.hint,
            "a writable that was disabled for its copy could not be enabled again; it is tried again: {}",
            problem.message
        );
    } else if let Err(error) = app.catalog().end_cleanup(debt).await {
        tracing::error!(error = %stackferry_transfer::describe(&error), "what was put back could not be recorded");
    }
    app.running_debts().ended(debt);
}

/// Enables a writable.
///
/// # Errors
/// The manager's.
pub(super) async fn enable(app: &App, manager: &str, id: u64) -> Result<(), Problem> {
    let results = app.manager_named(manager).await?.enable(&[id]).await;
    match results.into_iter().next() {
        Some((_, Err(error))) => Err(error.into()),
        _ => Ok(()),
    }
}
