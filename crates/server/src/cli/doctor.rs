//! `capa-webhooks doctor`: proves that nothing accepted is stuck.

use super::{load_config, runtime, with_settings};
use crate::opening;
use capa_webhooks_store::{Examination, Violation};
use clap::{ArgMatches, Command};
use std::process::ExitCode;

const EXAMPLES: &str = "\
What it proves, in one consistent read of the store, beside a running service or without one:
  - every accepted notification is either queued or has ended as SENT, FAILED or NOT_SENT; never neither, never both
  - what is owned belongs to a process that has not ended
  - no cycle has more recorded attempts than the first and five retries
  - what is sealed can be opened with the master key, and the file is sound

Examples:
  capa-webhooks doctor
  CAPA_WEBHOOKS_STORE=postgres://capa@db/capa capa-webhooks doctor
  capa-webhooks doctor --store sqlite:/var/lib/capa-webhooks/capa-webhooks.db --master-key-file /etc/capa-webhooks.key

It exits with 0 if all is well and with 1 if anything is wrong.";

pub(super) fn command() -> Command {
    let command = Command::new("doctor").about("Prove that nothing accepted is lost or stuck").after_help(EXAMPLES);
    with_settings(command, &["store", "master_key_file"])
}

pub(super) fn run(given: &ArgMatches) -> Result<ExitCode, String> {
    let config = load_config(given)?;
    let examination = runtime("worker")?.block_on(async {
        let store = opening::open_to_examine(&config).await.map_err(|error| error.to_string())?;
        store.examine().await.map_err(|error| error.to_string())
    })?;
    print(&examination);
    Ok(if examination.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(examination: &Examination) {
    let Examination { notifications, pending, owned, violations } = examination;
    // In a broken store the queue can name more than there is.
    let settled = notifications.saturating_sub(*pending);
    println!("{notifications} notifications: {settled} settled, {pending} pending ({owned} held by a process)");
    if violations.is_empty() {
        println!("All is well: each of them is queued or settled, and everything can be read.");
        return;
    }
    println!("{} violations:", violations.len());
    for violation in violations {
        println!("  {}", describe(violation));
    }
}

fn describe(violation: &Violation) -> String {
    match violation {
        Violation::Stranded(key) => {
            format!("notification {} of partner {} is neither queued nor settled", key.id, key.partner)
        }
        Violation::SettledTwice(key) => {
            format!("notification {} of partner {} is queued although it is settled", key.id, key.partner)
        }
        Violation::Orphaned(key) => {
            format!("the queue names notification {} of partner {}, which is not there", key.id, key.partner)
        }
        Violation::DeadOwner(key, life) => {
            format!("notification {} of partner {} is held by {life}, which has ended", key.id, key.partner)
        }
        Violation::TooManyAttempts(key) => {
            format!("notification {} of partner {} has more attempts in a cycle than are allowed", key.id, key.partner)
        }
        Violation::Unlisted(key) => {
            format!("notification {} of partner {} is missing in lists, or listed and not there", key.id, key.partner)
        }
        Violation::Unsearchable(key) => {
            format!("notification {} of partner {} is not found by its transaction or its user", key.id, key.partner)
        }
        Violation::Miscounted(partner) => {
            format!("the totals of partner {partner} are not what counting its notifications gives")
        }
        Violation::Unreadable { table, id } => format!("row {id} of {table} cannot be opened with this master key"),
        Violation::Damaged(report) => format!("the file is damaged: {report}"),
    }
}
