use super::*;

fn id(kind: &str, value: &str) -> Moid {
    Moid { kind: kind.to_owned(), value: value.to_owned() }
}

#[test]
fn the_datacenter_of_a_datastore_is_found() {
    let places: InventoryFolders = [
        (id("Folder", "root"), ("Datacenters".to_owned(), None)),
        (id("Folder", "f"), ("EU".to_owned(), Some(id("Folder", "root")))),
        (id("Datacenter", "d"), ("Berlin".to_owned(), Some(id("Folder", "f")))),
        (id("Folder", "s"), ("datastore".to_owned(), Some(id("Datacenter", "d")))),
        (id("StoragePod", "p"), ("pod".to_owned(), Some(id("Folder", "s")))),
        (id("Folder", "circle"), ("circle".to_owned(), Some(id("Folder", "circle")))),
    ]
    .into();
    assert_eq!(datacenter(id("StoragePod", "p"), &places).as_deref(), Some("EU/Berlin"));
    assert_eq!(datacenter(id("Folder", "s"), &places).as_deref(), Some("EU/Berlin"));
    assert_eq!(datacenter(id("Folder", "f"), &places), None);
    assert_eq!(datacenter(id("Folder", "nowhere"), &places), None);
    assert_eq!(datacenter(id("Folder", "circle"), &places), None);
}
