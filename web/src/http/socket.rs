//! The socket in the state folder, by which root and the service's own user speak to the service without a token: the
//! kernel says who they are.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use stackferry_config::Config;
use tokio::net::{UnixListener, UnixStream};

/// The socket of the service of this configuration.
#[must_use]
pub fn path(config: &Config) -> PathBuf {
    config.state_dir.join("stackferry.sock")
}

/// A socket that was taken. Dropped, its file is removed, if it still is this one's.
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let own = std::fs::symlink_metadata(&self.path).is_ok_and(|about| about.ino() == self.inode);
        if own && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the socket could not be removed");
        }
    }
}

/// Takes the socket, mode 0600. None where another service listens there, or where it can't be had: the service runs
/// without it, since everything it does can be asked for with a token.
pub(super) async fn bind(path: &Path) -> Option<Socket> {
    match take(path).await {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no socket: local callers need a token");
            None
        }
    }
}

async fn take(path: &Path) -> io::Result<Option<Socket>> {
    match std::fs::symlink_metadata(path) {
        Ok(about) if about.file_type().is_socket() => {
            if UnixStream::connect(path).await.is_ok() {
                tracing::info!(path = %path.display(), "another service has the socket of this state folder");
                return Ok(None);
            }
            // Left by a service that is no more.
            std::fs::remove_file(path)?;
        }
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket lies there")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    // Until here others could connect, where the folder lets them; who they are is asked of the kernel all the same.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    if let Some((uid, gid)) = stackferry_volume::local::owner_of(folder)? {
        rustix::fs::chownat(rustix::fs::CWD, path, Some(uid), Some(gid), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let inode = std::fs::symlink_metadata(path)?.ino();
    Ok(Some(Socket { listener, path: path.to_owned(), inode }))
}
