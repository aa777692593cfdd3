//! Where a secret lies, as the configuration says it.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use super::{MAX_SECRET, Secret, SecretError, command, file};
use crate::value::{AbsPath, ValueError};

/// Where systemd puts a service's credentials (systemd.exec(5)).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

const WAYS: &str = "passwords are given by reference: { file = \"/etc/stackferry/x.pass\" }, { credential = \"x\" } \
                    (systemd), { command = [\"/usr/bin/pass\", \"x\"] } or { env = \"X\" }";

/// Where a secret lies. Shown and serialized as this reference, never as the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretRef {
    /// In a file that only its owner and group may open.
    File(AbsPath),
    /// In a credential that systemd gives the service: a plain file name below `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// On the stdout of a program, run without a shell. The arguments are not secret: `config show` prints them.
    Command(Vec<String>),
    /// In an environment variable. The weakest way: other processes of the same user can read it.
    Env(String),
}

impl SecretRef {
    /// Fetches the secret. One newline at its end is left off.
    ///
    /// Blocks: a command may take up to 30 s.
    ///
    /// # Errors
    /// When it is not there, not readable, open to everybody, empty, not UTF-8 or longer than 64 KiB.
    pub fn resolve(&self) -> Result<Secret, SecretError> {
        self.resolve_with(&|name| std::env::var_os(name))
    }

    /// As [`SecretRef::resolve`], with an environment of the caller's.
    ///
    /// # Errors
    /// As [`SecretRef::resolve`].
    pub fn resolve_with(&self, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Secret, SecretError> {
        match self {
            Self::File(path) => file::read(path, true),
            Self::Credential(name) => {
                let directory = environment(CREDENTIALS_DIRECTORY)
                    .filter(|directory| !directory.is_empty())
                    .ok_or_else(|| SecretError::NoCredentials { name: name.clone() })?;
                // systemd guards the folder itself; the mode of a file below it says nothing.
                file::read(&Path::new(&directory).join(name), false)
            }
            Self::Command(argv) => command::run(argv, command::DEADLINE),
            Self::Env(name) => {
                let value = environment(name).ok_or_else(|| SecretError::NoVariable { name: name.clone() })?;
                let bytes = Zeroizing::new(value.into_encoded_bytes());
                let subject = format!("the environment variable {name}");
                if bytes.len() > MAX_SECRET {
                    return Err(SecretError::TooLong { subject });
                }
                Secret::from_bytes(bytes, &subject)
            }
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {path}"),
            Self::Credential(name) => write!(f, "credential {name}"),
            // The arguments are left out: this stands in messages.
            Self::Command(argv) => write!(f, "command {}", argv.first().map_or("", String::as_str)),
            Self::Env(name) => write!(f, "variable {name}"),
        }
    }
}

/// The path's own error would repeat what stands here.
fn path(text: &str) -> Result<SecretRef, ValueError> {
    text.parse().map(SecretRef::File).map_err(|_| {
        ValueError::new("a password file is named by its full path", "write { file = \"/etc/stackferry/avm.pass\" }")
    })
}

/// A credential is a file name, never a way out of its folder.
fn credential(name: String) -> Result<SecretRef, ValueError> {
    let plain = !matches!(name.as_str(), "" | "." | "..")
        && name.len() <= 255
        && !name.contains(|c: char| c == '/' || c.is_control());
    if plain {
        Ok(SecretRef::Credential(name))
    } else {
        Err(ValueError::new(
            "a credential is a plain file name",
            "write the name given to LoadCredential= in the systemd unit, as { credential = \"avm\" }",
        ))
    }
}

fn variable(name: String) -> Result<SecretRef, ValueError> {
    if name.is_empty() || name.contains(|c: char| c == '=' || c.is_control()) {
        Err(ValueError::new("this is not the name of a variable", "write its name, as { env = \"AVM_PASSWORD\" }"))
    } else {
        Ok(SecretRef::Env(name))
    }
}

fn argv(argv: Vec<String>) -> Result<SecretRef, ValueError> {
    let how = "write program and arguments one by one, as { command = [\"/usr/bin/pass\", \"avm\"] }";
    if argv.first().is_none_or(String::is_empty) {
        Err(ValueError::new("a command names a program", how))
    } else if argv.iter().any(|argument| argument.contains('\0')) {
        Err(ValueError::new("a command has no NUL in it", how))
    } else {
        Ok(SecretRef::Command(argv))
    }
}

/// Text that is never repeated in an error: a person may have put the secret itself here.
struct Quiet(String);

impl<'de> Deserialize<'de> for Quiet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self).map_err(|_| D::Error::custom("this must be a text"))
    }
}

struct Argv(Vec<String>);

impl<'de> Deserialize<'de> for Argv {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde's own words would quote what stands here.
        Vec::<String>::deserialize(deserializer).map(Self).map_err(|_| {
            D::Error::custom(ValueError::new(
                "a command is a list of texts, run without a shell",
                "write { command = [\"/usr/bin/pass\", \"avm\"] }",
            ))
        })
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reference;
        impl<'de> Visitor<'de> for Reference {
            type Value = SecretRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a reference to a secret")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<SecretRef, E> {
                Err(E::custom(ValueError::new("a password does not stand in the configuration itself", WAYS)))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<SecretRef, E> {
                self.visit_str("")
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<SecretRef, E> {
                self.visit_str("")
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<SecretRef, E> {
                self.visit_str("")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
                let one_way = || A::Error::custom(ValueError::new("a password has exactly one reference", WAYS));
                let key: String = map.next_key()?.ok_or_else(one_way)?;
                let reference = match key.as_str() {
                    "file" => path(&map.next_value::<Quiet>()?.0),
                    "credential" => credential(map.next_value::<Quiet>()?.0),
                    "command" => argv(map.next_value::<Argv>()?.0),
                    "env" => variable(map.next_value::<Quiet>()?.0),
                    _ => Err(ValueError::new("this is no way to give a password", WAYS)),
                };
                let reference = reference.map_err(A::Error::custom)?;
                if map.next_key::<String>()?.is_some() {
                    return Err(one_way());
                }
                Ok(reference)
            }
        }
        deserializer.deserialize_any(Reference)
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let way = |key: &str, value: serde_json::Value| {
            serde_json::json!({
                "type": "object", "properties": { key: value }, "required": [key], "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "where a password lies; never the password itself",
            "oneOf": [
                way("file", serde_json::json!({ "type": "string", "description": "a file that only its owner and group may open" })),
                way("credential", serde_json::json!({ "type": "string", "description": "the name of a systemd credential" })),
                way("command", serde_json::json!({
                    "type": "array", "items": { "type": "string" }, "minItems": 1,
                    "description": "a program and its arguments, run without a shell",
                })),
                way("env", serde_json::json!({ "type": "string", "description": "the name of an environment variable" })),
            ],
        })
    }
}

#[cfg(test)]
mod tests;
