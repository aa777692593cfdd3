//! SOAP envelopes and faults.

use bytes::Bytes;

use crate::error::VsphereError;
use crate::model::Moid;
use crate::xml::{XmlNode, XmlWriter};
use stackferry_https::{Response, UnexpectedContent};

/// The longest part of a fault's text that is kept, in characters.
const MAX_FAULT_TEXT: usize = 500;

/// The request of a call: the method, the object it is called on, and its arguments in the order of the API.
pub(crate) fn envelope(method: &str, this: &Moid, arguments: impl FnOnce(&mut XmlWriter)) -> Vec<u8> {
    let mut writer = XmlWriter::new();
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

/// The system and the method that an error names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ErrorContext<'a> {
    pub(crate) system: &'a str,
    pub(crate) call: &'static str,
}

impl ErrorContext<'_> {
    pub(crate) fn invalid_response(self, what: impl Into<String>) -> VsphereError {
        VsphereError::InvalidResponse { system: self.system.to_owned(), call: self.call, what: what.into() }
    }

    pub(crate) fn not_supported(self) -> VsphereError {
        VsphereError::NotSupported { system: self.system.to_owned(), call: self.call }
    }

    /// Translates a fault. `fault` is the element with its type, `text` its message.
    pub(crate) fn fault(self, fault: &XmlNode, text: &str) -> VsphereError {
        let system = self.system.to_owned();
        let text = one_line(text);
        match fault_name(fault) {
            "NotAuthenticated" => VsphereError::Expired { system },
            "NoPermission" => VsphereError::NoPermission {
                system,
                call: self.call,
                privilege: one_line(fault.text_of("privilegeId").unwrap_or_default()),
                object: one_line(fault.text_of("object").unwrap_or_default()),
            },
            "FileNotFound" => {
                let file = fault.text_of("file").filter(|file| !file.is_empty());
                VsphereError::NotFound { system, what: file.map_or_else(|| text.clone(), one_line) }
            }
            "ManagedObjectNotFound" => {
                VsphereError::Gone { system, object: one_line(fault.text_of("obj").unwrap_or_default()) }
            }
            "UserNotFound" => {
                let who = one_line(fault.text_of("principal").unwrap_or_default());
                VsphereError::NotFound { system, what: format!("user {who}") }
            }
            "NotSupported" | "NotImplemented" | "MethodNotFound" => self.not_supported(),
            name => VsphereError::Fault { system, call: self.call, name: one_line(name), text },
        }
    }
}

/// The type of a fault. Without one, the element is named after it: `InvalidLoginFault`.
pub(crate) fn fault_name(fault: &XmlNode) -> &str {
    fault.kind.as_deref().unwrap_or_else(|| fault.name.strip_suffix("Fault").unwrap_or(&fault.name))
}

/// A foreign text for a message, on one line and shortened.
fn one_line(text: &str) -> String {
    text.trim().chars().take(MAX_FAULT_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Parses a response: the element `…Response`, or the fault as an error.
pub(crate) fn response(context: ErrorContext<'_>, response: &Response) -> Result<XmlNode, VsphereError> {
    parse(context, response.status(), response.unexpected_content(), response.body())
}

fn parse(
    context: ErrorContext<'_>,
    status: u16,
    unexpected: Option<UnexpectedContent>,
    body: &Bytes,
) -> Result<XmlNode, VsphereError> {
    if matches!(status, 429 | 502..=504) {
        return Err(VsphereError::NotReady { system: context.system.to_owned(), status });
    }
    if !matches!(status, 200 | 500) {
        return Err(context.invalid_response(format!("HTTP {status}")));
    }
    match unexpected {
        Some(UnexpectedContent::WebPage) => {
            return Err(context.invalid_response("it is a web page, probably of a proxy or login portal"));
        }
        Some(UnexpectedContent::Compressed(how)) => {
            let what = format!("it is compressed ({how}), probably by a proxy");
            return Err(context.invalid_response(what));
        }
        None if body.is_empty() => return Err(context.invalid_response("it is empty")),
        None => {}
    }
    let mut root = XmlNode::parse(body).map_err(|error| context.invalid_response(error.to_string()))?;
    let in_body = (&*root.name == "Envelope")
        .then(|| root.children.iter_mut().find(|child| &*child.name == "Body"))
        .flatten()
        .and_then(|body| body.children.pop())
        .ok_or_else(|| context.invalid_response("it is not SOAP"))?;
    if &*in_body.name == "Fault" {
        let text = in_body.text_of("faultstring").unwrap_or_default();
        let detail = in_body.get("detail").and_then(|detail| detail.children.first());
        let code = in_body.text_of("faultcode").unwrap_or_default();
        return Err(match detail {
            Some(detail) => context.fault(detail, text),
            // Without a detail only the text shows that the method is unknown.
            None if text.contains("Unable to resolve WSDL method") || text.contains("is not supported") => {
                context.not_supported()
            }
            None => VsphereError::Fault {
                system: context.system.to_owned(),
                call: context.call,
                name: one_line(code),
                text: one_line(text),
            },
        });
    }
    if in_body.name.strip_suffix("Response") == Some(context.call) {
        Ok(in_body)
    } else {
        Err(context.invalid_response("it is the response to another call"))
    }
}

/// The id of a managed object.
pub(crate) fn moid(node: &XmlNode) -> Option<Moid> {
    let kind = node.object.as_deref().filter(|kind| !kind.is_empty())?;
    (!node.text.is_empty()).then(|| Moid { kind: kind.to_owned(), value: node.text.clone() })
}

#[cfg(test)]
mod tests;
