//! What the service does with versions in idle time.

use std::os::unix::fs::FileExt;

use stackferry_catalog::{AuditAction, VersionRow};
use stackferry_volume::VolumeId;

use crate::bench::{Bench, Service, until};

const SOON: &str = "[schedule]\nevery = \"1s\"\n[verify]\nevery = \"1s\"\nrestore_test = \"1s\"\n";

async fn version(service: &Service, volume: &VolumeId) -> Option<VersionRow> {
    service.app.catalog().versions(volume).await.unwrap().into_iter().next()
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_read_back_and_opened_as_disks_when_they_are_due() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 4 << 20);
    let visio = bench.appstack("Visio", 4 << 20);
    let service = Service::start(&bench, SOON).await;
    for volume in [&office, &visio] {
        until("it is read back and tested", async || {
            let row = version(&service, volume).await;
            row.is_some_and(|row| row.last_verified.is_some() && row.restore_test.is_some())
        })
        .await;
        let test = version(&service, volume).await.unwrap().restore_test.unwrap();
        let text = "not recognised: no partition table and no file system that is known here";
        assert_eq!((test.ok, &*test.found), (true, text));
    }
    let first = version(&service, &visio).await.unwrap().last_verified;
    until("it is read back again in its time", async || version(&service, &visio).await.unwrap().last_verified > first)
        .await;

    // A bit falls over in the vault.
    let row = version(&service, &office).await.unwrap();
    let disk = bench.dir.path().join(format!("vault/volumes/appstack/Office/{}/Office-flat.vmdk", row.version));
    let file = std::fs::File::options().read(true).write(true).open(disk).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 3 << 20).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 3 << 20).unwrap();
    until("the damage is found", async || {
        let rows = service.app.catalog().versions(&office).await.unwrap();
        rows.iter().any(|row| row.damaged.as_deref().is_some_and(|why| why.contains("Office-flat.vmdk, block 3")))
    })
    .await;
    until("its volume is copied again, since nothing else is good", async || {
        let rows = service.app.catalog().versions(&office).await.unwrap();
        rows.len() == 2 && rows[0].damaged.is_none()
    })
    .await;
    let records = service.app.catalog().last_audit_records(1000).await.unwrap();
    for action in [AuditAction::DamageFound, AuditAction::RestoreTested] {
        let record = records.iter().find(|record| record.action.as_str() == action.as_str()).unwrap();
        assert!(record.actor.starts_with("stackferry"), "{record:?}");
    }
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_no_machine_could_use_fails_its_test() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 4 << 20);
    // A partition that reaches beyond the disk's end: right by its digests, and of no use.
    let disk = bench.dir.path().join("nfs01/cloudvolumes/apps/Office-flat.vmdk");
    let file = std::fs::File::options().write(true).open(disk).unwrap();
    let mut table = [0; 66];
    table[4] = 7;
    table[8..12].copy_from_slice(&2048u32.to_le_bytes());
    table[12..16].copy_from_slice(&8000u32.to_le_bytes());
    table[64..].copy_from_slice(&[0x55, 0xaa]);
    file.write_all_at(&table, 446).unwrap();
    drop(file);
    let service = Service::start(&bench, "[schedule]\nevery = \"1s\"\n").await;
    until("it is tested", async || version(&service, &office).await.is_some_and(|row| row.restore_test.is_some()))
        .await;
    let row = version(&service, &office).await.unwrap();
    let test = row.restore_test.unwrap();
    assert!(!test.ok && test.found.contains("partition 1 goes from sector 2048 to 10047"), "{test:?}");
    assert_eq!(row.damaged, None, "it is what was at the source");
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_is_carried_out_by_the_service() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let service = Service::start(&bench, "[schedule]\nevery = \"1s\"\n").await;
    for number in [1, 2, 3] {
        until("it is copied", async || service.app.catalog().versions(&office).await.unwrap().len() == number).await;
        bench.appstack("Office", (number + 1) << 20);
    }
    until("the last change is copied", async || service.app.catalog().versions(&office).await.unwrap().len() == 4)
        .await;
    service.end().await;
    let service = Service::start(&bench, "[schedule]\nevery = \"1h\"\n[retention]\nlast = 2\n").await;
    until("the two oldest go", async || service.app.catalog().versions(&office).await.unwrap().len() == 2).await;
    let rows = service.app.catalog().versions(&office).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.version.seq()).collect::<Vec<_>>(), [4, 3]);
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_and_a_copy_that_fails_for_ever_keep_no_check_waiting() {
    let bench = Bench::new();
    let office = bench.appstack("Office", 1 << 20);
    let visio = bench.appstack("Visio", 1 << 20);
    let service = Service::start(&bench, "[schedule]\nevery = \"1s\"\n[verify]\nrestore_test = \"0s\"\n").await;
    for volume in [&office, &visio] {
        until("it is copied", async || version(&service, volume).await.is_some()).await;
    }
    let paused = service.app.jobs().pause(Some(&office), "test").await.unwrap();
    assert!(paused);
    service.end().await;
    // What the vault notes of it can't be believed any more: each copy of it fails.
    let record = bench.dir.path().join("vault/volumes/appstack/Visio/volume.json");
    std::fs::write(record, "{}").unwrap();
    bench.appstack("Visio", 2 << 20);
    let service = Service::start(&bench, "[schedule]\nevery = \"1s\"\n").await;
    until("the one that is paused is tested", async || {
        version(&service, &office).await.is_some_and(|row| row.restore_test.is_some())
    })
    .await;
    service.end().await;
}
