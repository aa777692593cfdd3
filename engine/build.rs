//! What the program is told of its own making: the revision that it was built from, and the compiler. Both are `unknown`
//! where they can't be told, as in an unpacked archive. Files are read, no other program is asked but the compiler, and
//! nothing here depends on time or machine: equal sources give an equal program.

use std::path::{Path, PathBuf};
use std::process::Command;

/// So many digits of a revision are told: enough for any project, and the length that people know.
const DIGITS: usize = 12;
const UNKNOWN: &str = "unknown";

/// The names do not begin as the program's own settings do: `cargo test` sets them for what it runs, too.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let root = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let revision = git_folder(&root.join("../.git")).and_then(|git| revision(&git));
    println!("cargo:rustc-env=BUILT_FROM_REVISION={}", revision.as_deref().unwrap_or(UNKNOWN));
    println!("cargo:rustc-env=BUILT_BY_RUSTC={}", compiler().as_deref().unwrap_or(UNKNOWN));
}

/// The folder with what git knows of this checkout. In a worktree `.git` is a file that names it.
fn git_folder(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_owned());
    }
    let text = read(path)?;
    let named = Path::new(text.strip_prefix("gitdir:")?.trim()).to_owned();
    Some(if named.is_absolute() { named } else { path.parent()?.join(named) })
}

/// The revision that is checked out.
fn revision(git: &Path) -> Option<String> {
    let head = read(&git.join("HEAD"))?;
    let Some(branch) = head.strip_prefix("ref:").map(str::trim) else { return digits(&head) };
    // A worktree has its branches elsewhere.
    let common = read(&git.join("commondir")).map_or_else(|| git.to_owned(), |common| git.join(common.trim()));
    if let Some(text) = read(&common.join(branch)) {
        return digits(&text);
    }
    // The next commit puts it there.
    let branches = common.join("refs/heads");
    if branches.is_dir() {
        println!("cargo:rerun-if-changed={}", branches.display());
    }
    let packed = read(&common.join("packed-refs"))?;
    let line = packed.lines().find(|line| line.split(' ').nth(1) == Some(branch))?;
    digits(line)
}

fn digits(text: &str) -> Option<String> {
    let digits: String = text.trim().chars().take(DIGITS).collect();
    let is_one = digits.len() == DIGITS && digits.chars().all(|c| c.is_ascii_hexdigit());
    is_one.then_some(digits)
}

/// A file's text. The script runs again when the file changes; one that is not there is not watched, since that would be a
/// change each time.
fn read(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    println!("cargo:rerun-if-changed={}", path.display());
    Some(text)
}

/// The compiler's version, as `1.95.0`.
fn compiler() -> Option<String> {
    let output = Command::new(std::env::var_os("RUSTC")?).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}
