//! The map of a VMFS disk, as `vmkfstools -t0` prints it. The format is not documented, only known from reports. So a map is
//! trusted only where every line is valid, the lines cover the whole disk without gap or overlap, no less is called data
//! than is allocated on the datastore, and (later) sampled holes read as zeros.

use std::ops::Range;

use stackferry_volume::holes::{HoleMap, MapBuilder, Tolerance};

use crate::stock::command::quoted;

/// The longest map, in bytes.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// VMFS allocates blocks of 1 MiB. More data than allocated space is harmless: it is read, and found to be zero; blocks
/// that are not zeroed yet count as allocated.
const TOLERANCE: Tolerance = Tolerance { slack: 1 << 20, compressed: true };
/// The prefix of the line with the disk's length and allocated size.
const SIZES: &str = "sf-sizes ";

/// The command that prints the map of an extent (`x-flat.vmdk`), by its descriptor; none for other files.
pub(super) fn command(path: &str) -> Option<String> {
    let stem = path.strip_suffix("-flat.vmdk")?;
    let descriptor = quoted(&format!("{stem}.vmdk"));
    Some(format!("vmkfstools -t0 {descriptor} && stat -c '{SIZES}%s %b %B' {}", quoted(path)))
}

/// The map, or why it is not trusted. `bytes` is the file's length.
pub(super) fn parse(output: &[u8], bytes: u64) -> Result<HoleMap, &'static str> {
    let text = std::str::from_utf8(output).map_err(|_| "it is not UTF-8")?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let head = lines.next().ok_or("it is empty")?;
    if length(head) != Some(bytes) {
        return Err("its first line is invalid, or has another length");
    }
    let mut data = MapBuilder::default();
    let mut at = 0;
    let mut allocated = None;
    for line in lines {
        if allocated.is_some() {
            return Err("there is data after the end");
        }
        if let Some(sizes) = line.strip_prefix(SIZES) {
            allocated = Some(allocated_bytes(sizes, bytes).ok_or("the allocated size is invalid")?);
            continue;
        }
        let (part, is_data) = range(line).ok_or("a line is invalid")?;
        if part.start != at || part.end <= at || part.end > bytes {
            return Err("it has a gap or an overlap");
        }
        at = part.end;
        if is_data {
            data.add(part)?;
        }
    }
    if at != bytes {
        return Err("it does not reach the end");
    }
    let allocated = allocated.ok_or("the allocated size is missing")?;
    data.finish(bytes, allocated, TOLERANCE)
}

/// The length in `Mapping for file x.vmdk (N bytes in size):`. A name may hold anything.
fn length(head: &str) -> Option<u64> {
    let rest = head.strip_prefix("Mapping for file ")?.strip_suffix(':')?.strip_suffix(" bytes in size)")?;
    rest.rsplit_once('(')?.1.parse().ok()
}

/// `[ offset: length] --> [VMFS -- LVID:…]`, in bytes, and whether it may be something else than zeros.
fn range(line: &str) -> Option<(Range<u64>, bool)> {
    let (part, place) = line.strip_prefix('[')?.split_once("] --> [")?;
    let (offset, length) = part.split_once(':')?;
    let (offset, length) = (offset.trim().parse::<u64>().ok()?, length.trim().parse::<u64>().ok()?);
    let is_data = if place.starts_with("VMFS -- ") {
        true
    } else if place.starts_with("VMFS Z- ") || place.starts_with("NOMP -- ") {
        false
    } else {
        return None;
    };
    Some((offset..offset.checked_add(length)?, is_data))
}

/// The allocated bytes in `length blocks size`; none where the length differs.
fn allocated_bytes(sizes: &str, bytes: u64) -> Option<u64> {
    let mut words = sizes.split(' ').map(|word| word.parse::<u64>().ok());
    let (length, blocks, size) = (words.next()??, words.next()??, words.next()??);
    (length == bytes && words.next().is_none()).then(|| blocks.saturating_mul(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stackferry_volume::Source as _;

    const MIB: u64 = 1 << 20;
    const BYTES: u64 = 100 * MIB;

    fn output(lines: &[(u64, u64, &str)], taken: u64) -> String {
        let mut text = format!("Mapping for file a (1 bytes).vmdk ({BYTES} bytes in size):\n");
        for (offset, length, kind) in lines {
            text.push_str(&format!("[{offset:12}:{length:12}] --> [{kind} LVID:5f3c-1/5f3c-2/1:( 7 -->  9)]\n"));
        }
        format!("{text}sf-sizes {BYTES} {} 512\n", taken / 512)
    }

    fn refusal(text: &str) -> &'static str {
        parse(text.as_bytes(), BYTES).unwrap_err()
    }

    #[test]
    fn a_map_is_parsed() {
        let lines = [
            (0, 3 * MIB, "VMFS --"),
            (3 * MIB, 7 * MIB, "NOMP --"),
            (10 * MIB, MIB, "VMFS --"),
            (11 * MIB, 89 * MIB, "VMFS Z-"),
        ];
        let map = parse(output(&lines, 4 * MIB).as_bytes(), BYTES).unwrap();
        assert_eq!(map.next_data(0).unwrap(), Some(0..3 * MIB));
        assert_eq!(map.next_data(3 * MIB).unwrap(), Some(10 * MIB..11 * MIB));
        assert_eq!(map.next_data(11 * MIB).unwrap(), None);
        assert!(command("/vmfs/volumes/x/a'b-flat.vmdk").unwrap().contains("'/vmfs/volumes/x/a'\\''b.vmdk'"));
        assert_eq!(command("/vmfs/volumes/x/a.vmdk"), None);
    }

    #[test]
    fn inconsistent_maps_are_refused() {
        let whole = [(0, BYTES, "VMFS --")];
        assert!(parse(output(&whole, BYTES).as_bytes(), BYTES).is_ok());
        for (lines, taken, why) in [
            (vec![(0, MIB, "VMFS --")], MIB, "it does not reach the end"),
            (vec![(MIB, 99 * MIB, "VMFS --")], MIB, "it has a gap or an overlap"),
            (vec![(0, 2 * MIB, "VMFS --"), (MIB, 99 * MIB, "NOMP --")], MIB, "it has a gap or an overlap"),
            (vec![(0, 0, "VMFS --")], MIB, "it has a gap or an overlap"),
            (vec![(0, BYTES + 1, "VMFS --")], MIB, "it has a gap or an overlap"),
            (vec![(0, BYTES, "VMFS XX")], MIB, "a line is invalid"),
            (vec![(0, BYTES, "NOMP --")], 50 * MIB, "less is called data than the file takes on disk"),
        ] {
            assert_eq!(refusal(&output(&lines, taken)), why, "{lines:?}");
        }
        let good = output(&whole, BYTES);
        assert_eq!(refusal(""), "it is empty");
        assert_eq!(refusal("vmkfstools: not found"), "its first line is invalid, or has another length");
        assert_eq!(refusal(&good.replace("sf-sizes", "no")), "a line is invalid");
        assert_eq!(refusal(&format!("{good}x\n")), "there is data after the end");
        assert_eq!(refusal(&good.replace(&format!("sf-sizes {BYTES}"), "sf-sizes 5")), "the allocated size is invalid");
        assert_eq!(parse(good.as_bytes(), BYTES - 1).unwrap_err(), "its first line is invalid, or has another length");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes, BYTES);
            let _ = parse(&[output(&[], 0).as_bytes(), &bytes].concat(), BYTES);
        }
    }
}
