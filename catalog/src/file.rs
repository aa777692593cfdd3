//! The catalog's file: how it is made, and how SQLite opens it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use stackferry_volume::local::give_to_owner;

/// How long a statement waits for another process's write.
pub(crate) const BUSY_WAIT: Duration = Duration::from_secs(10);

pub(crate) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY_WAIT)
        // The statements' texts, which hold no values: for counting them, and for whoever asks for everything.
        .log_statements(log::LevelFilter::Trace)
        .log_slow_statements(log::LevelFilter::Off, Duration::MAX)
}

/// Makes the empty file, if there is none. SQLite gives its side files the mode and the owner of this one.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    give_to_owner(&file, folder)?;
    file.sync_all()?;
    std::fs::File::open(folder)?.sync_all()
}
