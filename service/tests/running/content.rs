//! What the disks of versions hold: what was encrypted or wiped is an incident on the day it is copied.

use std::path::PathBuf;

use stackferry_catalog::{AuditAction, VolumeState};
use stackferry_engine::finding::KnownVersions;
use stackferry_engine::{inventory, versions};
use stackferry_volume::VolumeId;
use stackferry_volume::content::ContentState;

use crate::bench::Bench;
use crate::prune::{copies, numbers, open, run};

const BYTES: usize = 2 << 20;
/// Where the partition begins.
const START: usize = 1 << 20;

/// A disk with one partition that holds a file system which is recognised.
fn formatted() -> Vec<u8> {
    let mut disk = vec![0; BYTES];
    disk[446 + 4] = 7;
    disk[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    disk[446 + 12..446 + 16].copy_from_slice(&2048u32.to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[START + 3..START + 11].copy_from_slice(b"EXFAT   ");
    disk
}

fn extent(bench: &Bench) -> PathBuf {
    bench.dir.path().join("nfs01/cloudvolumes/apps/Office-flat.vmdk")
}

async fn state(app: &stackferry_engine::app::App, volume: &VolumeId) -> (VolumeState, Option<ContentState>) {
    let row = app.catalog().volume(volume).await.unwrap().unwrap();
    (row.state, row.content)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_lost_its_file_system_is_an_incident() {
    let random = |from: usize| {
        let mut disk = formatted();
        for (at, byte) in disk.iter_mut().enumerate().skip(from) {
            *byte = u8::try_from(at * 7 % 251).unwrap();
        }
        disk
    };
    let wiped = |from: usize, to: usize| {
        let mut disk = formatted();
        disk[from..to].fill(0);
        disk
    };
    for (what, disk) in [
        ("all zeros", vec![0; BYTES]),
        ("all random", random(0)),
        ("without its partition table", wiped(0, 512)),
        ("with a partition of zeros", wiped(START, BYTES)),
        ("with a random partition", random(START)),
    ] {
        let bench = Bench::new();
        let office = bench.appstack("Office", BYTES);
        std::fs::write(extent(&bench), formatted()).unwrap();
        let app = open(&bench, "[retention]\nlast = 1\n").await;
        let rows = copies(&app, &office, 2).await;
        assert_eq!(rows[1].incident, None, "{what}");
        assert_eq!(state(&app, &office).await, (VolumeState::Ready, Some(ContentState::NotInspected)));

        std::fs::write(extent(&bench), disk).unwrap();
        let rows = copies(&app, &office, 1).await;
        let last = rows.last().unwrap();
        let why = last.incident.clone().unwrap_or_default();
        let before = rows[1].version.to_string();
        assert!(why.starts_with("it held exFAT and now is ") && why.contains(&before), "{what}: {why}");
        assert_eq!(state(&app, &office).await, (VolumeState::Incident, Some(ContentState::NotRecognised)), "{what}");
        let finding = KnownVersions::of(&app, &office).await.unwrap().finding(&last.version).unwrap();
        assert!(finding.next.contains(&before), "the version before is of use: {finding:?}");
        let records = app.catalog().last_audit_records(100).await.unwrap();
        assert!(records.iter().any(|one| one.action.as_str() == AuditAction::IncidentFound.as_str()), "{what}");

        let usual = versions::newest(&app, &office).await.unwrap();
        assert_eq!(usual, rows[1].version, "{what}: a restore takes the version before by itself");

        // Nothing is pruned, however often the wiped disk is copied.
        let rows = copies(&app, &office, 2).await;
        assert!(rows[2..].iter().all(|row| row.incident.is_some()), "{what}");
        assert_eq!(run(&app, false).await.held.len(), 1, "{what}");
        assert_eq!(numbers(&app, &office).await, [1, 2, 3, 4, 5], "{what}");

        // With its file system back it ends.
        std::fs::write(extent(&bench), formatted()).unwrap();
        copies(&app, &office, 1).await;
        inventory::look(&app).await.unwrap();
        assert_eq!(state(&app, &office).await, (VolumeState::Ready, Some(ContentState::NotInspected)), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_never_had_a_file_system_is_no_incident() {
    let bench = Bench::new();
    let office = bench.appstack("Office", BYTES);
    let app = open(&bench, "").await;
    for disk in [vec![0; BYTES], vec![7; BYTES], formatted()] {
        std::fs::write(extent(&bench), disk).unwrap();
        let rows = copies(&app, &office, 1).await;
        assert_eq!(rows.last().unwrap().incident, None);
        assert_eq!(state(&app, &office).await.0, VolumeState::Ready);
    }
    let rows = app.catalog().versions(&office).await.unwrap();
    let states: Vec<_> = rows.iter().map(|row| row.content.as_ref().unwrap().state).collect();
    assert_eq!(states, [ContentState::NotInspected, ContentState::NotRecognised, ContentState::NotRecognised]);
}
