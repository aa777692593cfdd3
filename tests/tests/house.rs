//! The house stands as ARCHITECTURE.md says: arrows run downward only, and every room keeps the same rules.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Each room, its floor, and the rooms that it may use. The tests use everything.
const ROOMS: [(&str, u32, &[&str]); 9] = [
    ("stackferry-config", 1, &[]),
    ("stackferry-volume", 1, &[]),
    ("stackferry-https", 1, &[]),
    ("stackferry-vsphere", 2, &["stackferry-config", "stackferry-volume", "stackferry-https"]),
    ("stackferry-vault", 2, &["stackferry-volume"]),
    ("stackferry-catalog", 2, &["stackferry-config", "stackferry-volume"]),
    ("stackferry-discover", 3, &["stackferry-config", "stackferry-volume", "stackferry-https", "stackferry-vsphere"]),
    ("stackferry-transfer", 3, &["stackferry-config", "stackferry-volume", "stackferry-https", "stackferry-vsphere"]),
    (
        "stackferry",
        4,
        &[
            "stackferry-config",
            "stackferry-volume",
            "stackferry-https",
            "stackferry-vsphere",
            "stackferry-vault",
            "stackferry-catalog",
            "stackferry-discover",
            "stackferry-transfer",
        ],
    ),
];
const TESTS: &str = "stackferry-tests";

fn workspace() -> Metadata {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    MetadataCommand::new().manifest_path(root).no_deps().other_options(["--offline".to_owned()]).exec().unwrap()
}

/// The rooms that a crate uses, for its tests and its build too.
fn uses(package: &Package) -> BTreeSet<&str> {
    package.dependencies.iter().map(|used| used.name.as_str()).filter(|name| name.starts_with("stackferry")).collect()
}

#[test]
fn arrows_run_downward_only() {
    let metadata = workspace();
    let floors: BTreeMap<&str, u32> = ROOMS.iter().map(|(name, floor, _)| (*name, *floor)).collect();
    let packages = metadata.workspace_packages();
    assert!(packages.len() >= 9, "{} crates", packages.len());
    for package in &packages {
        let name = package.name.as_str();
        if name == TESTS {
            continue;
        }
        let Some((_, floor, may)) = ROOMS.iter().find(|(room, ..)| *room == name) else {
            panic!("{name} is no room of the house: give it a floor here and in ARCHITECTURE.md");
        };
        for used in uses(package) {
            assert!(used != TESTS, "{name} uses the tests");
            assert!(floors[used] < *floor, "{name} (floor {floor}) uses {used} (floor {})", floors[used]);
            assert!(may.contains(&used), "{name} uses {used}: what joins those two is done in the service");
        }
    }
}

#[test]
fn only_transfer_knows_the_ssh_library() {
    for package in workspace().workspace_packages() {
        let ssh: Vec<_> = package.dependencies.iter().filter(|used| used.name.starts_with("russh")).collect();
        if package.name.as_str() == "stackferry-transfer" {
            // Its interface moves from release to release, so its version is exact.
            assert!(ssh.iter().any(|used| used.name == "russh"), "{ssh:?}");
            assert!(ssh.iter().all(|used| used.req.to_string().starts_with('=')), "{ssh:?}");
        } else {
            assert!(ssh.is_empty(), "{} uses {ssh:?}", package.name);
        }
    }
}

#[test]
fn the_rooms_that_read_what_strangers_wrote_know_no_network_and_no_database() {
    const NETWORK: [&str; 6] = ["tokio", "sqlx", "russh", "hyper", "rustls", "reqwest"];
    for package in workspace().workspace_packages() {
        if ["stackferry-volume", "stackferry-vault", "stackferry-discover"].contains(&package.name.as_str()) {
            // Tests of a room may use what they like.
            let found: Vec<_> = package
                .dependencies
                .iter()
                .filter(|used| used.kind == DependencyKind::Normal)
                .map(|used| &used.name)
                .filter(|name| NETWORK.contains(&name.as_str()))
                .collect();
            assert!(found.is_empty(), "{} uses {found:?}", package.name);
        }
    }
}

#[test]
fn every_crate_has_the_workspaces_lints_and_licence() {
    let metadata = workspace();
    for package in metadata.workspace_packages() {
        assert_eq!(package.license.as_deref(), Some("Apache-2.0"), "{}", package.name);
        assert_eq!(package.publish.as_deref(), Some([].as_slice()), "{}", package.name);
        assert!(package.description.is_some(), "{}", package.name);
        let manifest: toml::Table = fs::read_to_string(&package.manifest_path).unwrap().parse().unwrap();
        let inherits = manifest["lints"].get("workspace").and_then(toml::Value::as_bool);
        assert_eq!(inherits, Some(true), "{}", package.name);
    }
    let root: toml::Table = fs::read_to_string(metadata.workspace_root.join("Cargo.toml")).unwrap().parse().unwrap();
    let lints = &root["workspace"]["lints"];
    assert_eq!(lints["rust"]["unsafe_code"].as_str(), Some("forbid"));
    for lint in ["unwrap_used", "expect_used", "panic", "indexing_slicing"] {
        assert_eq!(lints["clippy"][lint].as_str(), Some("deny"), "{lint}");
    }
    assert!(metadata.workspace_root.join("LICENSE").exists());
}
