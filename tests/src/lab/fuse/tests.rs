#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, CWD, SeekFrom, StatxFlags, seek, statx};

use super::*;
use crate::tools::wait_until;

const MIB: u64 = 1 << 20;
const ONE: usize = 1 << 20;

struct Bench {
    mount: FaultyMount,
    below: PathBuf,
    // Last: the folder goes when nothing is mounted in it any more.
    _home: tempfile::TempDir,
}

/// A file of 4 MiB, data in the first and the third, in a folder `a`.
fn bench() -> Option<Bench> {
    if !FaultyMount::possible().unwrap() {
        return None;
    }
    let home = tempfile::tempdir().unwrap();
    let below = home.path().join("below");
    fs::create_dir_all(below.join("a")).unwrap();
    let file = fs::File::create_new(below.join("a/disk")).unwrap();
    file.set_len(4 * MIB).unwrap();
    file.write_all_at(&[7; ONE], 0).unwrap();
    file.write_all_at(&[9; ONE], 2 * MIB).unwrap();
    let mount = FaultyMount::mount(&below, &home.path().join("point")).unwrap();
    Some(Bench { mount, below, _home: home })
}

impl Bench {
    fn disk(&self) -> PathBuf {
        self.mount.point().join("a/disk")
    }

    fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
        result.err().and_then(|error| error.raw_os_error())
    }
}

#[test]
fn fuse_mount_shows_the_folder_below() {
    let Some(bench) = bench() else { return };
    let (shown, below) = (fs::metadata(bench.disk()).unwrap(), fs::metadata(bench.below.join("a/disk")).unwrap());
    let facts = |of: &fs::Metadata| (of.len(), of.blocks(), of.ino(), of.mtime(), of.mtime_nsec(), of.mode());
    assert_eq!(facts(&shown), facts(&below));
    assert_eq!(fs::read(bench.disk()).unwrap(), fs::read(bench.below.join("a/disk")).unwrap());
    let names: Vec<_> = fs::read_dir(bench.mount.point().join("a")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["disk"]);
    let file = fs::File::open(bench.disk()).unwrap();
    assert_eq!(seek(&file, SeekFrom::Data(MIB)).unwrap(), 2 * MIB);
    assert_eq!(seek(&file, SeekFrom::Hole(0)).unwrap(), MIB);
    bench.mount.hide("a/disk");
    assert_eq!(fs::read_dir(bench.mount.point().join("a")).unwrap().count(), 0);
    assert!(fs::metadata(bench.disk()).is_ok());
}

#[test]
fn faults_affect_only_the_injected_path() {
    let Some(bench) = bench() else { return };
    let file = fs::File::open(bench.disk()).unwrap();
    bench.mount.fail(Operation::Stat, "a/disk", Errno::STALE);
    assert_eq!(Bench::errno(fs::metadata(bench.disk())), Some(Errno::STALE.raw_os_error()));
    assert!(fs::metadata(bench.mount.point().join("a")).is_ok());
    bench.mount.heal();
    bench.mount.fail(Operation::Read, "", Errno::IO);
    assert_eq!(Bench::errno(file.read_at(&mut [0], 0)), Some(Errno::IO.raw_os_error()));
    bench.mount.heal();
    bench.mount.set_unreadable("a/disk", 3 * MIB + 5..3 * MIB + 6);
    let mut buffer = vec![0; 4096];
    assert!(file.read_exact_at(&mut buffer, 3 * MIB - 4096).is_ok());
    assert_eq!(Bench::errno(file.read_exact_at(&mut buffer, 3 * MIB)), Some(Errno::IO.raw_os_error()));
    bench.mount.set_allocated("a/disk", 12 * MIB);
    assert_eq!(fs::metadata(bench.disk()).unwrap().blocks() * 512, 12 * MIB);
}

#[test]
fn holes_and_times_follow_the_settings() {
    let Some(bench) = bench() else { return };
    let file = fs::File::open(bench.disk()).unwrap();
    let data = |at| seek(&file, SeekFrom::Data(at));
    for (holes, expected) in [
        (HoleReporting::Everything, Err(Errno::NXIO)),
        (HoleReporting::Also(0..MIB), Ok(2 * MIB)),
        (HoleReporting::NoProgress, Ok(MIB)),
        (HoleReporting::Backwards, Ok(MIB - 1)),
        (HoleReporting::Beyond, Ok(4 * MIB + 4096)),
        (HoleReporting::Refused(Errno::IO), Err(Errno::IO)),
        (HoleReporting::True, Ok(2 * MIB)),
    ] {
        bench.mount.set_holes("a/disk", holes.clone());
        assert_eq!(data(MIB), expected, "{holes:?}");
    }
    let truth = fs::metadata(bench.below.join("a/disk")).unwrap();
    for (times, seconds) in [
        (Times::WholeSeconds, truth.mtime()),
        (Times::Absent, 0),
        (Times::Ahead(Duration::from_secs(3600)), truth.mtime() + 3600),
        (Times::Behind(Duration::from_secs(60)), truth.mtime() - 60),
    ] {
        bench.mount.set_times(times);
        assert_eq!(fs::metadata(bench.disk()).unwrap().mtime(), seconds, "{times:?}");
    }
    bench.mount.set_times(Times::WholeSeconds);
    assert_eq!(fs::metadata(bench.disk()).unwrap().mtime_nsec(), 0);
}

#[test]
fn attributes_stay_stale_until_revalidated() {
    let Some(bench) = bench() else { return };
    bench.mount.cache_attributes(Duration::from_secs(600));
    let before = fs::metadata(bench.disk()).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(bench.below.join("a/disk")).unwrap();
    file.set_modified(before + Duration::from_secs(77)).unwrap();
    assert_eq!(fs::metadata(bench.disk()).unwrap().modified().unwrap(), before);
    let fresh = statx(CWD, bench.disk(), AtFlags::STATX_FORCE_SYNC, StatxFlags::MTIME).unwrap();
    assert_eq!(fresh.stx_mtime.tv_sec, fs::metadata(bench.below.join("a/disk")).unwrap().mtime());
}

#[test]
fn a_hang_ends_when_healed_or_its_process_is_killed() {
    let Some(bench) = bench() else { return };
    bench.mount.hang(Operation::Read, "a/disk");
    let start = || Command::new("cat").arg(bench.disk()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // A read may be several requests: the kernel reads ahead.
    let hang = |some: bool| {
        let until = Duration::from_secs(60);
        wait_until("requests hang", until, || Ok((bench.mount.hanging() > 0) == some)).unwrap();
    };
    let mut killed = start();
    hang(true);
    killed.kill().unwrap();
    killed.wait().unwrap();
    hang(false);
    let mut healed = start();
    let mut out = healed.stdout.take().unwrap();
    hang(true);
    bench.mount.heal();
    let mut bytes = Vec::new();
    out.read_to_end(&mut bytes).unwrap();
    assert!(healed.wait().unwrap().success());
    assert_eq!(bytes.len() as u64, 4 * MIB);
    // Dropped while somebody waits, it lets them go.
    bench.mount.hang_everything();
    let mut last = start();
    hang(true);
    let point = bench.mount.point().to_owned();
    drop(bench);
    assert!(!last.wait().unwrap().success());
    assert!(!fs::read_to_string("/proc/mounts").unwrap().contains(point.to_str().unwrap()));
}
