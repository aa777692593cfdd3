//! The privileges that calls need, by the ids of the vSphere API; for [`crate::Vsphere::missing_privileges`].

/// Browsing a datastore. On the datastore.
pub const BROWSE: &str = "Datastore.Browse";
/// Reading its files by `/folder`, with [`BROWSE`] ("Privilege Requirements for HTTP Access" in the vSphere Web Services SDK
/// Programming Guide). On the datastore and its datacenter.
pub const FILES: &str = "Datastore.FileManagement";
/// Making and removing local accounts of a host. On the host.
pub const ACCOUNTS: &str = "Host.Local.ManageUserGroups";
/// Giving a local account rights, and seeing who has some, through vCenter. On the host.
pub const ACCESS: &str = "Global.Settings";
/// Starting and stopping a host's services. On the host.
pub const SERVICES: &str = "Host.Config.NetService";
