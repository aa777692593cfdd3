use super::*;
use crate::model::Moid;

fn datastore(name: &str, datacenter: Option<&str>) -> Datastore {
    Datastore {
        id: Moid { kind: "Datastore".to_owned(), value: "datastore-1".to_owned() },
        name: name.to_owned(),
        kind: "VMFS".to_owned(),
        url: String::new(),
        capacity: 0,
        free: 0,
        accessible: true,
        maintenance: None,
        mounts: Vec::new(),
        browser: Moid { kind: "HostDatastoreBrowser".to_owned(), value: "browser-1".to_owned() },
        datacenter: datacenter.map(str::to_owned),
    }
}

#[test]
fn a_file_url_is_encoded_once() {
    let store = datastore("vmfs 01+&", Some("EU/Berlin 1"));
    assert_eq!(
        folder_path(&store, "cloudvolumes/apps/Caf\u{e9} #1%20!5C!+-flat.vmdk", Via::Server),
        "/folder/cloudvolumes/apps/Caf%C3%A9%20%231%2520%215C%21%2B-flat.vmdk?dcPath=EU%2FBerlin%201&dsName=vmfs%2001%2B%26"
    );
    assert_eq!(folder_path(&store, "/a.vmdk", Via::Host), "/folder/a.vmdk?dsName=vmfs%2001%2B%26");
    assert_eq!(folder_path(&datastore("a", None), "b.vmdk", Via::Server), "/folder/b.vmdk?dsName=a");
}

#[test]
fn debug_output_omits_the_ticket() {
    let ticket = ServiceTicket { id: Secret::new("hidden".to_owned()), host_name: None, thumbprints: Vec::new() };
    assert!(!format!("{ticket:?}").contains("hidden"));
    assert_eq!(ticket.cookie().expose(), "vmware_cgi_ticket=hidden");
    assert_eq!(ticket.trust(), None);
}
