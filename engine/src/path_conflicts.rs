//! Paths of the configuration that can't go together: one thing lies in another that reads, writes or prunes it.
//!
//! Paths are compared as they really are, through links. A mount that does not answer keeps nobody waiting: after [`PATIENCE`]
//! its path counts as it is written.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use stackferry_config::{Config, Route};

use crate::paths::real;
use stackferry_problem::{Code, Problem};

/// How long all paths together are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathUse {
    State,
    Vault,
    Root,
    Datastore,
}

/// A path of the configuration.
struct ConfiguredPath {
    what: PathUse,
    /// For a person: `the vault`, `datastore nfs01`.
    name: String,
    /// As it is written.
    path: PathBuf,
    /// As it is, through links.
    real: PathBuf,
    /// Device and inode, where something is there.
    inode: Option<(u64, u64)>,
}

impl ConfiguredPath {
    fn new(what: PathUse, name: String, path: &Path) -> Self {
        Self { what, name, path: path.to_owned(), real: path.to_owned(), inode: None }
    }
}

/// PathUse can't go together, for a person to correct. Blocks, for [`PATIENCE`] at most.
#[must_use]
pub(crate) fn contradictions(config: &Config) -> Vec<Problem> {
    let mut places = places(config);
    resolve(&mut places);
    let mut problems = Vec::new();
    for (at, one) in places.iter().enumerate() {
        if one.what == PathUse::Root && one.real == Path::new("/") {
            problems.push(
                problem(one, "`[restore] roots` names the whole machine".to_owned())
                    .hint("name a folder that is there for restores alone"),
            );
            continue;
        }
        for other in places.iter().skip(at + 1) {
            problems.extend(nested(one, other).or_else(|| nested(other, one)));
        }
    }
    problems.extend(doubles(config, &places));
    problems
}

/// Refuses a configuration whose paths can't go together.
///
/// # Errors
/// The first such problem.
pub fn refuse(config: &Config) -> Result<(), Problem> {
    contradictions(config).into_iter().next().map_or(Ok(()), Err)
}

fn places(config: &Config) -> Vec<ConfiguredPath> {
    let mut places = vec![ConfiguredPath::new(PathUse::State, "the state folder".to_owned(), &config.state_dir)];
    if let Ok(vault) = config.vault() {
        places.push(ConfiguredPath::new(PathUse::Vault, "the vault".to_owned(), &vault.path));
    }
    let roots = config.restore.roots.iter();
    places.extend(
        roots.map(|root| ConfiguredPath::new(PathUse::Root, format!("the restore root {}", root.display()), root)),
    );
    for datastore in &config.datastores {
        if let Route::Local(local) = &datastore.route {
            places.push(ConfiguredPath::new(PathUse::Datastore, format!("datastore {}", datastore.name), &local.path));
        }
    }
    if let Ok(serve) = config.serve() {
        let served = serve.datastores.iter();
        places.extend(
            served
                .map(|(name, path)| ConfiguredPath::new(PathUse::Datastore, format!("served datastore {name}"), path)),
        );
    }
    places
}

/// Follows the links of all paths at the same time.
fn resolve(places: &mut [ConfiguredPath]) {
    let (send, receive) = mpsc::channel();
    for (at, place) in places.iter().enumerate() {
        let (send, path) = (send.clone(), place.path.clone());
        // Not waited for: one whose mount hangs ends when that answers, or with the process.
        let started = std::thread::Builder::new().name("paths".to_owned()).spawn(move || {
            let inode = path.metadata().ok().map(|found| (found.dev(), found.ino()));
            // Nobody may be waiting any more.
            let _ = send.send((at, real(&path), inode));
        });
        if started.is_err() {
            break;
        }
    }
    drop(send);
    let until = Instant::now() + PATIENCE;
    while let Ok((at, real, inode)) = receive.recv_timeout(until.saturating_duration_since(Instant::now())) {
        let Some(place) = places.get_mut(at) else { continue };
        place.real = real.unwrap_or_else(|| place.path.clone());
        place.inode = inode;
    }
}

/// Why one place may not lie in the other, where it does.
fn nested(one: &ConfiguredPath, other: &ConfiguredPath) -> Option<Problem> {
    if !one.real.starts_with(&other.real) {
        return None;
    }
    let why = match (one.what, other.what) {
        (PathUse::State | PathUse::Vault, PathUse::State | PathUse::Vault) => {
            "what cleans one up would reach the other"
        }
        (PathUse::State | PathUse::Vault, PathUse::Datastore) => {
            "its files would be looked through as a datastore's, and it goes when the datastore does"
        }
        (PathUse::Datastore, PathUse::State | PathUse::Vault) => "a source is never written to, and this folder is",
        (PathUse::State | PathUse::Vault, PathUse::Root) | (PathUse::Root, PathUse::State | PathUse::Vault) => {
            "a restore by the API could write over versions"
        }
        (PathUse::Root | PathUse::Datastore, PathUse::Root | PathUse::Datastore) => return None,
    };
    let place = if one.real == other.real { "is the same folder as" } else { "lies in" };
    let text =
        format!("{} ({}) {place} {} ({}): {why}", one.name, one.path.display(), other.name, other.path.display());
    Some(problem(one, text).hint("name folders of which none lies in the other, links included"))
}

/// Datastores that are one: their volumes would be copied twice, and each of the two would seem to be the other's double.
fn doubles(config: &Config, places: &[ConfiguredPath]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut known: HashMap<String, &str> = HashMap::new();
    let mut inodes: HashMap<(u64, u64), &str> = HashMap::new();
    let double = |name: &str, other: &str| {
        Problem::new(Code::BadConfig, format!("{name} and {other} are at one place"))
            .subject(name)
            .hint("name each place once; one datastore may have several `folders`")
    };
    // One that is served here may be read here, too.
    for place in places.iter().filter(|place| place.what == PathUse::Datastore && place.name.starts_with("datastore")) {
        let by_path = known.insert(format!("here:{}", place.real.display()), &place.name);
        let by_inode = place.inode.and_then(|inode| inodes.insert(inode, &place.name));
        problems.extend(by_path.or(by_inode).map(|other| double(&place.name, other)));
    }
    let mut remote: HashMap<String, String> = HashMap::new();
    for datastore in &config.datastores {
        let place = match &datastore.route {
            Route::Ssh(ssh) => format!("{}:{}", ssh.host.to_string().to_lowercase(), plain(&ssh.path).display()),
            Route::Endpoint(endpoint) => format!("{}:{}", endpoint.host.to_string().to_lowercase(), datastore.name),
            Route::Local(_) | Route::Esxi(_) => continue,
        };
        let name = format!("datastore {}", datastore.name);
        if let Some(other) = remote.insert(place, name.clone()) {
            problems.push(double(&name, &other));
        }
    }
    problems
}

/// A path on another machine without doubled and ending slashes.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

fn problem(place: &ConfiguredPath, text: String) -> Problem {
    Problem::new(Code::BadConfig, text).subject(place.path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const BEFORE: &str = "refused when it was read: ";

    /// The messages for a configuration below a folder, which stands as `@` in the text.
    fn told(home: &Path, text: &str) -> Vec<String> {
        let text = text.replace('@', &home.display().to_string());
        match text.parse::<Config>() {
            Ok(config) => contradictions(&config).into_iter().map(|problem| problem.message).collect(),
            // What can be told by the texts alone is refused before.
            Err(error) => vec![format!("{BEFORE}{error}")],
        }
    }

    fn local(name: &str, path: &str) -> String {
        format!("[[datastore]]\nname = \"{name}\"\nroute = \"local\"\npath = \"{path}\"\n")
    }

    #[test]
    fn paths_that_can_not_go_together_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        for folder in ["state", "vault", "ds/deep", "other"] {
            std::fs::create_dir_all(home.join(folder)).unwrap();
        }
        symlink(home.join("ds"), home.join("link")).unwrap();
        symlink(home.join("vault"), home.join("ds/deep/vault")).unwrap();
        let with = |state: &str, vault: &str, more: &str| {
            told(
                home,
                &format!("state_dir = \"{state}\"\n{more}\n[vault]\npath = \"{vault}\"\n{}", local("nfs01", "@/ds")),
            )
        };
        let roots = |root: &str| format!("[restore]\nroots = [\"{root}\"]\n");
        assert_eq!(with("@/state", "@/vault", &roots("@/other")), Vec::<String>::new());
        for (state, vault, more, expected) in [
            ("@/ds/state", "@/vault", String::new(), "the state folder"),
            ("@/state", "@/ds/deep/new", String::new(), "the vault"),
            ("@/state", "@/link/deep", String::new(), "the vault"),
            ("@/state", "@", String::new(), "lies in the vault"),
            ("@/state", "@/ds", String::new(), "is the same folder as"),
            ("@/state", "@/state/vault", String::new(), "lies in the state folder"),
            ("@/vault/state", "@/vault", String::new(), "lies in the vault"),
            ("@/state", "@/vault", roots("/"), "the whole machine"),
            ("@/state", "@/vault", roots("@"), "lies in the restore root"),
            ("@/state", "@/vault", roots("@/vault/x"), "lies in the vault"),
            ("@/state", "@/vault", roots("@/ds/deep/vault"), "is the same folder as"),
            ("@/state", "@/vault", local("nfs02", "@/link"), "are at one place"),
            ("@/state", "@/vault", local("nfs02", "@/ds/"), "are at one place"),
        ] {
            let messages = with(state, vault, &more);
            let fits = |text: &String| text.contains(expected) || text.starts_with(BEFORE);
            assert!(messages.iter().any(fits), "{state} {vault} {more}: {messages:?}");
        }
    }

    #[test]
    fn remote_datastores_at_one_place_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let ssh = |name: &str, host: &str, path: &str| {
            format!(
                "[[datastore]]\nname = \"{name}\"\nroute = \"ssh\"\nhost = \"{host}\"\nuser = \"backup\"\npath = \"{path}\"\n\
                 known_hosts = \"/k\"\nca_key = \"/c\"\n"
            )
        };
        let with = |one: String, two: String| told(home.path(), &format!("state_dir = \"@/state\"\n{one}{two}"));
        let one = || ssh("nfs01", "stor.example.com", "/mnt/nfs01");
        assert_eq!(with(one(), ssh("nfs02", "STOR.example.com:22", "/mnt//nfs01/")).len(), 1);
        assert!(with(one(), ssh("nfs02", "stor.example.com:2222", "/mnt/nfs01")).is_empty());
        assert!(with(one(), ssh("nfs02", "stor.example.com", "/mnt/nfs02")).is_empty());
    }
}
