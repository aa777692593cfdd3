//! The text descriptor of a VMDK, as ESXi and Workstation write it, and the little reading of one that the lab
//! needs. Not a parser for hostile input: that is what is under test elsewhere.
//!
//! Source of the format: VMware's "Virtual Disk Format 5.0" and descriptors seen on ESXi datastores.

use std::fs;
use std::path::{Path, PathBuf};

use super::content::RandomStream;
use crate::error::{IoContext, LabError};

/// A VMDK counts in sectors of this many bytes.
pub const SECTOR: u64 = 512;

/// One line of the extent description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentLine {
    /// Its length, in sectors.
    pub sectors: u64,
    /// `VMFS`, `FLAT`, `SPARSE`, …
    pub word: &'static str,
    /// The file's name, or an object's address.
    pub target: String,
    /// Where in the file it begins, in sectors; only `FLAT` lines have it.
    pub offset: Option<u64>,
}

/// A descriptor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescriptorSpec {
    /// The content id; a writer changes it whenever the content changes.
    pub cid: u32,
    /// The parent's content id, and its file name where there is one.
    pub parent: Option<(u32, String)>,
    /// `vmfs`, `monolithicFlat`, …
    pub create_type: &'static str,
    /// The extents, in order.
    pub extents: Vec<ExtentLine>,
    /// `ddb.adapterType`.
    pub adapter: &'static str,
    /// `ddb.thinProvisioned`.
    pub thin: bool,
    /// `ddb.uuid`.
    pub uuid: [u8; 16],
    /// The first 96 bits of `ddb.longContentID`; the CID is the rest.
    pub long_content_id: [u8; 12],
    /// `ddb.virtualHWVersion`.
    pub hardware: u32,
    /// Lines end with CR LF, as after a visit to a Windows editor.
    pub crlf: bool,
}

impl DescriptorSpec {
    /// A descriptor without extents whose ids come from a seed.
    #[must_use]
    pub fn new(create_type: &'static str, seed: u64, label: &str) -> Self {
        let mut stream = RandomStream::new(seed, label);
        let mut uuid = stream.bytes::<16>();
        // VMware's disks carry its old IEEE prefix.
        for (byte, fixed) in uuid.iter_mut().zip([0x60, 0x00, 0xc2, 0x90]) {
            *byte = fixed;
        }
        Self {
            cid: any_cid(&mut stream),
            parent: None,
            create_type,
            extents: Vec::new(),
            adapter: "lsilogic",
            thin: true,
            uuid,
            long_content_id: stream.bytes(),
            hardware: 13,
            crlf: false,
        }
    }

    /// With one more extent.
    #[must_use]
    pub fn extent(mut self, sectors: u64, word: &'static str, target: impl Into<String>, offset: Option<u64>) -> Self {
        self.extents.push(ExtentLine { sectors, word, target: target.into(), offset });
        self
    }

    /// The logical size, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.extents.iter().map(|extent| extent.sectors.saturating_mul(SECTOR)).fold(0, u64::saturating_add)
    }

    /// The text.
    #[must_use]
    pub fn render(&self) -> String {
        let (parent, hint) = match &self.parent {
            None => ("ffffffff".to_owned(), String::new()),
            Some((cid, file)) => (format!("{cid:08x}"), format!("parentFileNameHint=\"{file}\"\n")),
        };
        let mut text = format!(
            "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID={:08x}\nparentCID={parent}\n\
             isNativeSnapshot=\"no\"\ncreateType=\"{}\"\n{hint}\n# Extent description\n",
            self.cid, self.create_type
        );
        for extent in &self.extents {
            let offset = extent.offset.map(|sectors| format!(" {sectors}")).unwrap_or_default();
            text += &format!("RW {} {} \"{}\"{offset}\n", extent.sectors, extent.word, extent.target);
        }
        let sectors = self.bytes() / SECTOR;
        // ESXi's rule for disks of more than 1 GiB on an LSI adapter, and the one for smaller ones.
        let (heads, per_track) = if self.bytes() > 1 << 30 { (255, 63) } else { (64, 32) };
        text += &format!(
            "\n# The Disk Data Base \n#DDB\n\nddb.adapterType = \"{}\"\nddb.geometry.cylinders = \"{}\"\n\
             ddb.geometry.heads = \"{heads}\"\nddb.geometry.sectors = \"{per_track}\"\n\
             ddb.longContentID = \"{}{:08x}\"\n",
            self.adapter,
            sectors / (heads * per_track),
            hex(&self.long_content_id, ""),
            self.cid,
        );
        if self.thin {
            text += "ddb.thinProvisioned = \"1\"\n";
        }
        let (front, back) = self.uuid.split_at(8);
        text += &format!(
            "ddb.uuid = \"{}-{}\"\nddb.virtualHWVersion = \"{}\"\n",
            hex(front, " "),
            hex(back, " "),
            self.hardware
        );
        if self.crlf { text.replace('\n', "\r\n") } else { text }
    }
}

/// A CID that means something: `ffffffff` stands for "no parent", `fffffffe` for "never written".
pub(crate) fn any_cid(stream: &mut RandomStream) -> u32 {
    u32::from_le_bytes(stream.bytes()) & 0x7fff_ffff
}

fn hex(bytes: &[u8], between: &str) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(between)
}

/// Where a stretch of a disk lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentSpec {
    /// The file.
    pub path: PathBuf,
    /// Where the stretch begins in the file, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub bytes: u64,
}

/// The extents of a disk, named by its descriptor or by its only, flat, extent.
///
/// # Errors
/// The file can't be read, or is a descriptor with an extent that is no plain file.
pub fn extents_of(path: &Path) -> Result<Vec<ExtentSpec>, LabError> {
    use std::io::Read;
    let mut head = Vec::new();
    let mut file = fs::File::open(path).at("open", path)?;
    file.by_ref().take(64 << 10).read_to_end(&mut head).at("read", path)?;
    if !head.starts_with(b"# Disk DescriptorFile") {
        let bytes = file.metadata().at("inspect", path)?.len();
        return Ok(vec![ExtentSpec { path: path.to_owned(), offset: 0, bytes }]);
    }
    let bad = |why: &str| LabError::Content { path: path.to_owned(), why: why.to_owned() };
    let folder = path.parent().unwrap_or(Path::new("."));
    let text = String::from_utf8(head).map_err(|_| bad("the descriptor is not UTF-8"))?;
    let mut extents = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("RW ") || line.starts_with("RDONLY ")) {
        let mut quoted = line.split('"');
        let (front, name) = (quoted.next().unwrap_or_default(), quoted.next().unwrap_or_default());
        let words: Vec<&str> = front.split_whitespace().collect();
        let &[_, sectors, "VMFS" | "FLAT"] = words.as_slice() else {
            return Err(bad("an extent is neither VMFS nor FLAT"));
        };
        let offset = quoted.next().unwrap_or_default().trim();
        let number = |text: &str| text.parse::<u64>().map_err(|_| bad("an extent's number is none"));
        extents.push(ExtentSpec {
            path: folder.join(name),
            offset: if offset.is_empty() { 0 } else { number(offset)? * SECTOR },
            bytes: number(sectors)? * SECTOR,
        });
    }
    if extents.is_empty() { Err(bad("the descriptor names no extent")) } else { Ok(extents) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_matches_what_esxi_writes() {
        let mut descriptor =
            DescriptorSpec::new("vmfs", 1, "Office").extent(41_943_040, "VMFS", "Office-flat.vmdk", None);
        descriptor.cid = 0xab;
        descriptor.uuid = *b"\x60\0\xc2\x9b0123456789ab";
        descriptor.long_content_id = [0x11; 12];
        assert_eq!(
            descriptor.render(),
            r#"# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=000000ab
parentCID=ffffffff
isNativeSnapshot="no"
createType="vmfs"

# Extent description
RW 41943040 VMFS "Office-flat.vmdk"

# The Disk Data Base 
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "2610"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.longContentID = "111111111111111111111111000000ab"
ddb.thinProvisioned = "1"
ddb.uuid = "60 00 c2 9b 30 31 32 33-34 35 36 37 38 39 61 62"
ddb.virtualHWVersion = "13"
"#
        );
    }

    #[test]
    fn a_written_descriptor_parses_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.vmdk");
        for crlf in [false, true] {
            let mut descriptor = DescriptorSpec::new("monolithicFlat", 1, "a")
                .extent(100, "FLAT", "a-flat.vmdk", Some(8))
                .extent(50, "FLAT", "a b-flat.vmdk", Some(0));
            descriptor.crlf = crlf;
            fs::write(&path, descriptor.render()).unwrap();
            assert_eq!(
                extents_of(&path).unwrap(),
                [
                    ExtentSpec { path: folder.path().join("a-flat.vmdk"), offset: 4096, bytes: 51_200 },
                    ExtentSpec { path: folder.path().join("a b-flat.vmdk"), offset: 0, bytes: 25_600 },
                ]
            );
        }
    }
}
