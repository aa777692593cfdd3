//! The packets of SFTP version 3 (draft-ietf-secsh-filexfer-02) that are needed to list and read, for both sides: the client
//! of route `ssh` and the endpoint's server. A peer's packets are hostile input: their length is bounded before anything is
//! kept, and everything in them is checked.
//!
//! Why not the crate `russh-sftp` (read at 3.0.1):
//!  - its session owns the stream: it can be neither throttled nor counted, exposes neither the exit status nor the host's
//!    standard error, queues requests without a bound, and ends a host that is slow after a fixed time for each request;
//!  - a malformed packet is only logged, and each request merely fails with the session: a host that
//!    breaks the protocol and a broken connection look the same;
//!  - handles and names are text, decoded with loss: they can't be sent back to the host unchanged;
//!  - extended attributes are not skipped, status codes above 8 and a status without a message are errors.
//!
//! Its packet limit, pipelined reads and `limits@openssh.com` exist here, too; `statvfs`, `fsync` and its other extensions
//! are not needed, since nothing is written by SFTP.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The most that a host's packet may have: OpenSSH's own limit (256 KiB), and room for those that count without the header.
pub(crate) const MAX_REPLY: usize = (256 << 10) + 1024;
/// The longest name in a folder. Linux allows 255 bytes.
const MAX_NAME: usize = 4096;

/// The types of packets.
pub(crate) mod kind {
    pub(crate) const INIT: u8 = 1;
    pub(crate) const VERSION: u8 = 2;
    pub(crate) const OPEN: u8 = 3;
    pub(crate) const CLOSE: u8 = 4;
    pub(crate) const READ: u8 = 5;
    pub(crate) const LSTAT: u8 = 7;
    pub(crate) const FSTAT: u8 = 8;
    pub(crate) const OPENDIR: u8 = 11;
    pub(crate) const READDIR: u8 = 12;
    pub(crate) const REALPATH: u8 = 16;
    pub(crate) const STAT: u8 = 17;
    pub(crate) const STATUS: u8 = 101;
    pub(crate) const HANDLE: u8 = 102;
    pub(crate) const DATA: u8 = 103;
    pub(crate) const NAME: u8 = 104;
    pub(crate) const ATTRS: u8 = 105;
    pub(crate) const EXTENDED: u8 = 200;
    pub(crate) const EXTENDED_REPLY: u8 = 201;
}

/// The codes of a status.
pub(crate) mod code {
    pub(crate) const OK: u32 = 0;
    pub(crate) const EOF: u32 = 1;
    pub(crate) const NO_SUCH_FILE: u32 = 2;
    pub(crate) const DENIED: u32 = 3;
    pub(crate) const FAILURE: u32 = 4;
    pub(crate) const UNSUPPORTED: u32 = 8;
}

/// A packet that is being written.
pub(crate) struct PacketBuilder(BytesMut);

impl PacketBuilder {
    /// A packet of this type; `number` is the request's number, or the version in `INIT` and `VERSION`.
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

    /// The time of last change also stands for that of last use.
    pub(crate) fn attributes(self, attributes: &Attributes) -> Self {
        let flag = |is_there, flag| if is_there { flag } else { 0 };
        let Attributes { bytes, mode, mtime } = *attributes;
        let mut packet = self.u32(
            flag(bytes.is_some(), Attributes::SIZE)
                | flag(mode.is_some(), Attributes::MODE)
                | flag(mtime.is_some(), Attributes::TIMES),
        );
        if let Some(bytes) = bytes {
            packet = packet.u64(bytes);
        }
        if let Some(mode) = mode {
            packet = packet.u32(mode);
        }
        match mtime {
            Some(mtime) => packet.u32(mtime).u32(mtime),
            None => packet,
        }
    }

    pub(crate) fn finish(mut self) -> Bytes {
        let length = u32::try_from(self.0.len().saturating_sub(4)).unwrap_or(u32::MAX);
        if let Some(head) = self.0.first_chunk_mut::<4>() {
            *head = length.to_be_bytes();
        }
        self.0.freeze()
    }
}

/// A file's attributes. What a host leaves out is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) bytes: Option<u64>,
    pub(crate) mode: Option<u32>,
    /// Whole seconds since 1970.
    pub(crate) mtime: Option<u32>,
}

impl Attributes {
    const SIZE: u32 = 1;
    const OWNER: u32 = 2;
    const MODE: u32 = 4;
    const TIMES: u32 = 8;
    const EXTENDED: u32 = 1 << 31;
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
pub(crate) enum SftpReply {
    Version(u32),
    Status { code: u32, message: String },
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<(Bytes, Attributes)>),
    Attributes(Attributes),
}

/// A request, as a server parses it. Our paths and handles are text, so that others never match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SftpRequest {
    Init,
    Open {
        path: String,
        flags: u32,
    },
    Close {
        handle: String,
    },
    Read {
        handle: String,
        offset: u64,
        bytes: u32,
    },
    /// Also `LSTAT`.
    Stat {
        path: String,
    },
    Fstat {
        handle: String,
    },
    OpenFolder {
        path: String,
    },
    ReadFolder {
        handle: String,
    },
    RealPath {
        path: String,
    },
    Extended {
        name: String,
    },
    /// Any other type.
    Other,
}

/// A peer's data is not a valid SFTP packet.
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

/// Parses packets from a stream of bytes.
#[derive(Debug)]
pub(crate) struct PacketReader {
    /// Received and not yet parsed: less than one packet and one message of the channel.
    buffer: BytesMut,
    max: usize,
}

impl PacketReader {
    /// A reader of packets of at most `max` bytes.
    pub(crate) fn new(max: usize) -> Self {
        Self { buffer: BytesMut::new(), max }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole packet without its length; none while it is not here yet.
    fn next(&mut self) -> Result<Option<Bytes>, PacketError> {
        let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
        if !(5..=self.max).contains(&length) {
            return Err(PacketError::Length(length));
        }
        if self.buffer.len() < 4 + length {
            self.buffer.reserve(4 + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// The next reply with its number (none in `Version`).
    pub(crate) fn next_reply(&mut self) -> Result<Option<(u32, SftpReply)>, PacketError> {
        self.next()?.map(parse_reply).transpose()
    }

    /// The next request with its number (the version in `Init`).
    pub(crate) fn next_request(&mut self) -> Result<Option<(u32, SftpRequest)>, PacketError> {
        self.next()?.map(parse_request).transpose()
    }
}

fn parse_request(mut packet: Bytes) -> Result<(u32, SftpRequest), PacketError> {
    let kind = packet.try_get_u8().map_err(|_| PacketError::Cut)?;
    let number = u32_of(&mut packet)?;
    let text = |packet: &mut Bytes| text_of(packet).map(|text| String::from_utf8_lossy(&text).into_owned());
    let request = match kind {
        kind::OPEN => {
            let (path, flags) = (text(&mut packet)?, u32_of(&mut packet)?);
            attributes_of(&mut packet)?;
            SftpRequest::Open { path, flags }
        }
        kind::CLOSE => SftpRequest::Close { handle: text(&mut packet)? },
        kind::READ => {
            let handle = text(&mut packet)?;
            let offset = packet.try_get_u64().map_err(|_| PacketError::Cut)?;
            SftpRequest::Read { handle, offset, bytes: u32_of(&mut packet)? }
        }
        kind::STAT | kind::LSTAT => SftpRequest::Stat { path: text(&mut packet)? },
        kind::FSTAT => SftpRequest::Fstat { handle: text(&mut packet)? },
        kind::OPENDIR => SftpRequest::OpenFolder { path: text(&mut packet)? },
        kind::READDIR => SftpRequest::ReadFolder { handle: text(&mut packet)? },
        kind::REALPATH => SftpRequest::RealPath { path: text(&mut packet)? },
        // The rest of these is ignored.
        kind::INIT => return Ok((number, SftpRequest::Init)),
        kind::EXTENDED => return Ok((number, SftpRequest::Extended { name: text(&mut packet)? })),
        _ => return Ok((number, SftpRequest::Other)),
    };
    if packet.is_empty() { Ok((number, request)) } else { Err(PacketError::Cut) }
}

fn parse_reply(mut packet: Bytes) -> Result<(u32, SftpReply), PacketError> {
    let kind = packet.try_get_u8().map_err(|_| PacketError::Cut)?;
    let number = u32_of(&mut packet)?;
    let reply = match kind {
        // Extensions follow; none is used.
        kind::VERSION => return Ok((0, SftpReply::Version(number))),
        kind::STATUS => {
            let code = u32_of(&mut packet)?;
            // Some servers leave the message out.
            let message = if packet.is_empty() { Bytes::new() } else { text_of(&mut packet)? };
            let message = crate::sanitize::clean(&String::from_utf8_lossy(&message));
            return Ok((number, SftpReply::Status { code, message }));
        }
        kind::HANDLE => SftpReply::Handle(text_of(&mut packet)?),
        kind::DATA => SftpReply::Data(text_of(&mut packet)?),
        kind::NAME => {
            let count = usize::try_from(u32_of(&mut packet)?).unwrap_or(usize::MAX);
            // Each has a name, a long name and flags: no more than fit are made room for.
            let mut names = Vec::with_capacity(count.min(packet.len() / 12));
            for _ in 0..count {
                let name = text_of(&mut packet)?;
                let _long_name = text_of(&mut packet)?;
                let attributes = attributes_of(&mut packet)?;
                names.push((name, attributes));
            }
            SftpReply::Names(names)
        }
        kind::ATTRS => SftpReply::Attributes(attributes_of(&mut packet)?),
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
    let flags = u32_of(packet)?;
    let mut attributes = Attributes::default();
    if flags & Attributes::SIZE != 0 {
        let bytes = packet.try_get_u64().map_err(|_| PacketError::Cut)?;
        if i64::try_from(bytes).is_err() {
            return Err(PacketError::Bytes(bytes));
        }
        attributes.bytes = Some(bytes);
    }
    if flags & Attributes::OWNER != 0 {
        u32_of(packet)?;
        u32_of(packet)?;
    }
    if flags & Attributes::MODE != 0 {
        attributes.mode = Some(u32_of(packet)?);
    }
    if flags & Attributes::TIMES != 0 {
        u32_of(packet)?;
        attributes.mtime = Some(u32_of(packet)?);
    }
    if flags & Attributes::EXTENDED != 0 {
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
        let mut bytes = PacketBuilder::new(kind, number).finish().to_vec();
        bytes.extend_from_slice(rest);
        let length = u32::try_from(bytes.len() - 4).unwrap();
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Option<(u32, SftpReply)>, PacketError> {
        let mut reader = PacketReader::new(MAX_REPLY);
        reader.push(bytes);
        reader.next_reply()
    }

    #[test]
    fn replies_are_parsed() {
        assert_eq!(read(&packet(2, 3, b"\0\0\0\x01x\0\0\0\x01y")), Ok(Some((0, SftpReply::Version(3)))));
        let status = SftpReply::Status { code: 2, message: "no file".to_owned() };
        assert_eq!(read(&packet(101, 9, b"\0\0\0\x02\0\0\0\x08no\nfile\n\0\0\0\0")), Ok(Some((9, status))));
        assert_eq!(read(&packet(103, 9, b"\0\0\0\x02ab")), Ok(Some((9, SftpReply::Data(Bytes::from_static(b"ab"))))));
        let attributes = Attributes { bytes: Some(5), mode: Some(0o100_644), mtime: Some(7) };
        let written = b"\0\0\0\x0f\0\0\0\0\0\0\0\x05\0\0\0\x01\0\0\0\x02\0\0\x81\xa4\0\0\0\x06\0\0\0\x07";
        assert_eq!(read(&packet(105, 9, written)), Ok(Some((9, SftpReply::Attributes(attributes)))));
        assert!(attributes.is_file() && !attributes.is_folder());
        let mut names = b"\0\0\0\x01\0\0\0\x01a\0\0\0\0".to_vec();
        names.extend_from_slice(written);
        let expected = SftpReply::Names(vec![(Bytes::from_static(b"a"), attributes)]);
        assert_eq!(read(&packet(104, 9, &names)), Ok(Some((9, expected))));
    }

    #[test]
    fn invalid_packets_are_refused() {
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

    #[test]
    fn requests_are_parsed_and_truncated_ones_refused() {
        let read = |bytes: &[u8]| {
            let mut reader = PacketReader::new(100);
            reader.push(bytes);
            reader.next_request()
        };
        let attributes = Attributes { bytes: Some(5), mode: None, mtime: Some(7) };
        let open = PacketBuilder::new(kind::OPEN, 9).text(b"/a").u32(1).attributes(&attributes).finish();
        assert_eq!(read(&open), Ok(Some((9, SftpRequest::Open { path: "/a".to_owned(), flags: 1 }))));
        let part = PacketBuilder::new(kind::READ, 9).text(b"1").u64(7).u32(5).finish();
        assert_eq!(read(&part), Ok(Some((9, SftpRequest::Read { handle: "1".to_owned(), offset: 7, bytes: 5 }))));
        assert_eq!(read(&PacketBuilder::new(kind::INIT, 3).text(b"x").finish()), Ok(Some((3, SftpRequest::Init))));
        assert_eq!(read(&PacketBuilder::new(6, 9).text(b"1").finish()), Ok(Some((9, SftpRequest::Other))));
        assert_eq!(read(&packet(kind::STAT, 9, b"\0\0\0\x09/a")), Err(PacketError::Cut));
        assert_eq!(read(&packet(kind::CLOSE, 9, b"\0\0\0\x01abc")), Err(PacketError::Cut));
        assert_eq!(read(b"\0\0\0\x65"), Err(PacketError::Length(101)), "before anything is kept");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), kind in 101u8..106) {
            let _ = read(&packet(kind, 1, &bytes));
            let mut reader = PacketReader::new(MAX_REPLY);
            reader.push(&bytes);
            while let Ok(Some(_)) = reader.next_reply() {}
            let mut reader = PacketReader::new(2000);
            reader.push(&packet(kind - 100, 1, &bytes));
            let _ = reader.next_request();
        }

        #[test]
        fn packets_survive_any_split_of_the_stream(sizes in prop::collection::vec(0usize..300, 1..10), cut in 1usize..50) {
            let sent: Vec<u8> = sizes.iter().flat_map(|size| {
                let mut data = u32::try_from(*size).unwrap().to_be_bytes().to_vec();
                data.resize(4 + size, 7);
                packet(103, 1, &data)
            }).collect();
            let mut reader = PacketReader::new(MAX_REPLY);
            let mut got = Vec::new();
            for piece in sent.chunks(cut) {
                reader.push(piece);
                while let Some((_, SftpReply::Data(data))) = reader.next_reply().unwrap() { got.push(data.len()); }
            }
            prop_assert_eq!(got, sizes);
        }
    }
}
