//! Decides whether compression pays, measured during the copy.
//!
//! Over a link that carries `L` bytes a second, a raw byte takes `1/L` seconds. Compressed to a fraction `c` by workers
//! that together compress `Z` bytes a second, it takes the longer of `c/L` and `1/Z`. Compressing is chosen where
//! that is less. `Z` and `c` are measured on one block in [`PROBE_EVERY`] while compressing is off, and on every block
//! while it is on; `L` is the bytes handed to the connection over the time that handing them over took.

use std::time::Duration;

/// One block in so many is compressed, and sent so, to measure the effect.
pub const PROBE_EVERY: u64 = 32;
/// Compression must promise at least this gain to be switched on, so that noise does not.
const MARGIN: f64 = 0.9;
/// A decision covers at least this many sent bytes, so that data that only fills buffers does not count.
const WINDOW_BYTES: f64 = (8u64 << 20) as f64;

/// The rule's measurements and its choice.
#[derive(Debug)]
pub struct CompressionPolicy {
    workers: f64,
    on: bool,
    blocks: u64,
    /// Seconds of one worker per raw byte, and the fraction that remains; moving averages.
    cost: Option<(f64, f64)>,
    window_bytes: f64,
    window_seconds: f64,
    link: Option<f64>,
}

impl CompressionPolicy {
    /// A rule for a sender with so many threads that compress.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let workers = f64::from(u32::try_from(workers.max(1)).unwrap_or(1));
        Self { workers, on: false, blocks: 0, cost: None, window_bytes: 0.0, window_seconds: 0.0, link: None }
    }

    /// Whether the next block is to be compressed.
    pub fn compress_next(&mut self) -> bool {
        self.blocks += 1;
        self.on || self.blocks % PROBE_EVERY == 1
    }

    /// A block of `raw` bytes became `packed` ones in this time of one thread.
    pub fn compressed(&mut self, raw: usize, packed: usize, took: Duration) {
        let raw = as_f64(raw).max(1.0);
        let (cost, left) = (took.as_secs_f64() / raw, (as_f64(packed) / raw).min(1.0));
        self.cost = Some(match self.cost {
            Some((old_cost, old_left)) => (old_cost * 0.75 + cost * 0.25, old_left * 0.75 + left * 0.25),
            None => (cost, left),
        });
    }

    /// Handing `bytes` to the connection took this long.
    pub fn sent(&mut self, bytes: usize, took: Duration) {
        self.window_bytes += as_f64(bytes);
        self.window_seconds += took.as_secs_f64();
        if self.window_bytes < WINDOW_BYTES {
            return;
        }
        let seen = self.window_bytes / self.window_seconds.max(1e-6);
        self.link = Some(self.link.map_or(seen, |old| (old + seen) / 2.0));
        (self.window_bytes, self.window_seconds) = (0.0, 0.0);
        self.decide();
    }

    fn decide(&mut self) {
        let (Some(link), Some((cost, left))) = (self.link, self.cost) else { return };
        let plain = 1.0 / link;
        let packed = (left / link).max(cost / self.workers);
        // Once on, it stays on until it clearly loses.
        self.on = if self.on { packed < plain } else { packed < plain * MARGIN };
    }
}

fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
mod tests {
    use super::*;

    /// 200 MiB over a link, with a compressor of 300 MB/s that leaves `left` of the bytes.
    fn over(link: f64, left: f64) -> CompressionPolicy {
        let mut rule = CompressionPolicy::new(1);
        for _ in 0..200 {
            let raw = 1usize << 20;
            let mut bytes = raw;
            if rule.compress_next() {
                bytes = (raw as f64 * left) as usize;
                rule.compressed(raw, bytes, Duration::from_secs_f64(raw as f64 / 300e6));
            }
            rule.sent(bytes, Duration::from_secs_f64(bytes as f64 / link));
        }
        rule
    }

    #[test]
    fn compression_is_used_only_where_it_pays() {
        assert!(over(118e6, 0.4).on);
        assert!(!over(1500e6, 0.4).on, "a fast link");
        assert!(!over(118e6, 1.0).on, "data that does not compress");
        assert!(!over(290e6, 0.95).on, "hardly any gain");
    }

    #[test]
    fn compression_switches_when_the_link_changes() {
        let mut rule = over(118e6, 0.4);
        for _ in 0..100 {
            rule.sent(1 << 20, Duration::from_secs_f64(1e6 / 2000e6));
        }
        assert!(!rule.on);
    }
}
