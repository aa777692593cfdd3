//! Making, opening and refusing the file.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use stackferry_catalog::*;

use crate::bench::*;

#[tokio::test]
async fn a_new_catalog_is_private_empty_and_has_an_id() {
    let bench = Bench::new().await;
    // A write makes the side files, which may tell as much as the file itself.
    bench.catalog.bind_vault("a").await.unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(bench.dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
        files += 1;
    }
    assert_eq!(files, 3, "the file, its WAL and its index");
    assert!(bench.catalog.is_empty().await.unwrap());
    let id = bench.catalog.install_id().await.unwrap();
    assert!(id.len() == 6 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    bench.catalog.quick_check().await.unwrap();

    let path = bench.path.clone();
    bench.catalog.clone().close().await;
    let again = Catalog::open(&path).await.unwrap();
    assert_eq!(again.install_id().await.unwrap(), id);
}

#[tokio::test]
async fn made_by_root_it_belongs_to_the_folders_owner() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(dir.path(), Some(1234), Some(1235)).unwrap();
    let path = dir.path().join("catalog.sqlite");
    let catalog = Catalog::open(&path).await.unwrap();
    catalog.bind_vault("a").await.unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let data = entry.unwrap().metadata().unwrap();
        assert_eq!((data.uid(), data.gid()), (1234, 1235));
    }
}

#[tokio::test]
async fn many_may_open_a_new_file_at_the_same_moment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.sqlite");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let path = path.clone();
        tasks.spawn(async move { Catalog::open(&path).await.unwrap().install_id().await.unwrap() });
    }
    let ids = tasks.join_all().await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn it_belongs_to_one_vault() {
    let bench = Bench::new().await;
    assert_eq!(bench.catalog.vault_id().await.unwrap(), None);
    bench.catalog.bind_vault("one").await.unwrap();
    bench.catalog.bind_vault("one").await.unwrap();
    let error = bench.catalog.bind_vault("two").await.unwrap_err();
    assert!(matches!(&error, CatalogError::OtherVault { known, other } if known == "one" && other == "two"), "{error}");
    assert_eq!(bench.another().await.vault_id().await.unwrap().as_deref(), Some("one"));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.sqlite");
    let content = b"this is no database, but it is as long as one may be at least. ".repeat(100);
    std::fs::write(&path, &content).unwrap();
    for error in [Catalog::open(&path).await.unwrap_err(), Catalog::open_read_only(&path).await.unwrap_err()] {
        assert!(matches!(error, CatalogError::Corrupt { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("stackferry rebuild"), "{error:?}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), content);
}

#[tokio::test]
async fn a_damaged_page_is_found_by_the_check() {
    let bench = Bench::new().await;
    let volumes: Vec<_> = (0..200).map(|number| seen(&format!("appstack/a{number}"), &["nfs01"])).collect();
    bench.round(volumes, &[]).await;
    bench.catalog.quick_check().await.unwrap();
    bench.catalog.clone().close().await;

    // Every page but the first two is overwritten: the header is still that of a database.
    let mut bytes = std::fs::read(&bench.path).unwrap();
    bytes[8192..].fill(0x5a);
    std::fs::write(&bench.path, &bytes).unwrap();
    let error = match Catalog::open(&bench.path).await {
        Ok(catalog) => catalog.quick_check().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, CatalogError::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn a_newer_or_another_schema_is_refused() {
    let bench = Bench::new().await;
    bench
        .tamper(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9999, 'later', TRUE, x'00', 0)",
        )
        .await;
    let error = Catalog::open(&bench.path).await.unwrap_err();
    assert!(matches!(error, CatalogError::TooNew { schema: 9999, .. }), "{error:?}");
    assert!(error.hint().is_some());

    bench
        .tamper("DELETE FROM _sqlx_migrations WHERE version = 9999; UPDATE _sqlx_migrations SET checksum = x'00'")
        .await;
    let error = Catalog::open(&bench.path).await.unwrap_err();
    assert!(matches!(error, CatalogError::Schema { .. }), "{error:?}");
}

#[tokio::test]
async fn an_empty_database_is_brought_up_to_date_but_not_when_reading() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.sqlite");
    assert!(matches!(Catalog::open_read_only(&path).await, Err(CatalogError::Missing { .. })));
    std::fs::write(&path, b"").unwrap();
    assert!(matches!(Catalog::open_read_only(&path).await, Err(CatalogError::TooOld { .. })));
    Catalog::open(&path).await.unwrap();

    let reader = Catalog::open_read_only(&path).await.unwrap();
    assert!(reader.is_empty().await.unwrap());
    let error = reader.bind_vault("a").await.unwrap_err();
    assert!(!error.is_busy() && error.hint().is_some(), "{error:?}");
}

#[tokio::test]
async fn a_missing_folder_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none/catalog.sqlite");
    let error = Catalog::open(&path).await.unwrap_err();
    assert!(error.to_string().contains("none/catalog.sqlite"), "{error}");
}

/// Tasks are spawned with these: each must be able to move between threads.
#[tokio::test]
async fn every_future_can_be_spawned() {
    fn send(_: impl Send) {}
    let bench = Bench::new().await;
    let (catalog, id, key) = (&bench.catalog, vol("appstack/Office"), key("nfs01"));
    let row = version("appstack/Office", 1, bench.now());
    let round =
        InventoryRound { at: bench.now(), volumes: vec![], scanned: vec![], unreachable: vec![], complete: true };
    let volume = vault_volume("appstack/Office", vec![], vec![]);
    let limits = HistoryLimits { before: bench.now(), size: 0 };
    send(Catalog::open(&bench.path));
    send(Catalog::open_read_only(&bench.path));
    send(catalog.record_inventory(&round));
    send((catalog.volumes(), catalog.volume(&id), catalog.baselines(&id), catalog.set_baselines(&id, &[])));
    send((catalog.add_version(&row), catalog.versions(&id), catalog.all_versions()));
    send((catalog.remove_version(&id, &row.version), catalog.set_pinned(&id, &row.version, true)));
    send((catalog.mark_damaged(&id, &row.version, ""), catalog.set_verified(&id, &row.version, bench.now(), true)));
    send((catalog.replace_all(std::slice::from_ref(&volume)), catalog.adopt_vault("v", std::slice::from_ref(&volume))));
    send((catalog.indexed(std::slice::from_ref(&id)), catalog.indexed_volumes()));
    send((catalog.start_attempt(&id, "local", Trigger::Api), catalog.close_interrupted_attempts()));
    send((catalog.attempts(&id, 1), catalog.open_attempts(), catalog.trim_history(&limits)));
    send((catalog.hold_lease("v", "copy", std::time::Duration::ZERO), catalog.leases()));
    send((catalog.outstanding_credentials(), catalog.credential_ended("a", CredentialEnding::Expired)));
    send((catalog.verify_audit(), catalog.audit_records(0, 1), catalog.last_audit_records(1)));
    send(catalog.cached_descriptors(&key));
    send(catalog.store_descriptors(&key, &std::collections::HashMap::new()));
    send(catalog.quick_check());
}
