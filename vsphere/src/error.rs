//! What can go wrong with a vSphere system, and what to do about it.

use std::sync::Arc;

use stackferry_config::SecretError;

use stackferry_https::{HttpsError, Retry};

/// Why vSphere did not do what was asked. `system` is what it is called, as `vSphere vc1`; `call` is the method's name in
/// the vSphere API. Never holds a password, cookie or ticket.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum VsphereError {
    /// No answer, or none from the right system.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The password could not be had.
    #[error("the password for {system} can't be had")]
    Secret {
        /// Which system.
        system: String,
        /// Why not.
        #[source]
        source: Arc<SecretError>,
    },
    /// The user or password is wrong, or the account is locked. It is not tried again until somebody says so.
    #[error("{system} refused the login of {user}")]
    LoginRefused {
        /// Which system.
        system: String,
        /// As whom.
        user: String,
    },
    /// The host is in lockdown mode, or the user has no rights there at all.
    #[error("{system} lets {user} in nowhere: lockdown mode, or no permission at all")]
    Lockdown {
        /// Which system.
        system: String,
        /// As whom.
        user: String,
    },
    /// A privilege is missing.
    #[error("{system} denies {call}: {} is missing on {object}", privilege_text(privilege))]
    NoPermission {
        /// Which system.
        system: String,
        /// The method.
        call: &'static str,
        /// Its id, as `Datastore.Browse`; empty where vSphere does not tell.
        privilege: String,
        /// The object's id.
        object: String,
    },
    /// A file, folder, user or service is not there. The object that was asked is.
    #[error("{system} has no {what}")]
    NotFound {
        /// Which system.
        system: String,
        /// The thing.
        what: String,
    },
    /// The object that was asked is not there, or not any more: a datastore or host that was removed.
    #[error("{system} has no object {object}")]
    Gone {
        /// Which system.
        system: String,
        /// The object's id.
        object: String,
    },
    /// The session ended, and so did the one that was made in its place.
    #[error("{system} ended the session")]
    Expired {
        /// Which system.
        system: String,
    },
    /// This system does not have that call.
    #[error("{system} does not support {call}")]
    NotSupported {
        /// Which system.
        system: String,
        /// The method.
        call: &'static str,
    },
    /// Something else that vSphere reports.
    #[error("{call} failed on {system}: {name}{}", said(text))]
    Fault {
        /// Which system.
        system: String,
        /// The method.
        call: &'static str,
        /// The fault's type, as `InvalidDatastore`.
        name: String,
        /// Its own words, at most 500 characters.
        text: String,
    },
    /// An answer that no vSphere gives.
    #[error("{system} gave no answer that can be understood to {call}: {what}")]
    BadAnswer {
        /// Which system.
        system: String,
        /// The method.
        call: &'static str,
        /// What is odd about it.
        what: String,
    },
    /// The server is there, but can't serve now.
    #[error("{system} is not ready: HTTP {status}")]
    NotReady {
        /// Which system.
        system: String,
        /// 429, 502, 503 or 504.
        status: u16,
    },
    /// A task did not end in time. It was cancelled.
    #[error("{call} on {system} was not done within {seconds} seconds")]
    Timeout {
        /// Which system.
        system: String,
        /// The method.
        call: &'static str,
        /// How long it was waited for.
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
                "check user and password; a locked account opens after some minutes, and no further try is made meanwhile"
                    .to_owned()
            }
            Self::Lockdown { .. } => {
                "name the vCenter Server instead of the host, add the user to the host's exception users, or give it a role"
                    .to_owned()
            }
            Self::NoPermission { privilege, object, .. } if privilege.is_empty() => {
                format!("give its user a role on {object} that allows it")
            }
            Self::NoPermission { privilege, object, .. } => format!("give its user a role with {privilege} on {object}"),
            Self::NotFound { .. } | Self::Gone { .. } => "check the name; it may have been renamed, moved or removed".to_owned(),
            Self::Expired { .. } => "try again; if it stays, look for limits of sessions on it".to_owned(),
            Self::NotSupported { .. } => "use another way there, or a newer version of it".to_owned(),
            Self::Fault { name, .. } if name == "HostAccessRestrictedToManagementServer" => {
                "this host is managed by a vCenter Server: name that one in the configuration".to_owned()
            }
            Self::Fault { .. } => "look into its own log of tasks and events".to_owned(),
            Self::BadAnswer { .. } => "check that the address leads to a vCenter Server or ESXi host".to_owned(),
            Self::NotReady { .. } => "wait until its services have started, or look at its load".to_owned(),
            Self::Timeout { .. } => "look at its load and that of the datastore".to_owned(),
        }
    }

    /// Whether it may work a moment later.
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

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}
