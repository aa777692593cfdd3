//! The `stackferry` program: the command line, the running service, and the wiring of all crates.

pub mod cli;
mod commands;
pub mod daemon;
mod limits;

use std::ffi::OsString;
use std::process::ExitCode;

use stackferry_volume::io::Cancel;
use tokio::signal::unix::{SignalKind, signal};

use cli::{Cli, Stop};
use stackferry_problem::progress::{self, LogOptions, Reporter};
use stackferry_problem::{Exit, Problem};

/// Runs the program with these arguments, the program's name first.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::read_from(arguments, std::env::var_os("STACKFERRY_OUTPUT").as_deref()) {
        Ok(cli) => cli,
        Err(stop) => return stopped(&stop),
    };
    let output = cli.global.output;
    match start(cli) {
        Ok(exit) => exit.into(),
        Err(problem) => {
            problem.tell(output);
            problem.exit.into()
        }
    }
}

/// Help was asked for, or the command line makes no sense.
fn stopped(stop: &Stop) -> ExitCode {
    // Whether it could be printed or not, the exit code says what happened.
    let _ = stop.print();
    stop.exit().into()
}

fn start(cli: Cli) -> Result<Exit, Problem> {
    let reporter = Reporter::new(cli.global.quiet);
    let options = LogOptions {
        verbose: cli.global.verbose,
        quiet: cli.global.quiet,
        // A round from cron answers like a command; what it could not do is in its answer and in warnings.
        service: cli.command.is_service() && !matches!(cli.command, cli::Command::Run { once: true }),
        ..LogOptions::default()
    };
    let options = options.environment(|name| std::env::var_os(name))?;
    progress::init(&options, &reporter)?;
    limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Problem::io("start", "the program's threads", &error))?;
    let result = runtime.block_on(async {
        let cancel = Cancel::default();
        let _file_size =
            limits::survive_file_size_limit().map_err(|error| Problem::io("listen for", "SIGXFSZ", &error))?;
        let signals = listen(&cancel)?;
        let result = commands::run(cli, cancel, reporter).await;
        signals.abort();
        result
    });
    // Threads that wait for a disk or a host that hangs are not waited for.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    result
}

/// SIGINT and SIGTERM ask everything to end; what was copied so far is kept. A second one ends the program at once,
/// which loses nothing either.
fn listen(cancel: &Cancel) -> Result<tokio::task::JoinHandle<()>, Problem> {
    let failed = |error| Problem::io("listen for", "signals", &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let cancel = cancel.clone();
    Ok(tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cancel.is_cancelled() {
                std::process::exit(Exit::Interrupted.code().into());
            }
            cancel.cancel();
        }
    }))
}
