//! The attributes of a record of the master file table.

use crate::content::bytes::{size_at, u16_at, u32_at, u64_at};

/// The kinds that are read, as their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum AttributeKind {
    List = 0x20,
    VolumeName = 0x60,
    VolumeInformation = 0x70,
    Data = 0x80,
    IndexRoot = 0x90,
    IndexAllocation = 0xa0,
    Bitmap = 0xb0,
}

const END: u32 = 0xffff_ffff;

/// One attribute: its bytes from its header on.
#[derive(Clone, Copy)]
pub(super) struct Attribute<'r>(&'r [u8]);

impl<'r> Attribute<'r> {
    pub(super) fn is(&self, kind: AttributeKind, name: &str) -> bool {
        let length = usize::from(self.0.get(9).copied().unwrap_or_default());
        let own = self.0.get(usize::from(u16_at(self.0, 10))..).and_then(|rest| rest.get(..2 * length));
        u32_at(self.0, 0) == kind as u32 && own.is_some_and(|own| super::utf16(own) == name)
    }

    fn is_resident(&self) -> bool {
        self.0.get(8) == Some(&0)
    }

    /// Its value, where it is in the record.
    pub(super) fn resident(&self) -> Option<&'r [u8]> {
        let rest = self.0.get(usize::from(u16_at(self.0, 20))..)?;
        rest.get(..size_at(self.0, 16)).filter(|_| self.is_resident())
    }

    /// The first cluster of the value that this part of it holds.
    pub(super) fn start(&self) -> u64 {
        if self.is_resident() { 0 } else { u64_at(self.0, 16) }
    }

    /// The length of the whole value, in bytes; the first part says it.
    pub(super) fn bytes(&self) -> u64 {
        u64_at(self.0, 48)
    }

    /// The mapping pairs that say where the value lies.
    pub(super) fn pairs(&self) -> Option<&'r [u8]> {
        self.0.get(usize::from(u16_at(self.0, 32))..).filter(|_| !self.is_resident())
    }
}

/// The attributes of a record, from an offset on.
pub(super) fn list(record: &[u8], mut at: usize) -> Result<Vec<Attribute<'_>>, &'static str> {
    let mut attributes = Vec::new();
    loop {
        let Some(rest) = record.get(at..).filter(|rest| rest.len() >= 4) else {
            return Err("its attributes have no end");
        };
        if u32_at(rest, 0) == END {
            return Ok(attributes);
        }
        let length = size_at(rest, 4);
        let Some(own) = rest.get(..length).filter(|own| own.len() >= 24) else {
            return Err("one of its attributes is longer or shorter than it can be");
        };
        attributes.push(Attribute(own));
        at += length;
    }
}

/// What an attribute list says of one attribute: the cluster that each part begins with, and the record it is in.
pub(super) fn listed(list: &[u8], kind: AttributeKind, name: &str) -> Vec<(u64, u64)> {
    let (mut parts, mut rest) = (Vec::new(), list);
    while rest.len() >= 26 {
        let length = usize::from(u16_at(rest, 4));
        let Some((entry, later)) = rest.split_at_checked(length).filter(|(entry, _)| entry.len() >= 26) else { break };
        let (letters, from) = (entry.get(6).copied().unwrap_or_default(), entry.get(7).copied().unwrap_or_default());
        let own = entry.get(usize::from(from)..).and_then(|rest| rest.get(..2 * usize::from(letters)));
        if u32_at(entry, 0) == kind as u32 && own.is_some_and(|own| super::utf16(own) == name) {
            parts.push((u64_at(entry, 8), u64_at(entry, 16) & 0xffff_ffff_ffff));
        }
        rest = later;
    }
    parts
}
