//! What `notify test` prints.

use serde::Serialize;
use stackferry_catalog::Channel;

use stackferry_problem::output::{Style, View, escape};
use stackferry_problem::{Code, Exit, Problem};

/// One way that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotifyItem {
    /// `webhook` or `mail`.
    pub channel: Channel,
    /// Whether all its receivers took the message.
    pub ok: bool,
    /// The problem's word; none if it works.
    pub code: Option<Code>,
    /// What happened.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

impl NotifyItem {
    /// The message was taken.
    #[must_use]
    pub fn sent(channel: Channel) -> Self {
        let text = "the message was taken".to_owned();
        Self { channel, ok: true, code: None, text, hint: None, exit: Exit::Done }
    }

    /// It was not.
    #[must_use]
    pub fn failed(channel: Channel, problem: Problem) -> Self {
        let Problem { code, message, hint, exit, .. } = problem;
        Self { channel, ok: false, code: Some(code), text: message, hint, exit }
    }
}

/// What `notify test` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotifyView {
    /// The message's id.
    pub id: String,
    /// The ways that the configuration names, and how each ended.
    pub sent: Vec<NotifyItem>,
}

impl NotifyView {
    /// The exit code: that of what failed, 3 where another way worked.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let failed: Vec<Exit> = self.sent.iter().filter(|item| !item.ok).map(|item| item.exit).collect();
        match failed.as_slice() {
            [] => Exit::Done,
            all if all.len() < self.sent.len() => Exit::Partly,
            [first, rest @ ..] if rest.iter().all(|exit| exit == first) => *first,
            _ => Exit::Failed,
        }
    }
}

impl View for NotifyView {
    fn table(&self, _style: &Style) -> String {
        let mut text = String::new();
        for item in &self.sent {
            let mark = if item.ok { "ok  " } else { "FAIL" };
            text.push_str(&format!("{mark}  {}: {}\n", item.channel, escape(&item.text)));
            for line in item.hint.iter().flat_map(|hint| hint.lines()) {
                text.push_str(&format!("      {}\n", escape(line)));
            }
        }
        text
    }
}
