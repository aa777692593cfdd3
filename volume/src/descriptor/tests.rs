use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::group::Names;

/// As ESXi 7 writes it for a thin disk.
pub(crate) const ESXI: &str = "\
# Disk DescriptorFile
version=1
encoding=\"UTF-8\"
CID=1a2B3c4d
parentCID=ffffffff
isNativeSnapshot=\"no\"
createType=\"vmfs\"

# Extent description
RW 41943040 VMFS \"Office-flat.vmdk\"

# The Disk Data Base
#DDB

ddb.adapterType = \"lsilogic\"
ddb.geometry.cylinders = \"2610\"
ddb.geometry.heads = \"255\"
ddb.geometry.sectors = \"63\"
ddb.longContentID = \"0e2d7eb36a06c7a8a9bf2d9a1a2b3c4d\"
ddb.thinProvisioned = \"1\"
ddb.uuid = \"60 00 C2 9e 8f 2b 4d 6a-11 22 33 44 55 66 77 88\"
ddb.virtualHWVersion = \"14\"
";

fn name(text: &str) -> FileName {
    FileName::new(text).unwrap()
}

fn parse(text: &[u8]) -> Result<Descriptor, DescriptorError> {
    Descriptor::parse(text, &name("Office.vmdk"))
}

fn entry(name: &str, bytes: u64) -> Entry {
    Entry {
        name: name.to_owned(),
        utf8: true,
        kind: EntryKind::File,
        bytes,
        allocated: None,
        mtime: Timestamp::UNIX_EPOCH,
        changed: None,
        inode: None,
    }
}

#[test]
fn what_esxi_writes_is_understood() {
    let disk = parse(ESXI.as_bytes()).unwrap();
    assert_eq!(disk.cid.as_deref(), Some("1a2b3c4d"));
    assert_eq!(disk.parent_cid.as_deref(), Some("ffffffff"));
    assert_eq!(disk.is_native_snapshot, Some(false));
    assert_eq!(disk.create_type, "vmfs");
    assert_eq!(disk.encoding.as_deref(), Some("UTF-8"));
    assert_eq!(disk.uuid().as_deref(), Some("6000c29e8f2b4d6a1122334455667788"));
    assert_eq!(disk.thin(), Some(true));
    assert_eq!(disk.logical_bytes(), 20 << 30);
    assert_eq!(disk.extent_files(), [&name("Office-flat.vmdk")]);
    assert_eq!(disk.protectable(), Ok(()));
    assert_eq!(disk.ddb.len(), 8);
}

#[test]
fn line_ends_marks_blanks_and_padding_do_not_matter() {
    let plain = parse(ESXI.as_bytes()).unwrap();
    let padded = [ESXI.as_bytes(), &[0; 512]].concat();
    let marked = ["\u{feff}\r\n\r\n# a comment\r\n", &ESXI.replace('\n', "\r\n")].concat();
    let capitals = ESXI.replace("# Disk DescriptorFile", "# DISK descriptorfile").replace("CID=", "cid = ");
    for text in [&padded[..], marked.as_bytes(), capitals.as_bytes()] {
        assert_eq!(parse(text).unwrap(), plain);
    }
}

fn check(disk: &Descriptor, entries: &[Entry]) -> Result<(), DescriptorError> {
    let names = Names::of(entries);
    disk.check_with(|name| names.find(name))
}

#[test]
fn several_extents_and_offsets_are_one_disk() {
    let text = "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n\
        RW 4192256 FLAT \"a-f001.vmdk\" 0\nRDONLY 100 ZERO\nNOACCESS 8 FLAT \"a-f002.vmdk\" 16\nRW 8 FLAT \"a-f002.vmdk\" 24\n";
    let disk = parse(text.as_bytes()).unwrap();
    assert_eq!(disk.protectable(), Ok(()));
    assert_eq!(disk.extents.len(), 4);
    assert_eq!(disk.logical_bytes(), (4_192_256 + 100 + 16) * 512);
    assert_eq!(disk.extent_files(), [&name("a-f001.vmdk"), &name("a-f002.vmdk")]);
    assert_eq!(disk.thin(), None);
    let good = [entry("a-f001.vmdk", 4_192_256 * 512), entry("a-f002.vmdk", 32 * 512 + 7)];
    check(&disk, &good).unwrap();
    let short = [good[0].clone(), entry("a-f002.vmdk", 32 * 512 - 1)];
    assert_eq!(check(&disk, &short).unwrap_err().code(), ReasonCode::BadDescriptor);
    assert_eq!(check(&disk, &good[..1]).unwrap_err().code(), ReasonCode::Missing);
}

#[test]
fn the_folder_must_hold_the_extents() {
    let disk = parse(ESXI.as_bytes()).unwrap();
    let flat = entry("Office-flat.vmdk", 20 << 30);
    check(&disk, std::slice::from_ref(&flat)).unwrap();
    let link = Entry { kind: EntryKind::Other, ..flat.clone() };
    let lossy = Entry { utf8: false, ..flat.clone() };
    let huge = Entry { bytes: MAX_FILE_BYTES + 1, ..flat.clone() };
    let short = Entry { bytes: 5, ..flat };
    let texts: Vec<String> = [vec![], vec![link], vec![lossy], vec![huge], vec![short]]
        .into_iter()
        .map(|entries| check(&disk, &entries).unwrap_err().to_string())
        .collect();
    insta::assert_snapshot!("folder", texts.join("\n"));
}

#[test]
fn text_in_another_encoding_is_decoded() {
    let text = |label: &str, extent: &[u8]| {
        let mut bytes = ESXI.replace("encoding=\"UTF-8\"", label).into_bytes();
        let at = bytes.windows(6).position(|found| found == b"Office").unwrap();
        bytes.splice(at..at + 6, extent.iter().copied());
        bytes
    };
    let file = |bytes: Vec<u8>| parse(&bytes).unwrap().extent_files()[0].to_string();
    assert_eq!(file(text("encoding=\"windows-1252\"", b"M\xfcller")), "Müller-flat.vmdk");
    assert_eq!(
        file(text("Encoding = Shift_JIS", b"\x83\x5c")),
        "ソ-flat.vmdk",
        "the second byte is a backslash in ASCII"
    );
    assert_eq!(file(text("encoding=\"UTF-8\"", "Müller".as_bytes())), "Müller-flat.vmdk");
    assert_eq!(file(text("", "Müller".as_bytes())), "Müller-flat.vmdk");
    assert_eq!(file(text("encoding=\"x-unheard-of\"", b"plain")), "plain-flat.vmdk");
    assert_eq!(file(text("encoding=\"GBK\"", b"\xc4\xe3")), "你-flat.vmdk");
    assert_eq!(file(text("encoding=\"cp936\"", b"\xc4\xe3")), "你-flat.vmdk");
    // An encoding that is not the text's, or is none: UTF-8, and else what any bytes are.
    for label in ["encoding=\"UTF-8\"", "", "encoding=\"x-unheard-of\"", "encoding=\"UTF-16LE\""] {
        assert_eq!(file(text(label, b"M\xfcller")), "Müller-flat.vmdk", "{label}");
    }
}

#[test]
fn what_is_no_descriptor_is_said_to_be_none() {
    let utf16: Vec<u8> = ESXI.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let utf16be: Vec<u8> = ESXI.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let with = |from: &str, to: &str| {
        assert!(ESXI.contains(from));
        ESXI.replacen(from, to, 1).into_bytes()
    };
    let flat = "RW 41943040 VMFS \"Office-flat.vmdk\"";
    let long = format!("RW 1 VMFS \"{}\"", "n".repeat(256));
    let cases: Vec<Vec<u8>> = vec![
        vec![],
        vec![0; 512],
        vec![b'#'; MAX_TEXT_BYTES + 1],
        utf16.clone(),
        [&[0xff, 0xfe][..], &utf16].concat(),
        utf16be,
        b"\x7fELF and so on".to_vec(),
        b"\n\n# only a comment\n".to_vec(),
        with("# Disk DescriptorFile\nversion=1\n", ""),
        with(flat, ""),
        with(flat, "RW VMFS \"Office-flat.vmdk\""),
        with(flat, "RW 0 VMFS \"Office-flat.vmdk\""),
        with(flat, "WR 1 VMFS \"Office-flat.vmdk\""),
        with(flat, "RW +1 VMFS \"Office-flat.vmdk\""),
        with(flat, "RW 18446744073709551616 VMFS \"Office-flat.vmdk\""),
        with(flat, "RW 1 VMFS \"Office-flat.vmdk"),
        with(flat, "RW 1 VMFS"),
        with(flat, "RW 1 \"Office-flat.vmdk\""),
        with(flat, "RWX 1 VMFS \"Office-flat.vmdk\""),
        with(flat, "RW 18446744073709551615 VMFS \"Office-flat.vmdk\" 1"),
        with(flat, "RW 1 VMFS \"Office-flat.vmdk\" 18446744073709551615"),
        with(flat, "RW 133143986176 ZERO\nRW 1 ZERO"),
        with(flat, "RW 8 VMFS \"a.vmdk\" 0\nRW 8 VMFS \"b.vmdk\" 0\nRW 8 VMFS \"a.vmdk\" 7"),
        with(flat, "RW 1 VMFS \"../Office-flat.vmdk\""),
        with(flat, "RW 1 VMFS \"/etc/shadow\""),
        with(flat, "RW 1 VMFS \"a\\b.vmdk\""),
        with(flat, "RW 1 VMFS \"..\""),
        with(flat, "RW 1 VMFS \"\""),
        with(flat, "RW 1 VMFS \"a\tb.vmdk\""),
        with(flat, &long),
        with(flat, "RW 1 VMFS \"Office.vmdk\""),
        with(flat, "RW 1 VMFS \"manifest.json\""),
    ];
    let texts: Vec<String> = cases
        .iter()
        .map(|case| {
            let error = parse(case).expect_err(&String::from_utf8_lossy(case));
            assert_eq!(error.code(), ReasonCode::BadDescriptor, "{error}");
            error.to_string()
        })
        .collect();
    insta::assert_snapshot!("flaws", texts.join("\n"));
}

#[test]
fn what_qemu_and_esxi_open_is_opened() {
    let with = |from: &str, to: &str| {
        assert!(ESXI.contains(from));
        ESXI.replacen(from, to, 1)
    };
    let flat = "RW 41943040 VMFS \"Office-flat.vmdk\"";
    let many: String = (0..=MAX_DDB_ENTRIES).map(|at| format!("ddb.k{at} = \"v\"\n")).collect();
    let dialects = [
        with("# Disk DescriptorFile", "#Disk DescriptorFile"),
        with("# Disk DescriptorFile", "#  disk   descriptorfile  "),
        with("# Disk DescriptorFile\n", ""),
        with("# Disk DescriptorFile\nversion=1\n", "# Disk DescriptorFile\n"),
        with("version=1", "version = 1"),
        with("version=1", "version=one"),
        with("CID=1a2B3c4d\n", ""),
        with("CID=1a2B3c4d", "CID=1a2b3c4d5"),
        with("parentCID=ffffffff", "parentCID=none"),
        with("CID=1a2B3c4d", "CID=1a2B3c4d\nCID=00000001"),
        with("createType=\"vmfs\"\n", ""),
        with("createType=\"vmfs\"", "createType=\"vmfs"),
        with("createType=\"vmfs\"", "createType=\"custom\""),
        with("createType=\"vmfs\"", "createType=\"2GbMaxExtentFlat\""),
        with("createType=\"vmfs\"", "createType=\"TWOGBMAXEXTENTFLAT\""),
        with("createType=\"vmfs\"", "create type=\"vmfs\""),
        with("createType=\"vmfs\"", "createType=\"vm\u{7f}fs\""),
        with("ddb.adapterType = \"lsilogic\"", "ddb.adapterType"),
        with("ddb.adapterType = \"lsilogic\"", "ddb.uuid = \"other\""),
        with("#DDB", "something that nobody knows\n\u{1}=\u{2}"),
        format!("{ESXI}{many}"),
        with(flat, "rw\t41943040\tvmfs \"Office-flat.vmdk\""),
        with(flat, "RW 41943040 FLAT \"Office-flat.vmdk\" 0 partitionUUID 1234"),
        with(flat, "RW 41943040 VMFS \"Office-flat.vmdk\" x"),
        with(flat, "RW 41943040 VMFS Office-flat.vmdk"),
        format!("{}\nRW 0 FLAT \"Other-flat.vmdk\"\n", ESXI),
        format!("{ESXI}\0RW 8 FLAT \"Rest-of-a-sector.vmdk\""),
        ESXI.replace('\n', "\r"),
        format!("\u{feff}{}", ESXI.replace('\n', "\r\n")),
    ];
    for text in dialects {
        let disk = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(disk.protectable(), Ok(()), "{text}");
        assert_eq!(disk.extent_files(), [&name("Office-flat.vmdk")], "{text}");
        assert_eq!(disk.logical_bytes(), 20 << 30, "{text}");
    }
    let parents = ["parentCID=ffffffff\nparentCID=1234abcd", "parentCID=1234abcd\nparentCID=ffffffff"];
    for parent in parents {
        assert!(parse(with("parentCID=ffffffff", parent).as_bytes()).unwrap().protectable().is_err(), "{parent}");
    }
}

#[test]
fn a_length_that_a_listing_gives_is_a_hint() {
    let whole = Descriptor::parse_head(ESXI.as_bytes(), 20 << 30, &name("Office.vmdk")).unwrap();
    assert_eq!(whole, parse(ESXI.as_bytes()).unwrap());
    let padded = [ESXI.as_bytes(), &vec![0; MAX_TEXT_BYTES - ESXI.len()]].concat();
    let error = Descriptor::parse_head(&padded, 20 << 30, &name("Office.vmdk")).unwrap_err();
    assert!(matches!(*error.flaw, Flaw::TooLarge { .. }), "a user can write such a text to the start of a disk");
}

#[test]
fn a_file_of_any_size_is_judged_by_its_head() {
    let error = Descriptor::parse_head(&[b'x'; MAX_TEXT_BYTES], 5 << 40, &name("raw.vmdk")).unwrap_err();
    assert_eq!(error.to_string(), "raw.vmdk can't be used: not a descriptor: it is 5497558138880 bytes long");
}

/// The first sectors of a hosted sparse disk with this text in its second sector.
fn hosted(text: &str) -> Vec<u8> {
    let mut bytes = vec![0; 512 * 21];
    bytes[..4].copy_from_slice(b"KDMV");
    bytes[4..8].copy_from_slice(&3u32.to_le_bytes());
    bytes[28..36].copy_from_slice(&1u64.to_le_bytes());
    bytes[36..44].copy_from_slice(&20u64.to_le_bytes());
    bytes[512..512 + text.len()].copy_from_slice(text.as_bytes());
    bytes
}

#[test]
fn unsupported_disks_are_named_with_a_remedy() {
    let typed = |kind: &str, extent: &str| {
        ESXI.replace("createType=\"vmfs\"", &format!("createType=\"{kind}\""))
            .replace("RW 41943040 VMFS \"Office-flat.vmdk\"", extent)
            .into_bytes()
    };
    let cases: Vec<Vec<u8>> = vec![
        typed("vmfs", "RW 41943040 VMFS \"vsan://8d5b2c5e-1111-2222-3333-444455556666\""),
        typed("vmfs", "RW 41943040 VMFS \"vvol://rfc4122.8d5b2c5e-1111-2222-3333-444455556666\""),
        typed("vmfs", "RW 41943040 VMFS \"other://x\""),
        typed("monolithicSparse", "RW 41943040 SPARSE \"Office.vmdk\""),
        typed("twoGbMaxExtentSparse", "RW 4192256 SPARSE \"Office-s001.vmdk\""),
        typed("streamOptimized", "RDONLY 41943040 SPARSE \"Office.vmdk\""),
        typed("seSparse", "RW 41943040 SESPARSE \"Office-sesparse.vmdk\""),
        typed("vmfsSparse", "RW 41943040 VMFSSPARSE \"Office-delta.vmdk\""),
        typed("vmfsRawDeviceMap", "RW 41943040 VMFSRDM \"Office-rdm.vmdk\""),
        typed("vmfsPassthroughRawDeviceMap", "RW 41943040 VMFSRDM \"Office-rdmp.vmdk\""),
        typed("fullDevice", "RW 41943040 FLAT \"/dev/sda\" 0"),
        typed("partitionedDevice", "RW 41943040 FLAT \"\\\\.\\PhysicalDrive0\" 63 partitionUUID \\Device"),
        typed("custom\u{202e}", "RW 41943040 PMEM \"Office-flat.vmdk\""),
        typed("vmfs", "RW 41943040 SESPARSE \"Office-sesparse.vmdk\""),
        ESXI.replace("parentCID=ffffffff", "parentCID=1234abcd").into_bytes(),
        ESXI.replace("parentCID=ffffffff", "parentCID=ffffffff\nparentFileNameHint=\"/a/b.vmdk\"").into_bytes(),
        hosted("# Disk DescriptorFile\nversion=1\ncreateType=\"streamOptimized\"\n"),
        hosted("nothing of use"),
        b"KDMV".to_vec(),
        b"COWD\x01\x00\x00\x00".to_vec(),
        b"\xbe\xba\xfe\xca\x00\x00\x00\x00".to_vec(),
    ];
    let texts: Vec<String> = cases
        .iter()
        .map(|case| {
            let why = match parse(case) {
                Ok(disk) => disk.protectable().unwrap_err(),
                Err(error) => error.unprotectable(),
            };
            format!("{}: {}\n    {}", why.code, why.text, why.remedy.unwrap_or_default())
        })
        .collect();
    insta::assert_snapshot!("unprotectable", texts.join("\n"));
}

#[test]
fn a_binary_header_that_lies_is_harmless() {
    let mut bytes = hosted("createType=\"x\"");
    bytes[28..36].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(*parse(&bytes).unwrap_err().flaw, Flaw::Binary { create_type: None, .. }));
    bytes[28..36].copy_from_slice(&1u64.to_le_bytes());
    bytes[36..44].copy_from_slice(&(1u64 << 50).to_le_bytes());
    assert!(matches!(*parse(&bytes).unwrap_err().flaw, Flaw::Binary { create_type: Some(_), .. }));
}

/// What must hold of every descriptor that is accepted, whatever it was made from.
fn check_invariants(disk: &Descriptor) {
    assert!(disk.logical_bytes() <= MAX_FILE_BYTES);
    assert!(disk.cid.as_ref().is_none_or(|cid| cid.len() == 8));
    if disk.protectable().is_err() {
        return;
    }
    assert!(!disk.has_parent() && !disk.extents.is_empty());
    let mut sum = 0;
    for extent in &disk.extents {
        sum += extent.sectors * SECTOR_BYTES;
        assert!(extent.end_bytes().unwrap() <= MAX_FILE_BYTES);
        match &extent.file {
            None => assert_eq!(extent.kind, ExtentKind::Zero),
            Some(ExtentFile::Beside(file)) => {
                assert!(!file.as_str().contains(['/', '\\', '\0']) && file.as_str() != "..");
                assert_ne!(file, &disk.file);
            }
            Some(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(sum, disk.logical_bytes());
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        if let Ok(disk) = parse(&bytes) {
            check_invariants(&disk);
        }
        let signed = [b"# Disk DescriptorFile\n", &bytes[..]].concat();
        if let Ok(disk) = parse(&signed) {
            check_invariants(&disk);
        }
    }

    #[test]
    fn a_changed_descriptor_is_taken_or_refused(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..12, "[ -~\n\r\t\u{0}\u{fc}]{0,12}"), 1..6),
    ) {
        let mut bytes = ESXI.as_bytes().to_vec();
        for (at, cut, text) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, text.into_bytes());
        }
        match parse(&bytes) {
            Ok(disk) => check_invariants(&disk),
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.len() < 600 && !text.chars().any(char::is_control), "{text:?}");
            }
        }
    }

    #[test]
    fn any_extent_line_is_taken_or_refused(
        access in "RW|RDONLY|NOACCESS|rw", sectors in any::<u64>(), kind in "VMFS|FLAT|ZERO|SPARSE|[A-Z]{0,4}",
        file in "[a./\\\\:\"~ ]{0,8}", offset in any::<Option<u64>>(), create in "vmfs|monolithicFlat|custom|seSparse",
    ) {
        let offset = offset.map(|offset| offset.to_string()).unwrap_or_default();
        let text = ESXI
            .replace("\"vmfs\"", &format!("\"{create}\""))
            .replace("RW 41943040 VMFS \"Office-flat.vmdk\"", &format!("{access} {sectors} {kind} \"{file}\" {offset}"));
        if let Ok(disk) = parse(text.as_bytes()) {
            check_invariants(&disk);
        }
    }
}
