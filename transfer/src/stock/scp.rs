//! Copying a file by `scp -f`: the old protocol, in which the host announces what it sends. Only the one file is accepted:
//! its length must be the one that discovery saw, its name is ignored, and any other announcement ends the copy. SCP can't
//! seek, so an interrupted copy reads the file from its start again, but writes only what is missing.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Buf, Bytes};
use stackferry_volume::block::{BLOCK_BYTES, BlockIndex, BlockState};
use stackferry_volume::{EntryKind, FolderError, HoleMapSource};
use tokio::runtime::Handle;

use super::command::{self, PLACEHOLDER};
use super::find::run_find;
use super::{IssuedCert, Purpose, StockInner, check_unchanged, whole_seconds};
use crate::channel::{CommandChannel, Pace};
use crate::context::{CopyContext, FileCopy, FileOutcome};
use crate::error::TransferError;
use crate::receive::Receiver;
use crate::sanitize::clean;
use crate::wait::unless_cancelled;
use crate::writers::{Feed, FullBlock, receive_into};

/// The wait's name in errors.
const DOING: &str = "sending a file";
/// The longest control line: mode, length and a name.
const LONGEST_LINE: usize = 4 << 10;
/// Exit status of a shell that does not find a command.
const NOT_FOUND: u32 = 127;

pub(super) fn copy(
    inner: &StockInner,
    path: &str,
    file: FileCopy<'_>,
    context: &CopyContext,
    issued: &mut dyn FnMut(&IssuedCert),
) -> Result<FileOutcome, TransferError> {
    let receiver = Receiver::new(&file, context)?;
    let connection = inner.log_in_for(Purpose::Scp, &command::scp(path), context, issued)?;
    let channel = inner.runtime.block_on(unless_cancelled(&context.cancel, connection.exec(PLACEHOLDER)))?;
    let channel = CommandChannel::new(connection, channel, context.throttle.clone());
    receive(&inner.runtime, inner.timeouts.stall, channel, &file, context, &receiver)?;
    let outcome = receiver.finish(HoleMapSource::None, 1)?;
    // SCP does not report a change that happens while it sends.
    let stat = run_find(inner, file.path, path, 0);
    match inner.runtime.block_on(unless_cancelled(&context.cancel, stat))?.0 {
        Some(now) if now.kind == EntryKind::File => check_unchanged(&file, now.bytes, whole_seconds(now.mtime))?,
        _ => {
            let what = "it is gone".to_owned();
            return Err(TransferError::SourceChanged { file: file.path.to_owned(), what });
        }
    }
    Ok(outcome)
}

/// Receives the one file that `scp -f -p` at the other end of the channel sends. An error returned here happened before the
/// first byte; a later one is the receiver's.
pub(crate) fn receive(
    runtime: &Handle,
    stall: Duration,
    channel: CommandChannel,
    file: &FileCopy<'_>,
    context: &CopyContext,
    receiver: &Receiver<'_>,
) -> Result<(), TransferError> {
    let mut stream = ScpStream { stall, file, receiver, channel, rest: Bytes::new() };
    let begun = runtime.block_on(unless_cancelled(&context.cancel, stream.begin()));
    if begun.is_ok() {
        receive_into(receiver, file, context, |feed| runtime.block_on(stream.receive(feed)));
    }
    receiver.counters.wire.fetch_add(stream.channel.wire, Ordering::Relaxed);
    runtime.block_on(stream.channel.close());
    begun
}

struct ScpStream<'a> {
    stall: Duration,
    file: &'a FileCopy<'a>,
    receiver: &'a Receiver<'a>,
    channel: CommandChannel,
    /// Received and not yet processed.
    rest: Bytes,
}

impl ScpStream<'_> {
    /// Waits until there is data in `rest`. False where the command has ended.
    async fn fill(&mut self) -> Result<bool, TransferError> {
        while self.rest.is_empty() {
            let receiver = self.receiver;
            match self.channel.next(DOING, self.stall, &|| receiver.ended()).await? {
                Some(data) => self.rest = data,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn keep_pace(&self, pace: &Pace) -> Result<(), TransferError> {
        self.channel.keep_pace(pace, DOING, self.stall)
    }

    async fn acknowledge(&mut self) -> Result<(), TransferError> {
        self.channel.send(Bytes::from_static(b"\0"), self.stall).await
    }

    /// Up to the first byte of the file.
    async fn begin(&mut self) -> Result<(), TransferError> {
        self.acknowledge().await?;
        let times = self.control_line().await?;
        let Some(mtime) = times.strip_prefix(b"T").and_then(number) else {
            return Err(self.strange(&times));
        };
        self.acknowledge().await?;
        let header = self.control_line().await?;
        let bytes = header.strip_prefix(b"C").and_then(length);
        let Some(bytes) = bytes else { return Err(self.strange(&header)) };
        // Some hosts print a time before 1970 as an unsigned number.
        check_unchanged(self.file, bytes, mtime.cast_signed())?;
        self.acknowledge().await
    }

    /// A line without its newline. An error that the host reports ends the copy.
    async fn control_line(&mut self) -> Result<Vec<u8>, TransferError> {
        let mut line = Vec::new();
        let pace = self.channel.pace();
        loop {
            if !self.fill().await? {
                return Err(self.ended(&line));
            }
            self.keep_pace(&pace)?;
            let end = self.rest.iter().position(|byte| *byte == b'\n');
            line.extend_from_slice(&self.rest.split_to(end.unwrap_or(self.rest.len())));
            if line.len() > LONGEST_LINE {
                return Err(self.channel.protocol_error("a control line of SCP without an end"));
            }
            if end.is_some() {
                self.rest.advance(1);
                return match line.first() {
                    Some(1 | 2) => Err(self.reported(line.get(1..).unwrap_or_default())),
                    _ => Ok(line),
                };
            }
        }
    }

    /// Receives the file's bytes as blocks, and the end.
    async fn receive(&mut self, feed: &Feed) -> Result<(), TransferError> {
        let mut at = 0;
        while at < self.file.bytes {
            let block = BlockIndex(at / BLOCK_BYTES);
            let len = block.len_in(self.file.bytes);
            let known = self.file.done.get(block) != BlockState::Unknown;
            let mut bytes = if known { Vec::new() } else { feed.buffer(len) };
            let mut filled = 0;
            let pace = self.channel.pace();
            while filled < len {
                self.keep_pace(&pace)?;
                if !self.fill().await? {
                    let what = format!("it ends before byte {}", block.offset() + len as u64);
                    return Err(TransferError::SourceChanged { file: self.file.path.to_owned(), what });
                }
                let piece = self.rest.split_to(self.rest.len().min(len - filled));
                if let Some(place) = bytes.get_mut(filled..filled + piece.len()) {
                    place.copy_from_slice(&piece);
                }
                filled += piece.len();
                self.receiver.counters.read.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            if !known {
                feed.send(FullBlock { block, bytes })?;
            }
            at += len as u64;
        }
        if !self.fill().await? {
            return Err(self.ended(&[]));
        }
        match self.rest.get_u8() {
            0 => {}
            1 | 2 => {
                let line = self.control_line().await?;
                return Err(self.reported(&line));
            }
            _ => return Err(self.channel.protocol_error("SCP sends more than it announced")),
        }
        self.acknowledge().await?;
        if self.fill().await? {
            return Err(self.channel.protocol_error("SCP sends more than the one file"));
        }
        match self.channel.status() {
            Some(0) => Ok(()),
            status => {
                let stderr = self.channel.stderr();
                Err(self.channel.protocol_error(format!("scp ended with {status:?} after the whole file: {stderr}")))
            }
        }
    }

    fn strange(&self, line: &[u8]) -> TransferError {
        let line: String = clean(&String::from_utf8_lossy(line)).chars().take(100).collect();
        self.channel.protocol_error(format!(
            "`{line}` where scp announces the file: does a login script or shell print something?"
        ))
    }

    /// The error for a command that ended too early.
    fn ended(&self, output: &[u8]) -> TransferError {
        let words = clean(&String::from_utf8_lossy(output));
        let stderr = self.channel.stderr();
        match self.channel.status() {
            Some(NOT_FOUND) => TransferError::Unfit {
                host: self.channel.address().to_owned(),
                what: format!("it has neither SFTP nor scp ({stderr})"),
                hint: "turn on SFTP there: `Subsystem sftp internal-sftp` in sshd_config".to_owned(),
            },
            status => self
                .channel
                .protocol_error(format!("scp ended with {status:?} before the file was complete: {words} {stderr}")),
        }
    }

    /// scp's message as an error of the file.
    fn reported(&self, words: &[u8]) -> TransferError {
        let words = clean(&String::from_utf8_lossy(words));
        let path = self.file.path.to_owned();
        if words.contains("No such file") {
            FolderError::NotFound { path }.into()
        } else if words.contains("Permission denied") {
            FolderError::Denied { path }.into()
        } else {
            TransferError::Refused { host: self.channel.address().to_owned(), code: "io".to_owned(), message: words }
        }
    }
}

/// The number before the first space.
fn number(text: &[u8]) -> Option<u64> {
    let number = text.get(..text.iter().position(|byte| *byte == b' ')?)?;
    let digits = number.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(number).ok()?.parse().ok()).flatten()
}

/// The length in `0644 123 name`. The name is ignored, but required.
fn length(text: &[u8]) -> Option<u64> {
    let (mode, rest) = text.split_at_checked(5)?;
    let octal = mode.strip_suffix(b" ")?.iter().all(|byte| matches!(byte, b'0'..=b'7'));
    let name = rest.iter().position(|byte| *byte == b' ')?;
    (octal && rest.len() > name + 1).then(|| number(rest)).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::same_second;
    use super::*;

    #[test]
    fn times_in_the_formats_of_different_tools_are_equal() {
        // What `find` says, and what `scp` or SFTP make of it: none before 1970, 32 bits, or the bits of a negative number.
        for (find, other) in [(-5, 0), (-5, 4_294_967_291), (-5, -5), (5_000_000_000, 705_032_704), (0, 0), (7, 7)] {
            assert!(same_second(find, other) && same_second(other, find), "{find} {other}");
        }
        assert_eq!(number(b"18446744073709551611 0 0 0").map(u64::cast_signed), Some(-5));
        for (one, other) in [(-5, -6), (7, 8), (0, 1), (-5, 5)] {
            assert!(!same_second(one, other), "{one} {other}");
        }
    }

    #[test]
    fn control_lines_are_parsed() {
        assert_eq!(length(b"0644 123 a b\xff.vmdk"), Some(123));
        assert_eq!(length(b"0600 0 a"), Some(0));
        for bad in [&b""[..], b"0644", b"0644 123", b"0644 123 ", b"0944 1 a", b"0644 -1 a", b"0644 1x a", b"0644  1 a"]
        {
            assert_eq!(length(bad), None, "{bad:?}");
        }
        assert_eq!(number(b"1700000000 0 5 0"), Some(1_700_000_000));
        assert_eq!(number(b"99999999999999999999 0"), None);
        assert_eq!(number(b"+5 0"), None);
    }
}
