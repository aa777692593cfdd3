//! Writing one new file onto a stock host's datastore, by a Python program that the certificate forces.
//!
//! The program is bound to the one file by its arguments. It creates the file under a temporary name, below the datastore
//! and without following links, writes the pieces that it receives, syncs them, reads them back and reports their digest;
//! on request it renames the file by a hard link, which replaces nothing. Unless it is requested to keep the file, it removes
//! it, also when the connection breaks. It opens no existing file, except to check whether an earlier restore's temporary
//! file is still locked.
//!
//! A piece is an offset and a length (8 and 4 bytes, little-endian) and so many bytes; a negative offset ends them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use stackferry_volume::block::{BlockIndex, STORE_ZERO_BYTES, is_zero};
use stackferry_volume::local::RESTORE_PREFIX;

use super::command::{PLACEHOLDER, quoted};
use super::{IssuedCert, Purpose, StockInner};
use crate::channel::CommandChannel;
use crate::context::CopyContext;
use crate::error::TransferError;
use crate::restore::{Checked, FilePart, FileRestore, PendingFile, Written, read_ahead};
use crate::sanitize::clean;
use crate::wait::unless_cancelled;

/// The wait's name in errors.
const WRITING: &str = "writing a file";
/// How long to wait for the reason after the program stopped accepting data: it was received already, or is on the way.
const REASON_TIMEOUT: Duration = Duration::from_secs(5);
/// The program reports progress for so many bytes that it wrote, …
const WRITE_PROGRESS: u64 = 1 << 25;
/// … and for so many that it read back.
const READ_PROGRESS: u64 = 1 << 27;
/// The longest line of the program's output, in bytes.
const LONGEST_LINE: usize = 200;
/// Exit status of a shell that does not find a command.
const NOT_FOUND: u32 = 127;

/// The program. It prints lines of words: `1` and the free bytes once the file is created; `0` as progress; `2`, the SHA-256
/// of what it read back, the length and the bytes on disk; `3` when the file is renamed, `4` when it is kept; `-1` and the
/// `errno` of an error. No single quotes: it becomes one word of a shell.
const PROGRAM: &str = include_str!("upload/program.py");

/// The forced command that writes one new file.
fn command(root: &str, folder: &str, name: &str, temporary: &str, file: &FileRestore<'_>) -> String {
    let program = PROGRAM.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let root = if root.is_empty() { "/" } else { root };
    let size = file.blocks.bytes().to_string();
    let mtime = file.mtime.as_nanosecond().to_string();
    let words = [root, folder, name, temporary, RESTORE_PREFIX, &size, &mtime].map(quoted).join(" ");
    // The file comes first: a host's log shows some thousand characters of a command.
    format!("set -- {words}; exec python3 -I -S -c {} \"$@\"", quoted(&format!("exec(\"{program}\")")))
}

/// The most bytes of the file's name in its temporary name.
const MAX_TAIL: usize = 180;

fn temporary(name: &str) -> String {
    let tail: String =
        name.char_indices().take_while(|(at, c)| at + c.len_utf8() <= MAX_TAIL).map(|(_, c)| c).collect();
    format!("{RESTORE_PREFIX}{:016x}-{tail}", rand::random::<u64>())
}

pub(super) fn write<'c>(
    inner: &'c StockInner,
    file: &FileRestore<'_>,
    context: &CopyContext,
    issued: &mut dyn FnMut(&IssuedCert),
) -> Result<Written<'c>, TransferError> {
    // Refuses a path that is not plain before it contacts the host.
    inner.path(file.path)?;
    let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", file.path));
    if name.starts_with(RESTORE_PREFIX) {
        let path = file.path.to_owned();
        return Err(
            stackferry_volume::FolderError::Refused { path, why: "such names are reserved for restores" }.into()
        );
    }
    let command = command(&inner.root, folder, name, &temporary(name), file);
    let connection = inner.log_in_for(Purpose::Write, &command, context, issued)?;
    let channel = inner.runtime.block_on(unless_cancelled(&context.cancel, connection.exec(PLACEHOLDER)))?;
    let channel = CommandChannel::new(connection, channel, None).writing();
    let mut new =
        StockUpload { inner, channel, output: VecDeque::new(), path: file.path.to_owned(), sent: 0, progress_lines: 0 };
    match new.send_file(file, context) {
        Ok(stored) => {
            let wire = new.channel.wire;
            Ok(Written { placed: Box::new(new), stored, wire, checked: Checked::HostDigest })
        }
        Err(error) => {
            inner.runtime.block_on(new.channel.close());
            Err(error)
        }
    }
}

/// A file at a host that is being written, or complete.
struct StockUpload<'c> {
    inner: &'c StockInner,
    channel: CommandChannel,
    /// Output of the program that was not parsed yet.
    output: VecDeque<u8>,
    path: String,
    /// Bytes of the file that were sent.
    sent: u64,
    /// The progress lines received.
    progress_lines: u64,
}

impl StockUpload<'_> {
    fn send_file(&mut self, file: &FileRestore<'_>, context: &CopyContext) -> Result<u64, TransferError> {
        let ended = || context.cancel.is_cancelled();
        let free = self.wait_for("1", &ended)?;
        let free: u64 = free.first().and_then(|word| word.parse().ok()).ok_or_else(|| self.invalid_output())?;
        if file.needed > free {
            let message = format!("{} bytes are needed, and {free} are free", file.needed);
            let host = self.channel.address().to_owned();
            return Err(TransferError::NoRoom { host, file: self.path.clone(), message });
        }
        let mut digest = Sha256::new();
        let bytes = file.blocks.bytes();
        read_ahead(file, &context.cancel, |piece| {
            match piece {
                FilePart::Zero(first, count) => {
                    let end = BlockIndex(first.0.saturating_add(count)).offset().min(bytes);
                    context.progress.done(end.saturating_sub(first.offset()));
                }
                FilePart::Data(block, data, _) => {
                    for (at, run) in runs(&data) {
                        digest.update(run);
                        self.sent += run.len() as u64;
                        let length = u32::try_from(run.len()).unwrap_or(u32::MAX);
                        let mut message = BytesMut::with_capacity(run.len() + 12);
                        message.put_u64_le(block.offset() + at as u64);
                        message.put_u32_le(length);
                        message.extend_from_slice(run);
                        if let Some(throttle) = &context.throttle {
                            let taking = throttle.acquire_async(message.len() as u64, &ended);
                            self.inner.runtime.block_on(taking);
                        }
                        self.send_bytes(message.freeze())?;
                    }
                    context.progress.done(data.len() as u64);
                }
            }
            Ok(())
        })?;
        let mut end = BytesMut::with_capacity(12);
        end.put_i64_le(-1);
        end.put_u32_le(0);
        self.send_bytes(end.freeze())?;
        let result = self.wait_for("2", &ended)?;
        let expected: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let (found, length) = (result.first().map(String::as_str), result.get(1).and_then(|word| word.parse().ok()));
        if (found, length) != (Some(expected.as_str()), Some(bytes)) {
            let message = "the digest of what the host read back differs".to_owned();
            let host = self.channel.address().to_owned();
            return Err(TransferError::Arrived { host, file: self.path.clone(), message });
        }
        Ok(self.sent)
    }

    fn send_bytes(&mut self, bytes: Bytes) -> Result<(), TransferError> {
        let putting = self.channel.send(bytes, self.inner.timeouts.stall);
        match self.inner.runtime.block_on(putting) {
            // The program may have reported the reason.
            Err(TransferError::Unreachable { host, source }) => {
                let last = self.wait_for_within("", REASON_TIMEOUT, &|| false);
                Err(match last {
                    Err(TransferError::Unreachable { .. } | TransferError::Stalled { .. }) | Ok(_) => {
                        TransferError::Unreachable { host, source }
                    }
                    Err(reason) => reason,
                })
            }
            other => other,
        }
    }

    fn invalid_output(&self) -> TransferError {
        self.channel.protocol_error("its program's output is invalid: does a login script or shell print something?")
    }

    /// The words after this one, once the program prints it.
    fn wait_for(&mut self, due: &str, ended: &dyn Fn() -> bool) -> Result<Vec<String>, TransferError> {
        self.wait_for_within(due, self.inner.timeouts.stall, ended)
    }

    fn wait_for_within(
        &mut self,
        due: &str,
        timeout: Duration,
        ended: &dyn Fn() -> bool,
    ) -> Result<Vec<String>, TransferError> {
        let mut since = Instant::now();
        loop {
            while let Some(end) = self.output.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.output.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).into_owned();
                let mut words = line.split_whitespace().map(str::to_owned);
                match words.next().as_deref() {
                    // No more than its work allows: a host must not delay a restore forever.
                    Some("0") if self.progress_lines < self.sent / WRITE_PROGRESS + self.sent / READ_PROGRESS => {
                        self.progress_lines += 1;
                        since = Instant::now();
                    }
                    Some("-1") => return Err(self.failed(words.next().and_then(|number| number.parse().ok()))),
                    Some(word) if word == due => return Ok(words.collect()),
                    _ => return Err(self.invalid_output()),
                }
            }
            if self.output.len() > LONGEST_LINE {
                return Err(self.invalid_output());
            }
            match self.inner.runtime.block_on(self.channel.next_since(since, WRITING, timeout, ended))? {
                Some(data) => self.output.extend(data),
                None => return Err(self.ended_early()),
            }
        }
    }

    /// The error for a program that ended without a result.
    fn ended_early(&self) -> TransferError {
        let host = self.channel.address().to_owned();
        let stderr = self.channel.stderr();
        match self.channel.status() {
            Some(NOT_FOUND) => TransferError::Unfit {
                host,
                what: format!("it has no python3 for its user, by which new files are written ({stderr})"),
                hint: "install python3 there, or restore into a folder and copy the files from there".to_owned(),
            },
            status => self
                .channel
                .protocol_error(format!("its program ended with {status:?} before the file was complete: {stderr}")),
        }
    }

    /// The error for an `errno` of the host, as Linux numbers them.
    fn failed(&self, number: Option<i32>) -> TransferError {
        use stackferry_volume::FolderError;
        let (host, file) = (self.channel.address().to_owned(), self.path.clone());
        let system = number.map_or_else(
            || "an unknown error".to_owned(),
            |number| std::io::Error::from_raw_os_error(number).to_string(),
        );
        match number.map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::EXIST) => TransferError::Exists { host, file },
            Some(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) => {
                TransferError::NoRoom { host, file, message: system }
            }
            Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM | rustix::io::Errno::ROFS) => {
                TransferError::Refused { host, code: "denied".to_owned(), message: format!("{file}: {system}") }
            }
            Some(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
                FolderError::Refused { path: file, why: "a part of the path is a symbolic link or no folder" }.into()
            }
            _ => TransferError::Refused {
                host,
                code: "io".to_owned(),
                message: clean(&format!("writing {file} failed: {system}")),
            },
        }
    }
}

/// The runs of a block that are not zero, in pieces of [`STORE_ZERO_BYTES`]: each one's offset and bytes.
fn runs(block: &[u8]) -> Vec<(usize, &[u8])> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (at, piece) in block.chunks(STORE_ZERO_BYTES).enumerate().filter(|(_, piece)| !is_zero(piece)) {
        let start = at * STORE_ZERO_BYTES;
        match runs.last_mut() {
            Some((from, length)) if *from + *length == start => *length += piece.len(),
            _ => runs.push((start, piece.len())),
        }
    }
    runs.into_iter().filter_map(|(from, length)| Some((from, block.get(from..from + length)?))).collect()
}

impl PendingFile for StockUpload<'_> {
    fn name(&mut self) -> Result<(), TransferError> {
        self.send_bytes(Bytes::from_static(b"N"))?;
        self.wait_for("3", &|| false).map(|_| ())
    }

    fn keep(mut self: Box<Self>) -> Result<(), TransferError> {
        self.send_bytes(Bytes::from_static(b"K"))?;
        self.wait_for("4", &|| false)?;
        let Self { inner, channel, .. } = *self;
        inner.runtime.block_on(channel.close());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_one_word_of_a_shell() {
        assert!(!PROGRAM.contains('\''));
        let blocks = stackferry_volume::BlockMap::new(5);
        struct Nothing;
        impl stackferry_volume::Source for Nothing {
            fn bytes(&self) -> u64 {
                5
            }
            fn next_data(&self, _: u64) -> std::io::Result<Option<std::ops::Range<u64>>> {
                Ok(None)
            }
            fn read_at(&self, _: u64, _: &mut [u8]) -> std::io::Result<()> {
                Ok(())
            }
            fn hole_map(&self) -> stackferry_volume::HoleMapSource {
                stackferry_volume::HoleMapSource::None
            }
        }
        let file = FileRestore {
            path: "a/it's",
            mtime: jiff::Timestamp::UNIX_EPOCH,
            blocks: &blocks,
            blake3: stackferry_volume::Digest::of(b""),
            source: &Nothing,
            needed: 0,
        };
        let command = command("", "a", "it's", ".stackferry-restore-00-it's", &file);
        assert!(!command.contains('\n'));
        let words = "set -- '/' 'a' 'it'\\''s' '.stackferry-restore-00-it'\\''s' '.stackferry-restore-' '5' '0'; ";
        let rest = command.strip_prefix(words).unwrap();
        assert!(rest.starts_with("exec python3 -I -S -c 'exec(\"import fcntl"), "{command}");
        assert!(rest.ends_with("' \"$@\""), "{command}");
    }

    #[test]
    fn zeros_are_left_out() {
        let mut block = vec![0u8; 20_000];
        block[4096] = 1;
        block[8192] = 1;
        block[19_999] = 1;
        let found: Vec<_> = runs(&block).into_iter().map(|(at, run)| (at, run.len())).collect();
        assert_eq!(found, [(4096, 8192), (16_384, 3616)]);
        assert!(runs(&[0; 5000]).is_empty());
    }
}
