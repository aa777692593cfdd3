//! Reads and writes XML, as far as SOAP needs it. Input is hostile: its size, depth and number of elements are bounded, it
//! may declare nothing (no DTD, no entities), and anything else that is unusual is an error, never a panic.

use std::borrow::Cow;

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::reader::NsReader;
use zeroize::Zeroizing;

/// The deepest nesting of elements. vSphere's deepest responses have about 20 levels.
pub(crate) const MAX_DEPTH: usize = 64;
/// The most elements of a response. 100,000 files in one folder take 600,000.
pub(crate) const MAX_ELEMENTS: usize = 1_000_000;
/// The namespace of `xsi:type`, whatever prefix a server gives it.
const INSTANCE: Namespace<'static> = Namespace("http://www.w3.org/2001/XMLSchema-instance");

/// An element with its content.
#[derive(Debug, Default)]
pub(crate) struct XmlNode {
    /// Its name without prefix.
    pub(crate) name: Box<str>,
    /// Its `xsi:type` without prefix.
    pub(crate) kind: Option<Box<str>>,
    /// Its plain `type` attribute: the type of a managed object.
    pub(crate) object: Option<Box<str>>,
    /// Its text.
    pub(crate) text: String,
    /// Its child elements.
    pub(crate) children: Vec<Self>,
}

/// Why a document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum XmlError {
    #[error("it is not XML")]
    Malformed,
    #[error("its elements are nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    #[error("it has more than {MAX_ELEMENTS} elements")]
    TooMany,
    #[error("it declares or uses entities")]
    Entity,
}

impl XmlNode {
    /// Parses a whole document and returns its root.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, XmlError> {
        let text = std::str::from_utf8(bytes).map_err(|_| XmlError::Malformed)?;
        let mut reader = NsReader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        let mut open: Vec<Self> = Vec::new();
        let mut root = None;
        let mut count = 0_usize;
        loop {
            match reader.read_event().map_err(|_| XmlError::Malformed)? {
                Event::Start(start) => {
                    count += 1;
                    if count > MAX_ELEMENTS {
                        return Err(XmlError::TooMany);
                    }
                    if open.len() >= MAX_DEPTH {
                        return Err(XmlError::TooDeep);
                    }
                    if root.is_some() {
                        return Err(XmlError::Malformed);
                    }
                    open.push(Self::start(&reader, &start)?);
                }
                Event::End(_) => {
                    let mut node = open.pop().ok_or(XmlError::Malformed)?;
                    if !node.children.is_empty() {
                        // vSphere puts only indentation between elements.
                        node.text = String::new();
                    }
                    match open.last_mut() {
                        Some(parent) => parent.children.push(node),
                        None => root = Some(node),
                    }
                }
                Event::Text(text) => Self::add(&mut open, &text.xml10_content())?,
                Event::CData(text) => Self::add(&mut open, &text.xml10_content())?,
                Event::GeneralRef(name) => {
                    let found = match name.resolve_char_ref().map_err(|_| XmlError::Malformed)? {
                        Some(c) => c,
                        None => predefined(&name).ok_or(XmlError::Entity)?,
                    };
                    Self::add(&mut open, found.encode_utf8(&mut [0; 4]))?;
                }
                Event::DocType(_) => return Err(XmlError::Entity),
                Event::Empty(_) => return Err(XmlError::Malformed),
                Event::Comment(_) | Event::PI(_) | Event::Decl(_) => {}
                Event::Eof => break,
            }
        }
        if open.is_empty() { root.ok_or(XmlError::Malformed) } else { Err(XmlError::Malformed) }
    }

    fn start(reader: &NsReader<&[u8]>, start: &BytesStart<'_>) -> Result<Self, XmlError> {
        let mut node = Self { name: start.local_name().as_ref().into(), ..Self::default() };
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|_| XmlError::Malformed)?;
            if attribute.key.local_name().as_ref() != "type" {
                continue;
            }
            let value: Cow<'_, str> =
                attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|_| XmlError::Entity)?;
            match reader.resolver().resolve_attribute(attribute.key).0 {
                ResolveResult::Bound(namespace) if namespace == INSTANCE => {
                    let local = value.rsplit_once(':').map_or(&*value, |(_, local)| local);
                    node.kind = Some(local.into());
                }
                ResolveResult::Unbound => node.object = Some(value.into()),
                ResolveResult::Bound(_) => {}
                ResolveResult::Unknown(_) => return Err(XmlError::Malformed),
            }
        }
        Ok(node)
    }

    fn add(open: &mut [Self], text: &str) -> Result<(), XmlError> {
        match open.last_mut() {
            // Indentation before the first child is dropped when the element ends; text after a child is never needed.
            Some(node) if node.children.is_empty() => node.text.push_str(text),
            Some(_) => {}
            None if text.trim().is_empty() => {}
            None => return Err(XmlError::Malformed),
        }
        Ok(())
    }

    /// The first child of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| &*child.name == name)
    }

    /// The element at that path.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, name| node.get(name))
    }

    /// All children of that name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| &*child.name == name)
    }

    /// The text of the first child of that name.
    pub(crate) fn text_of(&self, name: &str) -> Option<&str> {
        self.get(name).map(|child| child.text.as_str())
    }

    /// Whether the first child of that name is true.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.text_of(name).is_some_and(is_true)
    }
}

/// `true` or `1`, as in XML Schema.
pub(crate) fn is_true(text: &str) -> bool {
    matches!(text.trim(), "true" | "1")
}

fn predefined(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => None,
    }
}

/// Writes XML. The text may hold a password: it is wiped when it is dropped, and also when the buffer has to grow.
pub(crate) struct XmlWriter(Zeroizing<String>);

impl XmlWriter {
    pub(crate) fn new() -> Self {
        Self(Zeroizing::new(String::with_capacity(4096)))
    }

    /// `<name xmlns=…>` … `</name>` around the output of `inside`.
    pub(crate) fn within(&mut self, start: &str, inside: impl FnOnce(&mut Self)) {
        let name = start.split(' ').next().unwrap_or(start);
        self.push("<");
        self.push(start);
        self.push(">");
        inside(self);
        self.push("</");
        self.push(name);
        self.push(">");
    }

    /// An element with text. `start` is its name, with its attributes if it has any.
    pub(crate) fn text(&mut self, start: &str, text: &str) {
        self.within(start, |writer| writer.escaped(text));
    }

    /// A reference to a managed object.
    pub(crate) fn object(&mut self, name: &str, kind: &str, value: &str) {
        self.push("<");
        self.push(name);
        self.push(" type=\"");
        self.escaped(kind);
        self.push("\">");
        self.escaped(value);
        self.push("</");
        self.push(name);
        self.push(">");
    }

    /// Consumes the writer and returns the document.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.0).into_bytes()
    }

    fn escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '<' => self.push("&lt;"),
                '>' => self.push("&gt;"),
                '&' => self.push("&amp;"),
                '"' => self.push("&quot;"),
                '\'' => self.push("&apos;"),
                '\t' => self.push("&#9;"),
                '\n' => self.push("&#10;"),
                '\r' => self.push("&#13;"),
                // XML 1.0 can't represent other control characters. A server refuses the value without them, as it would
                // refuse the characters.
                c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => self.push("\u{fffd}"),
                c => self.push(c.encode_utf8(&mut [0; 4])),
            }
        }
    }

    pub(crate) fn push(&mut self, text: &str) {
        if self.0.capacity() - self.0.len() < text.len() {
            // `String` would grow by itself, but leave the old bytes in memory.
            let mut larger = Zeroizing::new(String::with_capacity((self.0.len() + text.len()) * 2));
            larger.push_str(&self.0);
            self.0 = larger;
        }
        self.0.push_str(text);
    }
}

#[cfg(test)]
mod tests;
