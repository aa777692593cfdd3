//! A copy of the catalog for commands that only read, where the catalog's own folder lets nothing be written: SQLite writes
//! beside its file even to read it.
//!
//! The copy is one state of the catalog. Where somebody has it open, SQLite makes it (`VACUUM INTO`), under its own locks.
//! Where that does not work, nobody has: then the file and its log are copied, and were not changed meanwhile.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sqlx::ConnectOptions as _;

use crate::error::CatalogError;
use crate::file::options;

/// Where temporary files may be made, beside what `TMPDIR` says.
const ELSEWHERE: [&str; 2] = ["/var/tmp", "/dev/shm"];
/// How often a copy is tried that was changed while it was made.
const TRIES: u32 = 3;

/// A temporary folder with a catalog in it; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Scratch {
    /// A copy of what is at `path`, as far as it can be read.
    pub(crate) async fn of(path: &Path) -> Result<Self, CatalogError> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for base in std::iter::once(std::env::temp_dir()).chain(ELSEWHERE.map(PathBuf::from)) {
            let filled = match Self::make(&base) {
                Ok(made) => made.fill(path).await.map(|()| made),
                Err(error) => Err(error),
            };
            match filled {
                Ok(made) => return Ok(made),
                Err(error) => last = error,
            }
        }
        Err(CatalogError::Create { path: std::env::temp_dir(), source: last })
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("catalog.sqlite")
    }

    fn make(base: &Path) -> io::Result<Self> {
        let folder = base.join(format!("stackferry-{}", uuid::Uuid::new_v4().simple()));
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Self { folder })
    }

    async fn fill(&self, path: &Path) -> io::Result<()> {
        if std::fs::File::open(path).is_err() || self.by_sqlite(path).await {
            return Ok(());
        }
        let (from, to) = (path.to_owned(), self.file());
        let copied = tokio::task::spawn_blocking(move || by_hand(&from, &to)).await;
        copied.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    async fn by_sqlite(&self, path: &Path) -> bool {
        let copied = async {
            let mut conn = options(path).read_only(true).connect().await?;
            let target = self.file().to_string_lossy().into_owned();
            sqlx::query("VACUUM INTO $1").bind(target).execute(&mut conn).await.map(|_| ())
        };
        if copied.await.is_ok() {
            return true;
        }
        let _ = std::fs::remove_file(self.file());
        false
    }
}

/// What changes when somebody writes: the lengths and times of the file and its log.
fn stamp(path: &Path) -> io::Result<[Option<(u64, i64, i64)>; 2]> {
    let one = |path: &Path| match path.metadata() {
        Ok(about) => Ok(Some((about.len(), about.mtime(), about.mtime_nsec()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    Ok([one(path)?, one(&log_of(path))?])
}

fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

fn by_hand(from: &Path, to: &Path) -> io::Result<()> {
    for _ in 0..TRIES {
        let before = stamp(from)?;
        std::fs::copy(from, to)?;
        let [_, log] = before;
        match log {
            Some(_) => drop(std::fs::copy(log_of(from), log_of(to))?),
            None => drop(std::fs::remove_file(log_of(to))),
        }
        if stamp(from)? == before {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            return std::fs::set_permissions(to, mode);
        }
    }
    Err(io::Error::other("the catalog was changed again and again while it was copied"))
}
