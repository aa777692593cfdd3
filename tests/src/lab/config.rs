//! A configuration that is written as TOML.

use std::fs;
use std::path::Path;

use toml::{Table, Value};

use super::{SSH_USER, Sshd};
use crate::error::{IoContext, LabError};
use crate::site::FOLDERS;

/// A configuration.
#[derive(Debug, Clone)]
pub struct LabConfig(Table);

impl LabConfig {
    /// One with a state folder and a vault; the vault keeps 1 MiB of its file system free.
    pub(super) fn new(state: &Path, vault: &Path) -> Self {
        let mut config = Self(Table::new());
        config.set("state_dir", text(state));
        config.set("vault.path", text(vault));
        config.set("vault.reserve", "1MiB");
        config.set("http.listen", "127.0.0.1:0");
        config
    }

    /// One without anything but a state folder.
    pub(super) fn bare(state: &Path) -> Self {
        let mut config = Self(Table::new());
        config.set("state_dir", text(state));
        config
    }

    /// Sets a key; dots go down into tables.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let mut table = &mut self.0;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                table.insert(part.to_owned(), value.into());
                return;
            }
            let next = table.entry(part).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(next) = next else { return };
            table = next;
        }
    }

    /// Adds an App Volumes Manager with these keys, or replaces the one of that name.
    pub fn app_volumes<const N: usize>(&mut self, name: &str, keys: [(&str, Value); N]) {
        let mut table: Table = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        table.insert("name".to_owned(), name.into());
        self.entry("app_volumes", table);
    }

    /// Sets a key of a manager that was added, or takes it away.
    pub fn change_app_volumes(&mut self, name: &str, key: &str, value: Option<Value>) {
        let Some(Value::Array(all)) = self.0.get_mut("app_volumes") else { return };
        let found = all.iter_mut().find(|other| other.get("name").and_then(Value::as_str) == Some(name));
        let Some(Value::Table(table)) = found else { return };
        match value {
            Some(value) => drop(table.insert(key.to_owned(), value)),
            None => drop(table.remove(key)),
        }
    }

    /// Adds a datastore that is mounted here.
    pub fn local(&mut self, name: &str, path: &Path) {
        self.datastore(name, [("route", Value::from("local")), ("path", text(path).into())]);
    }

    /// Adds a datastore behind an endpoint.
    pub fn endpoint(&mut self, name: &str, address: &str, host_key: &str, key: &Path) {
        let keys = [
            ("route", Value::from("endpoint")),
            ("host", address.into()),
            ("host_key", host_key.into()),
            ("key", text(key).into()),
        ];
        self.datastore(name, keys);
    }

    /// Adds a datastore of a stock SSH host.
    pub fn ssh(&mut self, name: &str, address: &str, known_hosts: &Path, ca_key: &Path) {
        let keys = [
            ("route", Value::from("ssh")),
            ("host", address.into()),
            ("user", SSH_USER.into()),
            ("path", text(&Sshd::path(name)).into()),
            ("known_hosts", text(known_hosts).into()),
            ("ca_key", text(ca_key).into()),
        ];
        self.datastore(name, keys);
    }

    /// Adds a datastore with these keys and all of App Volumes' folders, or replaces the one of that name.
    pub fn datastore<const N: usize>(&mut self, name: &str, keys: [(&str, Value); N]) {
        let mut table: Table = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        table.insert("name".to_owned(), name.into());
        let folders: Vec<Value> = FOLDERS.into_iter().map(Value::from).collect();
        table.entry("folders").or_insert(Value::Array(folders));
        self.entry("datastore", table);
    }

    /// Adds an entry to a list, in place of the one of its site and name.
    fn entry(&mut self, list: &str, table: Table) {
        let all = self.0.entry(list).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(all) = all {
            all.retain(|other| ["site", "name"].into_iter().any(|key| other.get(key) != table.get(key)));
            all.push(Value::Table(table));
        }
    }

    /// Takes all datastores away.
    pub fn unset_all(&mut self) {
        self.0.remove("datastore");
    }

    /// Sets a key of a datastore that was added.
    pub fn change(&mut self, datastore: &str, key: &str, value: impl Into<Value>) {
        let Some(Value::Array(all)) = self.0.get_mut("datastore") else { return };
        let found = all.iter_mut().find(|other| other.get("name").and_then(Value::as_str) == Some(datastore));
        if let Some(Value::Table(table)) = found {
            table.insert(key.to_owned(), value.into());
        }
    }

    /// Takes a key of a datastore away.
    pub fn unset(&mut self, datastore: &str, key: &str) {
        let Some(Value::Array(all)) = self.0.get_mut("datastore") else { return };
        let found = all.iter_mut().find(|other| other.get("name").and_then(Value::as_str) == Some(datastore));
        if let Some(Value::Table(table)) = found {
            table.remove(key);
        }
    }

    /// Writes it, over what was there: at once, since a program that was just started may be reading it.
    pub(super) fn write(&self, path: &Path) -> Result<(), LabError> {
        let text = toml::to_string(&self.0)
            .map_err(|error| LabError::Content { path: path.to_owned(), why: error.to_string() })?;
        let whole = path.with_extension(format!("{}.new", std::process::id()));
        fs::write(&whole, text).at("write", &whole)?;
        fs::rename(&whole, path).at("write", path)
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
