//! One-time tickets, and the URLs that they are for.
//!
//! A ticket is valid for one request with one method to one URL: the host refuses everything else. It is sent as the cookie
//! `vmware_cgi_ticket` (vim.SessionManager.GenericServiceTicket in the vSphere Web Services API reference).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use stackferry_config::Secret;

use crate::error::VsphereError;
use crate::model::Datastore;
use crate::session::{ApiVersion, Session};
use stackferry_https::{Thumbprint, Trust};

/// The most thumbprints of one certificate in a ticket; vSphere never sends more.
const MAX_THUMBPRINTS: usize = 16;
/// The timeout of the call.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

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
    /// Its secret id.
    pub id: Secret,
    /// The name that the host reports for itself; it may be `localhost.localdomain`.
    pub host_name: Option<String>,
    /// The thumbprints of the host's certificate, SHA-256 first; empty if vSphere reports none.
    pub thumbprints: Vec<Thumbprint>,
}

impl ServiceTicket {
    /// The `Cookie` header that presents it.
    #[must_use]
    pub fn cookie(&self) -> Secret {
        Secret::new(format!("vmware_cgi_ticket={}", self.id.expose()))
    }

    /// Trusts exactly the certificates that vSphere reports for the host; `None` if it reports none.
    #[must_use]
    pub fn trust(&self) -> Option<Trust> {
        (!self.thumbprints.is_empty()).then(|| Trust::Certificates(self.thumbprints.clone()))
    }
}

/// The server from which a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// A host, which knows the datastore by name only.
    Host,
    /// The system of the client itself. In a vCenter a datastore's name is unique only within its datacenter.
    Server,
}

/// The path and query of a file below `/folder`, such as `/folder/a/b-flat.vmdk?dcPath=…&dsName=…`. `path` is relative to
/// the datastore. A host gets no `dcPath`, since it does not know vCenter's datacenters.
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

/// Percent-encodes all but RFC 3986's unreserved characters.
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
    let context = session.context(call);
    let manager = session.content().sessions.clone();
    let response = session
        .call_in(call, &manager, ApiVersion::THUMBPRINTS, CALL_TIMEOUT, |writer| {
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
    let ticket = response.get("returnval").ok_or_else(|| context.invalid_response("it has no ticket"))?;
    let id = ticket
        .text_of("id")
        .filter(|id| !id.is_empty())
        .ok_or_else(|| context.invalid_response("its ticket is empty"))?;
    let listed = ticket.all("certThumbprintList").filter_map(|entry| entry.text_of("thumbprint"));
    let mut thumbprints: Vec<Thumbprint> =
        listed.chain(ticket.text_of("sslThumbprint")).filter_map(Thumbprint::parse).take(MAX_THUMBPRINTS).collect();
    thumbprints.sort_by_key(|thumbprint| matches!(thumbprint, Thumbprint::Sha1(_)));
    // Next to SHA-256, SHA-1 adds nothing but risk.
    if thumbprints.iter().any(|thumbprint| matches!(thumbprint, Thumbprint::Sha256(_))) {
        thumbprints.retain(|thumbprint| matches!(thumbprint, Thumbprint::Sha256(_)));
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
