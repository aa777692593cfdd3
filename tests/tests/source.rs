//! Sources that misreport: file systems that lie about holes, answer from caches, have no times, wrong clocks or bad
//! sectors. No version may be wrong because of them.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use serde_json::Value;
use stackferry_tests::check::{allocated_bytes, data_ranges, same_bytes, same_files};
use stackferry_tests::disk::{DiskContent, DiskSpec, Mix, Sidecar, TestDisk};
use stackferry_tests::lab::fuse::{HoleReporting, Operation, Times};
use stackferry_tests::lab::{EndpointProcess, FaultyMount, Lab, wait_for};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const OFFICE: &str = "appstack/Office";
const APPS: &str = "cloudvolumes/apps";
const FLAT: &str = "cloudvolumes/apps/Office-flat.vmdk";
const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(120);

/// A service with one datastore on a file system that misbehaves, and a disk on it. Fields go in this order: who uses the
/// mount ends before it.
struct Setup {
    endpoint: Option<EndpointProcess>,
    mount: FaultyMount,
    disk: TestDisk,
    lab: Lab,
}

fn setup(route: &str, data: u64, modified: Option<SystemTime>) -> Option<Setup> {
    if !FaultyMount::possible().unwrap() {
        return None;
    }
    let mut lab = Lab::new(LAB).unwrap();
    let below = lab.path("below");
    fs::create_dir_all(below.join(APPS)).unwrap();
    let spec = DiskSpec::new("Office", data + 64 * MIB, 4).content(DiskContent::Plain { bytes: data });
    let spec = DiskSpec { mix: Mix { text: 0, zero: 0 }, modified, ..spec }.sidecar(Sidecar::Metadata);
    let disk = TestDisk::build(&below.join(APPS), spec).unwrap();
    let mount = FaultyMount::mount(&below, &lab.path("site").join("nfs01")).unwrap();
    let endpoint = (route == "endpoint").then(|| lab.serve(&["nfs01"]).unwrap());
    match &endpoint {
        Some(endpoint) => lab.add_endpoint("nfs01", endpoint).unwrap(),
        None => lab.add_local("nfs01").unwrap(),
    }
    Some(Setup { endpoint, mount, disk, lab })
}

impl Setup {
    /// How a version's manifest says that the disk's holes were known.
    fn hole_map(&self, version: &str) -> String {
        let manifest = self.lab.vault_volume(OFFICE).join(version).join("manifest.json");
        let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
        let mut files = manifest["files"].as_array().unwrap().iter();
        let flat = files.find(|file| file["name"] == "Office-flat.vmdk").unwrap();
        flat["hole_map"].as_str().unwrap().to_owned()
    }

    /// Whether something of the disk waits in the vault for its copy to end, and is recorded there.
    fn is_begun(&self) -> bool {
        let transfers = fs::read_dir(self.lab.vault().join("incoming")).into_iter().flatten();
        let journals = transfers.map(|entry| entry.unwrap().path().join("journal/Office-flat.vmdk"));
        journals.filter_map(|file| fs::metadata(file).ok()).any(|file| file.len() > 256)
    }

    /// Writes to the disk at the server, and gives it the time that a server's clock would.
    fn write(&self, byte: u8, modified: Option<SystemTime>) {
        let file = File::options().read(true).write(true).open(&self.disk.extents()[0]).unwrap();
        for data in data_ranges(&file).unwrap() {
            for at in (data.start..data.end).step_by(MIB as usize) {
                file.write_all_at(&[byte; 64], at).unwrap();
            }
        }
        if let Some(modified) = modified {
            file.set_times(FileTimes::new().set_modified(modified)).unwrap();
        }
    }

    /// Begins a copy that stands still in the middle of the disk.
    fn half_copied<T>(&self, then: impl FnOnce(stackferry_tests::lab::RunningProcess) -> T) -> T {
        // In the middle of much data: where there are holes, they are sampled before anything is read.
        let data = data_ranges(&File::open(&self.disk.extents()[0]).unwrap()).unwrap();
        let most = data.iter().max_by_key(|data| data.end - data.start).unwrap();
        let middle = most.start.midpoint(most.end) / 4096 * 4096;
        self.mount.set_stalled(FLAT, middle..middle + 4096);
        let copy = self.lab.spawn(&["copy", OFFICE]).unwrap();
        let stands = || Ok(self.mount.hanging() > 0 && self.is_begun());
        wait_for("the copy stands", LIMIT, stands).unwrap();
        then(copy)
    }
}

fn outcome(lab: &Lab) -> String {
    let answer = lab.run_json(&["run", "--once"]).unwrap();
    answer["volumes"][0]["outcome"].as_str().unwrap().to_owned()
}

#[test]
fn a_wrong_hole_map_is_not_used() {
    for route in ["local", "endpoint"] {
        let Some(setup) = setup(route, 6 * MIB, None) else { return };
        let data = data_ranges(&File::open(&setup.disk.extents()[0]).unwrap()).unwrap();
        let (first, last) = (data.first().unwrap(), data.last().unwrap());
        let bytes = fs::metadata(&setup.disk.extents()[0]).unwrap().len();
        for (holes, allocated, expected) in [
            (HoleReporting::True, None, "seek"),
            (HoleReporting::Everything, None, "none"),
            (HoleReporting::Also(first.start..first.end), None, "none"),
            (HoleReporting::Also(last.end - 65536..last.end), None, "none"),
            // No sizes give this one away.
            (HoleReporting::Also(first.start..first.start + 4096), Some(6 * MIB - 4096), "none"),
            (HoleReporting::NoProgress, None, "none"),
            (HoleReporting::Backwards, None, "none"),
            (HoleReporting::Beyond, None, "none"),
            (HoleReporting::Refused(Errno::IO), None, "none"),
            (HoleReporting::Refused(Errno::INVAL), None, "none"),
            // The file system compresses, or has set room aside: nothing to hold the map against.
            (HoleReporting::True, Some(MIB), "none"),
            (HoleReporting::True, Some(bytes), "none"),
        ] {
            setup.mount.set_holes(FLAT, holes.clone());
            match allocated {
                Some(allocated) => setup.mount.set_allocated(FLAT, allocated),
                None => setup.mount.set_allocated(FLAT, allocated_bytes(&setup.disk.extents()[0]).unwrap()),
            }
            let copy = setup.lab.run_json(&["copy", OFFICE]).unwrap();
            let version = copy["version"].as_str().unwrap();
            assert_eq!(setup.hole_map(version), expected, "{holes:?}, {allocated:?} by {route}");
            let restored = setup.lab.restore(&format!("{OFFICE}@{version}"), &format!("{version}-out")).unwrap();
            same_files(&setup.disk.files(), &restored).unwrap_or_else(|error| panic!("{holes:?} by {route}: {error}"));
        }
    }
}

#[test]
fn a_change_behind_an_attribute_cache_is_detected() {
    for route in ["local", "endpoint"] {
        let Some(mut setup) = setup(route, 24 * MIB, None) else { return };
        setup.mount.cache_attributes(Duration::from_secs(3600));
        assert_eq!(outcome(&setup.lab), "copied");
        // Between two rounds: the kernel holds every attribute.
        setup.write(1, None);
        assert_eq!(outcome(&setup.lab), "copied", "by {route}");
        assert_eq!(outcome(&setup.lab), "unchanged", "by {route}");
        assert_eq!(setup.lab.versions(OFFICE).unwrap().len(), 2);
        drop(setup.endpoint.take());
    }
}

#[test]
fn a_change_in_mid_copy_behind_a_cache_makes_no_version() {
    for route in ["local", "endpoint"] {
        let Some(mut setup) = setup(route, 40 * MIB, None) else { return };
        setup.mount.cache_attributes(Duration::from_secs(3600));
        let answer = setup.half_copied(|copy| {
            setup.write(1, None);
            setup.mount.heal();
            copy.wait(LIMIT).unwrap().expect_code(1).unwrap()
        });
        let error = answer.error().unwrap();
        assert_eq!(error["code"], "source_changed", "by {route}: {error}");
        assert!(setup.lab.versions(OFFICE).unwrap().is_empty(), "by {route}");
        assert!(!setup.is_begun(), "a part of no single moment was kept, by {route}");
        let copy = setup.lab.run_json(&["copy", OFFICE]).unwrap();
        assert_eq!((&copy["outcome"], &copy["resumed_bytes"]), (&"copied".into(), &0.into()), "by {route}: {copy}");
        same_files(&setup.disk.files(), &setup.lab.restore(OFFICE, "out").unwrap()).unwrap();
        drop(setup.endpoint.take());
    }
}

#[test]
fn a_copy_read_too_soon_after_a_change_is_not_resumed() {
    // By the server's clock the disk was written right before, wherever that clock is.
    for ahead in [0, 3600, -3600] {
        let now = SystemTime::now();
        let Some(setup) = setup("local", 40 * MIB, Some(now)) else { return };
        setup.mount.set_times(Times::WholeSecondsAhead(ahead));
        setup.write(1, Some(now));
        let times = FileTimes::new().set_modified(now);
        for file in setup.disk.files() {
            File::options().write(true).open(file).unwrap().set_times(times).unwrap();
        }
        let killed = setup.half_copied(|copy| copy.kill().unwrap());
        assert_ne!(killed.code, 0);
        setup.mount.heal();
        // In the same second, as far as times tell.
        setup.write(2, Some(now));
        let copy = setup.lab.run_json(&["copy", OFFICE]).unwrap();
        assert_eq!(copy["resumed_bytes"], 0, "{ahead}: {copy}");
        same_files(&setup.disk.files(), &setup.lab.restore(OFFICE, "out").unwrap()).unwrap();
    }
}

#[test]
fn an_old_disk_is_resumed_whatever_its_clock() {
    for times in [Times::True, Times::WholeSecondsAhead(-3600)] {
        let Some(setup) = setup("local", 40 * MIB, None) else { return };
        setup.mount.set_times(times);
        // Somebody else's file is what shows how far that clock is.
        wait_for("the clock goes on", LIMIT, || {
            let changed = fs::metadata(&setup.disk.extents()[0]).unwrap().ctime();
            fs::write(setup.lab.path("below").join(APPS).join("Other.txt"), "x").unwrap();
            Ok(fs::metadata(setup.lab.path("below").join(APPS).join("Other.txt")).unwrap().ctime() > changed + 2)
        })
        .unwrap();
        setup.half_copied(|copy| copy.kill().unwrap());
        setup.mount.heal();
        let copy = setup.lab.run_json(&["copy", OFFICE]).unwrap();
        assert!(copy["resumed_bytes"].as_u64().unwrap() > 0, "{copy}");
        same_files(&setup.disk.files(), &setup.lab.restore(OFFICE, "out").unwrap()).unwrap();
    }
}

#[test]
fn a_wrong_clock_postpones_nothing_and_rereads_nothing() {
    let at = |seconds: i64| match u64::try_from(seconds) {
        Ok(later) => SystemTime::UNIX_EPOCH + Duration::from_secs(later),
        Err(_) => SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()),
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    // An hour ahead, 1960, a fraction before 1970, 2038 and later.
    for (seconds, nanoseconds) in
        [(now + 3600, 0), (-315_619_200, 0), (-6, 500_000_000), (2_147_483_648, 0), (4_102_444_800, 0)]
    {
        let modified = at(seconds) + Duration::from_nanos(nanoseconds);
        let Some(setup) = setup("local", MIB, Some(modified)) else { return };
        assert_eq!(outcome(&setup.lab), "copied", "{seconds}");
        let reads = setup.mount.requests(Operation::Open, FLAT);
        assert!(reads > 0);
        assert_eq!(outcome(&setup.lab), "unchanged", "{seconds}");
        assert_eq!(setup.mount.requests(Operation::Open, FLAT), reads, "{seconds} is read in every round");
        let restored = setup.lab.restore(OFFICE, "out").unwrap();
        let time = fs::metadata(restored.join("Office-flat.vmdk")).unwrap().modified().unwrap();
        assert_eq!(time, modified);
    }
}

#[test]
fn a_disk_without_mtime_is_never_called_unchanged() {
    let Some(setup) = setup("local", MIB, None) else { return };
    setup.mount.set_times(Times::Absent);
    assert_eq!(outcome(&setup.lab), "copied");
    setup.write(3, None);
    assert_eq!(outcome(&setup.lab), "copied");
    let restored = setup.lab.restore(OFFICE, "out").unwrap();
    let flat = &setup.disk.extents()[0];
    assert!(same_bytes(flat, &restored.join("Office-flat.vmdk")).unwrap());
}

#[test]
fn a_read_error_names_the_offset() {
    for route in ["local", "endpoint"] {
        let Some(setup) = setup(route, 6 * MIB, None) else { return };
        let data = data_ranges(&File::open(&setup.disk.extents()[0]).unwrap()).unwrap();
        // Pages are what the system reads, so that is how exactly it can be known.
        for bad in [data[0].start, data[0].start + 5 * 4096 + 77, data.last().unwrap().end - 1] {
            setup.mount.set_unreadable(FLAT, bad..bad + 1);
            let error = setup.lab.run(&["copy", OFFICE]).unwrap().error().unwrap();
            let message = error["message"].as_str().unwrap();
            let expected = format!("at byte {} failed", bad / 4096 * 4096);
            assert!(message.contains(&expected), "{route}, {bad}: {message}");
        }
    }
}

#[test]
fn a_copy_waits_until_a_change_would_show_in_mtime() {
    // Written in this very second: what is read must not begin before the next.
    let Some(setup) = setup("local", MIB, None) else { return };
    setup.mount.set_times(Times::WholeSeconds);
    setup.write(1, Some(SystemTime::now()));
    let copy = setup.lab.run_json(&["copy", OFFICE]).unwrap();
    assert!(copy["seconds"].as_f64().unwrap() >= 1.9, "{copy}");
    same_files(&setup.disk.files(), &setup.lab.restore(OFFICE, "out").unwrap()).unwrap();
}
