//! The exact requests, and the fallbacks for hosts that lack the newer managers.

use std::time::Duration;

use super::*;
use crate::watch::Watch;

/// A real server refuses elements in another order than that of the schema; the simulator takes any.
#[tokio::test]
async fn arguments_follow_the_order_of_the_schema() {
    let server = Server::start(|called| {
        let manager = |name: &str| property(name, "").replace("<val>", "<val type=\"Manager\">1");
        let told = match called.method {
            "RetrievePropertiesEx" => {
                let known = ["configManager.accountManager", "configManager.hostAccessManager"];
                let path = known.into_iter().find(|path| called.body.contains(path));
                return page(&object("Any", "1", &path.map(manager).unwrap_or_default()));
            }
            "RetrieveServiceContent" => {
                let more = "<authorizationManager type=\"A\">am</authorizationManager></returnval>";
                CONTENT.replace("</returnval>", more)
            }
            "HasPrivilegeOnEntities" => "<returnval><entity type=\"Host\">h</entity></returnval>".to_owned(),
            "AcquireGenericServiceTicket" => "<returnval><id>1</id></returnval>".to_owned(),
            "CreateUser" | "ChangeAccessMode" | "RemoveUser" | "CreateFilter" | "WaitForUpdatesEx" => String::new(),
            "CreatePropertyCollector" => "<returnval type=\"PropertyCollector\">own</returnval>".to_owned(),
            _ => return None,
        };
        Some(Say::Inside(told))
    })
    .await;
    let vsphere = server.client();
    let host = Moid { kind: "Host".to_owned(), value: "h".to_owned() };
    vsphere.create_account(&host, "sf-1", &Secret::new("p&1".to_owned()), "text").await.unwrap();
    vsphere.grant_admin(&host, "sf-1").await.unwrap();
    assert_eq!(
        arguments(&server, "CreateUser"),
        r#"<user xsi:type="HostPosixAccountSpec"><id>sf-1</id><password>p&amp;1</password><description>text</description><shellAccess>true</shellAccess></user>"#
    );
    assert_eq!(
        arguments(&server, "ChangeAccessMode"),
        "<principal>sf-1</principal><isGroup>false</isGroup><accessMode>accessAdmin</accessMode>"
    );
    assert!(vsphere.remove_account(&host, "sf-1").await.unwrap());
    assert_eq!(arguments(&server, "RemoveUser"), "<userName>sf-1</userName>");
    assert_eq!(vsphere.missing_privileges(&host, &["A.B", "C"]).await.unwrap(), ["A.B", "C"]);
    assert_eq!(
        arguments(&server, "HasPrivilegeOnEntities"),
        r#"<entity type="Host">h</entity><sessionId>52ab</sessionId><privId>A.B</privId><privId>C</privId>"#
    );
    vsphere.ticket(TicketMethod::Head, "https://esx/folder/a?dsName=b&c").await.unwrap();
    assert_eq!(
        arguments(&server, "AcquireGenericServiceTicket"),
        r#"<spec xsi:type="SessionManagerHttpServiceRequestSpec"><method>httpHead</method><url>https://esx/folder/a?dsName=b&amp;c</url></spec>"#
    );
    vsphere.browse(&browsed(), "a b", true, Some("*.vmdk")).await.unwrap_err();
    assert_eq!(
        arguments(&server, "SearchDatastoreSubFolders_Task"),
        "<datastorePath>[ds] a b</datastorePath><searchSpec><details><fileType>true</fileType><fileSize>true</fileSize>\
         <modification>true</modification><fileOwner>true</fileOwner></details>\
         <searchCaseInsensitive>true</searchCaseInsensitive><matchPattern>*.vmdk</matchPattern></searchSpec>"
    );
    Watch::new(vsphere.clone()).next(Duration::ZERO).await.unwrap();
    let view = r#"<objectSet><obj type="ContainerView">view</obj><skip>true</skip><selectSet xsi:type="TraversalSpec"><name>inView</name><type>ContainerView</type><path>view</path><skip>false</skip></selectSet></objectSet>"#;
    assert_eq!(
        arguments(&server, "CreateFilter"),
        format!(
            "<spec><propSet><type>VirtualMachine</type><pathSet>config.hardware.device</pathSet>\
             <pathSet>runtime.powerState</pathSet></propSet><propSet><type>Datastore</type>\
             <pathSet>name</pathSet><pathSet>summary.accessible</pathSet><pathSet>summary.maintenanceMode</pathSet></propSet>\
             {view}</spec><partialUpdates>false</partialUpdates>"
        )
    );
    assert_eq!(
        arguments(&server, "CreateContainerView"),
        r#"<container type="Folder">group-d1</container><type>VirtualMachine</type><type>Datastore</type><recursive>true</recursive>"#
    );
    assert_eq!(
        arguments(&server, "WaitForUpdatesEx"),
        "<version></version><options><maxWaitSeconds>0</maxWaitSeconds><maxObjectUpdates>100</maxObjectUpdates></options>"
    );
    vsphere.hosts().await.unwrap();
    let request = arguments(&server, "RetrievePropertiesEx");
    assert!(request.starts_with("<specSet><propSet><type>HostSystem</type><pathSet>name</pathSet>"), "{request}");
    assert!(
        request.ends_with(&format!("{view}</specSet><options><maxObjects>100</maxObjects></options>")),
        "{request}"
    );
}

#[tokio::test]
async fn an_old_host_uses_its_own_managers() {
    let server = Server::start(|called| {
        let told = match called.method {
            "RetrieveServiceContent" => {
                let more = "<authorizationManager type=\"A\">am</authorizationManager>\
                            <accountManager type=\"HostLocalAccountManager\">own</accountManager>\
                            <userDirectory type=\"UserDirectory\">ud</userDirectory></returnval>";
                CONTENT.replace("</returnval>", more)
            }
            "RetrievePropertiesEx" => return page(&object("Host", "h", "")),
            "CreateUser" => {
                assert!(called.body.contains(">own</_this>"), "{}", called.body);
                String::new()
            }
            "SetEntityPermissions" => String::new(),
            "RetrieveUserGroups" => "<returnval><principal>sf-1</principal><group>false</group></returnval>\
                                     <returnval><principal>root</principal><group>false</group></returnval>\
                                     <returnval><principal>users</principal><group>true</group></returnval>"
                .to_owned(),
            "RemoveUser" => return Some(Say::Fault("UserNotFound")),
            _ => return None,
        };
        Some(Say::Inside(told))
    })
    .await;
    let vsphere = server.client();
    let host = Moid { kind: "Host".to_owned(), value: "h".to_owned() };
    vsphere.create_account(&host, "sf-1", &Secret::new("p".to_owned()), "").await.unwrap();
    vsphere.grant_admin(&host, "sf-1").await.unwrap();
    assert_eq!(
        arguments(&server, "SetEntityPermissions"),
        r#"<entity type="Folder">group-d1</entity><permission><principal>sf-1</principal><group>false</group><roleId>-1</roleId><propagate>true</propagate></permission>"#
    );
    assert_eq!(vsphere.accounts(&host).await.unwrap(), ["root", "sf-1"]);
    assert_eq!(
        arguments(&server, "RetrieveUserGroups"),
        "<searchStr></searchStr><exactMatch>false</exactMatch><findUsers>true</findUsers><findGroups>false</findGroups>"
    );
    assert!(!vsphere.remove_account(&host, "sf-1").await.unwrap());
    assert_eq!(
        arguments(&server, "RemoveEntityPermission"),
        r#"<entity type="Folder">group-d1</entity><user>sf-1</user><isGroup>false</isGroup>"#
    );
    let missing = vsphere.service_is_running(&host, "TSM-SSH").await.unwrap_err();
    assert!(missing.is_not_supported(), "{missing:?}");
}
