//! A problem as a person and as a script sees it.

use std::io::{self, IsTerminal, Write};

use serde::{Deserialize, Serialize};

use super::{Code, Problem};
use crate::output::{OutputFormat, escape};

/// A problem's public part, as it stands in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorView {
    /// The stable word.
    pub code: String,
    /// What happened and why.
    pub message: String,
    /// What it happened to.
    pub subject: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: &'a ErrorView,
}

impl From<&Problem> for ErrorView {
    fn from(problem: &Problem) -> Self {
        Self {
            code: problem.code.into(),
            message: problem.message.clone(),
            subject: problem.subject.clone(),
            hint: problem.hint.clone(),
        }
    }
}

impl From<ErrorView> for Problem {
    /// As another process told it: its exit code and retry class are the code's own.
    fn from(view: ErrorView) -> Self {
        let problem = Problem::new(Code::from_word(&view.code).unwrap_or(Code::Internal), view.message);
        Self { subject: view.subject, hint: view.hint, ..problem }
    }
}

const RED: &str = "\x1b[1;31m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

impl Problem {
    /// The problem as JSON, in one line without its end.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Text fields alone can't fail to be written.
        serde_json::to_string(&Envelope { error: &self.into() }).unwrap_or_default()
    }

    /// The problem for a person, several lines.
    #[must_use]
    pub fn to_text(&self, colour: bool) -> String {
        let paint = |style: &str, text: &str| match colour {
            true => format!("{style}{text}{PLAIN}"),
            false => text.to_owned(),
        };
        let mut text = format!("{} {}\n", paint(RED, "error:"), lines(&self.message));
        if let Some(subject) = self.subject.as_ref().filter(|subject| !self.message.contains(*subject)) {
            text.push_str(&format!("  {} {}\n", paint(BOLD, "subject:"), lines(subject)));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("  {} {}\n", paint(BOLD, "hint:"), lines(hint)));
        }
        text.push_str(&format!("  {}\n", paint(DIM, &format!("code: {}", self.code))));
        text
    }

    /// Tells the problem on `out`. In JSON it is one line: the last one of the program's stderr.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, format: OutputFormat, colour: bool, out: &mut dyn Write) -> io::Result<()> {
        match format {
            OutputFormat::Json => writeln!(out, "{}", self.to_json()),
            OutputFormat::Table => out.write_all(self.to_text(colour).as_bytes()),
        }
    }

    /// Tells the problem on stderr, in colour where a person sees it.
    pub fn tell(&self, format: OutputFormat) {
        // A closed stderr is nothing that could be told anywhere.
        let _ = self.write(format, colour_on_stderr(), &mut io::stderr().lock());
    }
}

/// Whether stderr takes colours: a terminal, and nobody asked for none (<https://no-color.org>).
#[must_use]
pub fn colour_on_stderr() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !refused
}

/// Text made harmless for a terminal; its lines after the first are indented.
fn lines(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n    ")
}
