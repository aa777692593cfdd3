//! What disturbs a command of the chaos lane.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::disk::content::RandomStream;
use crate::error::{IoContext, LabError};
use crate::lab::Lab;

/// What is written at a time to fill a disk, in bytes: large pieces first, then the last bytes.
const PIECES: [usize; 3] = [1 << 20, 64 << 10, 512];
/// System calls that write, or make what was written last. Calls that read are not among them: a version that can't be
/// read is to be reported as such.
const CALLS: [&str; 7] = ["fsync", "fdatasync", "pwrite64", "renameat2", "ftruncate", "mkdirat", "unlinkat"];

/// What disturbs a command.
#[derive(Debug, Clone, Copy)]
pub(super) enum Disturbance {
    /// Nothing.
    None,
    /// `kill -9` after a part of the time that it usually takes.
    Kill {
        /// From 0 to a little more than 1.
        part: f64,
    },
    /// No byte is free where the catalog is.
    FullState,
    /// No byte is free where the vault is.
    FullVault,
    /// One system call fails.
    Call {
        /// Its name.
        call: &'static str,
        /// What it answers.
        error: &'static str,
        /// Which one of them fails, counted from 1.
        which: u64,
    },
}

/// Whether `strace` can be used.
pub(super) fn possible() -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o", "/dev/null", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    strace.status().is_ok_and(|status| status.success())
}

impl Disturbance {
    /// Draws one; most are kills.
    pub(super) fn draw(chance: &mut RandomStream) -> Self {
        match chance.below(20) {
            0..=2 => Self::None,
            3..=13 => Self::Kill { part: f64::from(u32::try_from(chance.below(110)).unwrap_or(0)) / 100.0 },
            14..=15 => Self::FullState,
            16 => Self::FullVault,
            _ => {
                let at = usize::try_from(chance.below(CALLS.len() as u64)).unwrap_or(0);
                Self::Call {
                    call: CALLS.get(at).copied().unwrap_or("fsync"),
                    error: if chance.below(3) == 0 { "ENOSPC" } else { "EIO" },
                    which: 1 + chance.below(30),
                }
            }
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "undisturbed",
            Self::Kill { .. } => "killed",
            Self::FullState => "with a full state disk",
            Self::FullVault => "with a full vault",
            Self::Call { .. } => "with a failing call",
        }
    }

    /// What is done before the command starts; undone when the result is dropped.
    pub(super) fn before(self, lab: &Lab) -> Result<Option<SpaceFiller>, LabError> {
        match self {
            Self::FullState => SpaceFiller::write(lab.path("state").join("filler")).map(Some),
            Self::FullVault => SpaceFiller::write(lab.vault().join("filler")).map(Some),
            _ => Ok(None),
        }
    }

    /// The command under `strace`, where a call has to fail. The tracer is the command's child (`-D`), so that the
    /// command still ends with the lab.
    pub(super) fn wrap(self, command: Command) -> Option<Command> {
        let Self::Call { call, error, which } = self else { return None };
        let mut strace = Command::new("strace");
        strace.args(["-D", "-f", "-qq", "-o", "/dev/null"]);
        strace.arg("-e").arg(format!("trace={call}"));
        strace.arg("-e").arg(format!("inject={call}:error={error}:when={which}"));
        strace.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => strace.env(name, value),
                None => strace.env_remove(name),
            };
        }
        Some(strace)
    }
}

/// A file that takes all the room of its file system.
pub(super) struct SpaceFiller(PathBuf);

impl SpaceFiller {
    fn write(path: PathBuf) -> Result<Self, LabError> {
        let mut file = File::options().write(true).create_new(true).open(&path).at("create", &path)?;
        for piece in PIECES {
            let piece = vec![0x55; piece];
            while file.write_all(&piece).is_ok() {}
        }
        Ok(Self(path))
    }
}

impl Drop for SpaceFiller {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
