//! Who may read the vault: its owner only, or a group as well.

use std::io;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use rustix::fs::{Gid, Mode, Uid};

use crate::VaultError;

/// Owner, group and modes of what the vault makes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permissions {
    /// Whose what root makes becomes.
    owner: Option<(Uid, Gid)>,
    gid: Option<Gid>,
}

impl Permissions {
    /// For the owner only, or for this group too.
    pub(crate) fn new(group: Option<&str>) -> Result<Self, VaultError> {
        let gid = group.map(|group| look_up(group).map(Gid::from_raw)).transpose()?;
        Ok(Self { owner: None, gid })
    }

    /// What is made belongs to this user: none where it belongs to who makes it.
    pub(crate) fn owned_by(self, owner: Option<(Uid, Gid)>) -> Self {
        Self { owner, ..self }
    }

    /// Whether what is made does not belong to who makes it.
    pub(crate) fn has_owner(self) -> bool {
        self.owner.is_some()
    }

    /// Folders: entered, and by the group read.
    pub(crate) fn folder(self) -> Mode {
        Mode::from_raw_mode(if self.gid.is_some() { 0o750 } else { 0o700 })
    }

    /// Files that change.
    pub(crate) fn file(self) -> Mode {
        Mode::from_raw_mode(if self.gid.is_some() { 0o640 } else { 0o600 })
    }

    /// Files of a committed version: nobody writes them any more. Deleting needs only the folder.
    pub(crate) fn kept(self) -> Mode {
        Mode::from_raw_mode(if self.gid.is_some() { 0o440 } else { 0o400 })
    }

    /// Returns an open file or folder to the owner and the group, with exactly this mode whatever the umask.
    pub(crate) fn apply(self, fd: impl AsFd, mode: Mode) -> rustix::io::Result<()> {
        self.own(&fd)?;
        rustix::fs::fchmod(fd, mode)
    }

    /// Returns an open file or folder to the vault's owner and group.
    pub(crate) fn own(self, fd: impl AsFd) -> rustix::io::Result<()> {
        let (uid, gid) = (self.owner.map(|(uid, _)| uid), self.gid.or(self.owner.map(|(_, gid)| gid)));
        match uid.is_some() || gid.is_some() {
            true => rustix::fs::fchown(fd, uid, gid),
            false => Ok(()),
        }
    }

    /// Whether an open file or folder has this mode and group already.
    pub(crate) fn is_applied(self, fd: impl AsFd, mode: Mode) -> rustix::io::Result<bool> {
        let stat = rustix::fs::fstat(fd)?;
        let is_owned = self.owner.is_none_or(|(uid, _)| uid.as_raw() == stat.st_uid);
        let gid = self.gid.or(self.owner.map(|(_, gid)| gid));
        Ok(Mode::from_raw_mode(stat.st_mode) == mode && is_owned && gid.is_none_or(|gid| gid.as_raw() == stat.st_gid))
    }
}

/// A group's number: given as such, or by name from /etc/group, or from wherever else `getent` (glibc's own tool for
/// this machine's name services) finds groups.
fn look_up(group: &str) -> Result<u32, VaultError> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    let gid_of = |text: &str| {
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(group)).then_some(())?;
            fields.nth(1)?.parse().ok()
        })
    };
    let missing = |source| VaultError::NoGroup { group: group.to_owned(), source };
    if let Some(gid) = std::fs::read_to_string("/etc/group").ok().as_deref().and_then(gid_of) {
        return Ok(gid);
    }
    let asked = Command::new("getent").args(["group", "--", group]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    match asked {
        Ok(answer) => gid_of(&String::from_utf8_lossy(&answer.stdout)).ok_or_else(|| missing(None)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing(None)),
        Err(error) => Err(missing(Some(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_known_by_name_and_number() {
        assert_eq!(look_up("root").unwrap(), 0);
        assert_eq!(look_up("4711").unwrap(), 4711);
        assert!(matches!(look_up("no-such-group-here"), Err(VaultError::NoGroup { .. })));
        assert_eq!(Permissions::new(Some("0")).unwrap().kept().as_raw_mode(), 0o440);
        assert_eq!(Permissions::new(None).unwrap().folder().as_raw_mode(), 0o700);
    }
}
