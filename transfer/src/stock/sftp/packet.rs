//! The packets of SFTP version 3 (draft-ietf-secsh-filexfer-02) that are needed to look and to read. A host's packets
//! are hostile input: their length is bounded before anything is kept, and everything in them is checked.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The most that a packet may have: OpenSSH's own limit (256 KiB), and room for those that count without the header.
pub(crate) const MAX_PACKET: usize = (256 << 10) + 1024;
/// The longest name in a folder. Linux allows 255 bytes.
const MAX_NAME: usize = 4096;

/// A packet that we send.
pub(crate) struct Request(BytesMut);

impl Request {
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

    /// A packet of this type; `number` is the request's number, or the version in `INIT`.
    pub(crate) fn new(kind: u8, number: u32) -> Self {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_u32(0);
        bytes.put_u8(kind);
        bytes.put_u32(number);
        Self(bytes)
    }

    pub(crate) fn text(mut self, text: &[u8]) -> Self {
        self.0.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.put_slice(text);
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.put_u32(value);
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.put_u64(value);
        self
    }

    pub(crate) fn finish(mut self) -> Bytes {
        let length = u32::try_from(self.0.len().saturating_sub(4)).unwrap_or(u32::MAX);
        if let Some(head) = self.0.first_chunk_mut::<4>() {
            *head = length.to_be_bytes();
        }
        self.0.freeze()
    }
}

/// What a host tells of a file. What it does not tell is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) bytes: Option<u64>,
    pub(crate) mode: Option<u32>,
    /// Whole seconds since 1970.
    pub(crate) mtime: Option<u32>,
}

impl Attributes {
    const FORMAT: u32 = 0o170_000;

    pub(crate) fn is_file(&self) -> bool {
        self.mode.is_some_and(|mode| mode & Self::FORMAT == 0o100_000)
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.mode.is_some_and(|mode| mode & Self::FORMAT == 0o040_000)
    }
}

/// A packet that a host sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Version(u32),
    Status { code: u32, message: String },
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<(Bytes, Attributes)>),
    Attributes(Attributes),
}

impl Reply {
    pub(crate) const OK: u32 = 0;
    pub(crate) const EOF: u32 = 1;
    pub(crate) const NO_SUCH_FILE: u32 = 2;
    pub(crate) const DENIED: u32 = 3;
}

/// What a host sent is no packet of SFTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PacketError {
    #[error("an SFTP packet of {0} bytes")]
    Length(usize),
    #[error("an SFTP packet of unknown type {0}")]
    Kind(u8),
    #[error("an SFTP packet that is cut or has something behind its end")]
    Cut,
    #[error("a file of {0} bytes, which no system can have")]
    Bytes(u64),
    #[error("a name in a folder that is empty, too long, or has a slash or NUL in it")]
    Name,
}

/// Makes packets of a stream of bytes.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// Received and not yet taken: less than one packet and one message of the channel.
    buffer: BytesMut,
}

impl Inbox {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole packet with its number (none in `Version`); none while it is not here yet.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Reply)>, PacketError> {
        let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
        if !(5..=MAX_PACKET).contains(&length) {
            return Err(PacketError::Length(length));
        }
        if self.buffer.len() < 4 + length {
            self.buffer.reserve(4 + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(4);
        parse(self.buffer.split_to(length).freeze()).map(Some)
    }
}

fn parse(mut packet: Bytes) -> Result<(u32, Reply), PacketError> {
    let kind = packet.try_get_u8().map_err(|_| PacketError::Cut)?;
    let number = u32_of(&mut packet)?;
    let reply = match kind {
        // Extensions follow; none is used.
        2 => return Ok((0, Reply::Version(number))),
        101 => {
            let code = u32_of(&mut packet)?;
            // Some servers leave the words out.
            let message = if packet.is_empty() { Bytes::new() } else { text_of(&mut packet)? };
            let message = crate::words::clean(&String::from_utf8_lossy(&message));
            return Ok((number, Reply::Status { code, message }));
        }
        102 => Reply::Handle(text_of(&mut packet)?),
        103 => Reply::Data(text_of(&mut packet)?),
        104 => {
            let count = usize::try_from(u32_of(&mut packet)?).unwrap_or(usize::MAX);
            // Each has a name, a long name and flags: no more than fit are made room for.
            let mut names = Vec::with_capacity(count.min(packet.len() / 12));
            for _ in 0..count {
                let name = text_of(&mut packet)?;
                let _long_name = text_of(&mut packet)?;
                let attributes = attributes_of(&mut packet)?;
                names.push((name, attributes));
            }
            Reply::Names(names)
        }
        105 => Reply::Attributes(attributes_of(&mut packet)?),
        other => return Err(PacketError::Kind(other)),
    };
    if packet.is_empty() { Ok((number, reply)) } else { Err(PacketError::Cut) }
}

/// A name as an entry of a folder has it; none for the folder itself and its parent.
pub(crate) fn entry_name(name: &Bytes) -> Result<Option<&[u8]>, PacketError> {
    match name.as_ref() {
        b"." | b".." => Ok(None),
        name if name.is_empty() || name.len() > MAX_NAME || name.iter().any(|byte| matches!(byte, b'/' | 0)) => {
            Err(PacketError::Name)
        }
        name => Ok(Some(name)),
    }
}

fn u32_of(packet: &mut Bytes) -> Result<u32, PacketError> {
    packet.try_get_u32().map_err(|_| PacketError::Cut)
}

fn text_of(packet: &mut Bytes) -> Result<Bytes, PacketError> {
    let length = usize::try_from(u32_of(packet)?).unwrap_or(usize::MAX);
    if length > packet.len() {
        return Err(PacketError::Cut);
    }
    Ok(packet.split_to(length))
}

fn attributes_of(packet: &mut Bytes) -> Result<Attributes, PacketError> {
    const SIZE: u32 = 1;
    const OWNER: u32 = 2;
    const MODE: u32 = 4;
    const TIMES: u32 = 8;
    const EXTENDED: u32 = 1 << 31;
    let flags = u32_of(packet)?;
    let mut attributes = Attributes::default();
    if flags & SIZE != 0 {
        let bytes = packet.try_get_u64().map_err(|_| PacketError::Cut)?;
        if i64::try_from(bytes).is_err() {
            return Err(PacketError::Bytes(bytes));
        }
        attributes.bytes = Some(bytes);
    }
    if flags & OWNER != 0 {
        u32_of(packet)?;
        u32_of(packet)?;
    }
    if flags & MODE != 0 {
        attributes.mode = Some(u32_of(packet)?);
    }
    if flags & TIMES != 0 {
        u32_of(packet)?;
        attributes.mtime = Some(u32_of(packet)?);
    }
    if flags & EXTENDED != 0 {
        for _ in 0..u32_of(packet)? {
            text_of(packet)?;
            text_of(packet)?;
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(kind: u8, number: u32, rest: &[u8]) -> Vec<u8> {
        let mut bytes = Request::new(kind, number).finish().to_vec();
        bytes.extend_from_slice(rest);
        let length = u32::try_from(bytes.len() - 4).unwrap();
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Option<(u32, Reply)>, PacketError> {
        let mut inbox = Inbox::default();
        inbox.push(bytes);
        inbox.next()
    }

    #[test]
    fn replies_are_read() {
        assert_eq!(read(&packet(2, 3, b"\0\0\0\x01x\0\0\0\x01y")), Ok(Some((0, Reply::Version(3)))));
        let status = Reply::Status { code: 2, message: "no file".to_owned() };
        assert_eq!(read(&packet(101, 9, b"\0\0\0\x02\0\0\0\x08no\nfile\n\0\0\0\0")), Ok(Some((9, status))));
        assert_eq!(read(&packet(103, 9, b"\0\0\0\x02ab")), Ok(Some((9, Reply::Data(Bytes::from_static(b"ab"))))));
        let attributes = Attributes { bytes: Some(5), mode: Some(0o100_644), mtime: Some(7) };
        let written = b"\0\0\0\x0f\0\0\0\0\0\0\0\x05\0\0\0\x01\0\0\0\x02\0\0\x81\xa4\0\0\0\x06\0\0\0\x07";
        assert_eq!(read(&packet(105, 9, written)), Ok(Some((9, Reply::Attributes(attributes)))));
        assert!(attributes.is_file() && !attributes.is_folder());
        let mut names = b"\0\0\0\x01\0\0\0\x01a\0\0\0\0".to_vec();
        names.extend_from_slice(written);
        let expected = Reply::Names(vec![(Bytes::from_static(b"a"), attributes)]);
        assert_eq!(read(&packet(104, 9, &names)), Ok(Some((9, expected))));
    }

    #[test]
    fn lies_are_refused() {
        assert_eq!(read(b"\xff\xff\xff\xff"), Err(PacketError::Length(0xffff_ffff)), "before anything is kept");
        assert_eq!(read(b"\0\0\0\x01"), Err(PacketError::Length(1)));
        assert_eq!(read(&packet(77, 1, b"")), Err(PacketError::Kind(77)));
        assert_eq!(read(&packet(103, 1, b"\0\0\0\x09ab")), Err(PacketError::Cut));
        assert_eq!(read(&packet(103, 1, b"\0\0\0\x01ab")), Err(PacketError::Cut));
        assert_eq!(read(&packet(104, 1, b"\xff\xff\xff\xff")), Err(PacketError::Cut));
        assert_eq!(read(&packet(105, 1, b"\x80\0\0\0\xff\xff\xff\xff")), Err(PacketError::Cut));
        let endless = b"\0\0\0\x01\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(read(&packet(105, 1, endless)), Err(PacketError::Bytes(u64::MAX)));
        for bad in [&b""[..], b"a/b", b"../x", b"a\0b", &[b'x'; 4097]] {
            assert_eq!(entry_name(&Bytes::copy_from_slice(bad)), Err(PacketError::Name));
        }
        assert_eq!(entry_name(&Bytes::from_static(b"..")), Ok(None));
        assert_eq!(entry_name(&Bytes::from_static(b"..a\xff")), Ok(Some(&b"..a\xff"[..])));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), kind in 101u8..106) {
            let _ = read(&packet(kind, 1, &bytes));
            let mut inbox = Inbox::default();
            inbox.push(&bytes);
            while let Ok(Some(_)) = inbox.next() {}
        }

        #[test]
        fn packets_come_out_however_they_are_cut(sizes in prop::collection::vec(0usize..300, 1..10), cut in 1usize..50) {
            let sent: Vec<u8> = sizes.iter().flat_map(|size| {
                let mut data = u32::try_from(*size).unwrap().to_be_bytes().to_vec();
                data.resize(4 + size, 7);
                packet(103, 1, &data)
            }).collect();
            let mut inbox = Inbox::default();
            let mut got = Vec::new();
            for piece in sent.chunks(cut) {
                inbox.push(piece);
                while let Some((_, Reply::Data(data))) = inbox.next().unwrap() { got.push(data.len()); }
            }
            prop_assert_eq!(got, sizes);
        }
    }
}
