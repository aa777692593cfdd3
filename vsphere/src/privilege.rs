//! The ids of privileges in the vSphere API, for [`crate::Vsphere::missing_privileges`].

/// Browsing a datastore. Required on the datastore.
pub const BROWSE: &str = "Datastore.Browse";
/// Reading its files through `/folder`, together with [`BROWSE`] ("Privilege Requirements for HTTP Access" in the vSphere Web Services SDK
/// Programming Guide). Required on the datastore and its datacenter.
pub const FILES: &str = "Datastore.FileManagement";
