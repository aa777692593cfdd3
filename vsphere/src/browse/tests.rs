use super::*;
use crate::model::Moid;

fn datastore() -> Datastore {
    let id = |kind: &str| Moid { kind: kind.to_owned(), value: "1".to_owned() };
    Datastore {
        id: id("Datastore"),
        name: "a] b".to_owned(),
        kind: String::new(),
        url: String::new(),
        capacity: 0,
        free: 0,
        accessible: true,
        maintenance: None,
        mounts: Vec::new(),
        browser: id("HostDatastoreBrowser"),
        datacenter: None,
    }
}

#[test]
fn folder_paths_of_all_servers_are_parsed() {
    for (path, expected) in [
        ("[a] b] apps", "apps"),
        ("[a] b] apps/", "apps"),
        ("[a] b] /apps/x/", "apps/x"),
        ("[a] b]", ""),
        ("[a] b] ", ""),
        ("[a] b] /", ""),
    ] {
        let xml = format!("<r><folderPath>{path}</folderPath></r>");
        let listing = listing(&XmlNode::parse(xml.as_bytes()).unwrap(), &datastore()).unwrap();
        assert_eq!(listing.folder, expected);
    }
    let other = XmlNode::parse(b"<r><folderPath>[c] apps</folderPath></r>").unwrap();
    assert_eq!(listing(&other, &datastore()), None);
}

#[test]
fn file_attributes_are_parsed() {
    let xml = br#"<r xmlns:x="http://www.w3.org/2001/XMLSchema-instance"><folderPath>[a] b] </folderPath>
        <file x:type="VmDiskFileInfo"><path>b-flat.vmdk</path><friendlyName>b-flat.vmdk</friendlyName><fileSize>7</fileSize>
          <modification>2024-05-06T07:08:09.123456Z</modification><thin>true</thin></file>
        <file x:type="FolderFileInfo"><path>/vmfs/volumes/vsan:1/uuid/</path><friendlyName>apps</friendlyName></file>
        <file x:type="FileInfo"><path>a.metadata</path><modification>odd</modification></file>
        <file><path>../..</path></file><file><path></path></file><file/></r>"#;
    let listing = listing(&XmlNode::parse(xml).unwrap(), &datastore()).unwrap();
    let names: Vec<_> = listing.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["a.metadata", "b-flat.vmdk", "uuid"]);
    let [plain, disk, folder] = listing.entries.as_slice() else { panic!("{listing:?}") };
    assert_eq!((plain.bytes, plain.mtime, plain.is_folder), (0, None, false));
    assert_eq!((disk.bytes, disk.friendly_name.as_deref()), (7, None));
    assert_eq!(disk.mtime.unwrap().to_string(), "2024-05-06T07:08:09.123456Z");
    assert_eq!((folder.is_folder, folder.friendly_name.as_deref()), (true, Some("apps")));
}
