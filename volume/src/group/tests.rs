use jiff::Timestamp;
use proptest::prelude::*;

use std::collections::HashSet;

use super::*;

fn file(name: &str) -> Entry {
    Entry {
        name: name.to_owned(),
        utf8: true,
        kind: EntryKind::File,
        bytes: 1 << 20,
        allocated: None,
        mtime: Timestamp::UNIX_EPOCH,
        changed: None,
        inode: None,
    }
}

fn files(names: &[&str]) -> Vec<Entry> {
    names.iter().map(|name| file(name)).collect()
}

fn descriptor(name: &str, extents: &[&str]) -> Descriptor {
    let lines: String = extents.iter().map(|extent| format!("RW 8 VMFS \"{extent}\"\n")).collect();
    let text =
        format!("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"vmfs\"\n{lines}");
    Descriptor::parse(text.as_bytes(), &FileName::new(name).unwrap()).unwrap()
}

fn not_a_descriptor() -> DescriptorError {
    Descriptor::parse(b"bytes", &FileName::new("x.vmdk").unwrap()).unwrap_err()
}

/// What was read of each candidate: a descriptor that is given, or else, where it has a name of a piece, bytes of a disk.
fn readings<'a>(found: &Candidates, given: &'a [Descriptor], none: &'a DescriptorError) -> Vec<DescriptorReading<'a>> {
    let one = |candidate: &Candidate| match given.iter().find(|given| given.file == candidate.name) {
        Some(given) => DescriptorReading::Descriptor(given),
        None if given.is_empty() => DescriptorReading::Unread,
        None => DescriptorReading::Flawed(none),
    };
    found.descriptors.iter().map(one).collect()
}

/// The assignment as lines: `stem: descriptor | extents | sidecars`, with problems, orphans and what is left out.
fn lines(entries: &[Entry], descriptors: &[Descriptor]) -> Vec<String> {
    let found = candidates(entries);
    let none = not_a_descriptor();
    let read = readings(&found, descriptors, &none);
    let assignment = assign(entries, &found.descriptors, &read);
    let of = |files: &[GroupFile], role| {
        let names: Vec<&str> = files.iter().filter(|file| file.role == role).map(|file| file.name.as_str()).collect();
        names.join(" ")
    };
    let groups = assignment.groups.iter().map(|group| {
        let problem = group.problem.as_ref().map(|problem| format!(" ! {}", problem.text)).unwrap_or_default();
        let (extents, sidecars) = (of(&group.files, FileRole::Extent), of(&group.files, FileRole::Sidecar));
        format!("{} | {extents} | {sidecars}{problem}", of(&group.files, FileRole::Descriptor))
    });
    let orphans = assignment.orphans.iter().map(|orphan| {
        let (extents, sidecars) = (of(&orphan.files, FileRole::Extent), of(&orphan.files, FileRole::Sidecar));
        format!("({}) | {extents} | {sidecars} ! {}", orphan.stem, orphan.why.text)
    });
    let left_out = assignment.left_out.iter().map(|left| format!("{} - {}: {}", left.stem, left.name, left.why));
    let unassigned = assignment.unassigned.iter().map(|other| format!("~ {}: {}", other.name, other.what));
    let rejected = found.rejected.iter().map(|rejected| format!("{}: {}", rejected.why.code, rejected.why.text));
    groups.chain(orphans).chain(left_out).chain(unassigned).chain(rejected).collect()
}

#[test]
fn a_volume_is_descriptor_extents_and_files_of_its_stem() {
    let entries = files(&[
        "Office.vmdk.metadata",
        "Office-update-flat.vmdk",
        "Office.json",
        "Office-update.vmdk",
        "Office-update.json",
        "Office-flat.vmdk",
        "Office.vmdk",
        "Office_workstation.vmdk",
        "Office_workstation-flat.vmdk",
        "Office-ctk.vmdk",
        "Office2.json",
        "Offic.json",
        ".Office.vmdk",
        ".lck-0100000000000000",
        "readme.txt",
    ]);
    let read = [
        descriptor("Office.vmdk", &["Office-flat.vmdk"]),
        descriptor("Office-update.vmdk", &["Office-update-flat.vmdk"]),
    ];
    assert_eq!(
        lines(&entries, &read),
        [
            "Office-update.vmdk | Office-update-flat.vmdk | Office-update.json",
            "Office.vmdk | Office-flat.vmdk | Office-ctk.vmdk Office.json Office.vmdk.metadata \
         Office_workstation-flat.vmdk Office_workstation.vmdk",
            "~ .Office.vmdk: a file that shares no volume's name",
            "~ .lck-0100000000000000: the lock of an ESXi host",
            "~ Offic.json: a file that shares no volume's name",
            "~ Office2.json: a file that shares no volume's name",
            "~ readme.txt: a file that shares no volume's name",
        ]
    );
}

#[test]
fn extents_are_in_the_disks_order_whatever_they_are_called() {
    let entries = files(&["a.vmdk", "z.vmdk", "b-flat.vmdk", "a-f001.vmdk", "a-f002.vmdk", "a-flat.vmdk"]);
    let read =
        [descriptor("a.vmdk", &["b-flat.vmdk", "a-f002.vmdk", "a-f001.vmdk"]), descriptor("z.vmdk", &["z-flat.vmdk"])];
    assert_eq!(lines(&entries, &read), ["a.vmdk | b-flat.vmdk a-f002.vmdk a-f001.vmdk | a-flat.vmdk", "z.vmdk |  | ",]);
}

#[test]
fn without_a_readable_descriptor_names_decide() {
    let entries = files(&["a.vmdk", "a-flat.vmdk", "a-ctk.vmdk", "a.json"]);
    assert_eq!(lines(&entries, &[]), ["a.vmdk | a-flat.vmdk | a-ctk.vmdk a.json"]);
}

#[test]
fn a_workstation_disk_alone_is_a_volume() {
    let entries = files(&["App_workstation.vmdk", "App_workstation-flat.vmdk", "App.json"]);
    let read = [descriptor("App_workstation.vmdk", &["App_workstation-flat.vmdk"])];
    assert_eq!(
        lines(&entries, &read),
        ["App_workstation.vmdk | App_workstation-flat.vmdk | ", "~ App.json: a file that shares no volume's name"]
    );
}

#[test]
fn another_persons_extent_is_never_a_sidecar() {
    let entries = files(&[
        "CORP!5C!j.vmdk",
        "CORP!5C!j-flat.vmdk",
        "CORP!5C!j-smith-flat.vmdk",
        "CORP!5C!j-smith.vmdk.metadata",
        "CORP!5C!j.doe.vmdk",
        "CORP!5C!j.doe-flat.vmdk",
    ]);
    let read = [
        descriptor("CORP!5C!j.vmdk", &["CORP!5C!j-flat.vmdk"]),
        descriptor("CORP!5C!j.doe.vmdk", &["CORP!5C!j.doe-flat.vmdk"]),
    ];
    assert_eq!(
        lines(&entries, &read),
        [
            "CORP!5C!j.doe.vmdk | CORP!5C!j.doe-flat.vmdk | ",
            "CORP!5C!j.vmdk | CORP!5C!j-flat.vmdk | ",
            "(CORP!5C!j-smith) | CORP!5C!j-smith-flat.vmdk | CORP!5C!j-smith.vmdk.metadata ! \
         the descriptor CORP!5C!j-smith.vmdk is missing beside CORP!5C!j-smith-flat.vmdk",
        ]
    );
}

#[test]
fn what_is_a_descriptor_is_a_disk_whatever_its_name() {
    let names = ["Air", "Air-delta", "Tool-ctk", "Pack-f100", "X-flat", "Y_flat", ".hidden", "Z-s1000", "_workstation"];
    let entries: Vec<Entry> =
        names.iter().flat_map(|name| files(&[&format!("{name}.vmdk"), &format!("{name}-flat.vmdk")])).collect();
    let read: Vec<Descriptor> =
        names.iter().map(|name| descriptor(&format!("{name}.vmdk"), &[&format!("{name}-flat.vmdk")])).collect();
    let mut expected: Vec<String> = names.iter().map(|name| format!("{name}.vmdk | {name}-flat.vmdk | ")).collect();
    expected.sort();
    let mut got = lines(&entries, &read);
    got.sort();
    assert_eq!(got, expected);
}

#[test]
fn what_a_descriptor_names_is_its_extent_whatever_its_name() {
    for extent in ["A-FLAT.VMDK", "A_flat.vmdk", "A-pt.vmdk", "A-s1000.vmdk", "A.bin", "Other.vmdk", ".A.vmdk", "data"]
    {
        let entries = files(&["A.vmdk", extent]);
        assert_eq!(lines(&entries, &[descriptor("A.vmdk", &[extent])]), [format!("A.vmdk | {extent} | ")]);
    }
}

#[test]
fn capitals_matter_only_where_two_names_differ_by_them() {
    let read = [descriptor("A.VMDK", &["a-flat.vmdk"])];
    assert_eq!(lines(&files(&["A.VMDK", "A-Flat.vmdk"]), &read), ["A.VMDK | A-Flat.vmdk | "]);
    let exact = lines(&files(&["A.VMDK", "A-Flat.vmdk", "a-flat.vmdk"]), &read);
    assert_eq!(exact, ["A.VMDK | a-flat.vmdk | A-Flat.vmdk"]);
    let two = lines(&files(&["A.VMDK", "A-Flat.vmdk", "A-FLAT.vmdk"]), &read);
    assert_eq!(two, ["A.VMDK |  | A-FLAT.vmdk A-Flat.vmdk"], "none of them is taken for the other");
}

#[test]
fn a_long_file_is_read_unless_a_descriptor_names_it_as_a_piece() {
    let long = |name: &str| Entry { bytes: 20 << 30, ..file(name) };
    let mut entries: Vec<Entry> = ["Hint.vmdk", "a-flat.vmdk", "b-flat.vmdk", "Odd.vmdk"].map(long).into();
    entries.extend(files(&["a.vmdk"]).into_iter().map(|entry| Entry { bytes: 500, ..entry }));
    let found = candidates(&entries);
    let read = [descriptor("a.vmdk", &["a-flat.vmdk", "Odd.vmdk"])];
    let none = not_a_descriptor();
    let first: Vec<DescriptorReading<'_>> = readings(&found, &read, &none)
        .into_iter()
        .zip(&found.descriptors)
        .map(|(reading, candidate)| if candidate.is_small() { reading } else { DescriptorReading::Unread })
        .collect();
    let due = to_read_too(&entries, &found.descriptors, &first);
    let names: Vec<&str> = due.iter().map(|at| found.descriptors[*at].name.as_str()).collect();
    assert_eq!(names, ["Hint.vmdk", "Odd.vmdk", "b-flat.vmdk"]);
}

#[test]
fn an_extent_has_one_owner() {
    let entries = files(&["a.vmdk", "b.vmdk", "evil.vmdk", "a-flat.vmdk", "c-flat.vmdk", "b-flat.vmdk"]);
    let stolen = [descriptor("a.vmdk", &["a-flat.vmdk"]), descriptor("evil.vmdk", &["a-flat.vmdk"])];
    insta::assert_snapshot!("stolen", lines(&entries, &stolen).join("\n"));
    let shared = [descriptor("a.vmdk", &["c-flat.vmdk"]), descriptor("b.vmdk", &["c-flat.vmdk"])];
    insta::assert_snapshot!("shared", lines(&entries, &shared).join("\n"));
    let unread = [descriptor("evil.vmdk", &["b-flat.vmdk"])];
    insta::assert_snapshot!("unread", lines(&entries, &unread).join("\n"));
    let entries_with_json = files(&["a.vmdk", "a-flat.vmdk", "a.json", "evil.vmdk"]);
    let json = [descriptor("a.vmdk", &["a-flat.vmdk"]), descriptor("evil.vmdk", &["a.json"])];
    insta::assert_snapshot!("json", lines(&entries_with_json, &json).join("\n"));
    let other = [descriptor("evil.vmdk", &["a.vmdk", "evil-flat.vmdk"])];
    insta::assert_snapshot!("other", lines(&entries, &other).join("\n"));
}

#[test]
fn names_that_cant_be_used_are_listed() {
    let long = format!("{}.vmdk", "n".repeat(251));
    let mut entries = files(&["a\tb.vmdk", "..vmdk", ".vmdk", "manifest.vmdk", "manifest.json", "ok.vmdk", &long]);
    entries.push(Entry { utf8: false, ..file("M\u{fffd}ller.vmdk") });
    entries.push(Entry { utf8: false, ..file("ok-\u{fffd}.json") });
    entries.push(Entry { kind: EntryKind::Other, ..file("link.vmdk") });
    entries.push(Entry { kind: EntryKind::Other, ..file("ok-link.json") });
    entries.push(Entry { kind: EntryKind::Folder, ..file("folder.vmdk") });
    entries.push(file("ok-\u{7f}.json"));
    entries.push(file("link-flat.vmdk"));
    insta::assert_snapshot!("names", lines(&entries, &[]).join("\n"));
}

proptest! {
    /// Whatever a folder holds, no file is in two places, and the order of its listing does not matter.
    #[test]
    fn each_file_has_one_place(
        names in proptest::collection::btree_set("[ab]{1,2}([-_.][ab])?(-flat|-ctk|_workstation)?(\\.vmdk|\\.json|\\.vmdk\\.metadata)", 0..24),
        claims in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..8),
        shift in 0usize..24,
    ) {
        let names: Vec<String> = names.into_iter().collect();
        let mut entries: Vec<Entry> = names.iter().map(|name| file(name)).collect();
        let mut read = Vec::new();
        for (from, to) in &claims {
            if !names.is_empty() {
                let (from, to) = (from.get(&names), to.get(&names));
                if from != to && from.ends_with(".vmdk") && !read.iter().any(|read: &Descriptor| read.file.as_str() == from) {
                    read.push(descriptor(from, &[to]));
                }
            }
        }
        let first = lines(&entries, &read);
        let length = entries.len().max(1);
        entries.rotate_left(shift % length);
        prop_assert_eq!(&first, &lines(&entries, &read));
        let found = candidates(&entries);
        let none = not_a_descriptor();
        let known = readings(&found, &read, &none);
        let assignment = assign(&entries, &found.descriptors, &known);
        let mut seen = HashSet::new();
        let of_groups = assignment.groups.iter().flat_map(|group| &group.files);
        let of_orphans = assignment.orphans.iter().flat_map(|orphan| &orphan.files);
        for file in of_groups.chain(of_orphans) {
            prop_assert!(seen.insert(file.name.as_str().to_owned()), "{} is in two places", file.name);
        }
        for name in assignment.unassigned.iter().map(|other| &other.name).chain(assignment.left_out.iter().map(|left| &left.name)) {
            prop_assert!(seen.insert(name.clone()), "{name} is in two places");
        }
        for entry in &entries {
            prop_assert!(seen.contains(&entry.name), "{} is passed over", entry.name);
        }
    }
}
