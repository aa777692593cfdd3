//! `kill -9` at any point, on either side: no partial version is ever visible, and copied blocks need not be copied again.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use stackferry_tests::LabError;
use stackferry_tests::check::{allocated_bytes, same_files};
use stackferry_tests::disk::content::RandomStream;
use stackferry_tests::disk::{DiskContent, DiskSpec, Mix, Sidecar, TestDisk};
use stackferry_tests::lab::{EndpointProcess, Faults, Lab, Proxy, wait_for};

const LAB: &str = env!("CARGO_BIN_EXE_stackferry-lab");
const OFFICE: &str = "appstack/Office";
const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(120);
/// How often a copy is killed.
const POINTS: u64 = 10;
/// The data of the disk. It does not compress, and it is more than twice what may be read again.
const DATA: u64 = 144 * MIB;
/// The most that an interrupted copy may cost, in bytes that are read again.
const AGAIN: u64 = 64 * MIB;
/// How fast the network is, in bytes per second: a copy takes about a second, so that it can be met in the middle.
const RATE: u64 = 160 * MIB;

fn disk(lab: &Lab, data: u64) -> TestDisk {
    let spec = DiskSpec::new("Office", data + 16 * MIB, 4).content(DiskContent::Plain { bytes: data });
    let spec = DiskSpec { mix: Mix { text: 0, zero: 0 }, ..spec }.sidecar(Sidecar::Metadata);
    TestDisk::build(&lab.folder("nfs01", "cloudvolumes/apps").unwrap(), spec).unwrap()
}

/// A service, a proxy, an endpoint, and a dense disk.
struct Setup {
    endpoint: EndpointProcess,
    proxy: Proxy,
    lab: Lab,
    disk: TestDisk,
}

fn setup() -> Setup {
    let mut lab = Lab::new(LAB).unwrap();
    let disk = disk(&lab, DATA);
    let endpoint = lab.serve(&["nfs01"]).unwrap();
    let proxy = Proxy::new(endpoint.address()).unwrap();
    proxy.set(Faults { rate: Some(RATE), ..Faults::default() });
    lab.add_endpoint_at("nfs01", &proxy.address().to_string(), endpoint.host_key()).unwrap();
    Setup { endpoint, proxy, lab, disk }
}

/// The files of that name that are being written in a vault.
fn incoming(vault: &Path, kind: &str, name: &str) -> Vec<PathBuf> {
    let transfers = fs::read_dir(vault.join("incoming")).into_iter().flatten();
    transfers.map(|entry| entry.unwrap().path().join(kind).join(name)).filter(|path| path.exists()).collect()
}

/// How much of the disk is in a vault's incoming folder.
fn arrived(vault: &Path) -> u64 {
    incoming(vault, "files", "Office-flat.vmdk").iter().map(|file| allocated_bytes(file).unwrap_or(0)).sum()
}

/// What a listing of a volume's folder in the vault shows of versions.
fn visible(vault: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(vault.join("volumes").join(OFFICE)).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("20")).collect()
}

/// Runs `work` while somebody looks at the vault all the time. Gives every version that was ever visible.
fn watched<T>(vault: &Path, work: impl FnOnce() -> T) -> (T, BTreeSet<String>) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                seen.append(&mut visible(vault));
                std::thread::park_timeout(Duration::from_millis(1));
            }
            seen.append(&mut visible(vault));
            seen
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (result, looking.join().unwrap())
    })
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Service,
    Endpoint,
}

/// Kills a side when so much has arrived, and gives what was there then.
fn interrupt(setup: &mut Setup, vault: &Path, side: Side, point: u64) -> u64 {
    let mut copy = setup.lab.spawn(&["copy", OFFICE]).unwrap();
    wait_for("a copy in its middle", LIMIT, || {
        if copy.has_ended()? {
            return Err(LabError::Wrong(format!("it ended before it was killed: {}", copy.stderr())));
        }
        Ok(arrived(vault) >= point)
    })
    .unwrap();
    match side {
        Side::Service => assert_eq!(copy.kill().unwrap().code, 128 + 9),
        Side::Endpoint => {
            setup.endpoint.kill().unwrap();
            let answer = copy.wait(LIMIT).unwrap().expect_code(1).unwrap();
            let error = answer.error().unwrap();
            assert!(["unreachable", "silent"].contains(&error["code"].as_str().unwrap()), "{error}");
            assert!(!error["hint"].as_str().unwrap().is_empty());
            setup.endpoint.restart().unwrap();
            setup.proxy.redirect(setup.endpoint.address());
        }
    }
    arrived(vault)
}

/// Ten points of a copy, drawn from a seed; one in each tenth of it.
fn points(label: &str) -> Vec<u64> {
    let mut stream = RandomStream::new(20_261_122, label);
    let tenth = DATA / POINTS;
    (0..POINTS).map(|number| number * tenth + 1 + stream.below(tenth * 9 / 10)).collect()
}

fn kill_and_go_on(side: Side) {
    let mut setup = setup();
    for (number_of, point) in points(&format!("{side:?}")).into_iter().enumerate() {
        let vault = setup.lab.path(&format!("vault-{number_of}"));
        setup.lab.config.set("vault.path", vault.to_str().unwrap());
        setup.lab.config.set("state_dir", setup.lab.path(&format!("state-{number_of}")).to_str().unwrap());
        let (written, seen) = watched(&vault, || interrupt(&mut setup, &vault, side, point));
        assert!(seen.is_empty(), "{seen:?} was visible after {point} bytes");
        assert!(setup.lab.versions(OFFICE).unwrap().is_empty());

        let (copy, seen) = watched(&vault, || setup.lab.run_json(&["copy", OFFICE]).unwrap());
        let version = copy["version"].as_str().unwrap().to_owned();
        assert_eq!(seen, BTreeSet::from([version.clone()]));
        let versions = setup.lab.versions(OFFICE).unwrap();
        assert_eq!((versions.len(), versions[0]["version"].as_str()), (1, Some(version.as_str())));

        let read = number(&copy["bytes"], "read");
        let resumed = number(&copy, "resumed_bytes");
        let again = written.saturating_sub(DATA.saturating_sub(read));
        assert!(again <= AGAIN, "{side:?} at {point}: of {written} bytes that were there, {again} were read again");
        let logical = number(&copy["bytes"], "logical");
        assert!(read + resumed <= logical + MIB, "{side:?} at {point}: {copy}");
        if written > AGAIN {
            assert!(resumed >= written - AGAIN, "{side:?} at {point}: {resumed} of {written} bytes were kept: {copy}");
        }
        let restored = setup.lab.restore(OFFICE, &format!("restored-{number_of}")).unwrap();
        same_files(&setup.disk.files(), &restored).unwrap();
        assert_eq!(number(&setup.lab.run_json(&["verify"]).unwrap(), "ok"), 1);
        assert_eq!(incoming(&vault, "files", "Office-flat.vmdk"), [] as [PathBuf; 0]);
        fs::remove_dir_all(restored).unwrap();
        fs::remove_dir_all(vault).unwrap();
    }
}

#[test]
fn killing_the_service_during_a_copy_loses_nothing() {
    kill_and_go_on(Side::Service);
}

#[test]
fn killing_the_endpoint_during_a_copy_loses_nothing() {
    kill_and_go_on(Side::Endpoint);
}

/// Small copies, killed by the clock: at the beginning, in the middle, while committing, and just after it.
#[test]
fn every_version_listed_after_a_crash_is_whole() {
    let mut lab = Lab::new(LAB).unwrap();
    let disk = disk(&lab, 8 * MIB);
    lab.add_local("nfs01").unwrap();
    let first = lab.run(&["copy", OFFICE]).unwrap();
    first.json_ok().unwrap();
    let whole = Duration::from_secs_f64(first.seconds);
    let mut stream = RandomStream::new(7, "clock");
    let (mut killed, mut finished) = (0, 0);
    for _ in 0..25 {
        let mut copy = lab.spawn(&["copy", OFFICE]).unwrap();
        let until =
            Instant::now() + whole.mul_f64(0.2) + whole.mul_f64(0.9).mul_f64(stream.below(1000) as f64 / 1000.0);
        wait_for("a moment", LIMIT, || Ok(Instant::now() >= until || copy.has_ended()?)).unwrap();
        match copy.kill().unwrap().code {
            0 => finished += 1,
            _ => killed += 1,
        }
        let listed: BTreeSet<String> =
            lab.versions(OFFICE).unwrap().iter().map(|one| one["version"].as_str().unwrap().to_owned()).collect();
        assert_eq!(listed, visible(&lab.vault()));
    }
    assert!(killed >= 5, "only {killed} of 25 were met, {finished} had ended");
    let verified = lab.run_json(&["verify"]).unwrap();
    assert_eq!(number(&verified, "checked"), number(&verified, "ok"));
    assert!(number(&verified, "checked") > finished);
    same_files(&disk.files(), &lab.restore(OFFICE, "restored").unwrap()).unwrap();
    // A round puts the rest in order.
    lab.run_json(&["copy", OFFICE]).unwrap();
    lab.run_json(&["run", "--once"]).unwrap();
    assert_eq!(lab.run_json(&["audit", "verify"]).unwrap()["ok"], true);
}

/// Changes a byte of a file in place.
fn tamper(path: &Path, offset: u64) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn a_resumed_copy_keeps_only_blocks_with_matching_hashes() {
    let mut setup = setup();
    let vault = setup.lab.vault();
    let resume = |setup: &Setup| {
        let answer = setup.lab.run(&["copy", OFFICE]).unwrap();
        let copy = answer.json_ok().unwrap();
        let restored = setup.lab.restore(OFFICE, "restored").unwrap();
        same_files(&setup.disk.files(), &restored).unwrap();
        fs::remove_dir_all(restored).unwrap();
        fs::remove_dir_all(&vault).unwrap();
        fs::remove_dir_all(setup.lab.path("state")).unwrap();
        (number(&copy, "resumed_bytes"), answer.stderr)
    };
    let interrupt = |setup: &mut Setup| interrupt(setup, &vault, Side::Service, 100 * MIB);

    interrupt(&mut setup);
    let (untouched, _) = resume(&setup);
    assert!(untouched >= 32 * MIB, "{untouched}");

    // A bit in the middle of what the journal calls done.
    interrupt(&mut setup);
    let extent = incoming(&vault, "files", "Office-flat.vmdk").remove(0);
    tamper(&extent, 5 * MIB + 77);
    let (kept, stderr) = resume(&setup);
    assert!(stderr.contains("does not match"), "{stderr}");
    assert!(kept >= 32 * MIB, "{kept}");

    // A bit in the journal: nothing after it is believed.
    interrupt(&mut setup);
    let journal = incoming(&vault, "journal", "Office-flat.vmdk").remove(0);
    tamper(&journal, 64 * 4 + 20);
    let (kept, _) = resume(&setup);
    assert!(kept <= 16 * MIB, "{kept}");

    // The journal is gone, or no journal at all.
    interrupt(&mut setup);
    fs::remove_file(incoming(&vault, "journal", "Office-flat.vmdk").remove(0)).unwrap();
    assert!(resume(&setup).0 < MIB, "only the small files are known");
    interrupt(&mut setup);
    fs::write(incoming(&vault, "journal", "Office-flat.vmdk").remove(0), "no journal").unwrap();
    assert!(resume(&setup).0 < MIB);

    // The data is cut, though the journal says it is there.
    interrupt(&mut setup);
    let extent = incoming(&vault, "files", "Office-flat.vmdk").remove(0);
    fs::File::options().write(true).open(extent).unwrap().set_len(3 * MIB).unwrap();
    resume(&setup);
}

#[test]
fn the_copy_of_a_changed_disk_is_not_resumed() {
    let mut setup = setup();
    let vault = setup.lab.vault();
    interrupt(&mut setup, &vault, Side::Service, 40 * MIB);
    setup.disk.overwrite(3, 2 * MIB, MIB).unwrap();
    let copy = setup.lab.run_json(&["copy", OFFICE]).unwrap();
    assert_eq!(number(&copy, "resumed_bytes"), 0);
    same_files(&setup.disk.files(), &setup.lab.restore(OFFICE, "restored").unwrap()).unwrap();
}

#[test]
fn an_interrupted_copy_stops_soon_and_keeps_its_blocks() {
    let setup = setup();
    let vault = setup.lab.vault();
    let mut copy = setup.lab.spawn(&["copy", OFFICE]).unwrap();
    wait_for("a copy in its middle", LIMIT, || Ok(copy.has_ended()? || arrived(&vault) >= 80 * MIB)).unwrap();
    let answer = copy.terminate(Duration::from_secs(10)).unwrap().expect_code(130).unwrap();
    assert_eq!(answer.error().unwrap()["code"], "interrupted");
    let written = arrived(&vault);
    let copy = setup.lab.run_json(&["copy", OFFICE]).unwrap();
    assert!(number(&copy, "resumed_bytes") >= written.saturating_sub(AGAIN).max(MIB), "{written}: {copy}");
    same_files(&setup.disk.files(), &setup.lab.restore(OFFICE, "restored").unwrap()).unwrap();
}
