//! What can go wrong between Stackferry and an App Volumes Manager, and what to do about it.

use stackferry_https::{HttpsError, Retry};

/// Why a request to a manager failed. `system` is the manager's name, such as `App Volumes avm1`; `path` is the requested
/// path. Never holds a password, a cookie, or more of a response than its error text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// There is no connection, or no complete response.
    #[error("asking for {path} failed")]
    Https {
        /// The requested path.
        path: &'static str,
        /// The cause, which names the manager.
        #[source]
        source: HttpsError,
    },
    /// The manager refuses the user name or the password. Stackferry does not try them again.
    #[error("{system} refuses the login of {username}: {said}")]
    LoginRefused {
        /// The manager.
        system: String,
        /// The user.
        username: String,
        /// Its error text.
        said: String,
    },
    /// The user lacks the permission, also right after a new login.
    #[error("{system} does not allow {path}: {said}")]
    Denied {
        /// The manager.
        system: String,
        /// The requested path.
        path: &'static str,
        /// Its error text.
        said: String,
    },
    /// The response is a web page.
    #[error("{system} answered {path} with a web page")]
    WebPage {
        /// The manager.
        system: String,
        /// The requested path.
        path: &'static str,
    },
    /// The response can't be parsed, or is not the requested data.
    #[error("the answer of {system} to {path} can't be used: {why}")]
    InvalidResponse {
        /// The manager.
        system: String,
        /// The requested path.
        path: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The response has an error status.
    #[error("{system} answered {path} with HTTP {status}{}{said}", if said.is_empty() { "" } else { ": " })]
    Status {
        /// The manager.
        system: String,
        /// The requested path.
        path: &'static str,
        /// The HTTP status.
        status: u16,
        /// Its error text, or nothing.
        said: String,
    },
    /// The manager accepted a change, and did not apply it.
    #[error("{system} did not do {path} for volume {id}: {said}")]
    NotApplied {
        /// The manager.
        system: String,
        /// The requested path.
        path: &'static str,
        /// The volume.
        id: u64,
        /// Its error text.
        said: String,
    },
    /// It is not App Volumes 2.x or 4.x.
    #[error("{system} is of a version that is not known: {version}")]
    UnknownVersion {
        /// The manager.
        system: String,
        /// The version that it reports.
        version: String,
    },
    /// All requests together took too long.
    #[error("asking {system} was not done after {seconds} seconds")]
    Timeout {
        /// The manager.
        system: String,
        /// The timeout.
        seconds: u64,
    },
}

impl ManagerError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Https { source, .. } => source.hint(),
            Self::LoginRefused { .. } => {
                "check `username` (as DOMAIN\\user) and the password, and that the user belongs to an administrators' group of \
                 App Volumes; it is not tried again until the service is started anew, so that no account gets locked"
                    .to_owned()
            }
            Self::Denied { .. } => {
                "give the user a role in App Volumes that covers it: reading needs `Administrators (Read only)`, the guard of \
                 writables needs one that may disable and enable them"
                    .to_owned()
            }
            Self::WebPage { .. } => {
                "check that `url` is the address of the manager itself, as https://avm.example.com, not of a portal or proxy \
                 before it"
                    .to_owned()
            }
            Self::InvalidResponse { .. } => {
                "check that `url` leads to an App Volumes Manager, and its log; the next round tries again".to_owned()
            }
            Self::Status { status: 300..400, .. } => {
                "it sends us elsewhere: set `url` to the address where the manager itself answers".to_owned()
            }
            Self::Status { .. } => "look into the manager's log (production.log) and its state; the next round tries again".to_owned(),
            Self::NotApplied { .. } => "look at the volume in App Volumes: it may have been deleted or attached meanwhile".to_owned(),
            Self::UnknownVersion { .. } => "App Volumes 2.x and 4.x are known; check that `url` leads to one".to_owned(),
            Self::Timeout { .. } => "check whether the manager or its database is overloaded; the next round tries again".to_owned(),
        }
    }

    /// Whether another attempt may succeed.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Https { source, .. } => source.retry(),
            Self::InvalidResponse { .. } | Self::Timeout { .. } => Retry::Transient,
            Self::Status { status, .. } if *status >= 500 || matches!(status, 408 | 429) => Retry::Transient,
            Self::LoginRefused { .. }
            | Self::Denied { .. }
            | Self::WebPage { .. }
            | Self::Status { .. }
            | Self::NotApplied { .. }
            | Self::UnknownVersion { .. } => Retry::Permanent,
        }
    }

    /// Whether the path does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404 | 410, .. })
    }
}
