//! What a person, a script or an HTTP client is told when something can't be done: one [`Problem`], whatever crate the
//! error was born in.
//!
//! A problem names a stable code, a message with its causes, its subject, and what to do. It never holds a secret, and
//! no text from outside reaches a terminal with its control characters.

mod code;
mod from_catalog;
mod from_config;
mod from_systems;
mod from_transfer;
mod from_vault;
pub mod output;
pub mod progress;
mod render;

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

use stackferry_volume::{ParseIdError, VersionId, VolumeId};

pub use code::{Code, CodeRow, Exit, PROBLEMS, troubleshooting};
pub use from_vault::into_folder;
pub use render::{ErrorView, colour_on_stderr};
pub use stackferry_https::Retry;

/// The advice where there is none.
pub const DEFECT: &str = "this is a defect: please report it, with the log";

/// Why something could not be done, as it is told outside. Its `Display` is the message alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The stable word for it.
    pub code: Code,
    /// What happened and why, in one line.
    pub message: String,
    /// What it happened to: a volume, a host, a path, a key of the configuration.
    pub subject: Option<String>,
    /// What a person can do about it.
    pub hint: Option<String>,
    /// The exit code of a command that ends with it.
    pub exit: Exit,
    /// Whether trying again as it is may help.
    pub retry: Retry,
}

impl Problem {
    /// A problem of this code; exit code and retry class are the code's own.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), subject: None, hint: None, exit: code.exit(), retry: code.retry() }
    }

    /// A problem of this code whose message is an error's with its causes.
    pub fn of(code: Code, error: &dyn Error) -> Self {
        Self::new(code, chain(error))
    }

    /// The same about this subject.
    #[must_use]
    pub fn subject(mut self, subject: impl fmt::Display) -> Self {
        self.subject = Some(subject.to_string());
        self
    }

    /// The same about this path.
    pub fn path(self, path: &Path) -> Self {
        self.subject(path.display())
    }

    /// The same with this advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with this advice, unless it is none.
    pub fn maybe_hint(self, hint: Option<impl Into<String>>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// The same with this retry class.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// A command line that can't be understood.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message).hint("see `stackferry help COMMAND`")
    }

    /// No volume fits the text. `suggestions` are ids that look alike, best first.
    #[must_use]
    pub fn no_such_volume(text: &str, suggestions: &[VolumeId]) -> Self {
        let problem = Self::new(Code::NoSuchVolume, format!("no volume is called `{text}`")).subject(text);
        match suggestions {
            [] => problem
                .hint("`stackferry volumes` lists those that are known, `stackferry discover` looks for new ones"),
            ids => problem.hint(format!("did you mean {}?", list(ids, " or "))),
        }
    }

    /// Several volumes fit the text.
    #[must_use]
    pub fn ambiguous_volume(text: &str, candidates: &[VolumeId]) -> Self {
        let message = format!("`{text}` fits {} volumes", candidates.len());
        Self::new(Code::AmbiguousVolume, message)
            .subject(text)
            .hint(format!("name one of them by its id: {}", list(candidates, " or ")))
    }

    /// The volume has no such version; none asked for means that it has none at all that is whole.
    #[must_use]
    pub fn no_such_version(volume: &VolumeId, version: Option<&VersionId>) -> Self {
        match version {
            Some(version) => Self::new(Code::NoSuchVersion, format!("{volume} has no version {version}"))
                .hint(format!("`stackferry versions {}` lists them", shell(volume))),
            None => Self::new(Code::NoSuchVersion, format!("{volume} has no version that is whole"))
                .hint(format!("`stackferry copy {}` makes one", shell(volume))),
        }
        .subject(volume)
    }

    /// The volume can't be copied as it is.
    #[must_use]
    pub fn not_protectable(volume: &VolumeId, reason: &str, remedy: Option<&str>) -> Self {
        let remedy = remedy.unwrap_or("`stackferry discover` lists every volume with what is known of it");
        Self::new(Code::NotProtectable, format!("{volume} can't be copied: {reason}")).subject(volume).hint(remedy)
    }

    /// The volume is postponed.
    #[must_use]
    pub fn deferred(volume: &VolumeId, reason: &str) -> Self {
        Self::new(Code::Deferred, format!("{volume} is postponed: {reason}"))
            .subject(volume)
            .hint("the reason passes by itself: try again later")
    }

    /// Something of that name is there and is not overwritten.
    #[must_use]
    pub fn exists(path: &Path) -> Self {
        Self::new(Code::Exists, format!("{} exists", path.display()))
            .path(path)
            .hint("name an empty folder, or allow it with --overwrite")
    }

    /// A person or the system asked for the end.
    #[must_use]
    pub fn interrupted(what: &str) -> Self {
        Self::new(Code::Interrupted, format!("{what} was interrupted"))
    }

    /// A defect of this program.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message).hint(DEFECT)
    }

    /// A failed operation of the system: `operation` as in `can't {operation} {subject}`.
    #[must_use]
    pub fn io(operation: &str, subject: impl fmt::Display, error: &io::Error) -> Self {
        let (code, hint) = match error.kind() {
            io::ErrorKind::NotFound => (Code::IoFailed, Some("check the path")),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                (Code::PermissionDenied, Some("check who owns it, and which user runs this"))
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (Code::NoSpace, Some("make space there")),
            _ => (Code::IoFailed, None),
        };
        Self::new(code, format!("can't {operation} {subject}: {error}")).subject(subject).maybe_hint(hint)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Problem {}

impl From<ParseIdError> for Problem {
    fn from(error: ParseIdError) -> Self {
        Self::of(Code::Usage, &error)
            .hint("`stackferry volumes` lists ids, `stackferry versions VOLUME` lists versions")
    }
}

/// An error with its causes in one line: `a: b: c`. A cause whose text was told already is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// A text as one word of a POSIX shell, so that a hint can be copied whatever a volume is called.
pub fn shell(text: impl fmt::Display) -> String {
    let text = text.to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/@:+-".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The most ids that a hint names.
const MAX_LISTED: usize = 5;

fn list(ids: &[VolumeId], last: &str) -> String {
    let mut names: Vec<String> = ids.iter().take(MAX_LISTED).map(shell).collect();
    if ids.len() > MAX_LISTED {
        names.push(format!("{} more", ids.len() - MAX_LISTED));
    }
    match names.pop() {
        Some(end) if !names.is_empty() => format!("{}{last}{end}", names.join(", ")),
        Some(only) => only,
        None => String::new(),
    }
}
