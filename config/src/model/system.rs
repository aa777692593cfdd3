//! `[[app_volumes]]` and `[[vsphere]]`: the systems that know of volumes and datastores.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret::SecretRef;
use crate::value::{AbsPath, CertificateFingerprint, Name, Site, WebUrl};

/// One App Volumes Manager, 2.x or 4.x.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppVolumes {
    /// Its name here, unique among the managers.
    pub name: Name,
    /// Its site. Default: the only one.
    #[serde(default, skip_serializing_if = "Site::is_unset")]
    pub site: Site,
    /// Disable a detached writable in App Volumes while it is copied. Default no.
    #[serde(default)]
    pub guard: bool,
    /// Its address.
    pub url: WebUrl,
    /// Who logs in, as `DOMAIN\user`.
    pub username: Name,
    /// The reference to the password.
    pub password: SecretRef,
    /// A PEM file with the authorities that are trusted instead of the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<AbsPath>,
    /// The only certificate that is trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<CertificateFingerprint>,
}

/// One vCenter Server or ESXi host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VsphereConfig {
    /// Its name here, unique among the vSphere systems; `[[datastore]]` refers to it.
    pub name: Name,
    /// Its site. Default: the only one.
    #[serde(default, skip_serializing_if = "Site::is_unset")]
    pub site: Site,
    /// Its address.
    pub url: WebUrl,
    /// Who logs in, as `user@domain`.
    pub username: Name,
    /// The reference to the password.
    pub password: SecretRef,
    /// A PEM file with the authorities that are trusted instead of the machine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<AbsPath>,
    /// The only certificate that is trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<CertificateFingerprint>,
}
