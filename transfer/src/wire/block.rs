//! The payloads of the block subsystem.
//!
//! A DATA payload is: block index (8 bytes), codec (1), zero (1), mask (2), digest (32), raw length (4), all
//! little-endian, and then the segments. The mask has a bit for each 64 KiB segment of the block, set where the segment
//! is sent; the others are zero. The segments that are sent follow each other, as they are or as one zstd frame.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stackferry_volume::HoleMapSource;
use stackferry_volume::block::{BLOCK_BYTES, BlockIndex, BlockMap, BlockState, Digest, WIRE_ZERO_BYTES, is_zero};

use super::frame::{DATA_HEADER_BYTES, FrameKind, HEADER_BYTES, MAX_KNOWN_BYTES, header};

/// The most blocks of one file whose digests are compared: 32 MiB of digests, 1 TiB of data. The rest of a larger file is
/// sent without comparison.
pub const MAX_COMPARED: u64 = 1 << 20;

/// How a block's bytes are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Uncompressed.
    None,
    /// zstd, level 1.
    Zstd,
}

/// OPEN: the client's protocol and codecs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRequest {
    /// The newest protocol version that the client supports.
    pub protocol: u32,
    /// The codecs that it decodes.
    pub codecs: Vec<Codec>,
}

/// OPENED: what the file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenResponse {
    /// The protocol version used from here on.
    pub protocol: u32,
    /// The file's length in bytes.
    pub bytes: u64,
    /// Its time of last change.
    pub mtime: jiff::Timestamp,
    /// The source of its hole map.
    pub hole_map: HoleMapSource,
}

/// END: all blocks were covered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Bytes read from the file.
    pub read: u64,
    /// The file's length in bytes, now.
    pub bytes: u64,
    /// Its time of last change, now.
    pub mtime: jiff::Timestamp,
    /// DATA frames sent.
    pub data_frames: u64,
}

/// ERROR, and the `error` of a control response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorPayload {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

/// A run of blocks, as in ZERO and SAME payloads: first block and count, 8 bytes each.
#[must_use]
pub fn run_payload(first: BlockIndex, count: u64) -> [u8; 16] {
    let mut payload = [0; 16];
    let (one, two) = payload.split_at_mut(8);
    one.copy_from_slice(&first.0.to_le_bytes());
    two.copy_from_slice(&count.to_le_bytes());
    payload
}

/// Parses a run of blocks; none if the payload is not one.
#[must_use]
pub fn read_run(payload: &[u8]) -> Option<(BlockIndex, u64)> {
    let (first, count) = payload.split_first_chunk::<8>()?;
    let count: [u8; 8] = count.try_into().ok()?;
    Some((BlockIndex(u64::from_le_bytes(*first)), u64::from_le_bytes(count)))
}

pub(crate) const SKIP: u8 = 0;
pub(crate) const COMPARE: u8 = 1;

/// The KNOWN payloads for a client's blocks: the server skips blocks in `done` and compares blocks that are data in
/// `base`. Entries are a byte 0, first block and count (8 bytes each), or a byte 1, the block (8 bytes) and
/// its digest (32 bytes), in ascending order.
pub fn known_payloads(done: &BlockMap, base: Option<&BlockMap>) -> impl Iterator<Item = Vec<u8>> {
    let mut entries: Vec<Vec<u8>> = vec![Vec::new()];
    let mut compared = 0;
    let mut add = |bytes: &[u8]| {
        if entries.last().is_none_or(|last| last.len() + bytes.len() > MAX_KNOWN_BYTES) {
            entries.push(Vec::new());
        }
        if let Some(last) = entries.last_mut() {
            last.extend_from_slice(bytes);
        }
    };
    let mut skip: Option<(u64, u64)> = None;
    for block in 0..done.blocks() {
        if done.get(BlockIndex(block)) != BlockState::Unknown {
            skip = Some(skip.map_or((block, 1), |(first, count)| (first, count + 1)));
            continue;
        }
        if let Some((first, count)) = skip.take() {
            add(&skip_entry(first, count));
        }
        if compared < MAX_COMPARED
            && let Some(BlockState::Data(digest)) = base.map(|base| base.get(BlockIndex(block)))
        {
            compared += 1;
            let mut entry = Vec::with_capacity(41);
            entry.push(COMPARE);
            entry.extend_from_slice(&block.to_le_bytes());
            entry.extend_from_slice(digest.as_bytes());
            add(&entry);
        }
    }
    if let Some((first, count)) = skip {
        add(&skip_entry(first, count));
    }
    entries.into_iter().filter(|payload| !payload.is_empty())
}

fn skip_entry(first: u64, count: u64) -> Vec<u8> {
    let mut entry = vec![SKIP];
    entry.extend_from_slice(&run_payload(BlockIndex(first), count));
    entry
}

/// The blocks that a client has, as it told the server.
#[derive(Debug, Clone)]
pub struct KnownBlocks {
    /// Blocks to skip.
    pub done: BlockMap,
    /// Blocks to send only where they differ.
    pub base: BlockMap,
    next: u64,
    compared: u64,
}

impl KnownBlocks {
    /// No known blocks yet, of a file of `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self { done: BlockMap::new(bytes), base: BlockMap::new(bytes), next: 0, compared: 0 }
    }

    /// Parses one KNOWN payload. None where it is malformed, out of order, beyond the file's end, or too much.
    #[must_use]
    pub fn read(&mut self, mut payload: &[u8]) -> Option<()> {
        while let Some((kind, rest)) = payload.split_first() {
            match *kind {
                SKIP => {
                    let (run, rest) = rest.split_at_checked(16)?;
                    let (first, count) = read_run(run)?;
                    let end = first.0.checked_add(count)?;
                    if first.0 < self.next || count == 0 || end > self.done.blocks() {
                        return None;
                    }
                    self.done.set_zero(first, count);
                    self.next = end;
                    payload = rest;
                }
                COMPARE => {
                    let (block, rest) = rest.split_first_chunk::<8>()?;
                    let (digest, rest) = rest.split_first_chunk::<32>()?;
                    let block = u64::from_le_bytes(*block);
                    self.compared += 1;
                    if block < self.next || block >= self.base.blocks() || self.compared > MAX_COMPARED {
                        return None;
                    }
                    self.base.set(BlockIndex(block), BlockState::Data(Digest::from(*digest)));
                    self.next = block + 1;
                    payload = rest;
                }
                _ => return None,
            }
        }
        Some(())
    }
}

/// Encodes a block that is not all zero as a DATA frame in `frame`, whose capacity is reused. With `zstd` the segments are
/// compressed where that makes them shorter.
pub fn encode_data(
    block: BlockIndex,
    bytes: &[u8],
    digest: &Digest,
    zstd: Option<&mut Packer>,
    frame: &mut Vec<u8>,
) -> Codec {
    frame.clear();
    frame.resize(HEADER_BYTES + DATA_HEADER_BYTES, 0);
    let mut mask = 0u16;
    for (at, segment) in bytes.chunks(WIRE_ZERO_BYTES).enumerate() {
        if !is_zero(segment) {
            mask |= 1 << at;
            frame.extend_from_slice(segment);
        }
    }
    let raw = frame.len() - HEADER_BYTES - DATA_HEADER_BYTES;
    let codec = zstd.map_or(Codec::None, |packer| packer.pack(frame));
    let payload = frame.len() - HEADER_BYTES;
    let mut head = Vec::with_capacity(HEADER_BYTES + DATA_HEADER_BYTES);
    head.extend_from_slice(&header(FrameKind::Data, payload));
    head.extend_from_slice(&block.0.to_le_bytes());
    head.push(u8::from(codec == Codec::Zstd));
    head.push(0);
    head.extend_from_slice(&mask.to_le_bytes());
    head.extend_from_slice(digest.as_bytes());
    head.extend_from_slice(&u32::try_from(raw).unwrap_or(u32::MAX).to_le_bytes());
    if let Some(place) = frame.get_mut(..head.len()) {
        place.copy_from_slice(&head);
    }
    codec
}

/// Compresses with reused buffers and tables.
pub struct Packer {
    context: zstd::bulk::Compressor<'static>,
    packed: Vec<u8>,
}

impl Packer {
    /// A compressor of zstd level 1.
    ///
    /// # Errors
    /// No memory.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { context: zstd::bulk::Compressor::new(1)?, packed: Vec::with_capacity(1 << 20) })
    }

    /// Compresses what follows the headers in `frame`, if that saves at least a sixteenth.
    fn pack(&mut self, frame: &mut Vec<u8>) -> Codec {
        let start = HEADER_BYTES + DATA_HEADER_BYTES;
        let raw = frame.get(start..).unwrap_or_default();
        self.packed.clear();
        self.packed.reserve(raw.len());
        let most = raw.len() - raw.len() / 16;
        match self.context.compress_to_buffer(raw, &mut self.packed) {
            Ok(packed) if packed < most => {
                frame.truncate(start);
                frame.extend_from_slice(&self.packed);
                Codec::Zstd
            }
            // The result is not shorter than the raw bytes: the data does not compress.
            _ => Codec::None,
        }
    }
}

/// A DATA payload, parsed but not verified.
#[derive(Debug, Clone)]
pub struct DataFrame {
    /// Which block.
    pub block: BlockIndex,
    /// The digest that its bytes must match.
    pub digest: Digest,
    codec: Codec,
    mask: u16,
    raw: usize,
    body: Bytes,
}

/// Why a DATA payload is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// Shorter than its own header.
    #[error("a data frame is too short")]
    Short,
    /// An unknown codec.
    #[error("a data frame has an unknown codec")]
    Codec,
    /// Mask, lengths and the block's place in the file contradict each other.
    #[error("a data frame's lengths contradict each other")]
    Lengths,
    /// The compressed bytes are damaged, or have another length than announced.
    #[error("a data frame can't be decompressed")]
    Packed,
    /// The bytes do not match the digest.
    #[error("a block does not match its digest")]
    Digest,
}

impl DataFrame {
    /// Parses a payload.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn parse(payload: &Bytes) -> Result<Self, DataError> {
        let (block, rest) = payload.split_first_chunk::<8>().ok_or(DataError::Short)?;
        let ([codec, zero], rest) = rest.split_first_chunk::<2>().ok_or(DataError::Short)?;
        let (mask, rest) = rest.split_first_chunk::<2>().ok_or(DataError::Short)?;
        let (digest, rest) = rest.split_first_chunk::<32>().ok_or(DataError::Short)?;
        let (raw, body) = rest.split_first_chunk::<4>().ok_or(DataError::Short)?;
        let codec = match (codec, zero) {
            (0, 0) => Codec::None,
            (1, 0) => Codec::Zstd,
            _ => return Err(DataError::Codec),
        };
        Ok(Self {
            block: BlockIndex(u64::from_le_bytes(*block)),
            digest: Digest::from(*digest),
            codec,
            mask: u16::from_le_bytes(*mask),
            raw: usize::try_from(u32::from_le_bytes(*raw)).map_err(|_| DataError::Lengths)?,
            body: payload.slice_ref(body),
        })
    }

    /// Decodes the block into `block`, which has the block's length in its file, and checks it against the digest.
    /// `scratch` is a buffer for decompression.
    ///
    /// # Errors
    /// See [`DataError`]; `block` holds nothing useful then.
    pub fn unpack(
        &self,
        unpacker: &mut zstd::bulk::Decompressor<'_>,
        scratch: &mut Vec<u8>,
        block: &mut [u8],
    ) -> Result<(), DataError> {
        let segments = block.chunks(WIRE_ZERO_BYTES).enumerate();
        let expected: usize =
            segments.filter(|(at, _)| self.mask >> at & 1 == 1).map(|(_, segment)| segment.len()).sum();
        let count = block.len().div_ceil(WIRE_ZERO_BYTES);
        let beyond = count < 16 && self.mask >> count != 0;
        if expected != self.raw || expected == 0 || beyond {
            return Err(DataError::Lengths);
        }
        let mut sent: &[u8] = match self.codec {
            Codec::None => &self.body,
            Codec::Zstd => {
                scratch.clear();
                scratch.reserve(self.raw);
                let most = scratch.capacity();
                // The capacity bounds a decompression bomb; it is at most one block and the allocator's rounding.
                let got = unpacker.decompress_to_buffer(&self.body, scratch).map_err(|_| DataError::Packed)?;
                if got > most {
                    return Err(DataError::Packed);
                }
                scratch
            }
        };
        if sent.len() != self.raw {
            return Err(if self.codec == Codec::Zstd { DataError::Packed } else { DataError::Lengths });
        }
        for (at, segment) in block.chunks_mut(WIRE_ZERO_BYTES).enumerate() {
            if self.mask >> at & 1 == 1 {
                let (own, rest) = sent.split_at_checked(segment.len()).ok_or(DataError::Lengths)?;
                segment.copy_from_slice(own);
                sent = rest;
            } else {
                segment.fill(0);
            }
        }
        if Digest::of(block) == self.digest { Ok(()) } else { Err(DataError::Digest) }
    }
}

/// The longest DATA frame, header included, in bytes.
pub const MAX_DATA_FRAME: usize = HEADER_BYTES + DATA_HEADER_BYTES + 1048576;
const _: () = assert!(BLOCK_BYTES == 1048576);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(bytes: &[u8], zstd: bool) -> Bytes {
        let mut frame = Vec::new();
        let mut packer = Packer::new().unwrap();
        encode_data(BlockIndex(7), bytes, &Digest::of(bytes), zstd.then_some(&mut packer), &mut frame);
        Bytes::from(frame).slice(HEADER_BYTES..)
    }

    fn unpack(payload: &Bytes, len: usize) -> Result<Vec<u8>, DataError> {
        let parsed = DataFrame::parse(payload)?;
        let mut block = vec![9; len];
        parsed.unpack(&mut zstd::bulk::Decompressor::new().unwrap(), &mut Vec::new(), &mut block)?;
        Ok(block)
    }

    #[test]
    fn zeros_are_left_out_and_compressible_data_is_compressed() {
        let mut bytes = vec![0u8; 1 << 20];
        bytes[70_000] = 1;
        assert_eq!(frame(&bytes, false).len(), DATA_HEADER_BYTES + WIRE_ZERO_BYTES);
        assert!(frame(&bytes, true).len() < 200);
        assert_eq!(unpack(&frame(&bytes, true), 1 << 20).unwrap(), bytes);
    }

    #[test]
    fn a_decompression_bomb_stops_at_the_size_of_a_block() {
        let bomb = zstd::bulk::compress(&vec![1u8; 64 << 20], 1).unwrap();
        let mut payload = frame(&[1; WIRE_ZERO_BYTES], false)[..DATA_HEADER_BYTES].to_vec();
        payload[8] = 1;
        payload.extend_from_slice(&bomb);
        assert_eq!(unpack(&Bytes::from(payload), WIRE_ZERO_BYTES), Err(DataError::Packed));
    }

    #[test]
    fn known_blocks_out_of_order_or_range_are_refused() {
        let entry = |kind: u8, block: u64| [vec![kind], block.to_le_bytes().to_vec(), vec![0; 32]].concat();
        let mut known = KnownBlocks::new(10 << 20);
        assert!(known.read(&entry(COMPARE, 3)).is_some());
        assert!(known.clone().read(&entry(COMPARE, 3)).is_none());
        assert!(known.clone().read(&entry(COMPARE, 10)).is_none());
        assert!(known.clone().read(&entry(9, 4)).is_none());
        assert!(known.clone().read(&entry(COMPARE, 4)[..30]).is_none());
        assert!(known.clone().read(&skip_entry(4, u64::MAX)).is_none());
        assert!(known.clone().read(&skip_entry(4, 7)).is_none());
        assert!(known.clone().read(&skip_entry(4, 6)).is_some());
    }

    proptest! {
        #[test]
        fn blocks_survive_encoding_and_decoding(
            len in 1usize..(1 << 20),
            set in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..30),
            zstd: bool,
        ) {
            let mut bytes = vec![0u8; len];
            for (at, value) in set { bytes[at.index(len)] = value; }
            prop_assert_eq!(unpack(&frame(&bytes, zstd), len).unwrap(), bytes);
        }

        #[test]
        fn a_damaged_frame_never_yields_a_wrong_block(at: prop::sample::Index, bit in 0u8..8, zstd: bool) {
            let bytes: Vec<u8> = (0..200_000u32).flat_map(|n| (n % 1000).to_le_bytes()).take(300_000).collect();
            let mut payload = frame(&bytes, zstd).to_vec();
            // The block's number is checked by the receiver, which knows what comes next.
            let at = 8 + at.index(payload.len() - 8);
            payload[at] ^= 1 << bit;
            if let Ok(block) = unpack(&Bytes::from(payload), bytes.len()) {
                // A bit that zstd does not look at may leave the bytes as they were.
                prop_assert_eq!(block, bytes);
            }
        }

        #[test]
        fn known_blocks_survive_encoding_and_parsing(done in prop::collection::btree_set(0u64..5000, 0..2000), base in prop::collection::btree_set(0u64..5000, 0..4000)) {
            let bytes = 5000 * BLOCK_BYTES;
            let (mut have, mut last) = (BlockMap::new(bytes), BlockMap::new(bytes));
            for block in &done { have.set(BlockIndex(*block), BlockState::Zero); }
            for block in &base { last.set(BlockIndex(*block), BlockState::Data(Digest::of(&block.to_le_bytes()))); }
            let mut known = KnownBlocks::new(bytes);
            for payload in known_payloads(&have, Some(&last)) {
                prop_assert!(payload.len() <= MAX_KNOWN_BYTES);
                prop_assert!(known.read(&payload).is_some());
            }
            for block in (0..5000).map(BlockIndex) {
                prop_assert_eq!(known.done.get(block), have.get(block));
                let expected = if done.contains(&block.0) { BlockState::Unknown } else { last.get(block) };
                prop_assert_eq!(known.base.get(block), expected);
            }
        }
    }
}
