//! The target's size: 5,000 writables and 200 packages.

use std::time::Instant;

use stackferry_tests::avm::{AppVolumesDouble, AvmList, AvmSite, AvmVersion};

use super::support::*;

const WRITABLES: usize = 5_000;
const PACKAGES: usize = 200;

#[test]
fn the_second_scan_of_a_large_site_fetches_no_detail() {
    let mut site = AvmSite::new(AvmVersion::V4_15);
    for number in 0..WRITABLES {
        let path = format!("appvolumes/writables/CORP!5C!user{number}.vmdk");
        site.writable(
            &format!(r"CORP\user{number}"),
            "nfs01",
            &path,
            &format!("{number:08x}-e2f8-4fe6-b743-c55be9c2e000"),
        );
    }
    for number in 0..PACKAGES {
        let path = format!("appvolumes/packages/App!20!{number}.vmdk");
        let guid = format!("{number:08x}-e2f8-4fe6-b743-c55be9c2e001");
        site.package(&format!("App {number}"), &format!("App {number} 1.0"), "nfs01", &path, &guid)
            .also_at("nfs02", &path);
    }
    let double = AppVolumesDouble::start(site).unwrap();
    let manager = manager(&double);
    let began = Instant::now();
    let report = look(&manager, 0);
    let first = began.elapsed();
    assert_eq!((report.volumes.len(), report.complete), (WRITABLES + PACKAGES, true));
    assert_eq!(double.details(), PACKAGES, "one question for each package, none for a writable");
    let lists = double.requests().len() - PACKAGES;
    assert!(lists < 16, "{lists}");

    double.clear();
    let began = Instant::now();
    let again = look(&manager, 5);
    let second = began.elapsed();
    assert_eq!(again.volumes, report.volumes);
    assert_eq!(double.details(), 0);
    // The stand-in's own time and memory are in these. See them with `--nocapture`.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{WRITABLES} writables, {PACKAGES} packages: first look {first:.2?}, second {second:.2?}, {peak}");

    // Ten that changed cost ten questions; a thousand users who came or went cost none.
    double.change(|site| {
        for number in 0..1_000 {
            site.volumes[number].attach("VDI");
        }
        for volume in site.volumes.iter_mut().filter(|volume| volume.family == AvmList::Package).take(10) {
            volume.captures += 1;
        }
    });
    double.clear();
    let report = look(&manager, 10);
    assert_eq!(double.details(), 10);
    assert_eq!(report.volumes.iter().filter(|volume| volume.attached == Some(true)).count(), 1_000);
    assert!(double.write_requests().is_empty());
}
