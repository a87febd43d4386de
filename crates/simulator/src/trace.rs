//! What happened, in words. A seed is run without a trace first, because words cost more than the world does; if it
//! fails, it is run once more with one.

use crate::ids;
use capa_webhooks_core::id::NotificationKey;
use capa_webhooks_core::time::Timestamp;

#[derive(Debug)]
struct Line {
    at: Timestamp,
    about: Option<NotificationKey>,
    text: String,
}

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: Option<Vec<Line>>,
}

impl Trace {
    /// A trace that keeps what it is told.
    pub(crate) const fn on() -> Self {
        Self { lines: Some(Vec::new()) }
    }

    pub(crate) fn note(&mut self, at: Timestamp, about: Option<NotificationKey>, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(Line { at, about, text: text() });
        }
    }

    /// The last lines about this notification and about the world around it; about everything if there is none.
    pub(crate) fn last(&self, most: usize, about: Option<NotificationKey>) -> Vec<String> {
        let concerned = |line: &&Line| about.is_none() || line.about.is_none() || line.about == about;
        let lines: Vec<&Line> = self.lines.iter().flatten().filter(concerned).collect();
        lines.iter().skip(lines.len().saturating_sub(most)).map(|line| line.show()).collect()
    }
}

impl Line {
    fn show(&self) -> String {
        let about = self.about.map(|key| format!("[{}] ", ids::name(key))).unwrap_or_default();
        format!("{}  {about}{}", ids::clock(self.at), self.text)
    }
}
