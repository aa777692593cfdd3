//! What an HTTPS download can return instead of the file.

use std::fmt;

use stackferry_https::Retry;

/// What is wrong with the answer to a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownloadFault {
    /// 401: the ticket, or the session, was not accepted.
    TicketRefused,
    /// 403: these privileges on the datastore are missing, where vSphere says so.
    Denied(Vec<String>),
    /// 404: there is no such file or datastore.
    NotFound,
    /// 500: what a host answers for a file that another host has locked.
    Locked,
    /// 429, 502, 503 or 504.
    NotReady(u16),
    /// Any other status.
    Status(u16),
    /// A web page.
    WebPage,
    /// The whole file instead of a part.
    NotPartial,
    /// Another part than was requested.
    WrongPart(String),
    /// It ended early.
    Short {
        /// The bytes received.
        got: u64,
        /// The bytes requested.
        asked: u64,
    },
    /// It was longer than requested.
    Long,
}

impl DownloadFault {
    /// Whether a retry may help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::TicketRefused | Self::Locked | Self::Short { .. } => Retry::Transient,
            Self::NotReady(_) => Retry::Busy,
            _ => Retry::Permanent,
        }
    }

    /// How to fix it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::TicketRefused => {
                "compare the host's clock with vCenter's; if it stays, restart the host's management agents".to_owned()
            }
            Self::Denied(missing) if missing.is_empty() => {
                "give the user of stackferry a role with Datastore.Browse and Datastore.FileManagement on the datastore"
                    .to_owned()
            }
            Self::Denied(missing) => {
                format!("give the user of stackferry a role with {} on the datastore", missing.join(" and "))
            }
            Self::NotFound => "`stackferry discover` scans again for the volume's location".to_owned(),
            Self::Locked => {
                "something holds the file open, as a virtual machine that has the disk attached; it is retried"
                    .to_owned()
            }
            Self::NotReady(_) => "check the load of the host; it is retried".to_owned(),
            Self::Short { .. } => "check the network and the host's log; it is retried".to_owned(),
            Self::Status(_) | Self::WebPage | Self::NotPartial | Self::WrongPart(_) | Self::Long => {
                "something may be in between, as a proxy; check what answers at the host's HTTPS port".to_owned()
            }
        }
    }
}

impl fmt::Display for DownloadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TicketRefused => f.write_str("the ticket was not accepted (HTTP 401)"),
            Self::Denied(missing) if missing.is_empty() => f.write_str("permission denied (HTTP 403)"),
            Self::Denied(missing) => write!(f, "permission denied (HTTP 403); {} is missing", missing.join(" and ")),
            Self::NotFound => f.write_str("no such file (HTTP 404)"),
            Self::Locked => f.write_str("the host can't open it, which usually means that it is locked (HTTP 500)"),
            Self::NotReady(status) => write!(f, "the host is busy (HTTP {status})"),
            Self::Status(status) => write!(f, "HTTP {status}"),
            Self::WebPage => f.write_str("received a web page instead of the file"),
            Self::NotPartial => f.write_str("received the whole file instead of the requested part"),
            Self::WrongPart(what) => write!(f, "received another part than was requested ({what})"),
            Self::Short { got, asked } => write!(f, "it ended after {got} of {asked} bytes"),
            Self::Long => f.write_str("received more than was requested"),
        }
    }
}
