//! What can go wrong with a vSphere system, and what to do about it.

use std::sync::Arc;

use stackferry_config::SecretError;
use stackferry_https::{HttpsError, Retry};

/// Why a vSphere operation failed. `system` is the system's name, such as `vSphere vc1`; `call` is the method's name in the
/// vSphere API. Never holds a password, cookie or ticket.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum VsphereError {
    /// The HTTPS request failed.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The password is unavailable.
    #[error("the password for {system} is unavailable")]
    Secret {
        /// The system.
        system: String,
        /// The cause.
        #[source]
        source: Arc<SecretError>,
    },
    /// The user or password is wrong, or the account is locked. The client does not try again.
    #[error("{system} refused the login of {user}")]
    LoginRefused {
        /// The system.
        system: String,
        /// The user.
        user: String,
    },
    /// The host is in lockdown mode, or the user has no permission at all.
    #[error("{system} denies {user} all access: lockdown mode, or no permission")]
    Lockdown {
        /// The system.
        system: String,
        /// The user.
        user: String,
    },
    /// A privilege is missing.
    #[error("{system} denies {call}: {} is missing on {object}", privilege_text(privilege))]
    NoPermission {
        /// The system.
        system: String,
        /// The method.
        call: &'static str,
        /// Its id, such as `Datastore.Browse`; empty if vSphere does not report it.
        privilege: String,
        /// The object's id.
        object: String,
    },
    /// A file, folder, user or service does not exist.
    #[error("{system} has no {what}")]
    NotFound {
        /// The system.
        system: String,
        /// What is missing.
        what: String,
    },
    /// The managed object does not exist any more: a datastore or host that was removed.
    #[error("{system} has no object {object}")]
    Gone {
        /// The system.
        system: String,
        /// The object's id.
        object: String,
    },
    /// The session expired, and so did the one that replaced it.
    #[error("{system} ended the session")]
    Expired {
        /// The system.
        system: String,
    },
    /// The system does not have this method.
    #[error("{system} does not support {call}")]
    NotSupported {
        /// The system.
        system: String,
        /// The method.
        call: &'static str,
    },
    /// Another fault that vSphere reports.
    #[error("{call} failed on {system}: {name}{}", in_parentheses(text))]
    Fault {
        /// The system.
        system: String,
        /// The method.
        call: &'static str,
        /// The fault's type, such as `InvalidDatastore`.
        name: String,
        /// Its message, at most 500 characters.
        text: String,
    },
    /// A response that vSphere would not send.
    #[error("invalid response of {system} to {call}: {what}")]
    InvalidResponse {
        /// The system.
        system: String,
        /// The method.
        call: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The server is up, but can't serve requests now.
    #[error("{system} is not ready: HTTP {status}")]
    NotReady {
        /// The system.
        system: String,
        /// 429, 502, 503 or 504.
        status: u16,
    },
    /// A task did not end in time and was cancelled.
    #[error("{call} on {system} did not finish within {seconds} seconds")]
    Timeout {
        /// The system.
        system: String,
        /// The method.
        call: &'static str,
        /// The timeout.
        seconds: u64,
    },
}

impl VsphereError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Https(error) => error.hint(),
            Self::Secret { source, .. } => source.hint(),
            Self::LoginRefused { .. } => {
                "check user and password; a locked account is unlocked after some minutes, and Stackferry does not try again meanwhile"
                    .to_owned()
            }
            Self::Lockdown { .. } => {
                "configure the vCenter Server instead of the host, add the user to the host's exception users, or assign a role"
                    .to_owned()
            }
            Self::NoPermission { privilege, object, .. } if privilege.is_empty() => {
                format!("assign the user a role on {object} that allows it")
            }
            Self::NoPermission { privilege, object, .. } => format!("assign the user a role with {privilege} on {object}"),
            Self::NotFound { .. } | Self::Gone { .. } => "check the name; it may have been renamed, moved or removed".to_owned(),
            Self::Expired { .. } => "try again; if it persists, check its session limits".to_owned(),
            Self::NotSupported { .. } => "use another access method, or a newer version of it".to_owned(),
            Self::Fault { name, .. } if name == "HostAccessRestrictedToManagementServer" => {
                "this host is managed by a vCenter Server: configure that one instead".to_owned()
            }
            Self::Fault { .. } => "check its tasks and events".to_owned(),
            Self::InvalidResponse { .. } => "check that the address leads to a vCenter Server or ESXi host".to_owned(),
            Self::NotReady { .. } => "wait until its services have started, or check its load".to_owned(),
            Self::Timeout { .. } => "check its load and that of the datastore".to_owned(),
        }
    }

    /// Whether another attempt may succeed.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Https(error) => error.retry(),
            Self::Secret { source, .. } if source.retry() => Retry::Transient,
            Self::Expired { .. } | Self::NotReady { .. } | Self::Timeout { .. } => Retry::Transient,
            Self::Fault { name, .. }
                if matches!(
                    name.as_str(),
                    "TaskInProgress"
                        | "ConcurrentAccess"
                        | "ResourceInUse"
                        | "Timedout"
                        | "HostNotConnected"
                        | "HostCommunication"
                        | "HostNotReachable"
                        | "InaccessibleDatastore"
                        | "RequestCanceled"
                ) =>
            {
                Retry::Transient
            }
            _ => Retry::Permanent,
        }
    }

    pub(crate) fn is_expired(&self) -> bool {
        matches!(self, Self::Expired { .. })
    }

    pub(crate) fn is_not_supported(&self) -> bool {
        matches!(self, Self::NotSupported { .. })
    }
}

fn privilege_text(privilege: &str) -> &str {
    if privilege.is_empty() { "a privilege" } else { privilege }
}

fn in_parentheses(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}
