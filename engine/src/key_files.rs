//! The key files of grants on stock SSH hosts: below `state_dir`, for their user only, and gone after their time.
//!
//! A key opens one file for five minutes at most, whatever becomes of its file; sweeping only keeps the folder small.
//! The time of last change of each file is when its certificate ends.

use std::fs::{File, FileTimes, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use stackferry_config::Config;
use stackferry_transfer::stock::FileGrant;
use stackferry_volume::local::give_to_owner;

use stackferry_problem::Problem;

fn folder(config: &Config) -> PathBuf {
    config.state_dir.join("grants")
}

/// Writes a grant's key and certificate; gives the key's file. The certificate is first: without it the key is
/// nothing, and the other way round.
pub(crate) fn write(config: &Config, granted: &FileGrant) -> Result<PathBuf, Problem> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = folder(config);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    let made = made.and_then(|()| give_to_owner(File::open(&folder)?, &config.state_dir));
    made.map_err(|error| Problem::io("make", folder.display(), &error))?;
    let key = folder.join(&granted.name);
    let certificate = folder.join(format!("{}-cert.pub", granted.name));
    put(&certificate, &granted.certificate, granted.expires, &config.state_dir)?;
    put(&key, granted.key.expose(), granted.expires, &config.state_dir)?;
    Ok(key)
}

fn put(path: &Path, text: &str, expires: Timestamp, state_dir: &Path) -> Result<(), Problem> {
    let failed = |error: std::io::Error| Problem::io("write", path.display(), &error);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    give_to_owner(&file, state_dir).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.set_times(FileTimes::new().set_modified(SystemTime::from(expires))).map_err(failed)
}

/// Removes the files of grants whose time is over.
pub(crate) fn sweep(config: &Config) {
    let Ok(entries) = std::fs::read_dir(folder(config)) else { return };
    for entry in entries.flatten() {
        let over = File::open(entry.path())
            .and_then(|file| file.metadata()?.modified())
            .is_ok_and(|expires| expires < SystemTime::now());
        if over && let Err(error) = std::fs::remove_file(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "a spent key could not be removed");
        }
    }
}
