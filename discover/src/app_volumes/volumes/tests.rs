//! The shapes of each version, as its reference and its clients show them.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn read(family: VolumeFamily, value: &Value) -> ListedVolume {
    listed_volume(family, Fields::of(value).unwrap()).unwrap()
}

fn writable(change: Value) -> ManagedVolume {
    let mut value = json!({
        "id": 15, "name": "SNAPVOLUMES\\test_user", "name_html": "<a href=\"/x\">SNAPVOLUMES\\test_user</a>",
        "owner": "<a href=\"/directory#/Users/2\" title=\"test_user\">SNAPVOLUMES\\test_user</a>", "owner_name": "test_user",
        "owner_type": "User", "owner_upn": "test_user@snapvolumes.com", "created_at": "2016-11-23 13:10:13 -0800",
        "mounted_at": null, "mount_count": 0, "attached": "Detached", "status": "enabled", "size_mb": 89, "free_mb": 10_148,
        "total_mb": 10_237, "percent_available": "Unknown", "template_version": "2.10.0.709",
        "filename": "snapvolumes_test_user_15.vmdk", "path": "cloudvolumes/writable", "datastore_name": "data.1",
        "volume_guid": "{9b1b40b0-e2f8-4fe6-b743-c55be9c2e000}", "datastore_host": "vc1", "error_action": "",
        "busy": false, "state": null, "something_new": { "x": [1] },
    });
    let (Value::Object(into), Value::Object(change)) = (&mut value, change) else { panic!() };
    into.extend(change);
    read(VolumeFamily::Writable, &value).volume
}

#[test]
fn the_file_of_an_appstack_comes_from_its_detail() {
    let index = json!({
        "id": "3", "name": "Zip &amp; more", "name_html": "<a href=\"#\">Zip</a>", "path": "cloudvolumes/apps",
        "datastore_name": "data.1", "status": "Enabled", "created_at": "2016-11-23 13:10:13 -0800", "mounted_at": null,
        "mount_count": "7", "size_mb": "78", "template_version": "2.10.0.709", "assignments_total": 1,
        "attachments_total": "2", "attachment_limit": 0,
    });
    let one = read(VolumeFamily::AppStack, &index);
    assert!(one.needs_detail);
    let volume = one.volume;
    assert_eq!((volume.name.as_str(), volume.kind, volume.at.id), ("Zip & more", Kind::Appstack, 3));
    assert_eq!((volume.attached, volume.size_mib, volume.status.word.as_str()), (Some(true), Some(78), "enabled"));
    assert!(volume.places.is_empty() && volume.guid.is_none());

    let detail = json!({
        "id": 3, "filename": "zippertool.vmdk", "file_location": "[data.1] cloudvolumes/apps/zippertool.vmdk", "path": "cloudvolumes/apps",
        "datastore_name": "data.1", "volume_guid": "{9B1B40B0-E2F8-4FE6-B743-C55BE9C2E000}", "agent_version": "2.10.0",
        "capture_version": "2.10.0.709", "provision_duration": 61, "mount_count": 8,
    });
    let added = detail_fields(VolumeFamily::AppStack, Fields::of(&detail).unwrap());
    assert_eq!(added.guid.as_deref(), Some("9b1b40b0-e2f8-4fe6-b743-c55be9c2e000"));
    assert_eq!(added.place.unwrap().file, "zippertool.vmdk");
    assert_eq!(added.revision, "capture_version=2.10.0.709;agent_version=2.10.0;provision_duration=61");
}

#[test]
fn a_packages_list_tells_nearly_all() {
    let entry = json!({
        "id": 21, "name": "Notepad++", "guid": "aaaaaaaa-e2f8-4fe6-b743-c55be9c2e000", "app_product_id": 4, "lifecycle_stage_id": 3,
        "state": "Package", "version": "8.4", "delivery": "classic", "status": "enabled", "delete_status": null, "attachment_count": 0,
        "type": "AppPackage", "format": "AV", "path": "appvolumes/packages", "filename": "Notepad!2B!!2B!.vmdk", "enabled": true,
        "datastore_name": "nfs01", "files_count": 2, "provision_uuid": "u-1", "provisioning": false,
        "provision_completed_at": "2022-08-25 13:36:00 -0700", "size_mb": 940, "volume_guid": "{9b1b40b0-e2f8-4fe6-b743-c55be9c2e000}",
        "snapvol_version_id": 5, "missing": false, "reachable": true, "capture_version": "4.7.0",
        "app_markers": [{ "id": 1, "name": "CURRENT", "app_package_id": 21 }],
        "lifecycle_stage": { "id": 3, "name": "Published" }, "app_product": { "id": 4, "name": "Notepad++ App" },
    });
    let one = read(VolumeFamily::Package, &entry);
    assert!(!one.needs_detail);
    assert_eq!((one.stage_id, one.product_id), (Some(3), Some(4)));
    let volume = one.volume;
    assert_eq!(
        (volume.name.as_str(), volume.version.as_deref(), volume.current),
        ("Notepad++", Some("8.4"), Some(true))
    );
    assert_eq!((volume.stage.as_deref(), volume.product.as_deref()), (Some("Published"), Some("Notepad++ App")));
    assert_eq!(volume.guid.as_deref(), Some("9b1b40b0-e2f8-4fe6-b743-c55be9c2e000"));
    assert_eq!((volume.places[0].reachable, volume.places[0].missing), (Some(true), Some(false)));
    assert_eq!(volume.status, Status { word: "enabled".to_owned(), ..Status::default() });
    assert_eq!(
        volume.revision,
        "capture_version=4.7.0;provision_uuid=u-1;provision_completed_at=2022-08-25T20:36:00Z;snapvol_version_id=5"
    );

    let without = json!({ "id": 21, "app_markers": [{ "name": "current", "app_package_id": 22 }], "status": null, "enabled": false,
        "provisioning": true, "delete_status": "deleting", "state": "Unpackaged" });
    let volume = read(VolumeFamily::Package, &without).volume;
    assert_eq!((volume.current, volume.name.as_str()), (Some(false), "package 21"));
    let status = Status {
        word: "disabled".to_owned(),
        provisioning: true,
        deleting: true,
        doing: Some("Unpackaged".to_owned()),
        busy: false,
    };
    assert_eq!(volume.status, status);
    assert_eq!(read(VolumeFamily::Package, &json!({ "id": 1 })).volume.current, None);
}

#[test]
fn a_writables_list_tells_whose_it_is() {
    let volume = writable(json!({}));
    let owner = volume.owner.unwrap();
    assert_eq!(
        (owner.name.as_str(), owner.upn.as_deref()),
        (r"SNAPVOLUMES\test_user", Some("test_user@snapvolumes.com"))
    );
    assert_eq!((volume.owner_type.as_deref(), volume.attached), (Some("User"), Some(false)));
    assert_eq!(volume.places[0].file, "snapvolumes_test_user_15.vmdk");
    assert_eq!(volume.places[0].machine_manager.as_deref(), Some("vc1"));
    assert_eq!(volume.revision, "created_at=2016-11-23T21:10:13Z");
    let four =
        writable(json!({ "owner": null, "owner_name": "CORP\\jdoe", "owner_object_guid": "x", "name_html": null }));
    assert_eq!(four.owner.unwrap().name, r"CORP\jdoe");
    let utc = writable(json!({ "created_at": "2016-11-23 21:10:13 UTC" }));
    assert_eq!(utc.revision, volume.revision);
}

#[test]
fn each_state_is_told() {
    let attached = |word: Value| writable(json!({ "attached": word })).attached;
    assert_eq!(
        ["Attached", "attached", "Attaching", "Detaching", "Attached (VDI-1)", "Attached to 2", "Mounted"]
            .map(|word| attached(json!(word))),
        [Some(true); 7]
    );
    assert_eq!(["Detached", " detached ", "Not attached", "false"].map(|word| attached(json!(word))), [Some(false); 4]);
    let unknown = ["?", "", "Getrennt", "D\u{e9}tach\u{e9}", "Detached?", "Disabled", "off"];
    assert_eq!(unknown.map(|word| attached(json!(word))), [None; 7], "a word that is not known says nothing");
    assert_eq!(
        [json!(true), json!(1), json!(false), json!(0), Value::Null, json!({}), json!([])].map(attached),
        [Some(true), Some(true), Some(false), Some(false), None, None, None]
    );
    let odd = writable(json!({ "attached": "Getrennt" }));
    assert_eq!(odd.attached_word.as_deref(), Some("Getrennt"), "it is kept for a person");
    let mounted = writable(json!({ "attached": null, "mounted_on": "<a href=\"#\">CORP\\VDI-7$</a>" }));
    assert_eq!((mounted.attached, mounted.attached_to.as_deref()), (Some(true), Some(r"CORP\VDI-7$")));
    let moving = writable(json!({ "state": "Moving", "busy": true })).status;
    assert_eq!((moving.doing.as_deref(), moving.busy), (Some("Moving"), true));
    assert!(writable(json!({ "status": "Creating" })).status.provisioning);
    let gone = writable(json!({ "status": "missing" }));
    assert_eq!((gone.places[0].missing, gone.places[0].reachable), (Some(true), None));
    let far = writable(json!({ "status": "Unreachable" }));
    assert_eq!((far.places[0].missing, far.places[0].reachable), (None, Some(false)));
}

#[test]
fn an_entry_without_number_is_none() {
    for entry in [json!({}), json!({ "id": null, "name": "x" }), json!({ "id": "x" }), json!({ "id": -1 })] {
        assert_eq!(listed_volume(VolumeFamily::Writable, Fields::of(&entry).unwrap()), None, "{entry}");
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        r"[\[\]{}<>&;/.\\a-f0-9 -]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("id|name|app_package_id|value", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_the_values_are_an_entry_is_read(
        id in any::<u32>(),
        values in prop::collection::btree_map(
            "name|status|state|path|filename|file_location|datastore_name|volume_guid|owner|owner_name|owner_upn|attached|busy|size_mb\
             |app_markers|lifecycle_stage|app_product|created_at|provision_completed_at|missing|reachable|mounted_on|x",
            any_value(),
            0..23,
        ),
    ) {
        let mut entry: Map<String, Value> = values.into_iter().collect();
        entry.insert("id".to_owned(), id.into());
        for family in [VolumeFamily::AppStack, VolumeFamily::Package, VolumeFamily::Writable] {
            let one = listed_volume(family, Fields(&entry)).unwrap();
            prop_assert_eq!(one.volume.at.id, u64::from(id));
            prop_assert!(!one.volume.name.is_empty());
            prop_assert!(one.volume.places.iter().all(|place| !place.file.is_empty() && !place.file.contains('/')));
            let _ = detail_fields(family, Fields(&entry));
        }
    }
}
