use jiff::Timestamp;
use proptest::prelude::*;

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

/// The assignment as lines: `stem: descriptor | extents | sidecars`, with problems, orphans and what is left out.
fn lines(entries: &[Entry], descriptors: &[Descriptor]) -> Vec<String> {
    let found = candidates(entries);
    let read: Vec<Option<&Descriptor>> = found
        .descriptors
        .iter()
        .map(|candidate| descriptors.iter().find(|descriptor| descriptor.file == candidate.name))
        .collect();
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
    let rejected = found.rejected.iter().map(|rejected| format!("{}: {}", rejected.why.code, rejected.why.text));
    groups.chain(orphans).chain(left_out).chain(rejected).collect()
}

#[test]
fn a_volume_is_its_descriptor_its_extents_and_what_shares_its_stem() {
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
    assert_eq!(lines(&entries, &read), ["App_workstation.vmdk | App_workstation-flat.vmdk | "]);
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
    let long = format!("{}.vmdk", "n".repeat(201));
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
        let known: Vec<Option<&Descriptor>> = found
            .descriptors
            .iter()
            .map(|candidate| read.iter().find(|read| read.file == candidate.name))
            .collect();
        let assignment = assign(&entries, &found.descriptors, &known);
        let mut seen = HashSet::new();
        let of_groups = assignment.groups.iter().flat_map(|group| &group.files);
        let of_orphans = assignment.orphans.iter().flat_map(|orphan| &orphan.files);
        for file in of_groups.chain(of_orphans) {
            prop_assert!(seen.insert(file.name.clone()), "{} is in two places", file.name);
        }
    }
}
