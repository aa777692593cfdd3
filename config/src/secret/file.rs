//! Reads a secret from a file. Never follows a pipe or device, and never reads without limit.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

use super::{MAX_SECRET, Secret, SecretError};

/// Permission bits that let in users outside of the file's owner and group.
const OTHERS: u32 = 0o007;

/// Reads a secret from `path`. With `private`, a file that others may open is refused.
pub(super) fn read(path: &Path, private: bool) -> Result<Secret, SecretError> {
    let open_error = |source: io::Error| SecretError::Open { path: path.to_owned(), source };
    let read_error = |source: io::Error| SecretError::Read { path: path.to_owned(), source };
    // NONBLOCK: opening a named pipe must not wait for its writer.
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
        .map(File::from)
        .map_err(|errno| open_error(errno.into()))?;
    let metadata = file.metadata().map_err(read_error)?;
    if !metadata.is_file() {
        return Err(SecretError::NotAFile { path: path.to_owned() });
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
    if private && mode & OTHERS != 0 {
        return Err(SecretError::OpenToAll { path: path.to_owned(), mode });
    }
    let subject = format!("the password file {}", path.display());
    let bytes =
        read_limited(file).map_err(read_error)?.ok_or_else(|| SecretError::TooLong { subject: subject.clone() })?;
    Secret::from_bytes(bytes, &subject)
}

/// Reads at most [`MAX_SECRET`] bytes, none when there are more. One buffer that never moves, so that no copy stays behind
/// in freed memory.
fn read_limited(mut file: File) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut bytes = Zeroizing::new(vec![0_u8; MAX_SECRET + 1]);
    let mut filled = 0;
    while let Some(free) = bytes.get_mut(filled..).filter(|free| !free.is_empty()) {
        match file.read(free) {
            Ok(0) => {
                bytes.truncate(filled);
                return Ok(Some(bytes));
            }
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
