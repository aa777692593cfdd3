//! Problems of the configuration and of the secrets that it refers to.

use stackferry_config::{ConfigError, SecretError};

use super::{Code, Problem, Retry, chain};

impl From<ConfigError> for Problem {
    fn from(error: ConfigError) -> Self {
        let subject =
            error.subject().map(str::to_owned).or_else(|| error.path().map(|path| path.display().to_string()));
        let hint = match &error {
            ConfigError::TooLarge { .. } => Some("is it the right file? Name another with --config FILE".to_owned()),
            error => error.hint().map(str::to_owned),
        };
        let mut message = match &error {
            ConfigError::Invalid(invalid) => format!("{}: {}", invalid.origin(), invalid.text()),
            error => chain(error),
        };
        // Some of these texts end with their own advice, which has a field of its own here.
        if let Some(hint) = &hint
            && let Some(short) = message.strip_suffix(hint.as_str()).and_then(|text| text.strip_suffix("; "))
        {
            message = short.to_owned();
        }
        let problem = Self::new(Code::BadConfig, message).maybe_hint(hint);
        match subject {
            Some(subject) => problem.subject(subject),
            None => problem,
        }
    }
}

impl From<SecretError> for Problem {
    fn from(error: SecretError) -> Self {
        let subject = match &error {
            SecretError::Open { path, .. }
            | SecretError::Read { path, .. }
            | SecretError::NotAFile { path }
            | SecretError::OpenToAll { path, .. } => Some(path.display().to_string()),
            SecretError::NoCredentials { name } | SecretError::NoVariable { name } => Some(name.clone()),
            SecretError::Run { program, .. }
            | SecretError::Failed { program, .. }
            | SecretError::Late { program, .. } => Some(program.clone()),
            SecretError::TooLong { subject }
            | SecretError::Empty { subject }
            | SecretError::NotText { subject, .. } => Some(subject.clone()),
            _ => None,
        };
        let retry = if error.retry() { Retry::Transient } else { Retry::Permanent };
        let problem = Self::of(Code::SecretUnavailable, &error).hint(error.hint()).retry(retry);
        match subject {
            Some(subject) => problem.subject(subject),
            None => problem,
        }
    }
}
