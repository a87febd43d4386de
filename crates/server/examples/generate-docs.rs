//! Writes the generated pages of `docs/`. With `--check` it writes nothing and fails if one is not up to date.

use capa_webhooks::config::SETTINGS;
use capa_webhooks_core::event::catalogue::Catalogue;
use capa_webhooks_core::notification::{End, Input, NotSent, Refusal, Retry, State, Turn};
use capa_webhooks_core::outcome::Verdict;
use capa_webhooks_core::schedule::{MOST_RETRIES, Schedule};
use capa_webhooks_core::time::Timestamp;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

const MARK: &str = "<!-- Generated: cargo run -p capa-webhooks --example generate-docs -->\n\n";

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut stale = Vec::new();
    for (name, page) in [
        ("configuration.md", configuration()),
        ("command-line.md", command_line()),
        ("state-table.md", state_table()),
        ("events.md", events()),
    ] {
        let path = docs.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|current| current == page) {
            continue;
        }
        if check {
            stale.push(name);
        } else if let Err(error) = std::fs::write(&path, page) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    for name in &stale {
        eprintln!("docs/{name} is not up to date; run: cargo run -p capa-webhooks --example generate-docs");
    }
    if stale.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn configuration() -> String {
    let mut page = format!(
        "# Configuration\n\n{MARK}A TOML file (`--config FILE`, or `CAPA_WEBHOOKS_CONFIG`), then the environment, then \
         flags: each over the one before. Every setting has one name in all three: `listen` in the file, \
         `CAPA_WEBHOOKS_LISTEN` in the environment, `--listen` as a flag. Every default is right for production on one \
         machine.\n\nDurations are written `500ms`, `15s`, `1m`, `2h`, `30d`; sizes `512B`, `256KiB`, `8MiB`.\n\n\
         | in the file | in the environment | default | what it does |\n|---|---|---|---|\n"
    );
    for setting in SETTINGS {
        let secret = if setting.secret { " Not possible as a flag, where others could see it." } else { "" };
        let help = setting.help.replace('|', "\\|");
        let (key, variable, default) = (setting.key, setting.variable(), setting.default);
        _ = writeln!(page, "| `{key}` | `{variable}` | {default} | {help}{secret} |");
    }
    page.push_str(
        "\nThe file may also add types, events and fields to the [catalogue](events.md):\n\n```toml\n\
         [[types]]\nname = \"CARD\"\ndescription = \"Cards of users\"\nrequired = [\"cardId\"]\n\n\
         [[events]]\ntype = \"CARD\"\nname = \"CARD_ISSUED\"\nfields = [\"network\"]\n```\n",
    );
    page
}

fn command_line() -> String {
    let mut page = format!("# Command line\n\n{MARK}");
    describe(capa_webhooks::cli::command().term_width(100), "", &mut page);
    page
}

fn describe(mut command: clap::Command, above: &str, page: &mut String) {
    let name = format!("{above}{}", command.get_name());
    command = command.bin_name(name.clone()).disable_help_subcommand(true);
    let level = "#".repeat(2 + name.split(' ').count() - 1);
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    _ = write!(page, "{level} {name}\n\n```text\n{}\n```\n\n", help.join("\n").trim_end());
    for inner in command.get_subcommands() {
        describe(inner.clone(), &format!("{name} "), page);
    }
}

fn state_table() -> String {
    const NOW: Timestamp = Timestamp::from_millis(0);
    let schedule = Schedule::default();
    let last = MOST_RETRIES + 1;
    let pending = |cycle, number| State::Pending(Turn { cycle, number, due: NOW });
    let settled = |cycle, end| State::Settled { cycle, end };
    let states = [
        ("PENDING, first attempt", pending(1, 1)),
        ("PENDING, last attempt", pending(1, last)),
        ("SENT", settled(1, End::Sent)),
        ("FAILED", settled(1, End::Failed)),
        ("FAILED, retried by hand 3 times", settled(4, End::Failed)),
        ("NOT_SENT", settled(1, End::NotSent(NotSent::NoUrl))),
        ("NOT_SENT, retried by hand 3 times", settled(4, End::NotSent(NotSent::NoUrl))),
    ];
    let attempted = |verdict| Input::Attempted { verdict, schedule: &schedule, random: 0.5 };
    let inputs = [
        ("acknowledged", attempted(Verdict::Acknowledged)),
        ("attempt failed", attempted(Verdict::Failed { retry_after: None })),
        ("due, nowhere to send it", Input::Unsendable(NotSent::NoUrl)),
        ("single manual retry", Input::Retry(Retry::Single)),
        ("bulk manual retry", Input::Retry(Retry::Bulk)),
    ];
    let mut page = format!(
        "# What becomes of a notification\n\n{MARK}Each row is where a notification stands, each column what happens \
         to it; the cell is where it stands then, or why nothing happens. Delays are those of the default schedule, \
         without jitter. `core/src/notification.rs` is the only place that decides this.\n\n| |"
    );
    for (name, _) in &inputs {
        _ = write!(page, " {name} |");
    }
    _ = write!(page, "\n|---|{}\n", "---|".repeat(inputs.len()));
    for (name, state) in states {
        _ = write!(page, "| **{name}** |");
        for (_, input) in &inputs {
            _ = write!(page, " {} |", show(state.next(*input, NOW)));
        }
        page.push('\n');
    }
    page
}

fn show(next: Result<State, Refusal>) -> String {
    match next {
        Ok(State::Pending(Turn { cycle, number, due })) => {
            let wait = if due.as_millis() == 0 { "at once".to_owned() } else { format!("in {} s", due.as_seconds()) };
            format!("PENDING: attempt {number} of cycle {cycle}, {wait}")
        }
        Ok(State::Settled { end, .. }) => end.status().as_str().to_owned(),
        Err(Refusal::AlreadySettled) => "—".to_owned(),
        Err(refusal) => format!("refused: {refusal}"),
    }
}

fn events() -> String {
    let catalogue = Catalogue::built_in();
    let mut page = format!(
        "# Events\n\n{MARK}What may be published. The fields that a type requires are strings of 1 to 256 characters; \
         the other listed fields must be strings when present; further fields pass through untouched. An operator can \
         add types, events and fields in the [configuration](configuration.md).\n"
    );
    for kind in catalogue.kinds() {
        let about = catalogue.kind_description(kind).unwrap_or_default();
        let required = catalogue.required(kind).unwrap_or_default();
        _ = write!(page, "\n## {kind}\n\n{about}\n\nRequired: {}.\n\n", list(required));
        page.push_str("| event | what happened | further fields |\n|---|---|---|\n");
        for entry in catalogue.entries().filter(|entry| entry.kind == kind) {
            let (name, description, optional) = (entry.name, entry.description, list(entry.optional));
            _ = writeln!(page, "| `{name}` | {description} | {optional} |");
        }
    }
    page
}

fn list(fields: &[String]) -> String {
    fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ")
}
