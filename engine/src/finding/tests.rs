use super::*;

const MIB: u64 = 1 << 20;

fn extent(name: &str) -> DamagedExtent {
    DamagedExtent { name: name.to_owned(), bytes: 20 << 30 }
}

fn affected(file: &str, role: &str, of: u64, blocks: u64) -> Affected {
    let ranges = vec![ByteRange { offset: 7 * MIB, length: blocks * MIB }];
    Affected { file: file.to_owned(), role: role.to_owned(), bytes: blocks * MIB, of: Some(of), ranges }
}

fn in_extent() -> FindingCause {
    let affected = vec![affected("Office-flat.vmdk", "extent", 20 << 30, 3)];
    FindingCause::Damaged(Some(DamageFound { affected, extents: vec![extent("Office-flat.vmdk")], cut: false }))
}

fn in_descriptor() -> FindingCause {
    let whole = Affected { bytes: 400, ranges: vec![], ..affected("Office.vmdk", "descriptor", 400, 0) };
    FindingCause::Damaged(Some(DamageFound {
        affected: vec![whole],
        extents: vec![extent("Office-flat.vmdk")],
        cut: false,
    }))
}

fn in_manifest() -> FindingCause {
    let manifest = Affected { of: None, ranges: vec![], ..affected("manifest.json", "manifest", 0, 0) };
    FindingCause::Damaged(Some(DamageFound { affected: vec![manifest], extents: vec![], cut: false }))
}

/// The version is number 5 of `appstack/Office`; a good one may be number 4 or 6.
fn facts(good: Option<u64>, copyable: bool) -> FindingFacts {
    let made: Timestamp = "2026-11-22T04:00:00Z".parse().unwrap();
    let good = good.map(|seq| Good { version: VersionId::new(made, seq), read_back: None });
    FindingFacts { volume: "appstack/Office".parse().unwrap(), version: VersionId::new(made, 5), good, copyable }
}

#[test]
fn each_case_has_its_four_answers() {
    use Severity::{Degraded, Lost, Unknown};
    let copy = "stackferry copy appstack/Office";
    let again = "stackferry verify appstack/Office@20261122T040000Z-5";
    let others = "stackferry verify appstack/Office";
    let pin = "stackferry pin appstack/Office@20261122T040000Z-4";
    let (whole, part) =
        ("(Office-flat.vmdk) are whole", "all but 3.0 MiB of 20.0 GiB of this version's disk is as it was copied");
    let none = "nothing that is known here";
    let (source, before) = ("can be copied again", "20261122T040000Z-4 is good");
    type Case<'a> = (FindingCause, Option<u64>, bool, Severity, &'a [&'a str], &'a str);
    let cases: [Case<'_>; 18] = [
        (in_extent(), Some(6), true, Degraded, &["20261122T040000Z-6 is good", part], others),
        (in_extent(), Some(4), true, Degraded, &[before, source], copy),
        (in_extent(), Some(4), false, Degraded, &[before, part], pin),
        (in_extent(), None, true, Lost, &[part, source], copy),
        (in_extent(), None, false, Lost, &[part], again),
        (in_descriptor(), None, false, Degraded, &[whole, "docs/restore-by-hand.md"], again),
        (in_descriptor(), None, true, Degraded, &[whole, source], copy),
        (in_manifest(), None, false, Unknown, &["nothing proves it"], again),
        (in_manifest(), Some(4), false, Degraded, &[before, "nothing proves it"], pin),
        (FindingCause::Damaged(None), None, true, Unknown, &[source], copy),
        (FindingCause::Missing, None, false, Lost, &[none], "stackferry check"),
        (FindingCause::Missing, None, true, Lost, &[source], copy),
        (FindingCause::Missing, Some(4), false, Degraded, &[before], pin),
        (FindingCause::NoDisk { read_back: false }, None, true, Unknown, &[source], again),
        (FindingCause::NoDisk { read_back: true }, None, true, Unknown, &["so at its source"], copy),
        (FindingCause::NoDisk { read_back: true }, Some(4), false, Degraded, &[before], pin),
        (FindingCause::Incident, Some(4), true, Unknown, &["the version before", "kept as it was found"], pin),
        (FindingCause::Incident, None, true, Unknown, &["kept as it was found"], "stackferry versions appstack/Office"),
    ];
    for (trouble, good, copyable, severity, still, next) in cases {
        let finding = judge(&trouble, &facts(good, copyable));
        let case = format!("{trouble:?}, good {good:?}, copyable {copyable}: {finding:?}");
        assert_eq!((finding.severity, finding.next.as_str()), (severity, next), "{case}");
        assert!(still.iter().all(|part| finding.still_works.contains(part)), "{case}");
        assert!(copyable || !finding.still_works.contains(source), "{case}");
        assert!(good.is_some() || !finding.still_works.contains("is good"), "{case}");
    }
}

#[test]
fn a_command_can_be_pasted_whatever_the_volume_is_called() {
    let mut facts = facts(None, true);
    facts.volume = r"writable/CORP!5C!o'neil".parse().unwrap();
    assert_eq!(judge(&in_extent(), &facts).next, r"stackferry copy 'writable/CORP!5C!o'\''neil'");
}

#[test]
fn what_was_given_up_on_is_not_called_whole() {
    let FindingCause::Damaged(Some(mut found)) = in_descriptor() else { panic!() };
    found.cut = true;
    let finding = judge(&FindingCause::Damaged(Some(found)), &facts(None, false));
    assert_eq!(finding.severity, Severity::Lost);
    assert!(finding.still_works.contains("reading was given up"), "{finding:?}");
}

#[test]
fn blocks_are_told_as_ranges_of_bytes() {
    use stackferry_vault::Damage;
    let damage = |block| Damage { file: "Office-flat.vmdk".to_owned(), block, why: String::new() };
    let found = DamageFound::new(&[damage(Some(9)), damage(Some(3)), damage(Some(2))], None);
    let [one] = &found.affected[..] else { panic!("{found:?}") };
    let ranges = [ByteRange { offset: 2 * MIB, length: 2 * MIB }, ByteRange { offset: 9 * MIB, length: MIB }];
    assert_eq!((one.bytes, &one.ranges[..]), (3 * MIB, &ranges[..]));
    let found = DamageFound::new(&[damage(Some(9)), damage(None)], None);
    assert_eq!(found.affected[0].ranges, [], "all of it, however long that is");
    let many: Vec<_> = (0..200).map(|number| damage(Some(number * 2))).collect();
    let found = DamageFound::new(&many, None);
    assert_eq!((found.affected[0].bytes, found.affected[0].ranges.len()), (200 * MIB, 32));
    let text = affected("Office-flat.vmdk", "extent", 20 << 30, 3).to_string();
    assert_eq!(text, "Office-flat.vmdk: 3.0 MiB of 20.0 GiB from byte 7340032");
}
