//! A one-time credential for a person: what `grant` prints. The only answer with a secret in it: it is printed once, on
//! stdout, and nowhere else.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use stackferry_config::Secret;
use stackferry_problem::output::{Style, View, fields};
use stackferry_volume::VolumeId;

/// What a person needs to fetch one file with a stock client. `Debug` does not show the password.
#[derive(Debug, Clone, Serialize)]
pub struct GrantView {
    /// The volume.
    pub volume: VolumeId,
    /// The file's name.
    pub file: String,
    /// The host to connect to.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user name.
    pub user: String,
    /// The password, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exposed")]
    pub password: Option<Secret>,
    /// The file that holds the key, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The file's path at the host.
    pub path: String,
    /// When the grant ends.
    pub expires: Timestamp,
    /// The command to run.
    pub command: String,
}

fn exposed<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

impl View for GrantView {
    fn table(&self, style: &Style) -> String {
        let mut lines = vec![("command", self.command.clone())];
        if let Some(password) = &self.password {
            lines.push(("password", password.expose().to_owned()));
        }
        if let Some(file) = &self.key_file {
            lines.push(("key file", file.display().to_string()));
        }
        lines.extend([
            ("volume", self.volume.to_string()),
            ("file", self.file.clone()),
            ("host", format!("{} port {}", self.host, self.port)),
            ("user", self.user.clone()),
            ("path", self.path.clone()),
            ("expires", format!("{}, or when it was used", style.time(self.expires))),
        ]);
        fields(lines)
    }
}
