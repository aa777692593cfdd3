//! Reading a file by `dd` on the host: one command that prints the requested blocks one after the other, on the connection's
//! one channel. The output has no framing: its length has to be exactly what was requested.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use stackferry_volume::block::{BLOCK_BYTES, BlockIndex, BlockMap, BlockState, is_zero};
use stackferry_volume::holes::HoleMap;
use stackferry_volume::{HoleMapSource, Source};

use super::account::{HostSession, STALL};
use crate::channel::CommandChannel;
use crate::error::TransferError;
use crate::ssh::Connection;
use crate::stock::command::quoted;
use crate::stock::map::SAMPLES;
use crate::wait::unless_cancelled;
use crate::walk::{WalkStep, Walker};
use crate::writers::{Feed, FullBlock, receive_into};

/// The wait's name in errors.
const DOING: &str = "reading by dd";
/// The most runs in one command, which keeps it far below a shell's limit. Where there are more, the shortest gaps between
/// them are read, too.
const MAX_RUNS: usize = 400;

/// The blocks to read, as runs, and the holes.
struct ReadPlan {
    runs: Vec<Range<u64>>,
    holes: Vec<(BlockIndex, u64)>,
}

fn plan(source: &dyn Source, done: &BlockMap) -> Result<ReadPlan, TransferError> {
    let mut plan = ReadPlan { runs: Vec::new(), holes: Vec::new() };
    let mut walker = Walker::new(source, done);
    let broken = |_| TransferError::Worker { file: "a disk's map".to_owned() };
    while let Some(step) = walker.next().map_err(broken)? {
        match step {
            WalkStep::Hole { first, count } => plan.holes.push((first, count)),
            WalkStep::Read { block, .. } => match plan.runs.last_mut() {
                Some(last) if last.end == block.0 => last.end += 1,
                _ => plan.runs.push(block.0..block.0 + 1),
            },
        }
    }
    plan.runs = joined(plan.runs);
    Ok(plan)
}

/// The same runs, joined over the shortest gaps until there are few enough.
fn joined(mut runs: Vec<Range<u64>>) -> Vec<Range<u64>> {
    if runs.len() <= MAX_RUNS {
        return runs;
    }
    let gap = |pair: &[Range<u64>]| match pair {
        [one, two] => two.start - one.end,
        _ => 0,
    };
    let mut gaps: Vec<u64> = runs.windows(2).map(gap).collect();
    gaps.sort_unstable();
    let longest = gaps.get(runs.len() - MAX_RUNS).copied().unwrap_or(u64::MAX);
    runs.dedup_by(|next, last| {
        let near = next.start - last.end <= longest;
        if near {
            last.end = next.end;
        }
        near
    });
    runs
}

/// One command for all runs.
fn command(path: &str, runs: &[Range<u64>]) -> String {
    let mut text = format!("f={}", quoted(path));
    for run in runs {
        let separator = if text.contains(';') { " &&" } else { ";" };
        // Writing to a `String` does not fail.
        let _ =
            write!(text, "{separator} dd if=\"$f\" bs={BLOCK_BYTES} skip={} count={}", run.start, run.end - run.start);
    }
    text
}

/// Reads some places that the map calls holes.
pub(super) fn samples(path: &str, units: &[u64]) -> String {
    let mut text = format!("f={}; true", quoted(path));
    for unit in units {
        let _ = write!(text, " && dd if=\"$f\" bs={SAMPLE_BYTES} skip={unit} count=1");
    }
    text
}

/// `dd` counts in units of this when it samples, in bytes.
const SAMPLE_BYTES: u64 = 4096;

/// The sampled units: each lies completely within a hole.
pub(super) fn sampled(map: &HoleMap) -> Vec<u64> {
    let unit = |(offset, len): (u64, u32)| {
        let first = offset.div_ceil(SAMPLE_BYTES);
        ((first + 1) * SAMPLE_BYTES <= offset + u64::from(len)).then_some(first)
    };
    map.samples(SAMPLES).into_iter().filter_map(unit).collect()
}

/// Whether the samples are complete and zero. A map with holes of which none can be sampled is not trusted.
pub(super) fn are_zero(output: &[u8], units: &[u64], map: &HoleMap) -> bool {
    let is_whole = u64::try_from(units.len()).is_ok_and(|count| output.len() as u64 == count * SAMPLE_BYTES);
    is_whole && is_zero(output) && (!units.is_empty() || map.samples(SAMPLES).is_empty())
}

/// Exit status of a shell that does not find a command.
const NOT_FOUND: u32 = 127;

/// Copies by one connection. None where the host has no `dd`.
pub(super) fn copy(
    visit: &HostSession<'_, '_>,
    connection: Connection,
    map: Option<&HoleMap>,
) -> Result<Option<HoleMapSource>, TransferError> {
    let runtime = &visit.inner.runtime;
    let all = HoleMap::all(visit.file.bytes);
    let plan = plan(map.unwrap_or(&all), &visit.file.done)?;
    let source = if map.is_some() { HoleMapSource::Host } else { HoleMapSource::None };
    let command = command(visit.path, &plan.runs);
    let starting = unless_cancelled(&visit.context.cancel, connection.exec(&command));
    let channel = runtime.block_on(starting)?;
    let channel = CommandChannel::new(connection, channel, visit.context.throttle.clone());
    let mut stream = DdStream { visit, channel, rest: Bytes::new() };
    if !plan.runs.is_empty() && !runtime.block_on(stream.fill())? && stream.channel.status() == Some(NOT_FOUND) {
        runtime.block_on(stream.channel.close());
        return Ok(None);
    }
    receive_into(visit.receiver, visit.file, visit.context, |feed| {
        plan.holes.iter().for_each(|(first, count)| visit.receiver.zero(*first, *count));
        runtime.block_on(stream.take(&plan.runs, feed))
    });
    visit.receiver.counters.wire.fetch_add(stream.channel.wire, Ordering::Relaxed);
    runtime.block_on(stream.channel.close());
    Ok(Some(source))
}

struct DdStream<'a> {
    visit: &'a HostSession<'a, 'a>,
    channel: CommandChannel,
    /// Received and not yet processed.
    rest: Bytes,
}

impl DdStream<'_> {
    async fn take(&mut self, runs: &[Range<u64>], feed: &Feed) -> Result<(), TransferError> {
        for block in runs.iter().cloned().flatten().map(BlockIndex) {
            self.block(block, feed).await?;
        }
        if self.fill().await? {
            return Err(self.channel.protocol_error("dd sends more than was requested"));
        }
        match self.channel.status() {
            Some(0) => Ok(()),
            status => {
                let stderr = self.channel.stderr();
                Err(self.channel.protocol_error(format!("dd ended with {status:?} after the whole file: {stderr}")))
            }
        }
    }

    async fn block(&mut self, block: BlockIndex, feed: &Feed) -> Result<(), TransferError> {
        let (file, receiver) = (self.visit.file, self.visit.receiver);
        let len = block.len_in(file.bytes);
        let mut bytes = feed.buffer(len);
        let mut filled = 0;
        let pace = self.channel.pace();
        while filled < len {
            if !self.fill().await? {
                return Err(self.ended(block.offset() + filled as u64));
            }
            self.channel.keep_pace(&pace, DOING, STALL)?;
            let piece = self.rest.split_to(self.rest.len().min(len - filled));
            if let Some(place) = bytes.get_mut(filled..filled + piece.len()) {
                place.copy_from_slice(&piece);
            }
            filled += piece.len();
            receiver.counters.read.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        // Blocks in the gap between two runs may be done already.
        if file.done.get(block) == BlockState::Unknown {
            feed.send(FullBlock { block, bytes })?;
        }
        Ok(())
    }

    /// Waits until there is data in `rest`. False where the command has ended.
    async fn fill(&mut self) -> Result<bool, TransferError> {
        let receiver = self.visit.receiver;
        while self.rest.is_empty() {
            match self.channel.next(DOING, STALL, &|| receiver.ended()).await? {
                Some(data) => self.rest = data,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn ended(&self, offset: u64) -> TransferError {
        let file = self.visit.file.path.to_owned();
        match self.channel.status() {
            Some(0) => TransferError::SourceChanged { file, what: format!("it ends at byte {offset}") },
            status => {
                let stderr = self.channel.stderr();
                let source = std::io::Error::other(format!("dd ended with {status:?}: {stderr}"));
                TransferError::Read { file, offset, source }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_leaves_out_holes_and_done_blocks() {
        const MIB: u64 = 1 << 20;
        let map = HoleMap::of(10 * MIB, vec![0..2 * MIB, 5 * MIB..10 * MIB]);
        let mut done = BlockMap::new(10 * MIB);
        done.set(BlockIndex(7), BlockState::Zero);
        let plan = plan(&map, &done).unwrap();
        assert_eq!(plan.runs, [0..2, 5..7, 8..10]);
        assert_eq!(plan.holes, [(BlockIndex(2), 3)]);
        assert_eq!(
            command("/a'b", &plan.runs[..2]),
            "f='/a'\\''b'; dd if=\"$f\" bs=1048576 skip=0 count=2 && dd if=\"$f\" bs=1048576 skip=5 count=2"
        );
    }

    #[test]
    fn many_runs_are_joined_and_none_is_lost() {
        let runs: Vec<_> = (0..1000_u64).map(|n| n * 10 + n % 3..n * 10 + n % 3 + 2).collect();
        let few = joined(runs.clone());
        assert!(few.len() <= MAX_RUNS, "{}", few.len());
        for run in runs {
            assert!(few.iter().any(|joined| joined.start <= run.start && run.end <= joined.end), "{run:?}");
        }
        assert!(few.windows(2).all(|pair| pair[0].end < pair[1].start));
    }

    #[test]
    fn samples_must_be_complete_and_zero() {
        let map = HoleMap::of(1 << 20, vec![0..4096, 8192..12288]);
        let units = [1, 7];
        assert!(are_zero(&[0; 8192], &units, &map));
        assert!(!are_zero(&[0; 4096], &units, &map), "the second is missing");
        assert!(!are_zero(&[0, 1, 0, 0].repeat(2048), &units, &map));
        assert!(!are_zero(&[0; 100], &units, &map));
        assert!(!are_zero(&[], &[], &map), "it has holes, and none was sampled");
        assert!(are_zero(&[], &[], &HoleMap::all(1 << 20)));
        assert!(samples("/x", &sampled(&map)).starts_with("f='/x'; true && dd if=\"$f\" bs=4096 skip="));
    }
}
