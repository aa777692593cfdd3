//! Failures of the lab, each with what a person needs to act on it.

use std::io;
use std::path::{Path, PathBuf};

/// A step of the lab that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The operating system refused an operation on a file.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was to be done, as a verb phrase.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// An external tool could not be started.
    #[error("cannot start {tool}")]
    Start {
        /// Its name.
        tool: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// An external tool ended with an error.
    #[error("{tool} ended with {status}: {stderr}")]
    Tool {
        /// Its name.
        tool: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        stderr: String,
    },
    /// This machine lacks something that the step needs.
    #[error("this machine lacks {0}")]
    Missing(&'static str),
    /// What was asked for makes no sense.
    #[error("cannot build {subject}: {why}")]
    Plan {
        /// What was to be built.
        subject: String,
        /// Why it can't be.
        why: String,
    },
    /// A file is not what it should be.
    #[error("{} is not as expected: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The program ended in another way than it should have, or said something else.
    #[error("`{what}` ended with {code}, but {why}\nstdout: {stdout}\nstderr: {stderr}")]
    Answer {
        /// The command.
        what: String,
        /// Its exit code.
        code: i32,
        /// What is wrong with that.
        why: String,
        /// The end of what it wrote to stdout.
        stdout: String,
        /// The end of what it wrote to stderr.
        stderr: String,
    },
    /// Somebody wanted the lab to end.
    #[error("it was stopped")]
    Stopped,
    /// Something is not as it should be.
    #[error("{0}")]
    Wrong(String),
    /// A condition did not come true in time.
    #[error("waited {seconds} s in vain: {what}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long, in seconds.
        seconds: u64,
    },
}

/// Names the operation and the file of an I/O error.
pub(crate) trait IoContext<T> {
    /// Adds what was to be done, and to which file.
    fn at(self, operation: &'static str, path: &Path) -> Result<T, LabError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T, LabError> {
        self.map_err(|error| LabError::Io { operation, path: path.to_owned(), source: error.into() })
    }
}
