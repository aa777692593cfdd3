//! What can go wrong between us and an App Volumes Manager, and what to do about it.

use stackferry_https::{HttpsError, Retry};

/// Why a manager could not be asked. `system` is what it is called, as `App Volumes avm1`; `path` what was asked. Never holds
/// a password, a cookie, or more of an answer than the error text in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// There is no connection, or no whole answer.
    #[error("asking for {path} failed")]
    Https {
        /// What was asked.
        path: &'static str,
        /// Why; names the manager.
        #[source]
        source: HttpsError,
    },
    /// It does not take the user name or the password. Neither is tried again.
    #[error("{system} refuses the login of {username}: {said}")]
    LoginRefused {
        /// Who.
        system: String,
        /// Whose login.
        username: String,
        /// Its own words.
        said: String,
    },
    /// It does not let the user do this, also right after a new login.
    #[error("{system} does not allow {path}: {said}")]
    Denied {
        /// Who.
        system: String,
        /// What was asked.
        path: &'static str,
        /// Its own words.
        said: String,
    },
    /// It answered with a web page.
    #[error("{system} answered {path} with a web page")]
    WebPage {
        /// Who.
        system: String,
        /// What was asked.
        path: &'static str,
    },
    /// Its answer can't be read, or is not what was asked for.
    #[error("the answer of {system} to {path} can't be used: {why}")]
    InvalidResponse {
        /// Who.
        system: String,
        /// What was asked.
        path: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// It answered with an error.
    #[error("{system} answered {path} with HTTP {status}{}{said}", if said.is_empty() { "" } else { ": " })]
    Status {
        /// Who.
        system: String,
        /// What was asked.
        path: &'static str,
        /// The HTTP status.
        status: u16,
        /// Its own words, or nothing.
        said: String,
    },
    /// It took a request that changes something, and did not do it.
    #[error("{system} did not do {path} for volume {id}: {said}")]
    NotApplied {
        /// Who.
        system: String,
        /// What was asked.
        path: &'static str,
        /// Of which volume.
        id: u64,
        /// Its own words.
        said: String,
    },
    /// It is no App Volumes 2.x or 4.x.
    #[error("{system} is of a version that is not known: {version}")]
    UnknownVersion {
        /// Who.
        system: String,
        /// What it calls its version.
        version: String,
    },
    /// Asking it took too long in all.
    #[error("asking {system} was not done after {seconds} seconds")]
    Timeout {
        /// Who.
        system: String,
        /// How long it may take.
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

    /// Whether it may work a moment later.
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

    /// Whether there is nothing at the address that was asked.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404 | 410, .. })
    }
}
