//! Whether a disk is in use, from what each system says of it.
//!
//! A word counts only where its system can know: a manager that lists the volume, in a word that is known to mean attached or
//! detached; a vSphere that shows the datastore and can tell the disks of every machine that could use it. Where two words
//! contradict each other, *attached* wins. Where a site has systems and none of them says *detached*, nobody knows.

use stackferry_volume::Location;
use stackferry_volume::place::nearest_name;
use stackferry_volume::reason::shown;
use stackferry_vsphere::{AttachedDisk, Moid};

use crate::app_volumes::ManagedVolume;
use crate::snapshot::{VsphereInventory, VsphereView};

/// Whether a machine or a user has a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// Somebody has it: who, for a person.
    Attached(String),
    /// Nobody has it, as one of the systems says.
    Detached,
    /// No system is configured for the site; a folder alone does not tell.
    NotTold,
    /// The site has systems, and none of them says.
    Unknown {
        /// Who could not say, and why.
        why: String,
        /// What to do about it.
        remedy: String,
    },
}

impl Attachment {
    /// True, false, or nobody knows.
    #[must_use]
    pub fn is_attached(&self) -> Option<bool> {
        match self {
            Self::Attached(_) => Some(true),
            Self::Detached => Some(false),
            Self::NotTold | Self::Unknown { .. } => None,
        }
    }

    /// What the words of all systems of a site come to.
    #[must_use]
    pub fn of(words: impl IntoIterator<Item = AttachmentReport>) -> Self {
        let (mut detached, mut whys, mut remedies) = (false, Vec::new(), Vec::new());
        for word in words {
            match word {
                AttachmentReport::Attached(who) => return Self::Attached(who),
                AttachmentReport::Detached => detached = true,
                AttachmentReport::Unknown { why, remedy } => {
                    whys.push(why);
                    if !remedies.contains(&remedy) {
                        remedies.push(remedy);
                    }
                }
            }
        }
        match (detached, whys.is_empty()) {
            (true, _) => Self::Detached,
            (false, true) => Self::NotTold,
            (false, false) => Self::Unknown { why: whys.join("; "), remedy: remedies.join(" ") },
        }
    }
}

/// What one system says of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachmentReport {
    /// Somebody has it: who, for a person.
    Attached(String),
    /// Nobody has it.
    Detached,
    /// The system can't say.
    Unknown {
        /// Which system, and why.
        why: String,
        /// What to do about it.
        remedy: String,
    },
}

impl AttachmentReport {
    fn unknown(why: String, remedy: impl Into<String>) -> Self {
        Self::Unknown { why, remedy: remedy.into() }
    }

    /// Of a system that did not answer.
    #[must_use]
    pub fn of_absent(system: &str, why: &str) -> Self {
        Self::unknown(format!("{system}: {why}"), "Make that system answer; `stackferry check` tells what is wrong.")
    }

    /// Of a manager. `volume` is what it lists at the disk's place; `complete` whether its lists were read to their end.
    #[must_use]
    pub fn of_manager(name: &str, volume: Option<&ManagedVolume>, complete: bool) -> Self {
        let system = format!("App Volumes Manager {name}");
        let Some(volume) = volume else {
            return if complete {
                let why = format!("{system} lists no volume at this place");
                Self::unknown(why, "Import the volume in App Volumes, or delete its files if they were left behind.")
            } else {
                let why = format!("{system} gave no complete list");
                Self::unknown(why, "`stackferry check` tells what can't be read at that manager.")
            };
        };
        match (volume.attached, volume.attached_word.as_deref()) {
            (Some(true), word) => {
                let to = volume.attached_to.as_deref().map(|to| format!(" ({to})")).unwrap_or_default();
                let word = word.filter(|word| !word.eq_ignore_ascii_case("attached"));
                let word = word.map(|word| format!(": `{}`", shown(word))).unwrap_or_default();
                Self::Attached(format!("{system} says so{to}{word}"))
            }
            (Some(false), _) => Self::Detached,
            (None, Some(word)) => Self::unknown(
                format!("{system} gives its attachment as `{}`, which is not known to mean detached", shown(word)),
                "Set the language of the manager's user to English if that is another language; otherwise report the word.",
            ),
            (None, None) => Self::unknown(
                format!("{system} does not say whether it is attached"),
                "Look at the volume in App Volumes: rescan or enable it there.",
            ),
        }
    }
}

impl VsphereView {
    /// What this system says of a disk. `holder` is the machine that has it, where one has.
    #[must_use]
    pub fn word(&self, location: &Location, holder: Option<&AttachedDisk>) -> AttachmentReport {
        match &self.inventory {
            Ok(inventory) => inventory.word(&self.name, location, holder),
            Err(why) => AttachmentReport::of_absent(&format!("vSphere {}", self.name), why),
        }
    }
}

impl VsphereInventory {
    /// As [`VsphereView::word`], of a system that answered.
    #[must_use]
    pub fn word(&self, name: &str, location: &Location, holder: Option<&AttachedDisk>) -> AttachmentReport {
        if let Some(disk) = holder {
            return AttachmentReport::Attached(format!("machine {} has it", shown(&disk.vm_name)));
        }
        let Some(datastore) = self.datastores.iter().find(|datastore| datastore.name == location.datastore) else {
            let names = self.datastores.iter().map(|datastore| datastore.name.as_str());
            let near = nearest_name(&location.datastore, names).map(|near| format!(" (the nearest name is {near})"));
            let why = format!("vSphere {name} knows no datastore {}{}", location.datastore, near.unwrap_or_default());
            return AttachmentReport::unknown(why, "Write the `name` of the [[datastore]] as vSphere shows it.");
        };
        // What a host mounts is current only while vCenter has a connection to it.
        let is_connected = |host: &Moid| self.hosts.iter().any(|known| known.id == *host && known.connected);
        let mounts = |host: &Moid| datastore.mounts.iter().any(|mount| mount.host == *host);
        let mut suspects = self.unreadable.iter().filter(|machine| {
            let elsewhere = |host: &Moid| is_connected(host) && !datastore.mounts.is_empty() && !mounts(host);
            !machine.host.as_ref().is_some_and(elsewhere)
        });
        let Some(first) = suspects.next() else { return AttachmentReport::Detached };
        let more = match suspects.count() {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        AttachmentReport::unknown(
            format!(
                "vSphere {name} can't tell the disks of machine {} ({}){more}",
                shown(&first.name),
                shown(&first.why)
            ),
            "Reconnect or repair that machine, or remove it from vSphere's inventory; where an App Volumes Manager of the \
             site is configured, its word is enough.",
        )
    }
}

#[cfg(test)]
mod tests;
