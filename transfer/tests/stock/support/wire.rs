//! Packets of SFTP as a server sends them, made by hand, so that they can lie.

use bytes::{BufMut, Bytes, BytesMut};

pub(crate) const INIT: u8 = 1;
pub(crate) const OPEN: u8 = 3;
pub(crate) const CLOSE: u8 = 4;
pub(crate) const READ: u8 = 5;
pub(crate) const LSTAT: u8 = 7;
pub(crate) const FSTAT: u8 = 8;
pub(crate) const OPENDIR: u8 = 11;
pub(crate) const READDIR: u8 = 12;
pub(crate) const REALPATH: u8 = 16;
pub(crate) const STAT: u8 = 17;

/// A file's attributes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attributes {
    pub(crate) bytes: Option<u64>,
    pub(crate) mode: Option<u32>,
    pub(crate) mtime: Option<u32>,
}

pub(crate) const FOLDER: Attributes = Attributes { bytes: Some(4096), mode: Some(0o040_755), mtime: Some(7) };

/// A packet of this type; `number` is the request's, or the version in a greeting.
pub(crate) fn packet(kind: u8, number: u32, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(body.len() + 9);
    bytes.put_u32(u32::try_from(body.len() + 5).unwrap());
    bytes.put_u8(kind);
    bytes.put_u32(number);
    bytes.put_slice(body);
    bytes.freeze()
}

pub(crate) fn text(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
}

pub(crate) fn version(version: u32) -> Bytes {
    packet(2, version, b"")
}

pub(crate) fn status(id: u32, code: u32, message: &str) -> Bytes {
    packet(101, id, &[&code.to_be_bytes()[..], &text(message.as_bytes()), &text(b"en")].concat())
}

pub(crate) fn handle(id: u32, handle: &[u8]) -> Bytes {
    packet(102, id, &text(handle))
}

pub(crate) fn data(id: u32, data: &[u8]) -> Bytes {
    packet(103, id, &text(data))
}

pub(crate) fn names(id: u32, names: &[(&[u8], Attributes)]) -> Bytes {
    let mut body = u32::try_from(names.len()).unwrap().to_be_bytes().to_vec();
    for (name, of) in names {
        body.extend(text(name));
        body.extend(text(b"-rw-r--r-- 1 x x 1 Jan 1 00:00 x"));
        body.extend(attributes(*of));
    }
    packet(104, id, &body)
}

pub(crate) fn attributes_reply(id: u32, of: Attributes) -> Bytes {
    packet(105, id, &attributes(of))
}

fn attributes(of: Attributes) -> Vec<u8> {
    let flags = u32::from(of.bytes.is_some()) | u32::from(of.mode.is_some()) << 2 | u32::from(of.mtime.is_some()) << 3;
    let mut bytes = BytesMut::new();
    bytes.put_u32(flags);
    of.bytes.into_iter().for_each(|value| bytes.put_u64(value));
    of.mode.into_iter().for_each(|value| bytes.put_u32(value));
    if let Some(time) = of.mtime {
        bytes.put_u32(time);
        bytes.put_u32(time);
    }
    bytes.to_vec()
}
