//! Frames: one byte of type, four bytes of length (little-endian), and as many bytes of payload.
//!
//! The reader accepts data in pieces of any size, and returns whole frames. It never holds more than one frame, and refuses
//! a length over its limit before it buffers the payload.

use bytes::{Buf, Bytes, BytesMut};

/// A frame's type and length, in bytes.
pub const HEADER_BYTES: usize = 5;
/// What stands before a block's bytes in a DATA payload.
pub const DATA_HEADER_BYTES: usize = 8 + 1 + 1 + 2 + 32 + 4;
/// The most bytes of a KNOWN payload.
pub const MAX_KNOWN_BYTES: usize = 64 << 10;

/// The kinds of frame. The numbers are those of `docs/protocol.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Client: its protocol and codecs. JSON.
    Open = 0x01,
    /// Client: blocks to skip, or to send only where they differ.
    Known = 0x02,
    /// Client: start sending.
    Go = 0x03,
    /// Client: the new file's attributes. JSON.
    New = 0x04,
    /// Client: all blocks of the new file were sent.
    Finish = 0x05,
    /// Client: rename the new file to its final name.
    Name = 0x06,
    /// Client: keep the new file.
    Keep = 0x07,
    /// Server: what the file is. JSON.
    Opened = 0x11,
    /// Server, or the client of a new file: blocks that are zero.
    Zero = 0x12,
    /// Server, or the client of a new file: a block's bytes.
    Data = 0x13,
    /// Server: blocks that equal what the client has.
    Same = 0x14,
    /// Server: all blocks were covered. JSON.
    End = 0x15,
    /// Server: the new file can be sent. JSON.
    Ready = 0x16,
    /// Server: the number of blocks of the new file that were written.
    Taken = 0x17,
    /// Server: FINISH, NAME or KEEP is done. JSON.
    Done = 0x18,
    /// Server: it can't continue. JSON.
    Error = 0x1f,
    /// Client: a request on the control subsystem. JSON.
    Request = 0x20,
    /// Server: the answer to one. JSON.
    Response = 0x21,
}

impl FrameKind {
    /// Every kind, in the order of their numbers.
    pub(crate) const ALL: [Self; 18] = [
        Self::Open,
        Self::Known,
        Self::Go,
        Self::New,
        Self::Finish,
        Self::Name,
        Self::Keep,
        Self::Opened,
        Self::Zero,
        Self::Data,
        Self::Same,
        Self::End,
        Self::Ready,
        Self::Taken,
        Self::Done,
        Self::Error,
        Self::Request,
        Self::Response,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// The most bytes of payload that a frame of this kind may have.
    #[must_use]
    pub fn limit(self) -> usize {
        match self {
            // A block and its header.
            FrameKind::Data => DATA_HEADER_BYTES + (1 << 20),
            FrameKind::Known => MAX_KNOWN_BYTES,
            FrameKind::Zero | FrameKind::Same => 16,
            FrameKind::Go | FrameKind::Finish | FrameKind::Name | FrameKind::Keep => 0,
            FrameKind::Taken => 8,
            // A thousand entries of a folder with the longest names.
            FrameKind::Response => 1 << 20,
            FrameKind::Request
            | FrameKind::Open
            | FrameKind::New
            | FrameKind::Opened
            | FrameKind::End
            | FrameKind::Ready
            | FrameKind::Done
            | FrameKind::Error => 64 << 10,
        }
    }
}

/// One whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: FrameKind,
    /// Its payload.
    pub payload: Bytes,
}

/// The header of a frame with a payload of so many bytes, at most the kind's limit.
#[must_use]
pub fn header(kind: FrameKind, payload: usize) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = u32::try_from(payload).unwrap_or(u32::MAX).to_le_bytes();
    [kind as u8, a, b, c, d]
}

/// A whole frame.
#[must_use]
pub fn encode(kind: FrameKind, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    frame.extend_from_slice(&header(kind, payload.len()));
    frame.extend_from_slice(payload);
    frame.freeze()
}

/// A frame of JSON.
///
/// # Errors
/// Only what can't be written as JSON.
pub fn encode_json(kind: FrameKind, value: &impl serde::Serialize) -> Result<Bytes, serde_json::Error> {
    Ok(encode(kind, &serde_json::to_vec(value)?))
}

/// A peer's data is not a valid frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No kind has this number.
    #[error("a frame of unknown type {0:#04x}")]
    Kind(u8),
    /// More payload than the kind allows.
    #[error("a frame of type {kind:?} with {bytes} bytes, where {most} are allowed")]
    TooLong {
        /// Its kind.
        kind: FrameKind,
        /// Its length.
        bytes: usize,
        /// The most allowed.
        most: usize,
    },
}

/// Parses frames from a stream of bytes.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// Received and not yet parsed: less than one frame and one packet.
    buffer: BytesMut,
}

impl FrameReader {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; none until it is complete.
    ///
    /// # Errors
    /// See [`FrameError`]; the stream can't be used after that.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some([kind, a, b, c, d]) = self.buffer.first_chunk::<HEADER_BYTES>().copied() else { return Ok(None) };
        let kind = FrameKind::from_byte(kind).ok_or(FrameError::Kind(kind))?;
        let bytes = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if bytes > kind.limit() {
            return Err(FrameError::TooLong { kind, bytes, most: kind.limit() });
        }
        if self.buffer.len() < HEADER_BYTES + bytes {
            self.buffer.reserve(HEADER_BYTES + bytes - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        Ok(Some(Frame { kind, payload: self.buffer.split_to(bytes).freeze() }))
    }

    /// Whether no partial frame is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_that_is_too_long_is_refused_at_its_header() {
        let mut reader = FrameReader::default();
        reader.push(&[FrameKind::Data as u8, 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(reader.next_frame(), Err(FrameError::TooLong { .. })));
        let mut reader = FrameReader::default();
        reader.push(&[0x77, 0, 0, 0, 0]);
        assert_eq!(reader.next_frame(), Err(FrameError::Kind(0x77)));
    }

    proptest! {
        #[test]
        fn frames_survive_any_split_of_the_stream(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            cut in 1usize..50,
        ) {
            let sent: Vec<_> = payloads.iter().flat_map(|payload| encode(FrameKind::Request, payload)).collect();
            let mut reader = FrameReader::default();
            let mut got = Vec::new();
            for piece in sent.chunks(cut) {
                reader.push(piece);
                while let Some(frame) = reader.next_frame().unwrap() { got.push(frame.payload.to_vec()); }
            }
            prop_assert_eq!(got, payloads);
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut reader = FrameReader::default();
            reader.push(&bytes);
            while let Ok(Some(_)) = reader.next_frame() {}
        }
    }
}
