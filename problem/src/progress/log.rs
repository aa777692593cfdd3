//! The log: lines on stderr, for people or as JSON.
//!
//! The libraries below us that see passwords and keys write them into their traces. They are never logged below `info`,
//! whatever the user sets: that cap stands beside the user's filter, not in it.

use std::ffi::OsString;
use std::io::{self, Write};

use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::Reporter;
use super::harmless::{EscapedLines, Harmless};
use crate::{Code, Problem, colour_on_stderr};

/// Libraries whose traces hold secrets, with all crates whose names begin so (`russh_sftp`, `hyper_util`).
const CAPPED: [&str; 4] = ["russh", "hyper", "rustls", "quick_xml"];

/// The variable that says how log lines look: `text` or `json`. It is no setting of the configuration.
pub const LOG_FORMAT: &str = "STACKFERRY_LOG_FORMAT";
const LOG: &str = "STACKFERRY_LOG";

/// What is logged, and how.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// How often `-v` was given.
    pub verbose: u8,
    /// Whether `-q` was given.
    pub quiet: bool,
    /// Whether this is a service, which logs what it does, with times; a command tells only warnings.
    pub service: bool,
    /// A filter (`STACKFERRY_LOG`), as `warn,stackferry_transfer=debug`. Options go before it.
    pub filter: Option<String>,
    /// Whether lines are JSON (`STACKFERRY_LOG_FORMAT=json`).
    pub json: bool,
}

impl LogOptions {
    /// Takes filter and format from the environment.
    ///
    /// # Errors
    /// A usage problem, where a variable makes no sense.
    pub fn environment(mut self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Problem> {
        let text = |name: &str| match variable(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) if text.is_empty() => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(wrong(name, "it is not UTF-8 text", "")),
        };
        self.filter = text(LOG)?;
        self.json = match text(LOG_FORMAT)?.as_deref() {
            None | Some("text") => false,
            Some("json") => true,
            Some(_) => {
                return Err(wrong(LOG_FORMAT, "it is neither `text` nor `json`", "write one of these"));
            }
        };
        Ok(self)
    }

    fn env_filter(&self) -> Result<EnvFilter, Problem> {
        let level = match (self.quiet, self.verbose) {
            (true, _) => LevelFilter::ERROR,
            (false, 0) => match (&self.filter, self.service) {
                (Some(filter), _) => {
                    let hint = "write it as `info` or `warn,stackferry_transfer=debug`";
                    return EnvFilter::builder().parse(filter).map_err(|error| wrong(LOG, &error.to_string(), hint));
                }
                (None, true) => LevelFilter::INFO,
                (None, false) => LevelFilter::WARN,
            },
            (false, 1) => LevelFilter::DEBUG,
            (false, _) => LevelFilter::TRACE,
        };
        Ok(EnvFilter::builder().with_default_directive(level.into()).parse_lossy(""))
    }
}

fn wrong(name: &str, why: &str, hint: &str) -> Problem {
    Problem::new(Code::BadConfig, format!("environment variable {name}: {why}")).subject(name).hint(hint)
}

/// Whether a record of this module and level is kept out of every log: it may hold a secret.
#[must_use]
pub fn is_capped(metadata: &Metadata<'_>) -> bool {
    let library = metadata.target().split("::").next().unwrap_or_default();
    let known = CAPPED.iter().any(|name| {
        library.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_') || rest.starts_with('-'))
    });
    known && *metadata.level() > LevelFilter::INFO
}

/// A log that goes to `writer`; `colour` is for terminals.
///
/// # Errors
/// A usage problem, where the filter makes no sense.
pub fn subscriber<W>(
    options: &LogOptions,
    colour: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, Problem>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = options.env_filter()?.and(filter_fn(|metadata| !is_capped(metadata)));
    let lines = match (options.json, colour) {
        (true, _) => EscapedLines::Json,
        (false, true) => EscapedLines::Coloured,
        (false, false) => EscapedLines::Plain,
    };
    let plain = fmt::layer().with_writer(Harmless(writer, lines)).with_ansi(colour);
    let layer = match (options.json, options.service) {
        (true, _) => plain.json().flatten_event(true).boxed(),
        (false, true) => plain.boxed(),
        (false, false) => plain.without_time().with_target(options.verbose > 0).boxed(),
    };
    Ok(Box::new(Registry::default().with(layer.with_filter(filter))))
}

/// Begins the process's log on stderr, past the reporter's bars. To be called once.
///
/// # Errors
/// A usage problem, where the filter makes no sense; a failure if the process has a log already.
pub fn init(options: &LogOptions, reporter: &Reporter) -> Result<(), Problem> {
    let writer = LogWriter(reporter.clone());
    subscriber(options, colour_on_stderr() && !options.json, writer)?
        .try_init()
        .map_err(|error| Problem::internal(format!("the log can't be begun: {error}")))
}

/// Writes the log's lines to stderr, putting the bars aside meanwhile.
#[derive(Clone)]
pub struct LogWriter(Reporter);

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0.drawn() {
            Some(bars) => bars.suspend(|| io::stderr().lock().write_all(line))?,
            None => io::stderr().lock().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for LogWriter {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}
