//! Who a process is, well enough to say later whether it is still there.
//!
//! A process number alone says little: numbers are used again, a machine reboots, containers count for themselves.
//! So a process is known by the machine's boot, its number's namespace, its number, and when it started. Never may a
//! living process be taken for dead; where that is unknown, it counts as alive.

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::error::CatalogError;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const STAT: &str = "/proc/<pid>/stat";
const NAMESPACE: &str = "/proc/self/ns/pid";

/// A process of this or another machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The machine's name, for people.
    pub host: String,
    /// The boot of the machine (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// The namespace that the process's number is counted in (`/proc/self/ns/pid`); empty where it can't be read.
    pub pid_namespace: String,
    /// The process's number.
    pub pid: u32,
    /// When it started, in clock ticks since the boot (field 22 of `/proc/<pid>/stat`, see proc_pid_stat(5)).
    pub started: u64,
}

/// What is known of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// It is there, or may be: it is of this boot and namespace.
    Alive,
    /// It is certainly not there.
    Dead,
    /// It is of another namespace of this boot: it can't be seen from here.
    Unseen,
    /// It is of another boot: of another machine, or of this one before its reboot.
    OtherBoot,
}

impl Process {
    /// This process.
    ///
    /// # Errors
    /// `/proc` can't be read.
    pub fn current() -> Result<Self, CatalogError> {
        Self::of(std::process::id())
    }

    /// The process of this number, as counted here.
    ///
    /// # Errors
    /// There is none, or `/proc` can't be read.
    pub fn of(pid: u32) -> Result<Self, CatalogError> {
        let failed = |file| move |source| CatalogError::Process { pid, file, source };
        let boot_id = std::fs::read_to_string(BOOT_ID).map_err(failed(BOOT_ID))?.trim().to_owned();
        let stat = Stat::read(pid).map_err(failed(STAT))?;
        let pid_namespace =
            std::fs::read_link(NAMESPACE).map(|target| target.to_string_lossy().into_owned()).unwrap_or_default();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Self { host, boot_id, pid_namespace, pid, started: stat.started })
    }

    /// What is known of this process by `here`, the observing process.
    pub(crate) fn liveness(&self, here: &Process) -> Liveness {
        if self.boot_id != here.boot_id {
            return Liveness::OtherBoot;
        }
        if self.pid_namespace != here.pid_namespace {
            return Liveness::Unseen;
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Liveness::Dead;
        };
        // Asked before `/proc`, which may be mounted so that it hides other users' processes.
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return Liveness::Dead;
        }
        match Stat::read(self.pid) {
            Ok(stat) if stat.ended || stat.started != self.started => Liveness::Dead,
            _ => Liveness::Alive,
        }
    }
}

struct Stat {
    ended: bool,
    started: u64,
}

impl Stat {
    fn read(pid: u32) -> io::Result<Self> {
        let text = std::fs::read(format!("/proc/{pid}/stat"))?;
        Self::parse(&String::from_utf8_lossy(&text))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is not of the form of proc_pid_stat(5)"))
    }

    /// The command's name stands in parentheses and may hold any character: what follows the last one is fields 3 on.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(") ")?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?;
        let started = fields.nth(22 - 4)?.parse().ok()?;
        Some(Self { ended: matches!(state, "Z" | "X" | "x"), started })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_command_name_does_not_shift_the_fields() {
        let stat = "7 (a) R 1 (b) ) S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711 9 9 9";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!((stat.started, stat.ended), (4711, false));
        assert!(Stat::parse("7 (a) Z 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711").unwrap().ended);
        assert!(Stat::parse("7 (a) Z 1 7").is_none());
        assert!(Stat::parse("").is_none());
    }

    #[test]
    fn a_process_is_known_alive_dead_or_unseen() {
        let here = Process::current().unwrap();
        assert_eq!(here.liveness(&here), Liveness::Alive);

        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let other = Process::of(child.id()).unwrap();
        assert_eq!(other.liveness(&here), Liveness::Alive);
        let reused = Process { started: other.started + 1, ..other.clone() };
        assert_eq!(reused.liveness(&here), Liveness::Dead, "another process has the number");
        let elsewhere = Process { boot_id: "another".into(), ..other.clone() };
        assert_eq!(elsewhere.liveness(&here), Liveness::OtherBoot);
        let contained = Process { pid_namespace: "pid:[1]".into(), ..other.clone() };
        assert_eq!(contained.liveness(&here), Liveness::Unseen);

        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(other.liveness(&here), Liveness::Dead);
    }
}
