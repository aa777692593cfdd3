//! SOAP's envelopes, and what the faults in them mean.

use bytes::Bytes;

use crate::error::VsphereError;
use crate::model::Moid;
use crate::xml::{Node, Writer};
use stackferry_https::{Response, UnexpectedContent};

/// How much of a fault's own words is kept, in characters.
const MAX_WORDS: usize = 500;

/// A call that is being written: its name, the object that it is for, and its arguments in the order of the API.
pub(crate) fn envelope(method: &str, this: &Moid, arguments: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.push(r#"<?xml version="1.0" encoding="UTF-8"?>"#);
    let envelope = r#"soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema""#;
    writer.within(envelope, |writer| {
        writer.within("soapenv:Body", |writer| {
            writer.within(&format!(r#"{method} xmlns="urn:vim25""#), |writer| {
                writer.object("_this", &this.kind, &this.value);
                arguments(writer);
            });
        });
    });
    writer.into_bytes()
}

/// Who was asked what; for errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) system: &'a str,
    pub(crate) call: &'static str,
}

impl Asked<'_> {
    pub(crate) fn bad(self, what: impl Into<String>) -> VsphereError {
        VsphereError::BadAnswer { system: self.system.to_owned(), call: self.call, what: what.into() }
    }

    pub(crate) fn not_supported(self) -> VsphereError {
        VsphereError::NotSupported { system: self.system.to_owned(), call: self.call }
    }

    /// What a fault means. `fault` is the element with its type, `text` what it says.
    pub(crate) fn fault(self, fault: &Node, text: &str) -> VsphereError {
        let system = self.system.to_owned();
        let text = plain(text);
        match fault_name(fault) {
            "NotAuthenticated" => VsphereError::Expired { system },
            "NoPermission" => VsphereError::NoPermission {
                system,
                call: self.call,
                privilege: plain(fault.text_of("privilegeId").unwrap_or_default()),
                object: plain(fault.text_of("object").unwrap_or_default()),
            },
            "FileNotFound" => {
                let file = fault.text_of("file").filter(|file| !file.is_empty());
                VsphereError::NotFound { system, what: file.map_or_else(|| text.clone(), plain) }
            }
            "ManagedObjectNotFound" => {
                VsphereError::Gone { system, object: plain(fault.text_of("obj").unwrap_or_default()) }
            }
            "UserNotFound" => {
                let who = plain(fault.text_of("principal").unwrap_or_default());
                VsphereError::NotFound { system, what: format!("user {who}") }
            }
            "NotSupported" | "NotImplemented" | "MethodNotFound" => self.not_supported(),
            name => VsphereError::Fault { system, call: self.call, name: plain(name), text },
        }
    }
}

/// The type of a fault. Without one, the element is named after it: `InvalidLoginFault`.
pub(crate) fn fault_name(fault: &Node) -> &str {
    fault.kind.as_deref().unwrap_or_else(|| fault.name.strip_suffix("Fault").unwrap_or(&fault.name))
}

/// A foreign text for a message: one line, not too long.
fn plain(text: &str) -> String {
    text.trim().chars().take(MAX_WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Reads an answer: the element `…Response`, or the fault as an error.
pub(crate) fn response(asked: Asked<'_>, answer: &Response) -> Result<Node, VsphereError> {
    read(asked, answer.status(), answer.unexpected_content(), answer.body())
}

fn read(
    asked: Asked<'_>,
    status: u16,
    disguise: Option<UnexpectedContent>,
    body: &Bytes,
) -> Result<Node, VsphereError> {
    if matches!(status, 429 | 502..=504) {
        return Err(VsphereError::NotReady { system: asked.system.to_owned(), status });
    }
    if !matches!(status, 200 | 500) {
        return Err(asked.bad(format!("HTTP {status}")));
    }
    match disguise {
        Some(UnexpectedContent::WebPage) => return Err(asked.bad("it is a web page, of a portal or proxy before it")),
        Some(UnexpectedContent::Compressed(how)) => {
            let what = format!("it is compressed ({how}), which nobody asked for; a proxy before it may do that");
            return Err(asked.bad(what));
        }
        None if body.is_empty() => return Err(asked.bad("it is empty")),
        None => {}
    }
    let mut root = Node::parse(body).map_err(|error| asked.bad(error.to_string()))?;
    let in_body = (&*root.name == "Envelope")
        .then(|| root.children.iter_mut().find(|child| &*child.name == "Body"))
        .flatten()
        .and_then(|body| body.children.pop())
        .ok_or_else(|| asked.bad("it is not SOAP"))?;
    if &*in_body.name == "Fault" {
        let text = in_body.text_of("faultstring").unwrap_or_default();
        let detail = in_body.get("detail").and_then(|detail| detail.children.first());
        let code = in_body.text_of("faultcode").unwrap_or_default();
        return Err(match detail {
            Some(detail) => asked.fault(detail, text),
            // Without a detail only the words tell that a method is not known.
            None if text.contains("Unable to resolve WSDL method") || text.contains("is not supported") => {
                asked.not_supported()
            }
            None => VsphereError::Fault {
                system: asked.system.to_owned(),
                call: asked.call,
                name: plain(code),
                text: plain(text),
            },
        });
    }
    if in_body.name.strip_suffix("Response") == Some(asked.call) {
        Ok(in_body)
    } else {
        Err(asked.bad("it is the answer to something else"))
    }
}

/// The id of a managed object.
pub(crate) fn moid(node: &Node) -> Option<Moid> {
    let kind = node.object.as_deref().filter(|kind| !kind.is_empty())?;
    (!node.text.is_empty()).then(|| Moid { kind: kind.to_owned(), value: node.text.clone() })
}

#[cfg(test)]
mod tests;
