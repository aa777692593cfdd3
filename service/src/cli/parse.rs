//! Reading the command line, and ending at once where it asks for help or makes no sense.

use std::ffi::{OsStr, OsString};
use std::io;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, ValueEnum};

use super::Cli;
use stackferry_problem::output::OutputFormat;
use stackferry_problem::{Code, Exit, Problem};

/// Why no command is run.
#[derive(Debug)]
pub enum Stop {
    /// Help or the version was asked for, or a person made a mistake: clap tells it.
    Text(clap::Error),
    /// A script made a mistake: it is told in JSON.
    Json(Problem),
}

impl Stop {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Stop::Text(error) if !error.use_stderr() => Exit::Done,
            Stop::Text(_) | Stop::Json(_) => Exit::Usage,
        }
    }

    /// Tells it: help on stdout, mistakes on stderr.
    ///
    /// # Errors
    /// Those of stdout or stderr.
    pub fn print(&self) -> io::Result<()> {
        match self {
            Stop::Text(error) => error.print(),
            Stop::Json(problem) => {
                problem.tell(OutputFormat::Json);
                Ok(())
            }
        }
    }
}

impl Cli {
    /// Reads the program's own command line and environment.
    ///
    /// # Errors
    /// What to print, and the exit code.
    pub fn read() -> Result<Self, Stop> {
        let output = std::env::var_os("STACKFERRY_OUTPUT");
        Self::read_from(std::env::args_os(), output.as_deref())
    }

    /// Reads a command line, the program's name first. `output` is what `STACKFERRY_OUTPUT` says: it decides how a
    /// mistake is told where the command line itself does not.
    ///
    /// # Errors
    /// What to print, and the exit code.
    pub fn read_from(arguments: impl IntoIterator<Item = OsString>, output: Option<&OsStr>) -> Result<Self, Stop> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        Self::try_parse_from(&arguments).map_err(|error| {
            if error.use_stderr() && wanted(&arguments, output) == OutputFormat::Json {
                Stop::Json(problem(&error))
            } else {
                Stop::Text(error)
            }
        })
    }
}

/// Which format a command line that could not be read asks for: the last `--output` that makes sense, else the
/// environment's.
fn wanted(arguments: &[OsString], environment: Option<&OsStr>) -> OutputFormat {
    let format = |text: &OsStr| OutputFormat::from_str(text.to_str()?, false).ok();
    let mut found = None;
    let mut words = arguments.iter().skip(1).take_while(|word| *word != "--").peekable();
    while let Some(word) = words.next() {
        let value = match word.to_str().and_then(|word| word.strip_prefix("--output")) {
            Some("") => words.peek().map(|next| next.as_os_str()),
            Some(rest) => rest.strip_prefix('=').map(OsStr::new),
            None => None,
        };
        found = value.and_then(format).or(found);
    }
    found.or_else(|| environment.and_then(format)).unwrap_or_default()
}

fn problem(error: &clap::Error) -> Problem {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(str::trim).filter(|part| !part.is_empty());
    // Several missing arguments stand on lines of their own.
    let message = paragraphs.next().unwrap_or("the command line can't be understood");
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let mut hint: Vec<&str> = paragraphs.filter(|part| !part.starts_with("For more information")).collect();
    let more = "see `stackferry --help`";
    if hint.is_empty() {
        hint.push(more);
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Problem::new(Code::Usage, "no command was given").hint(more);
    }
    let problem = Problem::new(Code::Usage, message).hint(hint.join("; "));
    let subject = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand].into_iter().find_map(|kind| {
        match error.get(kind)? {
            ContextValue::String(text) => Some(text.clone()),
            ContextValue::Strings(texts) => Some(texts.join(", ")),
            _ => None,
        }
    });
    match subject {
        Some(subject) => problem.subject(subject),
        None => problem,
    }
}
