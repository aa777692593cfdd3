//! AppStacks, packages and writables out of the entries of their lists, and out of their details.

use stackferry_volume::Kind;
use stackferry_volume::manifest::Owner;

use super::location::own_place;
use super::report::{ManagedLocation, ManagedVolume, Status, VolumeFamily, VolumeRef};
use super::value::Fields;

/// A volume as its list tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedVolume {
    /// What is known of it so far.
    pub(super) volume: ManagedVolume,
    /// Changes when anything but use of it changed.
    pub(super) digest: u64,
    /// Whether the list leaves out what only the detail tells: the file, or the disk's id.
    pub(super) needs_detail: bool,
    /// Its stage's number, where the stage's name is not told.
    pub(super) stage_id: Option<u64>,
    /// Its application's number.
    pub(super) product_id: Option<u64>,
}

/// What a detail adds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DetailFields {
    pub(super) guid: Option<String>,
    pub(super) place: Option<ManagedLocation>,
    pub(super) revision: String,
    pub(super) attached_to: Option<String>,
}

/// The fields that tell one making of a disk from the next.
fn revision_keys(family: VolumeFamily) -> &'static [&'static str] {
    match family {
        VolumeFamily::AppStack => &["capture_version", "agent_version", "provisioning_duration", "provision_duration"],
        VolumeFamily::Package => {
            &["capture_version", "agent_version", "provision_uuid", "provision_completed_at", "snapvol_version_id"]
        }
        VolumeFamily::Writable => &["created_at", "version_tag"],
    }
}

/// An entry of a list. None if it has no number.
pub(super) fn listed_volume(family: VolumeFamily, entry: Fields<'_>) -> Option<ListedVolume> {
    let id = entry.number("id")?;
    let kind = match family {
        VolumeFamily::AppStack => Kind::Appstack,
        VolumeFamily::Package => Kind::Package,
        VolumeFamily::Writable => Kind::Writable,
    };
    let owner = (family == VolumeFamily::Writable).then(|| owner(entry)).flatten();
    let place = own_place(entry);
    let guid = entry.guid("volume_guid");
    let name = entry
        .first_text(&["name", "name_html", "title"])
        .or_else(|| owner.as_ref().map(|owner| owner.name.clone()))
        .or_else(|| place.as_ref().map(|place| place.file.clone()))
        .unwrap_or_else(|| format!("{kind} {id}"));
    let (attached, attached_word) = attached(family, entry);
    let volume = ManagedVolume {
        at: VolumeRef { family, id },
        kind,
        name,
        status: status(family, entry),
        attached,
        attached_word,
        attached_to: entry.text("mounted_on"),
        owner_type: (family == VolumeFamily::Writable).then(|| entry.text("owner_type")).flatten(),
        owner,
        size_mib: entry.number("size_mb"),
        version: (family == VolumeFamily::Package).then(|| entry.text("version")).flatten(),
        stage: entry
            .object("lifecycle_stage")
            .and_then(|stage| stage.text("name"))
            .or_else(|| entry.text("lifecycle_stage_name")),
        product: entry
            .object("app_product")
            .and_then(|product| product.text("name"))
            .or_else(|| entry.text("app_product_name")),
        current: current(id, entry),
        assignments: Vec::new(),
        revision: revision(family, entry),
        places: place.into_iter().collect(),
        guid,
    };
    Some(ListedVolume {
        needs_detail: volume.guid.is_none() || volume.places.is_empty(),
        digest: entry.digest(),
        stage_id: entry.number("lifecycle_stage_id"),
        product_id: entry.number("app_product_id").or_else(|| entry.object("app_product")?.number("id")),
        volume,
    })
}

/// What a detail tells.
pub(super) fn detail_fields(family: VolumeFamily, detail: Fields<'_>) -> DetailFields {
    DetailFields {
        guid: detail.guid("volume_guid"),
        place: own_place(detail),
        revision: revision(family, detail),
        attached_to: detail.text("mounted_on"),
    }
}

fn revision(family: VolumeFamily, fields: Fields<'_>) -> String {
    let told = revision_keys(family).iter().filter_map(|key| {
        let value = fields.time(key).map(|time| time.to_string()).or_else(|| fields.text(key))?;
        Some(format!("{key}={value}"))
    });
    told.collect::<Vec<_>>().join(";")
}

fn status(family: VolumeFamily, entry: Fields<'_>) -> Status {
    let enabled = || entry.flag("enabled").map(|on| if on { "enabled" } else { "disabled" }.to_owned());
    let word = entry.text("status").map(|word| word.to_lowercase()).or_else(enabled).unwrap_or_default();
    // A package's `state` says what it is; a writable's says what is being done to it.
    let resting = ["package", "apppackage", "enabled", "disabled", "none", "idle", "ready"];
    let doing = entry.text("state").filter(|state| {
        let state = state.to_lowercase();
        family != VolumeFamily::AppStack && state != word && !resting.contains(&state.as_str())
    });
    Status {
        busy: entry.flag("busy").unwrap_or(false),
        provisioning: entry.flag("provisioning").unwrap_or(false)
            || ["provisioning", "creating"].contains(&word.as_str()),
        deleting: entry.text("delete_status").is_some(),
        doing,
        word,
    }
}

/// Whether it is attached, and the manager's own word where that is of one: `Attaching`, `Attached (VDI-1)`.
///
/// AppStacks and packages are counted. Of a writable only a word that is known to mean so makes it detached: another language,
/// or a state that a later version has, says nothing.
fn attached(family: VolumeFamily, entry: Fields<'_>) -> (Option<bool>, Option<String>) {
    let count = match family {
        VolumeFamily::AppStack => entry.number("attachments_total"),
        VolumeFamily::Package => entry.number("attachment_count"),
        VolumeFamily::Writable => None,
    };
    if let Some(count) = count {
        return (Some(count > 0), None);
    }
    let Some(word) = entry.text("attached") else {
        return (entry.text("mounted_on").map(|_| true), None);
    };
    (attachment(&word), Some(word))
}

/// What a manager's word for an attachment means; none where that is not known.
fn attachment(word: &str) -> Option<bool> {
    const ATTACHED: [&str; 5] = ["attach", "detaching", "mount", "in use", "unmounting"];
    let word = word.trim().to_lowercase();
    match word.as_str() {
        "detached" | "not attached" | "unattached" | "false" | "no" | "0" => Some(false),
        "true" | "yes" => Some(true),
        number if number.parse::<u64>().is_ok() => Some(true),
        // `Attached (VDI-1)`; whoever is attaching or detaching it has it.
        word if ATTACHED.iter().any(|begin| word.starts_with(begin)) => Some(true),
        _ => None,
    }
}

fn current(id: u64, entry: Fields<'_>) -> Option<bool> {
    entry.0.get("app_markers")?.as_array()?;
    Some(entry.objects("app_markers").any(|marker| {
        let here = marker.number("app_package_id").is_none_or(|package| package == id);
        here && marker.text("name").is_some_and(|name| name.eq_ignore_ascii_case("CURRENT"))
    }))
}

/// Whose a writable is. `DOMAIN\user` is told in one of several fields, with markup or without.
fn owner(entry: Fields<'_>) -> Option<Owner> {
    let told: Vec<String> = ["owner_name", "owner", "name", "title"].iter().filter_map(|key| entry.text(key)).collect();
    let name = told.iter().find(|name| name.contains('\\')).or(told.first())?.clone();
    let upn = entry.first_text(&["owner_upn", "upn"]).filter(|upn| upn.contains('@'));
    Some(Owner { name, sid: entry.text("owner_sid").filter(|sid| sid.starts_with("S-1-")), upn })
}

#[cfg(test)]
mod tests;
