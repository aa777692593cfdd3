//! The exit code and the output of a command.

use serde_json::Value;

use crate::error::LabError;

/// How much of stderr an error shows, in bytes.
const SHOWN: usize = 3000;

/// A command that has ended.
#[derive(Debug, Clone)]
pub struct CommandOutput {
    /// The command.
    pub what: String,
    /// Its exit code; 128 and the signal's number where a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// The most memory that it was seen to take, in bytes (`VmHWM`); 0 where it ended before it was looked at.
    pub peak_memory: u64,
    /// How long it ran, in seconds.
    pub seconds: f64,
}

impl CommandOutput {
    /// The answer on stdout: one line of JSON.
    ///
    /// # Errors
    /// It is something else.
    pub fn json(&self) -> Result<Value, LabError> {
        let text = self.stdout.strip_suffix('\n').filter(|text| !text.contains('\n'));
        let text = text.ok_or_else(|| self.unexpected("its answer is not one line"))?;
        serde_json::from_str(text).map_err(|error| self.unexpected(&format!("its answer is not JSON ({error})")))
    }

    /// The error: the last line on stderr, as JSON, with a code, a message and a hint.
    ///
    /// # Errors
    /// It is something else.
    pub fn error(&self) -> Result<Value, LabError> {
        let last = self.stderr.lines().last().unwrap_or_default();
        let json: Value = serde_json::from_str(last)
            .map_err(|error| self.unexpected(&format!("its last line is not JSON ({error})")))?;
        let error = json.get("error").cloned().ok_or_else(|| self.unexpected("its last line has no `error`"))?;
        let filled = |key: &str| error.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        match ["code", "message"].into_iter().find(|key| !filled(key)) {
            Some(key) => Err(self.unexpected(&format!("its error has no {key}"))),
            None => Ok(error),
        }
    }

    /// The answer of a command that has to succeed.
    ///
    /// # Errors
    /// It failed, or its answer is not JSON.
    pub fn json_ok(&self) -> Result<Value, LabError> {
        self.clone().expect_code(0)?.json()
    }

    /// Itself, if it ended with this exit code.
    ///
    /// # Errors
    /// It ended with another.
    pub fn expect_code(self, code: i32) -> Result<Self, LabError> {
        if self.code == code { Ok(self) } else { Err(self.unexpected(&format!("expected exit code {code}"))) }
    }

    fn unexpected(&self, why: &str) -> LabError {
        let end = |text: &str| {
            let from = text.len().saturating_sub(SHOWN);
            String::from_utf8_lossy(text.as_bytes().get(from..).unwrap_or_default()).trim().to_owned()
        };
        LabError::Answer {
            what: self.what.clone(),
            code: self.code,
            why: why.to_owned(),
            stdout: end(&self.stdout),
            stderr: end(&self.stderr),
        }
    }
}
