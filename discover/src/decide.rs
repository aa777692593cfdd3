//! May a volume be copied from a place now? One function, one table of reasons.
//!
//! CopyFacts come from three sources that don't know of each other: the datastore's folder, App Volumes, and vSphere. Each
//! rule below looks at one thing; the first that holds is told. Nothing here asks anybody.

use stackferry_volume::{Kind, Location, ReasonCode, VolumeState};

use crate::app_volumes::ManagedCopy;
use crate::attachment::Attachment;
use crate::volume::SkipReason;

/// What is known of a volume at one place.
#[derive(Debug, Clone)]
pub struct CopyFacts<'a> {
    /// What kind of volume it is.
    pub kind: Kind,
    /// The place.
    pub location: &'a Location,
    /// What looking at the folder came to: why it can't be copied from there, none if it can.
    pub folder: Option<&'a SkipReason>,
    /// What App Volumes knows of it, and the manager's name.
    pub managed: Option<ManagedCopy<'a>>,
    /// Whether it is in use.
    pub attachment: Attachment,
    /// The datastore's maintenance mode, where it is in one.
    pub maintenance: Option<&'a str>,
}

/// Why a volume may not be copied from this place now; none if it may.
#[must_use]
pub fn may_copy(facts: &CopyFacts<'_>) -> Option<SkipReason> {
    // What only a person can change comes first: waiting for anything else would be in vain.
    if let Some(skip) = facts.folder.filter(|skip| skip.state == VolumeState::Unprotectable) {
        return Some(skip.clone());
    }
    if let Some(skip) = facts.managed.as_ref().and_then(managed) {
        return Some(skip);
    }
    if let Some(mode) = facts.maintenance {
        let text = format!("datastore {} is in maintenance ({mode})", facts.location.datastore);
        return Some(
            SkipReason::deferred(ReasonCode::Unreachable, text).remedy("It is copied when maintenance is over."),
        );
    }
    if let Some(skip) = attached(facts) {
        return Some(skip);
    }
    // Desktops that use an AppStack hold its lock all day. The source is checked before and after the copy anyway.
    let in_use = |skip: &&SkipReason| skip.reason.code == ReasonCode::Locked && facts.kind.is_replicated();
    facts.folder.filter(|skip| !in_use(skip)).cloned()
}

/// What App Volumes' own word for a volume's state means for a copy.
///
/// Words: the status list of App Volumes' own modules and the REST reference of 2.17 and 4.x; in lower case.
fn managed(managed: &ManagedCopy<'_>) -> Option<SkipReason> {
    let ManagedCopy { manager, volume, .. } = managed;
    let (name, status) = (&volume.name, &volume.status);
    let skip = |code, what: &str, remedy: &str| {
        let text = format!("{name}: App Volumes Manager {manager} says that {what}");
        Some(SkipReason::deferred(code, text).remedy(remedy))
    };
    if status.deleting {
        return skip(
            ReasonCode::Deleting,
            "it is being deleted",
            "Nothing is to be done; versions that exist are kept.",
        );
    }
    if status.provisioning || matches!(status.word.as_str(), "provisioning" | "unprovisioned") {
        return skip(
            ReasonCode::Provisioning,
            "it is being provisioned",
            "Finish or cancel the provisioning in App Volumes.",
        );
    }
    match status.word.as_str() {
        "creating" | "reserved" => {
            return skip(
                ReasonCode::Provisioning,
                "it is being created",
                "It is copied when App Volumes has finished it.",
            );
        }
        word @ ("failed" | "canceled") => {
            let what = format!("making it ended as `{word}`");
            return skip(ReasonCode::Provisioning, &what, "Provision it again, or delete it in App Volumes.");
        }
        "orphaned" => {
            return skip(
                ReasonCode::Orphaned,
                "it is orphaned",
                "Look at it in App Volumes: assign it again, or delete it.",
            );
        }
        _ => {}
    }
    if let Some(doing) = &status.doing {
        let (code, what) = match doing.to_lowercase().as_str() {
            "moving" => (ReasonCode::Moving, "it is being moved".to_owned()),
            other => (ReasonCode::Busy, format!("it is busy ({other})")),
        };
        return skip(code, &what, "It is copied when App Volumes has finished.");
    }
    if status.busy {
        return skip(ReasonCode::Busy, "it is busy", "It is copied when App Volumes has finished.");
    }
    None
}

/// A disk that somebody writes to is never copied: what was read would be of no single moment. So a writable of a site with
/// systems is copied only if one of them says that it is detached. AppStacks and packages
/// are attached read-only, and may be read by as many as like to.
fn attached(facts: &CopyFacts<'_>) -> Option<SkipReason> {
    if facts.kind.is_replicated() {
        return None;
    }
    match &facts.attachment {
        Attachment::Attached(who) => {
            let text = format!("it is attached: {who}");
            let remedy = match facts.kind {
                Kind::Writable => {
                    "It is copied once the user has logged off; ask the user to, if that does not happen."
                }
                _ => "It is copied once it is detached.",
            };
            Some(SkipReason::deferred(ReasonCode::Attached, text).remedy(remedy))
        }
        Attachment::Unknown { why, remedy } if facts.kind == Kind::Writable => {
            let text = format!("no system says that it is detached: {why}");
            Some(SkipReason::deferred(ReasonCode::AttachmentUnknown, text).remedy(remedy.clone()))
        }
        _ => None,
    }
}

/// Why a volume that App Volumes knows at a place is not seen there. `scanned` says what is known of the datastore.
#[must_use]
pub fn not_seen(managed: &ManagedCopy<'_>, location: &Location, datastore: &UnseenReason<'_>) -> SkipReason {
    let manager = managed.manager;
    match datastore {
        UnseenReason::Objects(kind) => SkipReason::from(stackferry_volume::Unprotectable::new(
            ReasonCode::VsanOnly,
            format!("{location}: a {kind} datastore holds disks as objects, so there is no extent file to copy"),
        ))
        .remedy(if managed.volume.kind.is_replicated() {
            "Add an NFS or VMFS datastore to the storage group, marked as not attachable: App Volumes replicates the \
             volume there, and it is copied from there."
        } else {
            "App Volumes replicates no writable volumes: move it to an NFS or VMFS datastore."
        }),
        UnseenReason::NotConfigured => SkipReason::deferred(
            ReasonCode::Unreachable,
            format!("{location}: App Volumes Manager {manager} knows it, but the datastore is not configured here"),
        )
        .remedy(format!("Add a [[datastore]] with name = \"{}\" to the configuration.", location.datastore)),
        UnseenReason::Unreachable => {
            SkipReason::deferred(ReasonCode::Unreachable, format!("{location}: the datastore can't be reached"))
                .remedy("See that its host is up; `stackferry check` tells what is wrong.")
        }
        UnseenReason::NotLookedAt => {
            SkipReason::deferred(ReasonCode::Unreachable, format!("{location}: the folder could not be looked at"))
                .remedy("See that the folder can be listed; `stackferry check` tells what is wrong.")
        }
        UnseenReason::NotThere if managed.place.missing == Some(true) || managed.volume.status.word == "missing" => {
            SkipReason::deferred(
                ReasonCode::Missing,
                format!("{location}: the file is not there, as App Volumes Manager {manager} says, too"),
            )
            .remedy("Restore it, or delete the volume in App Volumes.")
        }
        UnseenReason::NotThere => SkipReason::deferred(
            ReasonCode::Missing,
            format!("{location}: App Volumes Manager {manager} knows it, but there is no such file"),
        )
        .remedy("Rescan the volume in App Volumes. If its file was deleted by mistake, restore it."),
    }
}

/// What is known of a datastore on which something was not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnseenReason<'a> {
    /// It keeps objects, not files: its type.
    Objects(&'a str),
    /// It is in no `[[datastore]]`.
    NotConfigured,
    /// It can't be looked at.
    Unreachable,
    /// The folder could not be looked at.
    NotLookedAt,
    /// The folder was looked at.
    NotThere,
}

#[cfg(test)]
mod tests;
