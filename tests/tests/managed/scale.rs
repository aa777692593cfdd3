//! The target size through the whole program: a round costs little, and a quiet one sends the manager nothing.

use std::fs::{self, File};
use std::time::Duration;

use stackferry_tests::avm::{AvmSite, AvmVersion};
use stackferry_tests::lab::wait_for;

use super::support::*;

const WRITABLES: u32 = 5_000;
const PACKAGES: u32 = 200;
/// The most memory that the program may take, in bytes.
const MAX_MEMORY: u64 = 256 << 20;

/// The most processor time that a round may take, in seconds, also in a build that is not optimized.
const MAX_SECONDS: f64 = 10.0;
/// What Linux counts processor time in there, per second (`USER_HZ`, proc(5)).
const TICKS: f64 = 100.0;

/// The processor time that a process has taken so far, in seconds.
fn processor_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name may hold blanks; the fields after it are numbered from 3 (proc(5)): 14 and 15 are user and system time.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |number: usize| fields[number - 3].parse::<u64>().unwrap();
    (ticks(14) + ticks(15)) as f64 / TICKS
}

#[test]
fn a_scan_of_5000_writables_bounds_memory_and_requests() {
    let mut site = AvmSite::new(AvmVersion::V4_15);
    for number in 0..PACKAGES {
        let path = format!("appvolumes/packages/App{number}.vmdk");
        site.package(&format!("App {number}"), &format!("App {number} 1.0"), "vsan01", &path, &guid(number));
    }
    let path = |number: u32| format!("appvolumes/writables/CORP!5C!user{number}.vmdk");
    for number in 0..WRITABLES {
        // Everybody is at work: all is looked at, and nothing is to be copied.
        site.writable(&format!(r"CORP\user{number}"), "nfs01", &path(number), &guid(100_000 + number)).attach("VDI");
    }
    site.storage("vsan01", "vsan", true);
    let (_endpoint, mut lab, double) = place("local", site);
    let model = build(&lab, "nfs01", &path(0), 1);
    let text = fs::read_to_string(model.path()).unwrap();
    let bytes = fs::metadata(&model.extents()[0]).unwrap().len();
    let folder = lab.folder("nfs01", "appvolumes/writables").unwrap();
    for number in 1..WRITABLES {
        let stem = format!("CORP!5C!user{number}");
        fs::write(folder.join(format!("{stem}.vmdk")), text.replace("CORP!5C!user0", &stem)).unwrap();
        let extent = folder.join(format!("{stem}-flat.vmdk"));
        File::options().write(true).create_new(true).open(extent).unwrap().set_len(bytes).unwrap();
    }

    lab.config.set("schedule.every", "1s");
    let mut service = lab.spawn(&["run"]).unwrap();
    let lists = || double.count("GET /app_volumes/writables");
    let limit = Duration::from_secs(120);
    // The list of the next round is asked for when all of the last one is done.
    let mut rounds = |count: usize| {
        wait_for("a round", limit, || Ok(service.has_ended()? || lists() >= count)).unwrap();
        assert!(!service.has_ended().unwrap(), "{}", service.stderr());
        (processor_seconds(service.id()), double.details(), service.peak_memory())
    };
    let (first_cost, first_details, _) = rounds(2);
    let (cost, details, memory) = rounds(4);
    let later_cost = (cost - first_cost) / 2.0;
    println!(
        "{WRITABLES} writables, {PACKAGES} packages: first round {first_cost:.1} s of processor time, a later one {later_cost:.1} s, \
         {} MiB at most",
        memory >> 20
    );
    assert_eq!((first_details, details), (PACKAGES as usize, PACKAGES as usize), "one question for each package, once");
    assert!(first_cost <= MAX_SECONDS && later_cost <= MAX_SECONDS);
    assert!(memory > 0 && memory <= MAX_MEMORY, "it took {memory} bytes");
    assert!(double.write_requests().is_empty());
    assert_eq!(service.terminate(Duration::from_secs(30)).unwrap().code, 0);

    let volumes = lab.run_json(&["volumes"]).unwrap();
    let volumes = volumes.as_array().unwrap();
    let count = |state: &str, reason: &str| {
        volumes.iter().filter(|one| one["state"] == state && one["reason"]["code"] == reason).count()
    };
    assert_eq!(count("deferred", "attached"), WRITABLES as usize);
    assert_eq!(count("unprotectable", "vsan_only"), PACKAGES as usize);
}
