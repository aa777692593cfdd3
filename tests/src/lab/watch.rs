//! Reports which files of some folders any process opens: the proof that a quiet round reads nothing.

use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

use crate::error::{IoContext, LabError};

/// Watches folders, not their subfolders.
#[derive(Debug)]
pub struct FolderWatch {
    queue: OwnedFd,
    folders: Vec<(i32, PathBuf)>,
}

impl FolderWatch {
    /// Begins to watch.
    ///
    /// # Errors
    /// The system's.
    pub fn new(folders: &[PathBuf]) -> Result<Self, LabError> {
        let queue = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).at("watch", Path::new("folders"))?;
        let mut watched = Vec::new();
        for folder in folders {
            let id = add_watch(&queue, folder.as_path(), WatchFlags::OPEN | WatchFlags::ACCESS).at("watch", folder)?;
            watched.push((id, folder.clone()));
        }
        Ok(Self { queue, folders: watched })
    }

    /// The files that were opened or read since the last call. Folders that were listed are none.
    ///
    /// # Errors
    /// The system's; or so much happened that something was lost.
    pub fn opened(&self) -> Result<BTreeSet<PathBuf>, LabError> {
        let mut buffer = [MaybeUninit::uninit(); 64 << 10];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        let mut opened = BTreeSet::new();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(opened),
                Err(error) => return Err(error).at("watch", Path::new("folders")),
            };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                return Err(LabError::Wrong("more files were opened than can be watched".to_owned()));
            }
            let folder = self.folders.iter().find(|(id, _)| *id == event.wd()).map(|(_, folder)| folder);
            if let (Some(folder), Some(name), false) =
                (folder, event.file_name(), event.events().contains(ReadFlags::ISDIR))
            {
                opened.insert(folder.join(name.to_string_lossy().as_ref()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_folder_watch_reports_opened_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        fs::write(&file, "x").unwrap();
        let watch = FolderWatch::new(&[folder.path().to_owned()]).unwrap();
        fs::metadata(&file).unwrap();
        fs::read_dir(folder.path()).unwrap().count();
        assert!(watch.opened().unwrap().is_empty());
        fs::read(&file).unwrap();
        assert_eq!(watch.opened().unwrap(), BTreeSet::from([file]));
        assert!(watch.opened().unwrap().is_empty());
    }
}
