//! One module per verb. Each does what is asked and gives what is printed and how the program ends.

mod audit;
mod check;
mod config;
mod copy;
mod discover;
mod grant;
mod jobs;
mod notify;
mod prune;
mod rebuild;
mod restore;
mod run;
mod serve;
mod token;
mod verify;
mod volumes;

use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use stackferry_config::Config;
use stackferry_volume::io::Cancel;

use crate::cli::{Cli, Command};
use crate::daemon::Reload;
use stackferry_engine::app::{App, Reading};
use stackferry_engine::path_conflicts;
use stackferry_problem::output::{OutputFormat, View, print};
use stackferry_problem::progress::Reporter;
use stackferry_problem::{Code, Exit, Problem};

/// How long ending the sessions at other systems may take.
const LAST_GOODBYES: Duration = Duration::from_secs(3);
/// The same where somebody waits for the end of the command.
const HASTY_GOODBYES: Duration = Duration::from_millis(700);
/// How long a command may take to end once that was asked for. What it was doing then is left as a crash would leave it.
const LAST_STEPS: Duration = Duration::from_secs(8);

/// What a command works with before anything is opened.
pub(crate) struct Context {
    cli: Cli,
    cancel: Cancel,
    reporter: Reporter,
    opened: OnceLock<App>,
}

impl Context {
    /// The configuration in force.
    pub(crate) fn config(&self) -> Result<Config, Problem> {
        let overrides = self.cli.global.overrides(std::env::vars_os());
        Ok(Config::load(&self.cli.global.config, &overrides)?)
    }

    /// Reads the configuration again, as it was read at the start.
    pub(crate) fn reload(&self) -> Reload {
        let (file, overrides) = (self.cli.global.config.clone(), self.cli.global.overrides(std::env::vars_os()));
        Arc::new(move || {
            let config = Config::load(&file, &overrides)?;
            path_conflicts::refuse(&config)?;
            Ok(config)
        })
    }

    /// The program's parts, with the catalog open.
    pub(crate) async fn app(&self) -> Result<App, Problem> {
        let app = App::open(self.config()?, self.cancel.clone()).await?;
        Ok(self.keep(app).clone())
    }

    /// Remembers the program's parts: at the end of the command their sessions at other systems are ended.
    pub(crate) fn keep(&self, app: App) -> &App {
        self.opened.get_or_init(|| app)
    }

    /// The program's parts for a command that only reads: about the volume (and version) of this text, or about all.
    pub(crate) async fn app_to_read(&self, what: Option<&str>) -> Result<App, Problem> {
        let app = App::open_to_read(self.config()?, self.cancel.clone(), Reading::of(what)).await?;
        Ok(self.opened.get_or_init(|| app).clone())
    }

    /// Prints the answer.
    pub(crate) fn print<V: View>(&self, view: &V) -> Result<(), Problem> {
        print(view, self.output(), &mut std::io::stdout().lock()).or_else(|error| match error.kind() {
            // Who reads the answer has read enough (`| head`).
            std::io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(Problem::io("write to", "stdout", &error)),
        })
    }

    pub(crate) fn output(&self) -> OutputFormat {
        self.cli.global.output
    }

    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    pub(crate) fn reporter(&self) -> &Reporter {
        &self.reporter
    }
}

/// Runs the command line that was read.
pub(crate) async fn run(cli: Cli, cancel: Cancel, reporter: Reporter) -> Result<Exit, Problem> {
    let context = Context { cli, cancel, reporter, opened: OnceLock::new() };
    let result = tokio::select! {
        result = perform(&context) => result,
        () = overdue(&context) => Err(Problem::interrupted("the command")),
    };
    if let Some(app) = context.opened.get() {
        // Sessions that are left end by themselves; nobody waits long for a system that does not answer.
        let patience = if context.cancel.is_cancelled() { HASTY_GOODBYES } else { LAST_GOODBYES };
        // After a change of the configuration there are two sets of sessions.
        let latest = app.latest();
        let leaving = async { tokio::join!(app.log_out(), latest.log_out()) };
        let _ = tokio::time::timeout(patience, leaving).await;
    }
    match result {
        // A signal makes many things fail in many ways; what happened is that somebody wanted it to end.
        Err(problem) if context.cancel.is_cancelled() && problem.code != Code::Interrupted => {
            tracing::debug!(message = problem.message, "what failed when the program was ended");
            Err(Problem::interrupted("the command"))
        }
        other => other,
    }
}

/// Until a command that was asked to end should have. A service ends by rules of its own.
async fn overdue(context: &Context) {
    let is_service = matches!(context.cli.command, Command::Run { once: false } | Command::Serve);
    while is_service || !context.cancel.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(LAST_STEPS).await;
}

async fn perform(context: &Context) -> Result<Exit, Problem> {
    match &context.cli.command {
        Command::Check { config_only } => check::run(context, *config_only).await,
        Command::Discover { all } => discover::run(context, *all).await,
        Command::Run { once } => run::run(context, *once).await,
        Command::Copy { volume, if_changed, wait } => copy::run(context, volume, *if_changed, wait.duration()).await,
        Command::Volumes => volumes::volumes(context).await,
        Command::Versions { volume } => volumes::versions(context, volume).await,
        Command::Verify { target } => verify::run(context, target.as_ref()).await,
        Command::Restore { target, to, overwrite } => restore::run(context, target, to, *overwrite).await,
        Command::Grant { volume, file, life } => grant::run(context, volume, file.as_deref(), life.duration()).await,
        Command::Serve => serve::run(context).await,
        Command::Rebuild => rebuild::run(context).await,
        Command::Prune { confirm_clock: true, .. } => jobs::confirm_clock(context).await,
        Command::Jobs { volume, all, last } => jobs::list(context, volume.as_deref(), *all, *last).await,
        Command::Cancel { id } => jobs::cancel(context, *id).await,
        Command::Pause { volume } => jobs::pause(context, volume.as_deref()).await,
        Command::Resume { volume } => jobs::resume(context, volume.as_deref()).await,
        Command::Prune { volume, dry_run, .. } => prune::run(context, volume.as_deref(), *dry_run).await,
        Command::Pin { target, note } => volumes::pin(context, target, Some(note)).await,
        Command::Unpin { target } => volumes::pin(context, target, None).await,
        Command::Audit(what) => audit::run(context, what).await,
        Command::Token(what) => token::run(context, what).await,
        Command::Notify(what) => notify::run(context, *what).await,
        Command::Config(what) => config::run(context, *what),
        Command::Completions { shell } => to_stdout(|out| crate::cli::completions(*shell, out)),
        Command::Man { dir } => to_stdout(|out| crate::cli::man(dir.as_deref(), out)),
    }
}

/// Writes a text that is no answer (a script, a page, a file) to stdout.
fn to_stdout(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<Exit, Problem> {
    let mut out = std::io::stdout().lock();
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Problem::io("write to", "stdout", &error)),
        _ => Ok(Exit::Done),
    }
}
