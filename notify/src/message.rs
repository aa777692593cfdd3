//! What is sent: one shape, as JSON for a webhook and as text for mail. `docs/notifications.md` promises the JSON; keys are
//! added, never changed.
//!
//! Names of volumes and words of other systems are hostile input: what they hold of control characters is escaped, each
//! text is cut, and a message names only the first subjects of each kind, so that no message is longer than a bound.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use stackferry_catalog::ReportedProblem;

use super::decide::Kinds;
use super::snapshot::SiteSnapshot;
use super::standing::VolumeCounts;
use super::trouble::{ProblemSeverity, Trouble};
use stackferry_engine::about::PROGRAM;
use stackferry_problem::output::{escape, size};

/// The version of the JSON's shape.
const FORMAT: u32 = 1;
/// So many subjects of one kind are named in the JSON and in mail.
const SUBJECTS: usize = 20;
/// So many of them in the summary in words.
const IN_TEXT: usize = 5;
/// The longest name, in characters. A volume's id has at most 200 bytes of its own.
const NAME: usize = 220;
/// The longest detail, in characters.
const DETAIL: usize = 300;
/// The longest first line, in characters: it is a mail's subject.
const HEADLINE: usize = 200;
/// The longest summary in words, in characters: chats cut or refuse longer ones.
const TEXT: usize = 4000;

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// Something became wrong.
    Problem,
    /// Something is right again.
    Resolved,
    /// How everything stands.
    Digest,
    /// A person tries whether messages arrive.
    Test,
}

impl Event {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Resolved => "resolved",
            Self::Digest => "digest",
            Self::Test => "test",
        }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The version of this shape.
    pub format: u32,
    /// Its id: the same each time that it is sent.
    pub id: String,
    /// When it was made.
    pub at: Timestamp,
    /// The installation's id.
    pub install: String,
    /// The machine's name.
    pub host: String,
    /// The program and its version.
    pub program: String,
    /// What kind of message it is.
    pub event: Event,
    /// The whole in words: a first line, then one for each kind and subject.
    pub text: String,
    /// What is wrong, or right again: one entry for each kind.
    pub problems: Vec<Problems>,
    /// How the volumes stand. In digests only.
    pub volumes: Option<VolumeCounts>,
}

/// Problems of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems {
    /// The kind's word.
    pub code: String,
    /// How bad it is.
    pub severity: ProblemSeverity,
    /// How many there are.
    pub count: usize,
    /// What is wrong, in words.
    pub text: String,
    /// What to do about it.
    pub hint: String,
    /// The first of them, at most 20.
    pub subjects: Vec<Subject>,
}

/// What a problem is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its id: of a volume as commands take it.
    pub subject: String,
    /// The same as a person reads it.
    pub name: String,
    /// Since when it is so, as far as that is known.
    pub since: Option<Timestamp>,
    /// What more there is to say.
    pub detail: Option<String>,
}

/// Who sends.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The installation's id.
    pub install: String,
    /// This machine's name.
    pub host: String,
}

impl Sender {
    /// This machine.
    pub fn new(install: String) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { install, host: clean(&host, NAME) }
    }

    fn message(&self, event: Event, at: Timestamp, problems: Vec<Problems>, volumes: Option<VolumeCounts>) -> Message {
        let mut message = Message {
            format: FORMAT,
            id: uuid::Uuid::new_v4().to_string(),
            at,
            install: self.install.clone(),
            host: self.host.clone(),
            program: PROGRAM.to_owned(),
            event,
            text: String::new(),
            problems,
            volumes,
        };
        message.text = message.in_words();
        message
    }

    /// A message of what became wrong, or right again.
    pub(super) fn change(&self, event: Event, kinds: &Kinds, at: Timestamp) -> Message {
        let problems = kinds.iter().map(|(trouble, rows)| {
            let text = match event {
                Event::Resolved => trouble.over(rows.len()),
                _ => trouble.is(rows.len()),
            };
            entry(*trouble, rows.len(), text, rows.iter().take(SUBJECTS).map(Subject::from))
        });
        self.message(event, at, problems.collect(), None)
    }

    /// A message of how everything stands.
    pub(super) fn digest(&self, look: &SiteSnapshot, at: Timestamp) -> Message {
        let mut kinds: std::collections::BTreeMap<Trouble, Vec<Subject>> = std::collections::BTreeMap::new();
        let mut counts: std::collections::BTreeMap<Trouble, usize> = std::collections::BTreeMap::new();
        for found in &look.found {
            *counts.entry(found.trouble).or_default() += 1;
            let subjects = kinds.entry(found.trouble).or_default();
            if subjects.len() < SUBJECTS {
                subjects.push(subject(&found.subject, &found.name, found.since, found.detail.as_deref()));
            }
        }
        let problems = kinds.into_iter().map(|(trouble, subjects)| {
            let count = counts.get(&trouble).copied().unwrap_or_default();
            entry(trouble, count, trouble.is(count), subjects)
        });
        self.message(Event::Digest, at, problems.collect(), Some(look.volumes))
    }

    /// A message for a person who tries whether messages arrive.
    pub fn test(&self, at: Timestamp) -> Message {
        self.message(Event::Test, at, Vec::new(), None)
    }
}

fn entry(trouble: Trouble, count: usize, text: String, subjects: impl IntoIterator<Item = Subject>) -> Problems {
    let row = trouble.row();
    Problems {
        code: row.word.to_owned(),
        severity: row.severity,
        count,
        text,
        hint: row.hint.to_owned(),
        subjects: subjects.into_iter().collect(),
    }
}

impl From<&ReportedProblem> for Subject {
    fn from(row: &ReportedProblem) -> Self {
        subject(&row.subject, &row.name, Some(row.since), row.detail.as_deref())
    }
}

fn subject(id: &str, name: &str, since: Option<Timestamp>, detail: Option<&str>) -> Subject {
    Subject { subject: clean(id, NAME), name: clean(name, NAME), since, detail: detail.map(|text| clean(text, DETAIL)) }
}

/// A text from outside: nothing in it moves a cursor, ends a line or begins a header, and it is not longer than this.
fn clean(text: &str, most: usize) -> String {
    cut(&escape(text), most)
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Chats read `<!channel>` and `<https://…>` in a text as more than text.
fn tame(text: &str) -> String {
    text.replace('<', "‹").replace('>', "›")
}

impl Subject {
    /// In one line: its id, its name where that differs, since when, and what more there is.
    fn line(&self, zone: &TimeZone) -> String {
        let mut line = self.subject.clone();
        let is_named = !self.name.is_empty() && !self.subject.ends_with(&self.name);
        if is_named {
            let _ = write!(line, " ({})", self.name);
        }
        if let Some(since) = self.since {
            let _ = write!(line, ", since {}", since.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M"));
        }
        if let Some(detail) = &self.detail {
            let _ = write!(line, ": {detail}");
        }
        line
    }
}

impl Message {
    /// The whole in one line.
    pub fn headline(&self) -> String {
        let text = match (self.event, self.volumes) {
            (Event::Test, _) => "this is a test: messages arrive".to_owned(),
            (Event::Digest, Some(volumes)) => self.digest_line(volumes),
            _ => self.change_line(),
        };
        cut(&text, HEADLINE)
    }

    fn digest_line(&self, volumes: VolumeCounts) -> String {
        let VolumeCounts { total, not_safe, .. } = volumes;
        let safe = match (total, not_safe) {
            (0, _) => "no volume is known yet".to_owned(),
            (1, 0) => "the only volume is safe".to_owned(),
            (_, 0) => format!("all {total} volumes are safe"),
            (_, 1) => format!("1 of {total} volumes is not safe"),
            _ => format!("{not_safe} of {total} volumes are not safe"),
        };
        // What is wrong with no volume itself.
        let other = self.problems.iter().filter(|entry| !is_of_volumes(&entry.code));
        let other: Vec<&str> = other.map(|entry| entry.text.as_str()).collect();
        if other.is_empty() { safe } else { format!("{safe}; {}", other.join("; ")) }
    }

    fn change_line(&self) -> String {
        let of = |entry: &Problems| match entry.subjects.as_slice() {
            // What there is one of is named by its text.
            [one] if entry.count == 1 && one.subject.contains('/') => format!("{}: {}", entry.text, one.subject),
            _ => entry.text.clone(),
        };
        let texts: Vec<String> = self.problems.iter().map(of).collect();
        texts.join("; ")
    }

    fn in_words(&self) -> String {
        let zone = TimeZone::system();
        let mut text = format!("Stackferry on {}: {}", self.host, self.headline());
        for entry in &self.problems {
            let _ = write!(text, "\n{} ({})", entry.text, entry.severity.as_str());
            for subject in entry.subjects.iter().take(IN_TEXT) {
                let _ = write!(text, "\n- {}", subject.line(&zone));
            }
            let more = entry.count.saturating_sub(entry.subjects.len().min(IN_TEXT));
            if more > 0 {
                let _ = write!(text, "\n- and {more} more");
            }
            if self.event != Event::Resolved {
                let _ = write!(text, "\n{}", entry.hint);
            }
        }
        cut(&tame(&text), TEXT)
    }

    /// The message as the text of a mail: lines that end with `\n`.
    pub fn mail(&self, zone: &TimeZone) -> String {
        let mut text = String::new();
        let mut headline = self.headline();
        if let Some(first) = headline.get(..1).map(str::to_uppercase) {
            headline.replace_range(..1, &first);
        }
        let _ = writeln!(text, "{headline}.");
        if let Some(volumes) = self.volumes {
            if volumes.new > 0 {
                let _ = writeln!(text, "{} just found and wait for their first copy.", volumes.new);
            }
            if let (Some(free), Some(total)) = (volumes.vault_free, volumes.vault_size) {
                let _ = writeln!(text, "Free in the vault: {} of {}.", size(free), size(total));
            }
        }
        for entry in &self.problems {
            let _ = writeln!(text, "\n{}: {}", entry.severity.as_str().to_uppercase(), entry.text);
            for subject in &entry.subjects {
                let _ = writeln!(text, "  - {}", subject.line(zone));
            }
            let more = entry.count.saturating_sub(entry.subjects.len());
            if more > 0 {
                let _ = writeln!(text, "  - and {more} more");
            }
            if self.event != Event::Resolved {
                let _ = writeln!(text, "  What to do: {}", entry.hint);
            }
        }
        let at = self.at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string();
        // A line `-- ` begins what mail programs show small.
        let _ = writeln!(text, "\n-- \n{} on {}, installation {}, {at}", self.program, self.host, self.install);
        text
    }
}

fn is_of_volumes(code: &str) -> bool {
    matches!(
        Trouble::from_word(code),
        Some(
            Trouble::Incident
                | Trouble::VersionDamaged
                | Trouble::VersionUnusable
                | Trouble::NeverCopied
                | Trouble::Overdue
                | Trouble::Held
                | Trouble::Unprotectable
                | Trouble::Conflict
        )
    )
}

#[cfg(test)]
mod tests;
