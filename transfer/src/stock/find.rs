//! Lists folders without SFTP, by `find` in the user's shell. A listing is trusted once its end marker arrived; anything
//! else is reported.

use stackferry_volume::local::MAX_FOLDER_ENTRIES;
use stackferry_volume::{Entry, FolderError};

use super::StockInner;
use super::command::{self, EXIT_NO_ROOT, EXIT_NOTHING};
use super::folder::{no_root, question_timeout};
use super::listing::{FindListing, FindReader, ListingError};
use super::run::{CommandEnd, run};
use crate::error::TransferError;

/// The most of a command's standard error that is shown, in characters: some shells repeat the whole command.
const MAX_SEEN: usize = 160;

/// Lists a folder and its entries, or one file (`depth` 0), by `find`. The result is complete.
pub(super) async fn run_find(
    inner: &StockInner,
    requested: &str,
    path: &str,
    depth: u32,
) -> Result<(Option<Entry>, Vec<Entry>), TransferError> {
    // A symbolic link at the datastore's own folder is followed.
    let path = if requested.is_empty() { format!("{}/", path.trim_end_matches('/')) } else { path.to_owned() };
    let connection = inner.log_in_for_discovery(&command::find(&inner.root, &path, depth)).await?;
    let mut reader = FindReader::default();
    let ended = run(inner, connection, question_timeout(inner), &|| false, &mut |data| reader.push(data)).await?;
    let begin = reader.begin();
    match (reader.finish(), ended.status) {
        (Ok(FindListing { itself: Some(itself), entries, end: Some(0) }), Some(0)) => Ok((Some(itself), entries)),
        (Ok(FindListing { itself: None, end: None, .. }), Some(EXIT_NOTHING)) => Ok((None, Vec::new())),
        (Ok(FindListing { itself: None, end: None, .. }), Some(EXIT_NO_ROOT)) => {
            Err(no_root(&inner.root, &inner.address()).into())
        }
        (Err(ListingError::TooMany), _) => {
            Err(FolderError::TooMany { path: requested.to_owned(), most: MAX_FOLDER_ENTRIES }.into())
        }
        // It listed the folder, and then failed.
        (Ok(FindListing { itself: Some(_), end: Some(1), .. }), Some(1)) => {
            let path = requested.to_owned();
            Err(if ended.stderr.contains("Permission denied") {
                FolderError::Denied { path }.into()
            } else {
                FolderError::Io { path, source: std::io::Error::other(ended.stderr) }.into()
            })
        }
        _ => Err(lacks(inner, "find", "list", &ended, &begin)),
    }
}

/// The error for a host that does not run the command that lists or reads: its output, and the likely cause.
pub(super) fn lacks(inner: &StockInner, command: &str, output: &str, ended: &CommandEnd, begin: &str) -> TransferError {
    let status = ended.status.map_or_else(|| "no exit status".to_owned(), |status| format!("exit status {status}"));
    let mut seen = vec![status];
    if !ended.stderr.is_empty() {
        seen.push(ended.stderr.chars().take(MAX_SEEN).collect());
    }
    if !begin.is_empty() {
        seen.push(format!("it wrote: {begin}"));
    }
    if seen.len() == 1 {
        seen.push("it wrote nothing".to_owned());
    }
    let shell = shell_behind(ended, begin).map(|shell| format!(": its user seems to have {shell}")).unwrap_or_default();
    TransferError::Unfit {
        host: inner.address(),
        what: format!("it has no SFTP, and `{command}` prints no {output}{shell} ({})", seen.join(": ")),
        hint:
            "turn on SFTP there (`Subsystem sftp internal-sftp` in sshd_config), or give the user a POSIX shell that \
               prints nothing by itself and has GNU find"
                .to_owned(),
    }
}

/// The kind of login shell that answers so, where it can be recognised.
fn shell_behind(ended: &CommandEnd, begin: &str) -> Option<&'static str> {
    let output = format!("{} {begin}", ended.stderr).to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| output.contains(word));
    if has(&["fish:"]) {
        Some("fish, which is no POSIX shell")
    } else if has(&[
        "expression syntax",
        "command not found.",
        "illegal variable name",
        "undefined variable",
        "badly placed",
    ]) {
        Some("a C shell (csh, tcsh), which is no POSIX shell")
    } else if has(&["restricted"]) {
        Some("a restricted shell")
    } else if has(&["not available", "nologin"]) || (ended.status == Some(1) && output.trim().is_empty()) {
        Some("an account without a shell (nologin, /bin/false)")
    } else if ended.status == Some(0) && output.trim().is_empty() {
        Some("a shell or a ForceCommand that does something else (/bin/true, fish, a menu)")
    } else {
        None
    }
}
