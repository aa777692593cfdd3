//! Local accounts, services and privileges.

use stackferry_tests::lab::VCenter;
use stackferry_tests::lab::vcenter::ServerKind;

use super::soap::{Client, can_run, curl, site};

#[test]
fn each_host_has_its_own_accounts_and_services() {
    if !can_run() {
        return;
    }
    for mode in [ServerKind::Vcenter, ServerKind::Esxi] {
        let folder = tempfile::tempdir().unwrap();
        let mut site = site(folder.path());
        site.mode = mode;
        let server = VCenter::start(&site).unwrap();
        let client = Client::logged_in(&server);
        for weak in ["short1!", "Abcdefgh1", "nothingelse", "with-sf-1x-in-it"] {
            let reply = client.create_user("sf-1x", weak);
            let text = reply.text();
            assert_eq!(reply.status == 500, weak != "short1!", "{weak}: {text}");
            if weak == "short1!" {
                assert_eq!(client.remove_user("sf-1x").status, 200, "7 characters of 3 classes are enough");
            } else {
                assert!(text.contains("Authentication token manipulation error"), "{text}");
            }
        }
        assert_eq!(client.create_user("sf-1x", "aB3#password:x").status, 200);
        assert!(client.create_user("sf-1x", "aB3#password:x").text().contains("AlreadyExistsFault"));
        assert!(client.remove_user("nobody").text().contains("UserNotFoundFault"));

        // An account without a role is let in nowhere.
        let url = format!("https://{}/folder/app/a.vmdk?dsName=ds", server.host("esx1").unwrap().address);
        let get = || curl(&["-u", "sf-1x:aB3#password:x", &url], "").status;
        assert_eq!(get(), 401);
        assert_eq!(client.make_admin("sf-1x").status, 200);
        assert_eq!(get(), 200);
        let state = server.state("esx1").unwrap();
        assert_eq!(state.accounts["sf-1x"].mode, "accessAdmin");
        assert_eq!(state.accounts["sf-1x"].description, "one file");
        assert_eq!(client.remove_user("sf-1x").status, 200);
        assert_eq!(get(), 401);
        assert!(!server.state("esx1").unwrap().accounts.contains_key("sf-1x"));

        assert_eq!(client.ssh_service("StartService").status, 200);
        assert!(server.state("esx1").unwrap().running.contains(&"TSM-SSH".to_owned()));
        assert_eq!(client.ssh_service("StopService").status, 200);
        assert!(!server.state("esx1").unwrap().running.contains(&"TSM-SSH".to_owned()));
    }
}

#[test]
fn a_denied_user_sees_the_missing_privilege() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut site = site(folder.path());
    site.users[0].missing = vec!["Host.Config.NetService".to_owned()];
    let server = VCenter::start(&site).unwrap();
    let client = Client::logged_in(&server);
    let refused = client.ssh_service("StartService");
    assert_eq!(refused.between("<privilegeId>", "<"), "Host.Config.NetService");
    server.restore("root", "Host.Config.NetService").unwrap();
    assert_eq!(client.ssh_service("StartService").status, 200);
    server.revoke("root", "Host.Local.ManageUserGroups").unwrap();
    let refused = client.create_user("sf-1", "aB3#password:x");
    assert_eq!(refused.between("<privilegeId>", "<"), "Host.Local.ManageUserGroups");
}

#[test]
fn a_standalone_host_grants_roles_on_its_root_folder() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut site = site(folder.path());
    site.mode = ServerKind::Esxi;
    let server = VCenter::start(&site).unwrap();
    let client = Client::logged_in(&server);
    assert_eq!(client.create_user("sf-1", "aB3#password:x").status, 200);
    let entity = r#"<entity type="Folder">ha-folder-root</entity>"#;
    let grant = |name: &str| {
        let inside = format!(
            "{entity}<permission><principal>{name}</principal><group>false</group><roleId>-1</roleId><propagate>true</propagate></permission>"
        );
        client.manager("SetEntityPermissions", "AuthorizationManager", "authorizationManager", &inside)
    };
    assert!(grant("nobody").text().contains("UserNotFoundFault"));
    assert_eq!(grant("sf-1").status, 200);
    assert_eq!(server.state("esx1").unwrap().accounts["sf-1"].mode, "accessAdmin");
    let mut other = Client::new(&server);
    assert_eq!(other.login("sf-1", "aB3#password:x").status, 200, "it may use the API now");
    let inside = format!("{entity}<user>sf-1</user><isGroup>false</isGroup>");
    let reply = client.manager("RemoveEntityPermission", "AuthorizationManager", "authorizationManager", &inside);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(server.state("esx1").unwrap().accounts["sf-1"].mode, "accessNone");

    server.revoke("root", "Datastore.Browse").unwrap();
    let inside =
        format!("{entity}<sessionId>any</sessionId><privId>Datastore.Browse</privId><privId>System.View</privId>");
    let reply = client.manager("HasPrivilegeOnEntities", "AuthorizationManager", "authorizationManager", &inside);
    for granted in
        ["<privId>Datastore.Browse</privId><isGranted>false<", "<privId>System.View</privId><isGranted>true<"]
    {
        assert!(reply.text().contains(granted), "{granted} is not in {}", reply.text());
    }
}
