//! `capa-webhooks copy`: moves a whole store to the other engine.

use super::{load_config, runtime, with_settings};
use crate::clock::monotonic_micros;
use crate::keyfile;
use capa_webhooks_store::copy::{Address, Copied, Options, Progress, Stage, copy};
use clap::{Arg, ArgMatches, Command};
use indicatif::{ProgressBar, ProgressStyle};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  capa-webhooks copy --from sqlite:data/capa-webhooks.db --to postgres://capa@db.example/capa
      Moves from one machine to a database that several nodes share. Stop the service first; start it afterwards with
      CAPA_WEBHOOKS_STORE=postgres://… and the same master key.

  CAPA_WEBHOOKS_COPY_FROM=postgres://capa:…@db.example/capa capa-webhooks copy --to sqlite:data/back.db
      The way back. An address with a password belongs in the environment, where other users do not see it.

The target must be an empty place. Neither store is served meanwhile: the copy holds a lock on both, and the source stays
as it is. When it was cut off (Ctrl-C, a crash, a lost connection), the same command goes on where it was; no service
starts on a copy that is not finished. At the end every row of both stores is read and compared by counts and hashes.

Kept are partners, settings, keys, notifications with their ids, attempts, retries, and idempotency keys, sealed as they
are. The order of notifications from PostgreSQL is that of their ids, which begin with their time. A cursor of a list is
an id, and goes on in the copy.

What was published from SQL and not accepted yet lies in an inbox that only PostgreSQL has. A source with such events is
refused: stop what publishes there, let a node accept them, and copy then. Refused ones stay in the source.

It exits with 0 if the copy is finished and the same, and with 1 otherwise.";

pub(super) fn command() -> Command {
    let address = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("STORE").help(format!("{help} [env: {}]", variable(name)))
    };
    let command = Command::new("copy")
        .about("Move a whole store from SQLite to PostgreSQL, or back")
        .arg(address("from", "The store to copy: `sqlite:` and a path, or a `postgres://` URL"))
        .arg(address("to", "Where to copy it: the other kind of the two"))
        .after_help(EXAMPLES);
    with_settings(command, &["master_key_file"])
}

pub(super) fn run(given: &ArgMatches) -> Result<ExitCode, String> {
    let (from, to) = (read_address(given, "from")?, read_address(given, "to")?);
    let config = load_config(given)?;
    let options = Options::new(keyfile::read_master_key(&config.master_key_file)?);
    let began = monotonic_micros();
    let runtime = runtime("worker")?;
    let stop = Arc::new(AtomicBool::new(false));
    runtime.spawn(stop_on_signal(stop.clone()));
    let mut shown = Shown::new();
    let mut on_progress = |progress: Progress| {
        shown.show(progress);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let copied = runtime.block_on(copy(&from, &to, &options, &mut on_progress));
    shown.end();
    print(&copied.map_err(|error| error.to_string())?, Duration::from_micros(monotonic_micros() - began));
    Ok(ExitCode::SUCCESS)
}

fn variable(name: &str) -> String {
    format!("CAPA_WEBHOOKS_COPY_{}", name.to_uppercase())
}

/// The address of a store, from the flag or the environment. What is wrong is told without showing it: it may hold a
/// password.
fn read_address(given: &ArgMatches, name: &str) -> Result<Address, String> {
    let text = given.get_one::<String>(name).cloned().or_else(|| std::env::var(variable(name)).ok());
    let text = text.ok_or_else(|| format!("say which store with --{name} or {}", variable(name)))?;
    match text.split_once(':') {
        Some(("sqlite", file)) if !file.is_empty() && !file.starts_with("//") => Ok(Address::Sqlite(file.into())),
        Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => Ok(Address::Postgres(text)),
        _ => Err(format!(
            "--{name} must be sqlite: and the path of a file, or a URL such as postgres://user@host/database"
        )),
    }
}

/// The first signal stops the copy after the batch that is under way; a second one ends the process.
async fn stop_on_signal(stop: Arc<AtomicBool>) {
    while tokio::signal::ctrl_c().await.is_ok() {
        if stop.swap(true, Ordering::Relaxed) {
            std::process::exit(1);
        }
    }
}

/// A bar on a terminal, and a line for each tenth of a table elsewhere.
struct Shown {
    bar: ProgressBar,
    /// Stage, table and tenth of the last line.
    line: Option<(Stage, &'static str, u64)>,
}

impl Shown {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        // A style that cannot be read leaves the plain bar.
        if let Ok(style) = ProgressStyle::with_template("{msg:28} {bar:30} {human_pos}/{human_len} rows, {eta} left") {
            bar.set_style(style);
        }
        Self { bar, line: None }
    }

    fn show(&mut self, progress: Progress) {
        let Progress { stage, table, done, total } = progress;
        let doing = match stage {
            Stage::Copying => "copying",
            Stage::Deriving => "listing and counting",
            Stage::Verifying => "comparing",
        };
        let line = (stage, table, (done * 10).checked_div(total).unwrap_or(0));
        if self.bar.is_hidden() {
            if self.line != Some(line) {
                eprintln!("{doing} {table}: {done} of {total} rows");
            }
        } else {
            if self.line.is_none_or(|(stage, table, _)| (stage, table) != (line.0, line.1)) {
                self.bar.reset();
            }
            self.bar.set_message(format!("{doing} {table}"));
            self.bar.set_length(total);
            self.bar.set_position(done);
        }
        self.line = Some(line);
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn print(copied: &Copied, took: Duration) {
    for (table, digest) in &copied.tables {
        println!("{:>12}  {table}", digest.rows);
    }
    let rows: u64 = copied.tables.iter().map(|(_, digest)| digest.rows).sum();
    let hash: String = copied.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{rows:>12}  rows, the same in both stores, in {:.1} s", took.as_secs_f64());
    println!("SHA-256 of all: {hash}");
    if copied.refused > 0 {
        println!(
            "{} event(s) that were published from SQL and refused are not copied; they stay in the source",
            copied.refused
        );
    }
}
