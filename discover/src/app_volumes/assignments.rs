//! To whom volumes are assigned. An import into a manager does not bring that back, so it is kept with each version.

use std::collections::{BTreeMap, BTreeSet};

use super::report::VolumeAssignment;
use super::value::Fields;

/// The most assignments that are kept for one volume: thousands of users get one through a group.
const MAX_OF_ONE: usize = 10_000;

/// Assignments by a volume's number.
#[derive(Debug, Clone, Default)]
pub(super) struct AssignmentsByVolume {
    of: BTreeMap<u64, BTreeSet<VolumeAssignment>>,
    /// A volume has more than are kept.
    pub(super) cut: bool,
}

impl AssignmentsByVolume {
    /// An entry of `cv_api/assignments`.
    pub(super) fn old(&mut self, entry: Fields<'_>) {
        if let (Some(volume), Some(assignment)) = (entry.number("snapvol_id"), assignment(entry, None)) {
            self.put(volume, assignment);
        }
    }

    /// An entry of `app_volumes/app_assignments`: to a package itself, or to whichever carries a marker.
    pub(super) fn new_style(&mut self, entry: Fields<'_>) {
        let of_marker = || {
            let marker = entry.object("app_marker")?;
            marker.number("app_package_id").or_else(|| marker.object("app_package")?.number("id"))
        };
        let own = entry.number("app_package_id").or_else(|| entry.object("app_package")?.number("id"));
        let Some(volume) = own.or_else(of_marker) else { return };
        let mut prefixes: Vec<Option<String>> =
            entry.objects("filters").filter_map(|filter| filter.text("value")).map(Some).collect();
        if prefixes.is_empty() {
            prefixes.push(entry.text("mount_prefix"));
        }
        for entity in entry.objects("entities") {
            for prefix in &prefixes {
                if let Some(assignment) = assignment(entity, prefix.clone()) {
                    self.put(volume, assignment);
                }
            }
        }
    }

    /// Those of one volume, in order.
    pub(super) fn take(&mut self, volume: u64) -> Vec<VolumeAssignment> {
        self.of.remove(&volume).unwrap_or_default().into_iter().collect()
    }

    fn put(&mut self, volume: u64, assignment: VolumeAssignment) {
        let of = self.of.entry(volume).or_default();
        if of.len() < MAX_OF_ONE {
            of.insert(assignment);
        } else {
            self.cut = true;
        }
    }
}

/// An entity that something is assigned to: an entry of `…/{id}/assignments`, or a part of one.
pub(super) fn assignment(entity: Fields<'_>, prefix: Option<String>) -> Option<VolumeAssignment> {
    // A directory's own name is kept whole: a person gives it back to a manager later.
    let name = ["distinguished_name", "entity_dn", "path"].iter().find_map(|key| entity.verbatim(key));
    let name = name.filter(|name| !name.contains(char::is_control));
    Some(VolumeAssignment {
        entity_type: entity.first_text(&["entity_type", "entityt", "type"]).unwrap_or_default(),
        entity: name.or_else(|| entity.first_text(&["entity_upn", "upn", "account_name", "name", "display_name"]))?,
        mount_prefix: prefix.or_else(|| entity.text("mount_prefix")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(assignments: &[VolumeAssignment]) -> Vec<String> {
        let line = |one: &VolumeAssignment| {
            format!("{} {} {}", one.entity_type, one.entity, one.mount_prefix.as_deref().unwrap_or("-"))
        };
        assignments.iter().map(line).collect()
    }

    #[test]
    fn old_ones_are_told_by_volume() {
        let mut all = AssignmentsByVolume::default();
        for entry in [
            json!({ "snapvol_id": 3, "entity_dn": "CN=Staff,DC=corp", "entityt": "Group", "mount_prefix": "VDI-", "event_time": null }),
            json!({ "snapvol_id": "3", "entity_dn": "", "entity_upn": "<a href=\"#\">j@corp</a>", "entityt": "User", "mount_prefix": "" }),
            json!({ "snapvol_id": null, "entity_dn": "CN=Nobody" }),
            json!({ "snapvol_id": 4 }),
        ] {
            all.old(Fields::of(&entry).unwrap());
        }
        assert_eq!(lines(&all.take(3)), ["Group CN=Staff,DC=corp VDI-", "User j@corp -"]);
        assert!(all.take(4).is_empty());
    }

    #[test]
    fn new_ones_belong_to_a_package_or_to_what_carries_the_marker() {
        let mut all = AssignmentsByVolume::default();
        for entry in [
            json!({ "app_package_id": 7, "app_package": { "id": 7 }, "app_marker": null, "filters": [],
                "entities": [{ "distinguished_name": "CN=A,DC=c", "entity_type": "User", "upn": "a@c" }, { "upn": "b@c", "entity_type": "User" }] }),
            json!({ "app_package_id": null, "app_package": null, "app_marker": { "id": 1, "name": "CURRENT", "app_package": { "id": 8 } },
                "filters": [{ "type": "ComputerName", "value": "VDI-" }, { "value": "LAB-" }],
                "entities": [{ "distinguished_name": "OU=Staff", "entity_type": "OrgUnit" }] }),
            json!({ "app_product_id": 1, "entities": [{ "upn": "x" }] }),
        ] {
            all.new_style(Fields::of(&entry).unwrap());
        }
        assert_eq!(lines(&all.take(7)), ["User CN=A,DC=c -", "User b@c -"]);
        assert_eq!(lines(&all.take(8)), ["OrgUnit OU=Staff LAB-", "OrgUnit OU=Staff VDI-"]);
    }
}
