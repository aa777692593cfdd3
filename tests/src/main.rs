//! The lab's program. Started with `stackferry` as its first argument, it is `stackferry` itself: so the lab, and the
//! tests, need no other file to start real processes of it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use stackferry_tests::{LabError, demo, lab};
use tokio::signal::unix::{SignalKind, signal};

/// As in the program itself, so that what is measured here is what it takes there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Builds an App Volumes site in a temporary folder and protects it with real processes of stackferry.
///
/// Without an option it stays up and shows what is protected while things change, until Ctrl-C.
#[derive(Parser)]
#[command(name = "stackferry-lab", version)]
struct LabOptions {
    /// Protect a small site, restore from it, compare, and end
    #[arg(long, conflicts_with = "long")]
    once: bool,
    /// Copy and restore a disk of 20 GiB by every route; needs qemu-img, ntfs-3g and root
    #[arg(long)]
    long: bool,
    /// Run for so many minutes, by every route, while hosts crash and networks break; needs sshd and root
    #[arg(long, value_name = "MINUTES", conflicts_with_all = ["once", "long"])]
    soak: Option<u32>,
    /// Kill commands and let them fail for so many minutes, and check all that is promised; needs strace and root
    #[arg(long, value_name = "MINUTES", conflicts_with_all = ["once", "long", "soak"])]
    chaos: Option<u32>,
    /// What everything that happens derives from, with --chaos
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "chaos")]
    seed: u64,
    /// Keep everything in this folder, which must be empty or missing
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    if let Some(arguments) = lab::multi_call(std::env::args_os()) {
        if !lab::exit_with_parent() {
            return ExitCode::FAILURE;
        }
        return stackferry_service::main(arguments);
    }
    let options = LabOptions::parse();
    let result = std::env::current_exe().map_err(|source| LabError::Start { tool: "itself".to_owned(), source });
    let result = result.and_then(|program| {
        listen()?;
        let keep = options.keep.as_deref();
        if let Some(minutes) = options.chaos {
            return demo::chaos(&program, keep, minutes, options.seed);
        }
        match (options.once, options.long, options.soak) {
            (true, ..) => demo::once(&program, keep),
            (_, true, _) => demo::long(&program, keep),
            (.., Some(minutes)) => demo::soak(&program, keep, minutes),
            _ => demo::stay(&program, keep),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stackferry-lab: {}", describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// Lets SIGINT and SIGTERM end the lab in good order, so that nothing is left behind.
fn listen() -> Result<(), LabError> {
    let failed = |source| LabError::Start { tool: "listening for signals".to_owned(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let signals = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let (mut interrupt, mut terminate) = signals;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                lab::stop();
            }
        });
    });
    Ok(())
}

fn describe(error: &LabError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
