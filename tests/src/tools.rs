//! The external programs that the lab uses where they are there. Nothing here installs or downloads anything.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::error::LabError;

/// How much of a tool's complaint an error keeps, in bytes.
const STDERR_KEPT: usize = 2000;
/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(2);

/// What this machine offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a list of independent facts about the machine")]
pub struct Tools {
    /// `qemu-img` is installed.
    pub qemu_img: bool,
    /// `mkntfs` is installed.
    pub mkntfs: bool,
    /// `ntfs-3g` is installed.
    pub ntfs3g: bool,
    /// `ntfscp` is installed.
    pub ntfscp: bool,
    /// We are root and `/dev/fuse` can be opened.
    pub fuse: bool,
    /// We are root, `losetup` is installed and there are loop devices.
    pub loop_devices: bool,
}

impl Tools {
    /// An NTFS can be mounted.
    #[must_use]
    pub fn mounts_ntfs(self) -> bool {
        self.ntfs3g && self.fuse
    }

    /// An NTFS can be made and filled.
    #[must_use]
    pub fn makes_ntfs(self) -> bool {
        self.mkntfs && (self.mounts_ntfs() || self.ntfscp)
    }
}

/// What this machine offers, found out once.
#[must_use]
pub fn available() -> Tools {
    static TOOLS: OnceLock<Tools> = OnceLock::new();
    *TOOLS.get_or_init(|| {
        let opens = |path: &str| OpenOptions::new().read(true).write(true).open(path).is_ok();
        let root = rustix::process::geteuid().is_root();
        Tools {
            qemu_img: find("qemu-img").is_some(),
            mkntfs: find("mkntfs").is_some(),
            ntfs3g: find("ntfs-3g").is_some(),
            ntfscp: find("ntfscp").is_some(),
            fuse: root && opens("/dev/fuse"),
            loop_devices: root && find("losetup").is_some() && opens("/dev/loop-control"),
        }
    })
}

/// Whether a test that needs something can run. With `STACKFERRY_TEST_ALL` set, what is missing is an error, so that
/// a run that must be complete does not leave tests out silently.
///
/// # Errors
/// It is missing, and nothing may be left out.
pub fn have(present: bool, what: &'static str) -> Result<bool, LabError> {
    if !present && std::env::var_os("STACKFERRY_TEST_ALL").is_some() {
        return Err(LabError::Missing(what));
    }
    if !present {
        eprintln!("left out, since this machine lacks {what}");
    }
    Ok(present)
}

/// Where a program is: in `PATH`, or where distributions keep what only root uses.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A command for a program that [`find`] finds, with messages in English, names in UTF-8, and without input.
pub(crate) fn command(name: &'static str) -> Result<Command, LabError> {
    let mut command = Command::new(find(name).ok_or(LabError::Missing(name))?);
    command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    Ok(command)
}

/// Runs a program to its end, however it ends.
pub(crate) fn output(name: &'static str, args: &[&OsStr]) -> Result<Output, LabError> {
    command(name)?.args(args).output().map_err(|source| LabError::Start { tool: name.to_owned(), source })
}

/// Runs a program that has to succeed, and gives what it wrote to stdout.
pub(crate) fn run(name: &'static str, args: &[&OsStr]) -> Result<Vec<u8>, LabError> {
    let output = output(name, args)?;
    if output.status.success() { Ok(output.stdout) } else { Err(failure(name, &output)) }
}

/// The error of a program that ended badly.
pub(crate) fn failure(name: &str, output: &Output) -> LabError {
    let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let kept = text.get(text.len().saturating_sub(STDERR_KEPT)..).unwrap_or_default();
    LabError::Tool {
        tool: name.to_owned(),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(kept).trim().to_owned(),
    }
}

/// Looks at a condition until it holds, at most for `limit`.
pub(crate) fn wait_until(
    what: &str,
    limit: Duration,
    mut holds: impl FnMut() -> Result<bool, LabError>,
) -> Result<(), LabError> {
    let deadline = Instant::now() + limit;
    while !holds()? {
        if Instant::now() >= deadline {
            return Err(LabError::Timeout { what: what.to_owned(), seconds: limit.as_secs() });
        }
        std::thread::park_timeout(POLL);
    }
    Ok(())
}

/// What `qemu-img info` says of a disk, as its JSON.
///
/// # Errors
/// `qemu-img` is missing, or does not accept the disk.
pub fn qemu_img_info(path: &Path) -> Result<serde_json::Value, LabError> {
    let args = ["info", "--output=json"].map(OsStr::new);
    let json = run("qemu-img", &[args.as_slice(), &[path.as_os_str()]].concat())?;
    serde_json::from_slice(&json).map_err(|error| LabError::Content {
        path: path.to_owned(),
        why: format!("qemu-img info gave no JSON: {error}"),
    })
}

/// Whether `qemu-img compare` finds the same content in two disks, whatever their formats.
///
/// # Errors
/// `qemu-img` is missing, or can't read one of them.
pub fn qemu_img_compare(a: &Path, b: &Path) -> Result<bool, LabError> {
    let output = output("qemu-img", &[OsStr::new("compare"), OsStr::new("-q"), a.as_os_str(), b.as_os_str()])?;
    match output.status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(failure("qemu-img", &output)),
    }
}
