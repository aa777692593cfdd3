//! Where a manager says that volumes lie. Names of datastores, folders and files are kept as they are written, but for
//! separators: they are paths.

use stackferry_volume::place::{clean_path, datastore_key, split_datastore_path};

use super::report::ManagedLocation;
use super::value::Fields;

/// The place that a volume's own fields tell: `datastore_name`, `path`, `filename`, else `file_location`.
pub(super) fn own_place(fields: Fields<'_>) -> Option<ManagedLocation> {
    let told = match (fields.verbatim("datastore_name"), fields.verbatim("filename")) {
        (Some(datastore), Some(file)) => Some((datastore, fields.verbatim("path").unwrap_or_default(), file)),
        _ => None,
    };
    let (datastore, folder, file) = told.or_else(|| from_location(&fields.verbatim("file_location")?))?;
    let word = fields.text("status").unwrap_or_default().to_ascii_lowercase();
    place(datastore, &folder, &file, fields).map(|place| ManagedLocation {
        reachable: fields.flag("reachable").or((word == "unreachable").then_some(false)),
        missing: fields.flag("missing").or((word == "missing").then_some(true)),
        ..place
    })
}

/// The place that a row of `…/files` tells. A row without a file's name is the volume's own file in another place.
pub(super) fn row_place(row: Fields<'_>, own_file: Option<&str>) -> Option<ManagedLocation> {
    let datastore = row.verbatim("storage_location").or_else(|| row.verbatim("datastore_name"))?;
    let file = row.verbatim("name").or_else(|| row.verbatim("filename")).or_else(|| own_file.map(str::to_owned))?;
    place(datastore, &row.verbatim("path").unwrap_or_default(), &file, row).map(|place| ManagedLocation {
        reachable: row.flag("reachable"),
        missing: row.flag("missing"),
        ..place
    })
}

fn place(datastore: String, folder: &str, file: &str, fields: Fields<'_>) -> Option<ManagedLocation> {
    let bare = datastore.trim();
    let bare = bare.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(bare);
    // Some entries give the whole place as the file's name, or its folder a second time.
    let whole = split_datastore_path(file, &[bare.to_owned()]);
    let file = match whole.filter(|(datastore, _)| datastore_key(datastore) == datastore_key(bare)) {
        Some((_, path)) => clean_path(path)?,
        None => {
            let (folder, file) = (clean_path(folder)?, clean_path(file)?);
            let is_within = file.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'));
            if is_within || folder.is_empty() { file } else { clean_path(&format!("{folder}/{file}"))? }
        }
    };
    let (folder, file) = file.rsplit_once('/').unwrap_or(("", file.as_str()));
    if file.is_empty() || bare.is_empty() {
        return None;
    }
    Some(ManagedLocation {
        datastore: bare.to_owned(),
        folder: folder.to_owned(),
        file: file.to_owned(),
        reachable: None,
        missing: None,
        machine_manager: fields.first_text(&["machine_manager_host", "datastore_host"]),
    })
}

/// `[datastore] folder/file.vmdk` in its three parts.
fn from_location(text: &str) -> Option<(String, String, String)> {
    let (datastore, path) = split_datastore_path(text, &[])?;
    let path = clean_path(path)?;
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path.as_str()));
    (!file.is_empty()).then(|| (datastore.to_owned(), folder.to_owned(), file.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shown(place: Option<ManagedLocation>) -> String {
        place.map_or_else(String::new, |at| {
            format!(
                "[{}] {}|{} {:?} {:?} {:?}",
                at.datastore, at.folder, at.file, at.reachable, at.missing, at.machine_manager
            )
        })
    }

    fn own(value: &Value) -> String {
        shown(own_place(Fields::of(value).unwrap()))
    }

    #[test]
    fn a_volumes_own_fields_tell_its_place() {
        let told = json!({ "datastore_name": "nfs 01", "path": "/cloudvolumes/apps/", "filename": "Google!20!Chrome.vmdk",
            "file_location": "[other] x/y.vmdk", "datastore_host": "vc1", "status": "enabled" });
        assert_eq!(own(&told), "[nfs 01] cloudvolumes/apps|Google!20!Chrome.vmdk None None Some(\"vc1\")");
        let location = json!({ "file_location": "[SSD RAID8] cloudvolumes/writable/a b.vmdk", "missing": true, "reachable": "false" });
        assert_eq!(own(&location), "[SSD RAID8] cloudvolumes/writable|a b.vmdk Some(false) Some(true) None");
        let gone = json!({ "datastore_name": "[x]", "filename": "f.vmdk", "status": "Unreachable" });
        assert_eq!(own(&gone), "[x] |f.vmdk Some(false) None None");
        for none in [json!({}), json!({ "datastore_name": "a", "path": "b" }), json!({ "file_location": "[] /" })] {
            assert_eq!(own(&none), "", "{none}");
        }
        assert_eq!(own(&json!({ "datastore_name": "a", "filename": "../b.vmdk" })), "");
    }

    #[test]
    fn one_place_is_told_in_many_ways() {
        let expected = "[ssd [fast] 01] cloudvolumes/writable|a.vmdk None None None";
        for (datastore, folder, file) in [
            ("ssd [fast] 01", "cloudvolumes/writable", "a.vmdk"),
            ("[ssd [fast] 01]", "/cloudvolumes//writable/", "/a.vmdk"),
            ("ssd [fast] 01", r"cloudvolumes\writable", "a.vmdk"),
            ("ssd [fast] 01", "cloudvolumes/writable", "cloudvolumes/writable/a.vmdk"),
            ("ssd [fast] 01", "", "cloudvolumes/writable/a.vmdk"),
            ("ssd [fast] 01", "cloudvolumes", "writable/a.vmdk"),
            ("ssd [fast] 01", "cloudvolumes/writable", "[ssd [fast] 01] cloudvolumes/writable/a.vmdk"),
        ] {
            let told = json!({ "datastore_name": datastore, "path": folder, "filename": file });
            assert_eq!(own(&told), expected, "{told}");
        }
        assert_eq!(own(&json!({ "file_location": "[ssd [fast] 01] cloudvolumes//writable/a.vmdk" })), expected);
    }

    #[test]
    fn rows_may_leave_out_the_name() {
        let row = json!({ "storage_location": "nfs02", "path": "appvolumes/packages", "reachable": true, "machine_manager_host": "vc2" });
        let place = |own| shown(row_place(Fields::of(&row).unwrap(), own));
        assert_eq!(place(Some("N.vmdk")), "[nfs02] appvolumes/packages|N.vmdk Some(true) None Some(\"vc2\")");
        assert_eq!(place(None), "");
    }
}
