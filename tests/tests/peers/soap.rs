//! A minimal SOAP client for the tests of the stand-ins: curl, and envelopes written by hand.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stackferry_tests::lab::VCenter;
use stackferry_tests::lab::vcenter::{
    Datacenter, InventoryDatastore, InventoryHost, InventoryUser, VCenterInventory, VirtualMachine,
};

pub(crate) const PASSWORD: &str = "it's <\"&> ünsafe";

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What is between the first `start` and the next `end`.
    pub(crate) fn between(&self, start: &str, end: &str) -> String {
        let text = self.text();
        let rest = text.split_once(start).unwrap_or_else(|| panic!("{start} is not in {text}")).1;
        rest.split_once(end).unwrap_or_else(|| panic!("{end} is not in {rest}")).0.to_owned()
    }
}

/// Runs curl with these arguments and this body. Status 0 is a connection that failed.
pub(crate) fn curl(args: &[&str], body: &str) -> Reply {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    let mut child = Command::new("curl")
        .args(["-sk", "--noproxy", "*", "--max-time", "60", "-D", "-", "-o"])
        .arg(&file)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let headers = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = headers.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    Reply { status, headers, body: std::fs::read(&file).unwrap_or_default() }
}

/// Somebody who talks with a stand-in.
pub(crate) struct Client {
    url: String,
    pub(crate) cookie: String,
    content: Reply,
}

impl Client {
    pub(crate) fn new(server: &VCenter) -> Self {
        let content = Reply { status: 0, headers: String::new(), body: Vec::new() };
        let mut client = Self { url: server.url().to_owned(), cookie: String::new(), content };
        client.content = client.call("RetrieveServiceContent", "ServiceInstance", "ServiceInstance", "");
        assert_eq!(client.content.status, 200, "{}", client.content.text());
        client
    }

    pub(crate) fn logged_in(server: &VCenter) -> Self {
        let mut client = Self::new(server);
        let reply = client.login("root", PASSWORD);
        assert_eq!(reply.status, 200, "{}", reply.text());
        client
    }

    pub(crate) fn login(&mut self, user: &str, password: &str) -> Reply {
        let inside = format!("<userName>{}</userName><password>{}</password>", escape(user), escape(password));
        let reply = self.manager("Login", "SessionManager", "sessionManager", &inside);
        if let Some((_, rest)) = reply.headers.split_once("vmware_soap_session=") {
            self.cookie = format!("vmware_soap_session={}", rest.split(';').next().unwrap());
        }
        reply
    }

    /// Calls a method of a managed object with the inside of its request.
    pub(crate) fn call(&self, method: &str, kind: &str, id: &str, inside: &str) -> Reply {
        let id = escape(id);
        let body = format!(
            r#"<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema"><soapenv:Body><{method} xmlns="urn:vim25"><_this type="{kind}">{id}</_this>{inside}</{method}></soapenv:Body></soapenv:Envelope>"#
        );
        let (url, cookie) = (format!("{}/sdk", self.url), format!("Cookie: {}", self.cookie));
        curl(&["-H", "Content-Type: text/xml", "-H", &cookie, "--data-binary", "@-", &url], &body)
    }

    /// Calls a method of one of the service's managers.
    pub(crate) fn manager(&self, method: &str, kind: &str, field: &str, inside: &str) -> Reply {
        let id = self.content.between(&format!("<{field} type=\"{kind}\">"), "<");
        self.call(method, kind, &id, inside)
    }

    /// Properties of one object.
    pub(crate) fn properties(&self, kind: &str, id: &str, paths: &[&str]) -> Reply {
        let paths: String = paths.iter().map(|path| format!("<pathSet>{path}</pathSet>")).collect();
        let inside = format!(
            r#"<specSet><propSet><type>{kind}</type>{paths}</propSet><objectSet><obj type="{kind}">{}</obj></objectSet></specSet><options/>"#,
            escape(id)
        );
        self.manager("RetrievePropertiesEx", "PropertyCollector", "propertyCollector", &inside)
    }

    /// Properties of all objects of a type.
    pub(crate) fn all(&self, kind: &str, paths: &[&str]) -> Reply {
        let root = self.content.between("<rootFolder type=\"Folder\">", "<");
        let inside =
            format!(r#"<container type="Folder">{root}</container><type>{kind}</type><recursive>true</recursive>"#);
        let view = self.manager("CreateContainerView", "ViewManager", "viewManager", &inside);
        let view = view.between("type=\"ContainerView\">", "<");
        let paths: String = paths.iter().map(|path| format!("<pathSet>{path}</pathSet>")).collect();
        let inside = format!(
            r#"<specSet><propSet><type>{kind}</type>{paths}</propSet><objectSet><obj type="ContainerView">{view}</obj><skip>true</skip><selectSet xsi:type="TraversalSpec"><name>v</name><type>ContainerView</type><path>view</path><skip>false</skip></selectSet></objectSet></specSet><options/>"#
        );
        self.manager("RetrievePropertiesEx", "PropertyCollector", "propertyCollector", &inside)
    }

    /// A ticket for a URL.
    pub(crate) fn ticket(&self, method: &str, url: &str) -> Reply {
        let inside = format!(
            r#"<spec xsi:type="SessionManagerHttpServiceRequestSpec"><method>{method}</method><url>{}</url></spec>"#,
            escape(url)
        );
        self.manager("AcquireGenericServiceTicket", "SessionManager", "sessionManager", &inside)
    }

    /// Browses a datastore, and gives the ended task's properties.
    pub(crate) fn browse(&self, browser: &str, path: &str, spec: &str) -> Reply {
        let inside = format!("<datastorePath>{}</datastorePath><searchSpec>{spec}</searchSpec>", escape(path));
        let task = self.call("SearchDatastoreSubFolders_Task", "HostDatastoreBrowser", browser, &inside);
        assert_eq!(task.status, 200, "{}", task.text());
        let task = task.between("type=\"Task\">", "<");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let reply = self.properties("Task", &task, &["info.state", "info.result", "info.error"]);
            let text = reply.text();
            if text.contains(">success<") || text.contains(">error<") {
                return reply;
            }
            assert!(Instant::now() < deadline, "{text}");
        }
    }

    /// Whether it has no session.
    pub(crate) fn all_refused(&self) -> bool {
        self.call("CurrentTime", "ServiceInstance", "ServiceInstance", "").text().contains("NotAuthenticatedFault")
    }

    /// The id of a manager of the only host.
    pub(crate) fn host_manager(&self, name: &str) -> String {
        let reply = self.all("HostSystem", &[&format!("configManager.{name}")]);
        reply.between("<val ", "</val>").split_once('>').unwrap().1.to_owned()
    }

    /// Makes a local account through the host's manager.
    pub(crate) fn create_user(&self, name: &str, password: &str) -> Reply {
        let inside = format!(
            r#"<user xsi:type="HostPosixAccountSpec"><id>{name}</id><password>{}</password><description>one file</description><shellAccess>true</shellAccess></user>"#,
            escape(password)
        );
        self.call("CreateUser", "HostLocalAccountManager", &self.host_manager("accountManager"), &inside)
    }

    /// Makes a local account an administrator.
    pub(crate) fn make_admin(&self, name: &str) -> Reply {
        let inside =
            format!("<principal>{name}</principal><isGroup>false</isGroup><accessMode>accessAdmin</accessMode>");
        self.call("ChangeAccessMode", "HostAccessManager", &self.host_manager("hostAccessManager"), &inside)
    }

    pub(crate) fn remove_user(&self, name: &str) -> Reply {
        let manager = self.host_manager("accountManager");
        self.call("RemoveUser", "HostLocalAccountManager", &manager, &format!("<userName>{name}</userName>"))
    }

    /// `StartService` or `StopService` of SSH.
    pub(crate) fn ssh_service(&self, method: &str) -> Reply {
        self.call(method, "HostServiceSystem", &self.host_manager("serviceSystem"), "<id>TSM-SSH</id>")
    }
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One datacenter with a host, a datastore with one disk in `app`, and a machine.
pub(crate) fn site(folder: &Path) -> VCenterInventory {
    let app = folder.join("app");
    std::fs::create_dir_all(&app).unwrap();
    let descriptor = "# Disk DescriptorFile\nversion=1\ncreateType=\"vmfs\"\nRW 2048 VMFS \"a-flat.vmdk\"\n\
        ddb.adapterType = \"lsilogic\"\nddb.thinProvisioned = \"1\"\nddb.virtualHWVersion = \"19\"\n";
    std::fs::write(app.join("a.vmdk"), descriptor).unwrap();
    let mut extent = std::fs::File::create_new(app.join("a-flat.vmdk")).unwrap();
    extent.write_all(&[7; 4096]).unwrap();
    extent.set_len(1 << 20).unwrap();
    VCenterInventory {
        users: vec![InventoryUser { name: "root".to_owned(), password: PASSWORD.to_owned(), missing: Vec::new() }],
        datacenters: vec![Datacenter {
            name: "DC".to_owned(),
            hosts: vec![InventoryHost {
                name: "esx1".to_owned(),
                root_password: PASSWORD.to_owned(),
                ..InventoryHost::default()
            }],
            datastores: vec![InventoryDatastore {
                name: "ds".to_owned(),
                dir: folder.to_owned(),
                ..InventoryDatastore::default()
            }],
            vms: vec![VirtualMachine { name: "vm".to_owned(), on: true, ..VirtualMachine::default() }],
            ..Datacenter::default()
        }],
        ..VCenterInventory::default()
    }
}

/// Whether these tests can run here.
pub(crate) fn can_run() -> bool {
    let there = stackferry_tests::lab::peer::can_build() && stackferry_tests::tools::find("curl").is_some();
    stackferry_tests::tools::have(there, "Go with govmomi's simulator, and curl").unwrap()
}
