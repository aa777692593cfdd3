//! The JSON of each version.

use serde_json::{Value, json};

use super::site::{AvmList, AvmLocation, AvmSite, AvmStorageGroup, AvmVersion, AvmVolume, Storage};

/// Where every volume is mounted by.
const MACHINE_MANAGER: &str = "vc1.corp.example";
const STAGES: [&str; 4] = ["New", "Tested", "Published", "Retired"];

/// A time, so many minutes after one in 2022, as this version writes it.
fn time(version: AvmVersion, minutes: u64) -> Value {
    let (hour, minute) = (minutes / 60 % 24, minutes % 60);
    let (day, zone) = (1 + minutes / 1440 % 28, if version == AvmVersion::V2_6 { "UTC" } else { "-0700" });
    format!("2022-08-{day:02} {hour:02}:{minute:02}:00 {zone}").into()
}

/// A number, which 2.6 writes as a text here and there.
fn number(version: AvmVersion, number: u64) -> Value {
    if version == AvmVersion::V2_6 { number.to_string().into() } else { number.into() }
}

fn mounted_at(version: AvmVersion, volume: &AvmVolume) -> Value {
    if volume.mounts == 0 { Value::Null } else { time(version, 600 + volume.mounts) }
}

fn anchor(href: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!("<a href=\"{href}\" title=\"{text}\">{text}</a>")
}

fn first_location(volume: &AvmVolume) -> AvmLocation {
    volume.places.first().cloned().unwrap_or_else(|| AvmLocation {
        datastore: String::new(),
        folder: String::new(),
        file: String::new(),
        missing: true,
        reachable: false,
    })
}

fn braces(guid: &str) -> String {
    if guid.is_empty() { String::new() } else { format!("{{{guid}}}") }
}

fn merge(mut one: Value, other: Value) -> Value {
    if let (Value::Object(into), Value::Object(other)) = (&mut one, other) {
        into.extend(other);
    }
    one
}

pub(super) fn version(site: &AvmSite) -> Value {
    let (text, internal) = match site.version {
        AvmVersion::V2_6 => ("2.6.0.115", "2.6.0"),
        AvmVersion::V2_17 => ("2.17.0 (development)", "2.17.0"),
        AvmVersion::V4_15 => ("App Volumes 4, version 2410", "4.15.0.687"),
    };
    let flat = json!({ "version": text, "internal": internal, "copyright": "a copyright", "configured": true,
        "uptime": "less than a minute", "database_uuid": "3b3f9a0e-0000-4000-8000-000000000001" });
    if site.nested_version { json!({ "version": flat }) } else { flat }
}

pub(super) fn appstack(version: AvmVersion, volume: &AvmVolume) -> Value {
    let own = first_location(volume);
    json!({
        "id": volume.id, "name": volume.name, "name_html": anchor(&format!("/volumes#/AppStacks/{}", volume.id), &volume.name),
        "path": own.folder, "datastore_name": own.datastore, "status": volume.status,
        "created_at": time(version, volume.id), "created_at_human": "Aug 01 2022",
        "mounted_at": mounted_at(version, volume), "mounted_at_human": "Aug 02 2022",
        "mount_count": number(version, volume.mounts), "size_mb": number(version, volume.size_mb),
        "template_version": "2.10.0.709", "assignments_total": volume.assignments.len(),
        "attachments_total": volume.attached_to.len(), "attachment_limit": 0,
    })
}

pub(super) fn appstack_detail(version: AvmVersion, volume: &AvmVolume) -> Value {
    let own = first_location(volume);
    let more = json!({
        "filename": own.file, "file_location": format!("[{}] {}/{}", own.datastore, own.folder, own.file), "description": null,
        "location_count": volume.places.len(), "application_count": 1, "application_icons": ["icon.png"],
        "volume_guid": braces(&volume.guid), "template_file_name": format!("[{}] cloudvolumes/app_templates/template.vmdk", own.datastore),
        "agent_version": "2.10.0.709U", "capture_version": format!("2.10.0.{}", 708 + volume.captures), "primordial_os_id": 3,
        "primordial_os_name": "Windows 10 (x64)", "oses": [{ "id": 3, "name": "Windows 10 (x64)" }], "parent_snapvol": null,
        "provision_duration": 61, "provision_computer": anchor("/directory#/Computers/1", r"CORP\CAPTURE$"),
    });
    json!({ "appstack": merge(appstack(version, volume), more) })
}

/// The rows of `…/files`.
pub(super) fn files(version: AvmVersion, volume: &AvmVolume) -> Value {
    let row = |place: &AvmLocation| {
        json!({ "name": place.file, "path": place.folder, "missing": place.missing, "reachable": place.reachable,
            "storage_location": place.datastore, "machine_manager_host": MACHINE_MANAGER,
            "machine_manager_type": "VMware vCenter", "created_at": time(version, 1), "created_at_human": "Aug 01 2022" })
    };
    volume.places.iter().map(row).collect::<Vec<_>>().into()
}

/// The rows of `…/assignments` of an AppStack.
pub(super) fn own_assignments(volume: &AvmVolume) -> Value {
    let row = |(kind, dn, prefix): &(String, String, String)| json!({ "name": anchor("/directory", dn), "entity_type": kind, "mount_prefix": prefix, "host": null });
    volume.assignments.iter().map(row).collect::<Vec<_>>().into()
}

/// `cv_api/assignments`.
pub(super) fn all_assignments(site: &AvmSite) -> Value {
    let mut rows = Vec::new();
    for volume in site.of(AvmList::AppStack) {
        for (kind, dn, prefix) in &volume.assignments {
            rows.push(
                json!({ "entity_dn": dn, "entity_upn": null, "entityt": kind, "event_time": time(site.version, 2),
                "mount_prefix": prefix, "snapvol_id": volume.id, "snapvol_name": volume.name }),
            );
        }
    }
    json!({ "assignments": rows })
}

pub(super) fn writable(version: AvmVersion, volume: &AvmVolume, new_style: bool) -> Value {
    let own = first_location(volume);
    let upn = format!("{}@corp.example", volume.name.rsplit('\\').next().unwrap_or_default());
    let attached = match volume.attached_word.as_deref() {
        Some("") => Value::Null,
        Some(word) => word.into(),
        None if volume.attached_to.is_empty() => "Detached".into(),
        None => "Attached".into(),
    };
    let common = json!({
        "id": volume.id, "name": volume.name, "title": volume.name, "owner_name": volume.name, "owner_type": "User", "owner_upn": upn,
        "created_at": time(version, volume.id), "created_at_human": "Aug 01 2022",
        "updated_at": time(version, volume.id + volume.mounts), "updated_at_human": "Aug 01 2022",
        "mounted_at": mounted_at(version, volume), "mounted_at_human": "Aug 02 2022",
        "mount_count": number(version, volume.mounts), "attached": attached, "status": volume.status,
        "size_mb": number(version, volume.size_mb), "free_mb": 6000, "total_mb": 10_237,
        "percent_available": if volume.mounts == 0 { json!("Unknown") } else { json!(62.86) },
        "template_version": if version.is_four() { "4_3_0" } else { "2.10.0.709" },
        "filename": own.file, "path": own.folder, "datastore_name": own.datastore, "volume_guid": braces(&volume.guid),
        "datastore_host": MACHINE_MANAGER, "error_action": "disable_and_alert", "busy": volume.busy, "state": volume.doing,
    });
    let more = if new_style {
        json!({ "owner_id": volume.id, "owner_object_guid": "0f0f0f0f", "requested_mb": 10_240, "version_count": 1,
            "type": "DataDisk", "display_type": "Writable Volume", "can_expand": true })
    } else {
        let link = anchor(&format!("/directory#/Users/{}", volume.id), &volume.name);
        json!({ "owner": link, "link": link, "name_html": link, "title_html": link, "owner_upn_html": anchor("/directory", &upn) })
    };
    merge(common, more)
}

pub(super) fn writable_detail(version: AvmVersion, volume: &AvmVolume, new_style: bool) -> Value {
    let own = first_location(volume);
    let more = json!({
        "description": "", "mounted_on": volume.attached_to.first().map(|machine| anchor("/directory#/Computers/1", machine)),
        "block_login": false, "mount_prefix": "", "defer_create": false, "machine_manager_host": MACHINE_MANAGER,
        "machine_manager_type": "VMware vCenter", "file_location": format!("[{}] {}/{}", own.datastore, own.folder, own.file),
        "template_file_name": "template_uia_only.vmdk", "protected": true, "can_expand": true, "oses": [], "version_tag": null,
    });
    json!({ "writable": merge(writable(version, volume, new_style), more) })
}

pub(super) fn package(site: &AvmSite, volume: &AvmVolume, include: &str) -> Value {
    let own = first_location(volume);
    let product = site.products().iter().position(|name| *name == volume.product).map_or(0, |at| at + 1);
    let stage = STAGES.iter().position(|name| *name == volume.stage).map_or(0, |at| at + 1);
    let first = json!({
        "id": volume.id, "name": volume.name, "guid": format!("aaaaaaaa-0000-4000-8000-{:012}", volume.id), "app_product_id": product,
        "lifecycle_stage_id": stage, "state": "Package", "version": volume.version, "description": null, "note": "",
        "display_delivery": "Classic", "delivery": "classic", "capable_of_on_demand": true, "status": volume.status,
        "programs_count": 2, "icon": "icon.png", "operating_systems_count": 1,
        "delete_status": volume.deleting.then_some("deleting"), "deleted_at": null, "created_at": time(site.version, volume.id),
        "updated_at": time(site.version, volume.id + volume.mounts), "attachment_count": volume.attached_to.len(),
    });
    let second = json!({
        "type": "AppPackage", "format": "AV", "path": own.folder, "filename": own.file, "enabled": volume.status == "enabled",
        "writable": false, "datastore_name": own.datastore, "files_count": volume.places.len(), "total_use_count": volume.mounts,
        "provision_uuid": format!("capture-{}-{}", volume.id, volume.captures), "provisioning": volume.provisioning,
        "provision_completed_at": time(site.version, volume.captures), "size_mb": volume.size_mb,
        "size_human": format!("{}.00 MB", volume.size_mb), "assignment_count": volume.assignments.len(),
        "volume_guid": braces(&volume.guid), "snapvol_version_id": volume.captures, "mount_prefix": null,
        "mounted_at": mounted_at(site.version, volume), "missing": own.missing, "protected": true, "agent_version": "4.15.0.10U",
        "capture_version": "4.15.0.10U", "free_mb": 12_000, "total_mb": 20_477, "attachment_limit": 0, "reachable": own.reachable,
        "primordial_os_id": 3, "primordial_os_name": "Windows 10 (x64)",
    });
    let mut package = merge(first, second);
    let Value::Object(fields) = &mut package else { return package };
    let wants = |what: &str| include.split(',').any(|wanted| wanted == what);
    if wants("app_markers") {
        let marker = json!({ "id": product, "name": "CURRENT", "app_product_id": product, "app_product_name": volume.product,
            "app_package_id": volume.id, "assignable": "Available" });
        fields.insert("app_markers".to_owned(), if volume.current { json!([marker]) } else { json!([]) });
    }
    if wants("lifecycle_stage") {
        fields.insert("lifecycle_stage".to_owned(), json!({ "id": stage, "name": volume.stage, "priority": stage }));
    }
    if wants("app_product") {
        fields.insert(
            "app_product".to_owned(),
            json!({ "id": product, "name": volume.product, "app_packages_count": 1 }),
        );
    }
    package
}

pub(super) fn products(site: &AvmSite) -> Value {
    let product = |(at, name): (usize, &&str)| json!({ "id": at + 1, "name": name, "guid": "b", "status": "enabled" });
    json!({ "data": site.products().iter().enumerate().map(product).collect::<Vec<_>>() })
}

pub(super) fn stages() -> Value {
    let stage = |(at, name): (usize, &&str)| json!({ "id": at + 1, "name": name, "priority": at });
    json!({ "data": STAGES.iter().enumerate().map(stage).collect::<Vec<_>>() })
}

/// `app_volumes/app_assignments`: one that carries the marker is assigned by it.
pub(super) fn package_assignments(site: &AvmSite) -> Value {
    let mut rows = Vec::new();
    for volume in site.of(AvmList::Package) {
        for (kind, dn, prefix) in &volume.assignments {
            let package = json!({ "id": volume.id, "name": volume.name });
            let filters =
                if prefix.is_empty() { json!([]) } else { json!([{ "type": "ComputerName", "value": prefix }]) };
            let entity = json!({ "distinguished_name": dn, "entity_type": kind, "upn": null });
            let mut row = json!({ "id": rows.len() + 1, "entities": [entity], "filters": filters, "app_package_id": null,
                "app_package": null, "app_marker": null });
            let (key, value) = if volume.current {
                ("app_marker", json!({ "id": 1, "name": "CURRENT", "app_package": package }))
            } else {
                ("app_package", package)
            };
            row = merge(row, json!({ key: value }));
            rows.push(row);
        }
    }
    json!({ "data": rows })
}

pub(super) fn storages(site: &AvmSite) -> Value {
    let storage = |(at, storage): (usize, &Storage)| {
        json!({ "id": at + 1, "name": storage.name, "host": MACHINE_MANAGER, "space_used": "1.48 TB", "space_total": "4.00 TB",
            "num_appstacks": 1, "num_writables": 1, "attachable": storage.attachable, "created_at": time(site.version, 1),
            "status": if storage.present { "Existing" } else { "Absent" } })
    };
    json!({ "storages": site.storages.iter().enumerate().map(storage).collect::<Vec<_>>() })
}

pub(super) fn datastores(site: &AvmSite) -> Value {
    let datastore = |(at, storage): (usize, &Storage)| {
        json!({ "id": at + 1, "identifier": format!("datastore-{at}"), "name": storage.name,
            "display_name": format!("[DC1] {}", storage.name), "datacenter": "DC1", "host": MACHINE_MANAGER,
            "uniq_string": format!("{}|DC1|1", storage.name), "category": "Shared", "note": storage.kind,
            "description": format!("Type: {} - Share Mode: Shared", storage.kind), "accessible": storage.present,
            "template_storage": false, "free_space": 2_000_000_000_000_u64, "capacity": 4_000_000_000_000_u64 })
    };
    let present = site.storages.iter().filter(|storage| storage.present).enumerate().map(datastore);
    let first = site.storages.first().map(|storage| format!("{}|DC1|1", storage.name));
    let all = json!({
        "datacenter": "DC1", "datastores": present.collect::<Vec<_>>(), "appstack_storage": first,
        "appstack_path": "cloudvolumes/apps", "appstack_template_path": "cloudvolumes/app_templates", "writable_storage": first,
        "writable_path": if site.version.is_four() { "appvolumes/writables" } else { "cloudvolumes/writable" },
        "writable_template_path": "cloudvolumes/writable_templates",
    });
    if !site.version.is_four() {
        return all;
    }
    merge(
        all,
        json!({
            "package_storage": first, "package_path": "appvolumes/packages", "package_template_path": "appvolumes/packages_templates",
            "data_disk_storage": first, "data_disk_path": "appvolumes/writables",
            "data_disk_template_path": "appvolumes/writables_templates", "data_disk_archive_path": "appvolumes/writables_archive",
            "data_disk_backup_recurrent_path": "appvolumes/writables_backup",
        }),
    )
}

fn group(id: usize, group: &AvmStorageGroup) -> Value {
    json!({ "id": id, "name": group.name, "strategy": "Spread", "template_storage": null, "members": group.members.len(),
        "member_prefix": "", "space_used": "1.48 TB", "space_total": "4.00 TB", "created_at_human": "Aug 01 2022",
        "auto_import": group.auto_import, "auto_replicate": group.auto_replicate, "replicated_at_human": "Aug 02 2022" })
}

pub(super) fn groups(site: &AvmSite) -> Value {
    let all = site.groups.iter().enumerate().map(|(at, known)| group(at + 1, known));
    json!({ "storage_groups": all.collect::<Vec<_>>() })
}

pub(super) fn group_detail(id: usize, known: &AvmStorageGroup) -> Value {
    let storage = |name: &String| json!({ "name": name, "datacenter": "DC1", "space_used": "1 TB", "deleted": false });
    let members = known.members.iter().map(storage).collect::<Vec<_>>();
    json!({ "storage_group": merge(group(id, known), json!({ "storages": members })) })
}

pub(super) fn settings(site: &AvmSite) -> Value {
    let mut advanced = vec![json!({ "key": "ENABLE_PARTIAL_RECONFIG", "value": "0" })];
    if let Some(shows) = site.shows_appstacks {
        advanced.push(json!({ "key": "ENABLE_2X_VOLUMES", "value": if shows { "1" } else { "0" } }));
    }
    json!({ "data": { "setting": [{ "key": "ui_session_timeout", "value": "30" }], "advanced_setting": advanced } })
}
