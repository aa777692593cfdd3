use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::*;
use crate::io::HoleMapSource;

/// A file in memory.
#[derive(Clone)]
struct Bytes(Arc<Vec<u8>>);

impl Source for Bytes {
    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }
    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        Ok(Some(from..self.bytes()))
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let from = self.0.get(start..start + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(from);
        Ok(())
    }
    fn hole_map(&self) -> HoleMapSource {
        HoleMapSource::None
    }
}

fn descriptor(extents: &str) -> Descriptor {
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"vmfs\"\n{extents}\n\
         ddb.adapterType = \"lsilogic\"\n"
    );
    Descriptor::parse(text.as_bytes(), &FileName::new("Office.vmdk").unwrap()).unwrap()
}

/// A disk of so many sectors in one file.
fn look_at(disk: Vec<u8>) -> Content {
    let described = descriptor(&format!("RW {} VMFS \"Office-flat.vmdk\"", disk.len() / 512));
    let file = Bytes(Arc::new(disk));
    inspect(&described, |_| Ok(file.clone())).unwrap()
}

fn with_table(sectors: usize, entries: &[(u8, u32, u32)]) -> Vec<u8> {
    let mut disk = vec![0; sectors * 512];
    for (at, (kind, start, count)) in entries.iter().enumerate() {
        let entry = &mut disk[446 + 16 * at..462 + 16 * at];
        entry[4] = *kind;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..16].copy_from_slice(&count.to_le_bytes());
    }
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

fn put(disk: &mut [u8], at: usize, bytes: &[u8]) {
    disk[at..at + bytes.len()].copy_from_slice(bytes);
}

/// What is found: the state's word and the sentence.
fn found(disk: Vec<u8>) -> String {
    let content = look_at(disk);
    format!("{}: {content}", content.state().as_str())
}

#[test]
fn what_has_no_known_file_system_is_not_recognised() {
    let noise = |at: usize| {
        let mut disk = vec![0; 64 * 512];
        disk[at] = 1;
        disk
    };
    let begins = |byte: u8| {
        let mut disk = with_table(64, &[(7, 8, 50)]);
        disk[8 * 512 + 1] = byte;
        disk
    };
    for (disk, why) in [
        (vec![0; 64 * 512], "no partition table: the disk begins with zeros"),
        (vec![0; 512], "no partition table: the disk begins with zeros"),
        (noise(100), "no partition table and no file system that is known here"),
        (with_table(64, &[]), "a partition table without partitions"),
    ] {
        assert_eq!(found(disk), format!("not_recognised: not recognised: {why}"));
    }
    for (disk, why) in [
        (with_table(64, &[(0x83, 8, 50)]), "a partition of type 0x83, which begins with zeros"),
        (begins(0), "a partition of Windows, which begins with zeros"),
        (begins(1), "a partition of Windows, which begins with no file system known here"),
    ] {
        assert_eq!(found(disk), format!("not_recognised: partition 1: not recognised: {why}"));
    }
}

#[test]
fn what_this_reader_does_not_know_is_not_looked_into() {
    for (at, name, shown) in [
        (3, &b"-FVE-FS-"[..], "BitLocker, not inspected: its content is encrypted"),
        (3, b"EXFAT   ", "exFAT, not inspected: this program reads NTFS only"),
        (3, b"ReFS\0", "ReFS, not inspected: this program reads NTFS only"),
        (0, b"XFSB", "XFS, not inspected: this program reads NTFS only"),
        (0, b"LUKS\xba\xbe", "LUKS, not inspected: its content is encrypted"),
        (1080, b"\x53\xef", "ext2, ext3 or ext4, not inspected: this program reads NTFS only"),
    ] {
        let mut disk = with_table(64, &[(0, 0, 0), (7, 8, 50)]);
        put(&mut disk, 8 * 512 + at, name);
        assert_eq!(found(disk), format!("not_looked_into: partition 2: {shown}"));
    }
    let sparse = inspect(&descriptor("RW 64 SESPARSE \"Office-sesparse.vmdk\""), |_| Ok(Bytes(Arc::default())));
    assert_eq!(sparse.unwrap().state(), ContentState::NotInspected);
}

#[test]
fn what_contradicts_itself_is_damaged() {
    assert_eq!(
        found(with_table(64, &[(7, 8, 57)])),
        "damaged: the partition table: partition 1 goes from sector 8 to 64; the disk has 64 sectors"
    );
    assert!(found(with_table(64, &[(7, 0, 8)])).contains("goes from sector 0"), "it would begin with the table itself");
    let mut disk = with_table(64, &[(7, 8, 50)]);
    put(&mut disk, 8 * 512 + 3, b"NTFS    ");
    assert!(found(disk).starts_with("damaged: partition 1: its NTFS can't be read: "));
}

#[test]
fn a_gpt_is_read_through_the_table_that_points_to_it() {
    let mut disk = with_table(200, &[(0xee, 1, 199)]);
    assert_eq!(found(disk.clone()), "damaged: the partition table: the first sector points to a GPT that is not there");
    put(&mut disk, 512, b"EFI PART");
    put(&mut disk, 512 + 72, &2u64.to_le_bytes());
    put(&mut disk, 512 + 80, &128u32.to_le_bytes());
    put(&mut disk, 512 + 84, &128u32.to_le_bytes());
    assert_eq!(found(disk.clone()), "not_recognised: not recognised: a partition table without partitions");
    let third = 2 * 512 + 2 * 128;
    put(&mut disk, third, &partition_type());
    put(&mut disk, third + 32, &64u64.to_le_bytes());
    put(&mut disk, third + 40, &150u64.to_le_bytes());
    put(&mut disk, 64 * 512 + 3, b"EXFAT   ");
    let exfat = "not_looked_into: partition 3: exFAT, not inspected: this program reads NTFS only";
    assert_eq!(found(disk.clone()), exfat);
    // Windows' reserved partition holds nothing, and is no reason for concern.
    let fourth = third + 128;
    put(
        &mut disk,
        fourth,
        &[0x16, 0xe3, 0xc9, 0xe3, 0x5c, 0x0b, 0xb8, 0x4d, 0x81, 0x7d, 0xf9, 0x2d, 0xf0, 2, 0x15, 0xae],
    );
    put(&mut disk, fourth + 32, &160u64.to_le_bytes());
    put(&mut disk, fourth + 40, &170u64.to_le_bytes());
    assert_eq!(found(disk.clone()), format!("{exfat}; partition 4: a reserved partition"));
    put(&mut disk, third + 40, &u64::MAX.to_le_bytes());
    assert!(found(disk.clone()).contains("partition 3 goes from sector 64 to 18446744073709551615"));
    put(&mut disk, 512 + 72, &u64::MAX.to_le_bytes());
    assert!(found(disk.clone()).contains("beyond the end of the disk"));
    put(&mut disk, 512 + 84, &256u32.to_le_bytes());
    assert!(found(disk).starts_with("not_looked_into: "), "entries may have 256 bytes");
}

fn partition_type() -> [u8; 16] {
    [0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99, 0xc7]
}

#[test]
fn a_disk_is_its_extents_one_after_the_other() {
    let whole = {
        let mut disk = with_table(64, &[(7, 31, 33)]);
        put(&mut disk, 31 * 512 + 3, b"EXFAT   ");
        disk
    };
    // The sector at the seam belongs to the second piece, which begins in the middle of its file.
    let described = descriptor("RW 31 FLAT \"a.vmdk\" 0\nRW 30 FLAT \"b.vmdk\" 2\nRW 3 ZERO");
    let one = Bytes(Arc::new(whole[..31 * 512].to_vec()));
    let two = Bytes(Arc::new([&[9; 1024], &whole[31 * 512..61 * 512]].concat()));
    let open = |name: &FileName| Ok(if name.as_str() == "a.vmdk" { one.clone() } else { two.clone() });
    assert_eq!(inspect(&described, open).unwrap().systems().collect::<Vec<_>>(), ["exFAT"]);

    let short = Bytes(Arc::new(vec![0; 31 * 512]));
    let found = inspect(&described, |_| Ok(short.clone())).unwrap();
    assert_eq!(found, Content::Damaged("b.vmdk: it has 15872 bytes; the disk needs 16384".to_owned()));
    let found = inspect(&described, |_| Err::<Bytes, _>(io::ErrorKind::NotFound.into())).unwrap();
    assert!(found.to_string().starts_with("a.vmdk: it can't be opened"), "{found}");
}

#[test]
fn a_file_system_that_is_gone_is_lost_and_a_new_one_is_not() {
    use ContentState::{Damaged, Healthy, NotInspected, NotRecognised};
    let record = |state, systems: &[&str]| ContentRecord {
        state,
        systems: systems.iter().map(|name| (*name).to_owned()).collect(),
        text: "as it was found".to_owned(),
    };
    let before = record(Healthy, &["NTFS"]);
    for (now, is_lost) in [
        (record(NotRecognised, &[]), true),
        (record(Damaged, &[]), true),
        (record(Damaged, &["NTFS"]), false),
        (record(NotInspected, &["BitLocker"]), false),
        (record(NotInspected, &[]), false),
        (record(Healthy, &["NTFS"]), false),
        (record(NotRecognised, &["NTFS"]), false),
    ] {
        assert_eq!(now.lost_since(&before).is_some(), is_lost, "{now:?}");
    }
    assert_eq!(record(NotRecognised, &[]).lost_since(&record(NotRecognised, &[])), None, "it never had one");
    let two = record(Healthy, &["FAT", "NTFS"]);
    let lost = record(NotRecognised, &["FAT"]).lost_since(&two);
    assert_eq!(lost.unwrap(), "it held FAT and NTFS and now is as it was found");
}

mod any {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is on the disk is told of, and never ends the program.
        #[test]
        fn content_is_survived(
            seed in prop::collection::vec(any::<u8>(), 512..4096),
            table in any::<bool>(),
            boot in prop::sample::select(vec![&b"NTFS    "[..], b"EXFAT   ", b"junk"]),
        ) {
            let mut disk = with_table(128, &[(7, 8, 100)]);
            if !table {
                disk[510] = 0;
            }
            put(&mut disk, 8 * 512, &seed);
            // A plausible geometry gets further than noise does.
            put(&mut disk, 8 * 512 + 3, boot);
            put(&mut disk, 8 * 512 + 11, &[0, 2, 8]);
            put(&mut disk, 8 * 512 + 40, &[90, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0xf6]);
            let text = found(disk);
            prop_assert!(!text.chars().any(char::is_control), "{text}");
        }
    }
}
