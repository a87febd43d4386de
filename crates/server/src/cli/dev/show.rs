//! Lines on the terminal: columns, colours where they are welcome, and times.

use capa_webhooks_core::time::Timestamp;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// What a piece of text means to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    /// A heading, or a value to copy.
    Strong,
    /// Of less interest.
    Faint,
    /// As it should be.
    Good,
    /// Failed.
    Bad,
    /// Still to come.
    Due,
}

/// Where the lines go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    colours: bool,
}

impl Screen {
    /// Standard output; with colours if it is a terminal that has them and `NO_COLOR` does not forbid them.
    pub(super) fn standard() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        Self { colours: std::io::stdout().is_terminal() && set("NO_COLOR").is_none() && !dumb }
    }

    /// Writes a line.
    ///
    /// # Errors
    /// Nobody reads any more: the terminal was closed, or the program behind the pipe has ended.
    pub(super) fn say(self, line: &str) -> Result<(), String> {
        writeln!(std::io::stdout(), "{line}").map_err(|error| format!("the output cannot be written: {error}"))
    }

    /// Gives `text` its colour. Pad it before: colours have no width, but count as characters.
    pub(super) fn paint(self, ink: Ink, text: &str) -> String {
        let code = match ink {
            _ if !self.colours || text.is_empty() => return text.to_owned(),
            Ink::Strong => "1",
            Ink::Faint => "2",
            Ink::Good => "32",
            Ink::Bad => "31",
            Ink::Due => "33",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Writes a heading, with room above it.
    pub(super) fn heading(self, text: &str) -> Result<(), String> {
        self.say(&format!("\n{}", self.paint(Ink::Strong, text)))
    }

    /// Writes what happened to a notification: when, what, to which, and the rest.
    pub(super) fn happened(self, at: Timestamp, ink: Ink, what: &str, id: &str, rest: &str) -> Result<(), String> {
        let time = self.paint(Ink::Faint, &time_of_day(at));
        let what = self.paint(ink, &format!("{what:<9}"));
        self.say(&format!("  {time}  {what}  {:<9}  {rest}", short(id)))
    }
}

/// `19:40:08.131`, UTC.
pub(super) fn time_of_day(at: Timestamp) -> String {
    at.to_iso().chars().skip(11).take(12).collect()
}

/// `next attempt at 19:40:12, in 2 s`, as seen from `now`.
pub(super) fn due(at: Timestamp, now: Timestamp) -> String {
    let time: String = time_of_day(at).chars().take(8).collect();
    format!("next attempt at {time}, {}", wait(at.since(now)))
}

fn wait(left: Duration) -> String {
    match (left.as_millis() + 500) / 1000 {
        0 => "at once".to_owned(),
        seconds @ 1..120 => format!("in {seconds} s"),
        seconds => format!("in {} min", (seconds + 30) / 60),
    }
}

/// The end of an id, which is the part that differs.
pub(super) fn short(id: &str) -> String {
    match id.char_indices().rev().nth(7) {
        Some((start, _)) if start > 0 => format!("…{}", &id[start..]),
        _ => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_waits() {
        let now = Timestamp::parse_iso("2026-01-02T19:40:08.131Z").unwrap();
        assert_eq!(time_of_day(now), "19:40:08.131");
        for (millis, expected) in [
            (0, "next attempt at 19:40:08, at once"),
            (1_990, "next attempt at 19:40:10, in 2 s"),
            (119_000, "next attempt at 19:42:07, in 119 s"),
            (216_000_000, "next attempt at 07:40:08, in 3600 min"),
        ] {
            assert_eq!(due(now.plus(Duration::from_millis(millis)), now), expected);
        }
        assert!(due(now, now.plus(Duration::from_secs(5))).ends_with("at once"));
    }

    #[test]
    fn ids_are_cut_at_the_front() {
        assert_eq!(short("0199f7a0-0000-7000-8000-0123456789ab"), "…456789ab");
        assert_eq!(short("12345678"), "12345678");
        assert_eq!(short("-"), "-");
    }

    #[test]
    fn without_colours_text_stays_as_it_is() {
        assert_eq!(Screen { colours: false }.paint(Ink::Good, "x"), "x");
        assert_eq!(Screen { colours: true }.paint(Ink::Good, "x"), "\x1b[32mx\x1b[0m");
    }
}
