//! Copies a file from a stock sshd on this machine in each way, and prints how fast that was.
//! `cargo run --release -p stackferry-transfer --example stock_throughput -- [MIB of data] [MIB of length]`

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code, unreachable_pub, reason = "the tests use more of it")]
#[path = "../tests/stock/support/mod.rs"]
mod support;

use std::time::Instant;

use support::files::{MIB, sparse};
use support::host::{Has, Host, context};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let data = numbers.next().unwrap_or(1024) * MIB;
    let bytes = (numbers.next().unwrap_or(4096) * MIB).max(data);
    for has in [Has::All, Has::NoPython, Has::NoSftp] {
        let host = Host::new(has);
        let client = host.client();
        // Data in pieces of 8 MiB, spread over the whole length.
        let pieces = data / (8 * MIB);
        let ranges: Vec<_> = (0..pieces)
            .map(|piece| bytes / pieces * piece / MIB * MIB)
            .map(|start| start..(start + 8 * MIB).min(bytes))
            .collect();
        sparse(&host.path("apps/a-flat.vmdk"), bytes, &ranges);
        let sink = host.sink("a", bytes);
        let file = host.file(&client, "apps/a-flat.vmdk", &sink);
        let began = Instant::now();
        let outcome = host.copy(&client, file, &context()).unwrap();
        let seconds = began.elapsed().as_secs_f64();
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        println!(
            "{has:?}: {seconds:.2} s, {:.0} MB of {:.0} MB read: {:.0} MB/s read, {:.0} MB/s of the file",
            megabytes(outcome.counts.read),
            megabytes(bytes),
            megabytes(outcome.counts.read) / seconds,
            megabytes(bytes) / seconds,
        );
    }
}
