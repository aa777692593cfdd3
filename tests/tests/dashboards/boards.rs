//! The dashboards and rules of the repository.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A dashboard.
pub(crate) struct Board {
    /// Its file's name without `.json`.
    pub(crate) name: String,
    pub(crate) json: Value,
}

/// One panel that asks something.
pub(crate) struct Panel<'a> {
    pub(crate) board: &'a str,
    pub(crate) json: &'a Value,
}

impl Board {
    /// All of them, by name.
    pub(crate) fn all() -> Vec<Self> {
        let mut boards: Vec<Self> = files("dashboards", "json").iter().map(|path| Self::read(path)).collect();
        boards.sort_by(|one, other| one.name.cmp(&other.name));
        assert!(boards.len() >= 7, "dashboards are missing");
        boards
    }

    fn read(path: &Path) -> Self {
        let json = serde_json::from_str(&fs::read_to_string(path).unwrap());
        let json = json.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { name: path.file_stem().unwrap().to_str().unwrap().to_owned(), json }
    }

    /// Its panels, without the headings of rows.
    pub(crate) fn panels(&self) -> Vec<Panel<'_>> {
        let all = self.json["panels"].as_array().unwrap().iter();
        all.filter(|json| json["type"] != "row").map(|json| Panel { board: &self.name, json }).collect()
    }

    /// Its variables but the data source.
    pub(crate) fn queries(&self) -> Vec<&Value> {
        let all = self.json["templating"]["list"].as_array().unwrap().iter();
        all.filter(|variable| variable["type"] == "query").collect()
    }
}

impl Panel<'_> {
    pub(crate) fn title(&self) -> &str {
        self.json["title"].as_str().unwrap_or_default()
    }

    /// Where it is, for a person.
    pub(crate) fn place(&self) -> String {
        format!("{} / {}", self.board, self.title())
    }

    /// What it asks.
    pub(crate) fn expressions(&self) -> Vec<&str> {
        let targets = self.json["targets"].as_array().unwrap_or_else(|| panic!("{} asks nothing", self.place()));
        targets.iter().map(|target| target["expr"].as_str().unwrap()).collect()
    }
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The files of a folder of the repository that end so, in order.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|own| own == extension)).collect();
    found.sort();
    assert!(!found.is_empty(), "{folder} holds no *.{extension}");
    found
}

/// The names that a file of rules gives to its rules: those behind `alert:` or `record:`.
pub(crate) fn rules(file: &str, key: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("dashboards/rules").join(file)).unwrap();
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("- ")?.strip_prefix(key)?.strip_prefix(": "));
    lines.map(str::to_owned).collect()
}
