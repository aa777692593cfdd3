//! Why a secret could not be had.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::MAX_SECRET;
use crate::text::Encoding;

/// Why a secret could not be had. Names where it was looked for, never what was found there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file could not be opened.
    #[error("cannot open the password file {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The file could be opened but not read.
    #[error("cannot read the password file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A folder, device or pipe stands where a file is wanted.
    #[error("the password file {path} is not a regular file")]
    NotAFile {
        /// What is no file.
        path: PathBuf,
    },
    /// Everybody on the machine may read or change the file.
    #[error("the password file {path} is open to everybody (mode {mode:04o})")]
    OpenToAll {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The program was not started by systemd with credentials.
    #[error("credential {name:?} is not there: CREDENTIALS_DIRECTORY is not set")]
    NoCredentials {
        /// The credential's name.
        name: String,
    },
    /// The environment has no such variable.
    #[error("the environment variable {name} is not set")]
    NoVariable {
        /// The variable's name.
        name: String,
    },
    /// The program could not be started or watched.
    #[error("cannot run the password command {program:?}")]
    Run {
        /// The program, without its arguments.
        program: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The program ended with an error.
    #[error("the password command {program:?} failed ({status})")]
    Failed {
        /// The program, without its arguments.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The program did not end in time and was killed.
    #[error("the password command {program:?} gave no answer within {seconds} s")]
    Late {
        /// The program, without its arguments.
        program: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// More bytes than a secret has.
    #[error("{subject} holds more than {} KiB", MAX_SECRET / 1024)]
    TooLong {
        /// Where it was read.
        subject: String,
    },
    /// Nothing, or only a newline.
    #[error("{subject} is empty")]
    Empty {
        /// Where it was read.
        subject: String,
    },
    /// Bytes that are no text.
    #[error("{subject} is not UTF-8 text")]
    NotText {
        /// Where it was read.
        subject: String,
        /// The encoding that it seems to be in.
        found: Encoding,
    },
}

impl SecretError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Open { .. } | Self::Read { .. } => {
                "check that the file exists and that the service's user may read it".to_owned()
            }
            Self::NotAFile { .. } => "name a regular file that holds only the password".to_owned(),
            Self::OpenToAll { path, .. } => format!("run: chmod o-rwx '{}'", path.display()),
            Self::NoCredentials { name } => {
                format!("add LoadCredential={name}:/path/to/file to the systemd unit, or use {{ file = \"…\" }}")
            }
            Self::NoVariable { name } => format!("set {name} for the service, or use {{ file = \"…\" }}"),
            Self::Run { .. } => "name a program that is installed, by its full path".to_owned(),
            Self::Failed { .. } | Self::Late { .. } => {
                "run it by hand as the service's user: it must print the password on stdout and ask nothing".to_owned()
            }
            Self::NotText { found, .. } => found.hint().to_owned(),
            Self::TooLong { .. } | Self::Empty { .. } => "it must hold the password and nothing else".to_owned(),
        }
    }

    /// Whether the same call may succeed a moment later without anybody changing anything.
    pub fn retry(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Late { .. })
    }
}
