//! What can come instead of a file.

use std::fmt;

use stackferry_https::Retry;

/// What is wrong with the answer to a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownloadFault {
    /// 401: the ticket, or the session, was not taken.
    TicketRefused,
    /// 403: these privileges on the datastore are missing, where vSphere tells.
    Denied(Vec<String>),
    /// 404: there is no such file or datastore.
    NotFound,
    /// 500: what a host answers for a file that another one holds locked.
    Locked,
    /// 429, 502, 503 or 504.
    NotReady(u16),
    /// Any other status.
    Status(u16),
    /// A web page.
    WebPage,
    /// The whole file instead of a part.
    NotPartial,
    /// Another part than was asked for.
    WrongPart(String),
    /// It ended early.
    Short {
        /// The bytes that came.
        got: u64,
        /// The bytes that were asked for.
        asked: u64,
    },
    /// More came than was asked for.
    Long,
}

impl DownloadFault {
    /// Whether trying again may help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::TicketRefused | Self::Locked | Self::Short { .. } => Retry::Transient,
            Self::NotReady(_) => Retry::Busy,
            _ => Retry::Permanent,
        }
    }

    /// What to do about it.
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
            Self::NotFound => "`stackferry discover` looks again for where the volume lies".to_owned(),
            Self::Locked => {
                "something holds the file open, as a virtual machine that has the disk attached; it is tried again"
                    .to_owned()
            }
            Self::NotReady(_) => "look at the load of the host; it is tried again".to_owned(),
            Self::Short { .. } => "look at the network between, and at the host's log; it is tried again".to_owned(),
            Self::Status(_) | Self::WebPage | Self::NotPartial | Self::WrongPart(_) | Self::Long => {
                "something may stand in between, as a proxy; look at what answers at the host's HTTPS port".to_owned()
            }
        }
    }
}

impl fmt::Display for DownloadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TicketRefused => f.write_str("it does not take the ticket (HTTP 401)"),
            Self::Denied(missing) if missing.is_empty() => f.write_str("permission denied (HTTP 403)"),
            Self::Denied(missing) => write!(f, "permission denied (HTTP 403); {} is missing", missing.join(" and ")),
            Self::NotFound => f.write_str("there is no such file (HTTP 404)"),
            Self::Locked => f.write_str("the host can't open it, which mostly means that it is locked (HTTP 500)"),
            Self::NotReady(status) => write!(f, "it can't serve now (HTTP {status})"),
            Self::Status(status) => write!(f, "HTTP {status}"),
            Self::WebPage => f.write_str("a web page came instead of the file"),
            Self::NotPartial => f.write_str("the whole file came instead of the part that was asked for"),
            Self::WrongPart(what) => write!(f, "another part came than was asked for ({what})"),
            Self::Short { got, asked } => write!(f, "it ended after {got} of {asked} bytes"),
            Self::Long => f.write_str("more came than was asked for"),
        }
    }
}
