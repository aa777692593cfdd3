//! Problems of App Volumes Managers and vSphere systems.

use stackferry_discover::app_volumes::ManagerError;
use stackferry_https::HttpsError;
use stackferry_vsphere::VsphereError;

use super::{Code, Problem};

fn https_code(error: &HttpsError) -> Code {
    match error {
        HttpsError::Certificate { .. } | HttpsError::WeakKey { .. } => Code::CertificateRefused,
        HttpsError::Stalled { .. } => Code::Silent,
        HttpsError::InvalidAddress { .. } | HttpsError::NoAuthorities { .. } => Code::BadConfig,
        HttpsError::Unreachable { .. } | HttpsError::Handshake { .. } => Code::Unreachable,
        _ => Code::Protocol,
    }
}

impl From<HttpsError> for Problem {
    fn from(error: HttpsError) -> Self {
        Self::of(https_code(&error), &error).subject(error.system()).hint(error.hint()).retry(error.retry())
    }
}

impl From<VsphereError> for Problem {
    fn from(error: VsphereError) -> Self {
        let code = match &error {
            VsphereError::Https(error) => https_code(error),
            VsphereError::Secret { .. } => Code::SecretUnavailable,
            VsphereError::LoginRefused { .. } => Code::LoginRefused,
            VsphereError::Lockdown { .. } | VsphereError::NoPermission { .. } => Code::PermissionDenied,
            VsphereError::NotFound { .. } => Code::SourceMissing,
            VsphereError::InvalidResponse { .. } | VsphereError::NotSupported { .. } => Code::Protocol,
            VsphereError::NotReady { .. } => Code::Unreachable,
            VsphereError::Timeout { .. } => Code::Silent,
            _ => Code::Refused,
        };
        let subject = match &error {
            VsphereError::Https(error) => error.system().to_owned(),
            VsphereError::Secret { system, .. }
            | VsphereError::LoginRefused { system, .. }
            | VsphereError::Lockdown { system, .. }
            | VsphereError::NoPermission { system, .. }
            | VsphereError::NotFound { system, .. }
            | VsphereError::Expired { system }
            | VsphereError::NotSupported { system, .. }
            | VsphereError::Fault { system, .. }
            | VsphereError::InvalidResponse { system, .. }
            | VsphereError::NotReady { system, .. }
            | VsphereError::Timeout { system, .. } => system.clone(),
            _ => "vSphere".to_owned(),
        };
        Self::of(code, &error).subject(subject).hint(error.hint()).retry(error.retry())
    }
}

impl From<ManagerError> for Problem {
    fn from(error: ManagerError) -> Self {
        let code = match &error {
            ManagerError::Https { source, .. } => https_code(source),
            ManagerError::LoginRefused { .. } => Code::LoginRefused,
            ManagerError::Denied { .. } => Code::PermissionDenied,
            ManagerError::WebPage { .. }
            | ManagerError::InvalidResponse { .. }
            | ManagerError::UnknownVersion { .. } => Code::Protocol,
            ManagerError::Timeout { .. } => Code::Silent,
            _ => Code::Refused,
        };
        let subject = match &error {
            ManagerError::Https { source, .. } => source.system().to_owned(),
            ManagerError::LoginRefused { system, .. }
            | ManagerError::Denied { system, .. }
            | ManagerError::WebPage { system, .. }
            | ManagerError::InvalidResponse { system, .. }
            | ManagerError::Status { system, .. }
            | ManagerError::NotApplied { system, .. }
            | ManagerError::UnknownVersion { system, .. }
            | ManagerError::Timeout { system, .. } => system.clone(),
            _ => "App Volumes".to_owned(),
        };
        Self::of(code, &error).subject(subject).hint(error.hint()).retry(error.retry())
    }
}
