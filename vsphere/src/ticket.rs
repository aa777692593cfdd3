//! One-time tickets, and the addresses that they are for.
//!
//! A ticket is good for one request of one method to one address: the host itself refuses everything else. It goes into the
//! cookie `vmware_cgi_ticket` (vim.SessionManager.GenericServiceTicket in the vSphere Web Services API reference).

use std::fmt::Write as _;
use std::sync::Arc;

use stackferry_config::Secret;

use crate::error::VsphereError;
use crate::model::Datastore;
use crate::session::{Session, Version};
use stackferry_https::{Thumbprint, Trust};

/// How many fingerprints of one certificate a ticket may name; more is no answer of vSphere's.
const MAX_THUMBPRINTS: usize = 16;
/// How long the call may take.
const CALL: std::time::Duration = std::time::Duration::from_secs(60);

/// The method of the request that a ticket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketMethod {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `PUT`.
    Put,
}

/// A one-time ticket.
#[derive(Debug, Clone)]
pub struct ServiceTicket {
    /// The ticket itself.
    pub id: Secret,
    /// The name that the host has for itself; it may be `localhost.localdomain`.
    pub host_name: Option<String>,
    /// The certificates by which the host is known, SHA-256 first; empty where vSphere names none.
    pub thumbprints: Vec<Thumbprint>,
}

impl ServiceTicket {
    /// The `Cookie` header that shows it.
    #[must_use]
    pub fn cookie(&self) -> Secret {
        Secret::new(format!("vmware_cgi_ticket={}", self.id.expose()))
    }

    /// The host, known by exactly the certificates that vSphere names; none where it names none.
    #[must_use]
    pub fn trust(&self) -> Option<Trust> {
        (!self.thumbprints.is_empty()).then(|| Trust::Certificates(self.thumbprints.clone()))
    }
}

/// Through whom a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// A host: it knows the datastore by name only.
    Host,
    /// The system of the client, where a datastore's name is only known within its datacenter.
    Server,
}

/// The path and query of a file below `/folder`, as `/folder/a/b-flat.vmdk?dcPath=…&dsName=…`. `path` is relative to the
/// datastore. A host gets no `dcPath`: it does not know vCenter's.
#[must_use]
pub fn folder_path(datastore: &Datastore, path: &str, via: Via) -> String {
    let mut text = String::from("/folder");
    for part in path.trim_start_matches('/').split('/') {
        text.push('/');
        escape(&mut text, part);
    }
    text.push('?');
    if let (Via::Server, Some(datacenter)) = (via, &datastore.datacenter) {
        text.push_str("dcPath=");
        escape(&mut text, datacenter);
        text.push('&');
    }
    text.push_str("dsName=");
    escape(&mut text, &datastore.name);
    text
}

/// Writes all but RFC 3986's unreserved characters as `%XX`.
fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a `String` does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

pub(crate) async fn acquire(
    session: Arc<Session>,
    method: TicketMethod,
    url: &str,
) -> Result<ServiceTicket, VsphereError> {
    let call = "AcquireGenericServiceTicket";
    let asked = session.asked(call);
    let manager = session.content().sessions.clone();
    let response = session
        .call_in(call, &manager, Version::THUMBPRINTS, CALL, |writer| {
            writer.within(r#"spec xsi:type="SessionManagerHttpServiceRequestSpec""#, |writer| {
                let method = match method {
                    TicketMethod::Get => "httpGet",
                    TicketMethod::Head => "httpHead",
                    TicketMethod::Put => "httpPut",
                };
                writer.text("method", method);
                writer.text("url", url);
            });
        })
        .await?;
    let ticket = response.get("returnval").ok_or_else(|| asked.bad("it has no ticket"))?;
    let id = ticket.text_of("id").filter(|id| !id.is_empty()).ok_or_else(|| asked.bad("its ticket is empty"))?;
    let listed = ticket.all("certThumbprintList").filter_map(|known| known.text_of("thumbprint"));
    let mut thumbprints: Vec<Thumbprint> =
        listed.chain(ticket.text_of("sslThumbprint")).filter_map(Thumbprint::parse).take(MAX_THUMBPRINTS).collect();
    thumbprints.sort_by_key(|known| matches!(known, Thumbprint::Sha1(_)));
    // Where the better digest is told, the weaker one adds nothing but risk.
    if thumbprints.iter().any(|known| matches!(known, Thumbprint::Sha256(_))) {
        thumbprints.retain(|known| matches!(known, Thumbprint::Sha256(_)));
    }
    thumbprints.dedup();
    Ok(ServiceTicket {
        id: Secret::new(id.to_owned()),
        host_name: ticket.text_of("hostName").filter(|name| !name.is_empty()).map(str::to_owned),
        thumbprints,
    })
}

#[cfg(test)]
mod tests;
