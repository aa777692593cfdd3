//! The structure is as ARCHITECTURE.md says: arrows run downward only, no circles, and one name for one type.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

mod modules;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use modules::{Module, ModulePath};

/// Each crate, its floor, and the crates that it may use. The tests use everything.
const CRATES: [(&str, u32, &[&str]); 13] = [
    ("config", 1, &[]),
    ("volume", 1, &[]),
    ("https", 1, &[]),
    ("vsphere", 2, &["config", "volume", "https"]),
    ("vault", 2, &["volume"]),
    ("catalog", 2, &["config", "volume"]),
    ("discover", 3, &["config", "volume", "https", "vsphere"]),
    ("transfer", 3, &["config", "volume", "https", "vsphere"]),
    ("problem", 4, &["config", "volume", "https", "vsphere", "vault", "catalog", "discover", "transfer"]),
    ("engine", 5, &["config", "volume", "https", "vsphere", "vault", "catalog", "discover", "transfer", "problem"]),
    (
        "notify",
        6,
        &["config", "volume", "https", "vsphere", "vault", "catalog", "discover", "transfer", "problem", "engine"],
    ),
    (
        "web",
        6,
        &["config", "volume", "https", "vsphere", "vault", "catalog", "discover", "transfer", "problem", "engine"],
    ),
    (
        "stackferry",
        7,
        &[
            "config", "volume", "https", "vsphere", "vault", "catalog", "discover", "transfer", "problem", "engine",
            "notify", "web",
        ],
    ),
];
const TESTS: &str = "tests";

fn workspace() -> Metadata {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    MetadataCommand::new().manifest_path(root).no_deps().other_options(["--offline".to_owned()]).exec().unwrap()
}

/// A crate's name without the project's.
fn short(name: &str) -> &str {
    name.strip_prefix("stackferry-").unwrap_or(name)
}

/// The crates of the workspace that a crate uses, for its tests and its build too.
fn uses(package: &Package) -> BTreeSet<&str> {
    let own = package.dependencies.iter().map(|used| used.name.as_str()).filter(|name| name.starts_with("stackferry"));
    own.map(short).collect()
}

/// Every crate but the tests, with its module files.
fn sources() -> Vec<(String, BTreeMap<ModulePath, Module>)> {
    let metadata = workspace();
    let crates = metadata.workspace_packages().into_iter().map(|package| {
        let folder = package.manifest_path.parent().unwrap().join("src");
        (short(package.name.as_str()).to_owned(), modules::modules(folder.as_std_path()))
    });
    crates.filter(|(name, _)| name != TESTS).collect()
}

#[test]
fn no_circle_of_modules() {
    let circles: Vec<String> = sources()
        .iter()
        .flat_map(|(name, found)| {
            assert!(found.len() > 1, "{name} has {} modules", found.len());
            let circles = modules::circles(&modules::imports(found));
            circles.into_iter().map(move |circle| format!("{name}: {}", circle.join(", ")))
        })
        .collect();
    assert!(circles.is_empty(), "only a module and its children may import each other:\n{}", circles.join("\n"));
}

#[test]
fn every_type_name_is_defined_once() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, found) in sources() {
        for (path, module) in found {
            for one in modules::types(&module) {
                places.entry(one).or_default().push(format!("{name}::{}", path.join("::")));
            }
        }
    }
    places.retain(|_, places| places.len() > 1);
    let lines: Vec<String> = places.iter().map(|(name, places)| format!("{name}: {}", places.join(", "))).collect();
    assert!(lines.is_empty(), "{} names stand for more than one type:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn modules_of_the_engine_stand_as_documented() {
    let text = fs::read_to_string(workspace().workspace_root.join("ARCHITECTURE.md")).unwrap();
    let table = text.split("## Inside `engine`").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let mut levels: BTreeMap<&str, usize> = BTreeMap::new();
    for (level, row) in rows.enumerate() {
        let names = row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2);
        levels.extend(names.map(|name| (name, level)));
    }
    let (_, found) = sources().into_iter().find(|(name, _)| name == "engine").unwrap();
    let top: BTreeSet<&str> = found.keys().filter_map(|path| path.first()).map(String::as_str).collect();
    assert_eq!(levels.keys().copied().collect::<BTreeSet<_>>(), top, "the modules in ARCHITECTURE.md");
    for (from, used) in modules::imports(&found) {
        for to in used {
            let (from, to) = (from[0].as_str(), to[0].as_str());
            assert!(levels[to] <= levels[from], "{from} uses {to}, which ARCHITECTURE.md has above it");
        }
    }
}

#[test]
fn a_circle_of_modules_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("lib.rs", "mod a; mod b; mod c; pub use b::B;"),
        ("a.rs", "mod child; use crate::B; pub use child::Child;"),
        ("a/child.rs", "use super::A; fn f() { let _ = format!(\"{}\", crate::c::text()); }"),
        ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::c::C; }"),
        ("c.rs", "pub fn text() -> u8 { 0 }"),
    ];
    fs::create_dir(folder.path().join("a")).unwrap();
    files.iter().for_each(|(name, text)| fs::write(folder.path().join(name), text).unwrap());
    let found = || modules::circles(&modules::imports(&modules::modules(folder.path())));
    assert_eq!(found(), Vec::<Vec<String>>::new(), "a module and its child");
    fs::write(folder.path().join("c.rs"), "pub fn text() -> crate::a::A { loop {} }").unwrap();
    assert_eq!(found(), [["a", "a::child", "c"]], "by a path in a macro");
    fs::write(folder.path().join("c.rs"), "pub fn text() -> u8 { 0 }").unwrap();
    fs::write(folder.path().join("b.rs"), "pub struct B(super::a::Child);").unwrap();
    assert_eq!(found(), [["a", "a::child", "b"]], "through what the root re-exports");
}

#[test]
fn no_crate_is_larger_than_a_quarter() {
    let lines = |folder: &std::path::Path| {
        let mut count = 0;
        let mut waiting = vec![folder.to_owned()];
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
                match entry.path() {
                    path if path.is_dir() => waiting.push(path),
                    path if path.extension().is_some_and(|kind| kind == "rs") => {
                        count += fs::read_to_string(path).unwrap().lines().count();
                    }
                    _ => {}
                }
            }
        }
        count
    };
    let crates: BTreeMap<String, usize> = workspace()
        .workspace_packages()
        .into_iter()
        .map(|package| {
            (package.name.to_string(), lines(package.manifest_path.parent().unwrap().join("src").as_std_path()))
        })
        .collect();
    let all: usize = crates.values().sum();
    for (name, lines) in crates {
        assert!(lines * 4 <= all, "{name} has {lines} of {all} lines: split it");
    }
}

#[test]
fn crates_depend_on_lower_floors_only() {
    let metadata = workspace();
    let floors: BTreeMap<&str, u32> = CRATES.iter().map(|(name, floor, _)| (*name, *floor)).collect();
    let packages = metadata.workspace_packages();
    assert!(packages.len() >= 8, "{} crates", packages.len());
    for package in &packages {
        let name = short(package.name.as_str());
        if name == TESTS {
            continue;
        }
        let Some((_, floor, may)) = CRATES.iter().find(|(known, ..)| *known == name) else {
            panic!("{name} has no floor: give it one here and in ARCHITECTURE.md");
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
fn readers_of_hostile_input_use_no_network_or_database() {
    const NETWORK: [&str; 6] = ["tokio", "sqlx", "russh", "hyper", "rustls", "reqwest"];
    for package in workspace().workspace_packages() {
        if ["stackferry-volume", "stackferry-vault", "stackferry-discover"].contains(&package.name.as_str()) {
            // Tests of a crate may use what they like.
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
fn every_crate_has_the_workspace_lints_and_license() {
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
