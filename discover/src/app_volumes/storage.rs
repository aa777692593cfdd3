//! Datastores, storage groups, default folders and settings, as a manager tells them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use stackferry_volume::Kind;

use super::report::{ManagedDatastore, StorageGroup};
use super::value::Fields;

/// The defaults of `cv_api/datastores` and what lies there. The places of App Volumes' own backups and archives are left out:
/// no volume is used from there.
const FOLDERS: [(&str, Kind); 8] = [
    ("appstack_path", Kind::Appstack),
    ("appstack_template_path", Kind::Template),
    ("package_path", Kind::Package),
    ("package_template_path", Kind::Template),
    ("writable_path", Kind::Writable),
    ("writable_template_path", Kind::Template),
    ("data_disk_path", Kind::Writable),
    ("data_disk_template_path", Kind::Template),
];

/// The datastores that two lists tell of, by name.
#[derive(Debug, Default)]
pub(super) struct Datastores(BTreeMap<String, ManagedDatastore>);

impl Datastores {
    /// An entry of `cv_api/storages`: what the manager knows of a datastore with volumes.
    pub(super) fn storage(&mut self, entry: Fields<'_>) {
        let Some(known) = self.named(entry) else { return };
        known.attachable = entry.flag("attachable").or(known.attachable);
        if entry.text("status").is_some_and(|status| status.eq_ignore_ascii_case("absent")) {
            known.accessible = Some(false);
        }
    }

    /// An entry of `cv_api/datastores`: what vSphere offers the manager. Datastores of one name are one to App Volumes.
    pub(super) fn datastore(&mut self, entry: Fields<'_>) {
        let Some(known) = self.named(entry) else { return };
        known.kind = known.kind.take().or_else(|| datastore_kind(entry));
        known.accessible = known.accessible.or_else(|| entry.flag("accessible"));
    }

    fn named(&mut self, entry: Fields<'_>) -> Option<&mut ManagedDatastore> {
        let name = entry.verbatim("name")?;
        let bare = ManagedDatastore { name: name.clone(), kind: None, attachable: None, accessible: None };
        Some(self.0.entry(name).or_insert(bare))
    }

    pub(super) fn finish(self) -> Vec<ManagedDatastore> {
        self.0.into_values().collect()
    }
}

/// `note` (`VMFS`, `NFS41`), else the type in `description` (`Type: VMFS - Share Mode: Local`).
fn datastore_kind(entry: Fields<'_>) -> Option<String> {
    let one_word = |text: &String| text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    entry.text("note").filter(one_word).or_else(|| {
        let description = entry.text("description")?;
        let kind = description.strip_prefix("Type:")?.split(" - ").next()?.trim().to_owned();
        Some(kind).filter(one_word)
    })
}

/// The default folders at the top of `cv_api/datastores`.
pub(super) fn folders(top: Fields<'_>) -> Vec<(String, Kind)> {
    let mut folders = Vec::new();
    for (key, kind) in FOLDERS {
        let folder = top.verbatim(key).map(|path| path.trim_matches('/').to_owned());
        if let Some(folder) = folder.filter(|folder| !folder.is_empty()) {
            let told = (folder, kind);
            if !folders.contains(&told) {
                folders.push(told);
            }
        }
    }
    folders
}

/// A storage group: an entry of the list, or its detail, which alone tells the members.
pub(super) fn group(fields: Fields<'_>) -> Option<StorageGroup> {
    let member = |storage: Fields<'_>| {
        let present = !storage.flag("deleted").unwrap_or(false);
        present.then(|| storage.verbatim("name")).flatten()
    };
    let mut members: Vec<String> = fields.objects("storages").filter_map(member).collect();
    members.sort();
    members.dedup();
    Some(StorageGroup {
        name: fields.text("name")?,
        auto_import: fields.flag("auto_import").unwrap_or(false),
        auto_replicate: fields.flag("auto_replicate").unwrap_or(false),
        members,
    })
}

/// Whether a manager of 4.x still shows volumes of 2.x: the setting `ENABLE_2X_VOLUMES`. None where it is not told.
pub(super) fn shows_appstacks(settings: &Map<String, Value>) -> Option<bool> {
    let settings = Fields(settings);
    let told = ["advanced_setting", "setting"].into_iter().flat_map(|list| settings.objects(list));
    let mut told = told.filter(|entry| entry.text("key").as_deref() == Some("ENABLE_2X_VOLUMES"));
    told.next()?.flag("value")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn two_lists_make_one() {
        let mut stores = Datastores::default();
        let lists = json!({
            "datastores": [
                { "name": "nfs01", "note": "NFS41", "accessible": true },
                { "name": "vmfs01", "note": "(not attachable)", "description": "Type: VMFS - Share Mode: Local", "accessible": true },
                { "name": "new", "accessible": null },
                { "display_name": "[DC1] nameless" },
            ],
            "storages": [
                { "name": "nfs01", "attachable": false, "status": "Existing", "space_used": "1.48 TB" },
                { "name": "vmfs01", "attachable": "true", "status": "Absent" },
                { "name": "old", "attachable": true, "status": "absent" },
            ],
        });
        let lists = Fields::of(&lists).unwrap();
        lists.objects("storages").for_each(|entry| stores.storage(entry));
        lists.objects("datastores").for_each(|entry| stores.datastore(entry));
        let told: Vec<_> = stores
            .finish()
            .into_iter()
            .map(|store| (store.name, store.kind.unwrap_or_default(), store.attachable, store.accessible))
            .collect();
        let line =
            |name: &str, kind: &str, attachable, accessible| (name.to_owned(), kind.to_owned(), attachable, accessible);
        assert_eq!(
            told,
            [
                line("new", "", None, None),
                line("nfs01", "NFS41", Some(false), Some(true)),
                line("old", "", Some(true), Some(false)),
                line("vmfs01", "VMFS", Some(true), Some(false)),
            ]
        );
    }

    #[test]
    fn default_folders_come_with_their_kinds() {
        let top = json!({
            "appstack_path": "cloudvolumes/apps", "appstack_template_path": "/cloudvolumes/apps_templates/", "writable_path": "",
            "package_path": "AppVolumes/pkg", "data_disk_path": "appvolumes/writables", "data_disk_backup_recurrent_path": "x",
            "data_disk_archive_path": "y", "appstack_storage": "nfs01|DC1|1", "package_template_path": null,
        });
        let told = folders(Fields::of(&top).unwrap());
        let told: Vec<_> = told.iter().map(|(path, kind)| (path.as_str(), *kind)).collect();
        assert_eq!(
            told,
            [
                ("cloudvolumes/apps", Kind::Appstack),
                ("cloudvolumes/apps_templates", Kind::Template),
                ("AppVolumes/pkg", Kind::Package),
                ("appvolumes/writables", Kind::Writable),
            ]
        );
    }

    #[test]
    fn a_groups_detail_tells_its_members() {
        let detail = json!({ "id": 1, "name": "Apps", "auto_import": true, "auto_replicate": "0", "members": 2, "storages": [
            { "name": "nfs02" }, { "name": "nfs01", "deleted": false }, { "name": "gone", "deleted": true }, "odd",
        ] });
        let group = group(Fields::of(&detail).unwrap()).unwrap();
        assert_eq!((group.auto_import, group.auto_replicate), (true, false));
        assert_eq!(group.members, ["nfs01", "nfs02"]);
    }

    #[test]
    fn the_setting_for_old_volumes_is_found() {
        let with = |value: Value| {
            let settings = json!({ "setting": [{ "key": "ui_session_timeout", "value": "30" }],
                "advanced_setting": [{ "key": "ENABLE_2X_VOLUMES", "value": value }] });
            shows_appstacks(settings.as_object().unwrap())
        };
        assert_eq!(
            [json!("1"), json!(true), json!("0"), json!(null)].map(with),
            [Some(true), Some(true), Some(false), None]
        );
    }
}
