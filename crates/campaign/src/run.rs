//! One campaign, from its start to its judgement.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use capa_webhooks_cluster::Proxy;
use serde_json::Value;

use crate::faults::Stage;
use crate::ground::{Database, Ground};
use crate::in_force;
use crate::judge::{self, Evidence};
use crate::ledger::{Ledger, Span};
use crate::load;
use crate::node::{Nodes, PLATFORM_KEY, Recipe};
use crate::options::{Engine, Options};
use crate::partners::{PARTNERS, Partner};
use crate::receiver;
use crate::report::Report;
use crate::trace::{Attempt, Trace};

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// How long nothing more may be delivered after the last fault while something is missing. Only what is stuck takes as long.
const STUCK: Duration = Duration::from_secs(60);

/// Runs a campaign. An error is a promise that was broken, or something without which there is no campaign.
pub(crate) fn run(options: &Options) -> Result<Report> {
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let ledger = Arc::new(Ledger::default());
    let receiver = Proxy::start(receiver::start(&ledger)?)?;
    let ground = Ground::start(options.store, folder.path(), options.node_count())?;
    let nodes = Nodes::start(recipes(options, folder.path(), &ground)?)?;
    ground.database().map_or(Ok(()), Database::watch)?;
    PARTNERS.iter().try_for_each(|partner| partner.create(&nodes, &receiver))?;
    println!(
        "seed {}, {} node(s), {:?}; faults fall for {} s",
        options.seed,
        options.node_count(),
        options.store,
        options.seconds
    );

    let ended = AtomicBool::new(false);
    let settled = AtomicBool::new(false);
    let stage = Stage { options, nodes: &nodes, ground: &ground, receiver: &receiver, ledger: &ledger, ended: &ended };
    std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..options.publishers)
            .map(|number| {
                let (nodes, ledger, ended) = (&nodes, &ledger, &ended);
                // An answer that must not be ends the campaign at once.
                scope.spawn(move || {
                    let result = load::publish(number, nodes, ledger, ended);
                    result.inspect_err(|_| ended.store(true, Ordering::Relaxed))
                })
            })
            .collect();
        let retrying = scope.spawn(|| {
            // The last one is the one that fails.
            let retry = PARTNERS[1].retry_failed(&nodes, &ledger, &ended);
            retry.inspect_err(|_| ended.store(true, Ordering::Relaxed))
        });
        let keeping = scope.spawn(|| nodes.keep_running(&ledger, &settled));
        let telling = scope.spawn(|| progress(&ledger, &settled));
        let result = stage.fall();
        ended.store(true, Ordering::Relaxed);
        let published: Result<Vec<()>> = publishers.into_iter().map(joined).collect();
        let retried = joined(retrying);
        let result = result.and(published.map(|_| ())).and(retried).and_then(|()| settle(&nodes, &ledger));
        settled.store(true, Ordering::Relaxed);
        let kept = joined(keeping);
        // It only prints.
        _ = telling.join();
        result.and(kept)
    })?;

    let evidence = match ground.database() {
        Some(database) => {
            let late = in_force::suspects(&ledger.seen());
            Evidence::Database(Trace::read(|question| database.sql(question), &late)?)
        }
        None => Evidence::File(recorded(&nodes, &ledger)?),
    };
    nodes.stop()?;
    let doctor = nodes.doctor()?;
    let mut report = judge::judge(&ledger.seen(), &evidence, options.lease(), options.node_count())?;
    (report.seed, report.doctor) = (options.seed, doctor.replace('\n', " "));
    Ok(report)
}

/// What a thread came to. One that panicked did not do what it was for.
pub(crate) fn joined(thread: ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| bail!("a thread of the campaign has panicked"))
}

fn recipes(options: &Options, folder: &Path, ground: &Ground) -> Result<Vec<Recipe>> {
    let program = match &options.server {
        Some(program) => program.canonicalize().with_context(|| format!("there is no {}", program.display()))?,
        None => beside_us()?,
    };
    let key = folder.join("master.key");
    let recipe = |number: usize| -> Result<Recipe> {
        let own = folder.join(format!("node-{number}"));
        std::fs::create_dir(&own)?;
        let lease = (options.store == Engine::Postgres).then(|| ("NODE_LEASE", format!("{}s", options.lease)));
        let environment = [
            ("LISTEN", "127.0.0.1:0".to_owned()),
            ("METRICS_LISTEN", "127.0.0.1:0".to_owned()),
            ("STORE", ground.url(number)?),
            ("MASTER_KEY_FILE", key.display().to_string()),
            ("PLATFORM_KEY", PLATFORM_KEY.to_owned()),
            ("ALLOW_HTTP", "true".to_owned()),
            ("ALLOW_ADDRESSES", "127.0.0.0/8".to_owned()),
            ("ALLOW_PORTS", "*".to_owned()),
            ("RETRY_DELAYS", "200ms,500ms,1s,2s,4s".to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
        ];
        let environment = environment.into_iter().chain(lease);
        let environment = environment.map(|(name, value)| (format!("CAPA_WEBHOOKS_{name}"), value)).collect();
        Ok(Recipe { program: program.clone(), folder: own, environment })
    };
    let recipes: Vec<Recipe> = (0..options.node_count()).map(recipe).collect::<Result<_>>()?;
    // All nodes over one database need the same master key beforehand.
    let made =
        recipes.first().context("there is a node")?.command("keys").args(["master", "--out"]).arg(&key).output()?;
    ensure!(made.status.success(), "no master key: {}", String::from_utf8_lossy(&made.stderr));
    Ok(recipes)
}

fn beside_us() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("capa-webhooks");
    ensure!(program.exists(), "there is no {}; build it, or say where it is with --server", program.display());
    Ok(program)
}

/// Waits until everything accepted has arrived and nothing is pending.
fn settle(nodes: &Nodes, ledger: &Ledger) -> Result<()> {
    let mut least = u64::MAX;
    let mut since = Instant::now();
    loop {
        let missing = judge::missing(&ledger.seen());
        // A node may just be starting; the next look asks another.
        let pending: Option<u64> = PARTNERS.iter().map(|partner| partner.pending(nodes)).sum();
        if missing == 0 && pending == Some(0) {
            return Ok(());
        }
        let left = pending.map_or(u64::MAX, |pending| pending + u64::try_from(missing).unwrap_or(u64::MAX));
        if left < least {
            (least, since) = (left, Instant::now());
        }
        if since.elapsed() > STUCK {
            bail!(
                "{missing} accepted events were not delivered, {pending:?} are pending, and nothing has come for {STUCK:?}"
            );
        }
        std::thread::sleep(LOOK);
    }
}

/// The recorded attempts of all events that came more than once, by the notification's id.
fn recorded(nodes: &Nodes, ledger: &Ledger) -> Result<HashMap<String, Vec<Attempt>>> {
    let repeated = judge::repeated(&ledger.seen());
    let mut recorded = HashMap::new();
    for (user, id) in repeated {
        let answer = Partner::of_user(&user).ask(nodes, &format!("webhook-notifications/{id}/attempts"))?;
        let rows = answer["data"]["data"].as_array().with_context(|| format!("no attempts in {answer}"))?;
        recorded.insert(id, rows.iter().map(attempt).collect::<Result<_>>()?);
    }
    Ok(recorded)
}

fn attempt(row: &Value) -> Result<Attempt> {
    let from = row["startedAt"].as_str().and_then(millis).with_context(|| format!("no time in {row}"))?;
    let took = row["durationMs"].as_u64().with_context(|| format!("no duration in {row}"))?;
    let cycle = row["cycle"].as_u64().with_context(|| format!("no cycle in {row}"))?;
    Ok(Attempt { cycle, ran: Span { from, until: from + took }, answered: row["httpStatus"].is_u64() })
}

/// A time such as 2026-01-31T10:20:30.456Z, in milliseconds since 1970.
fn millis(iso: &str) -> Option<u64> {
    let part = |range: std::ops::Range<usize>| iso.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    // Years are counted from March, so that the day that leap years add is the last of theirs.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    let seconds = (days * 24 + part(11..13)?) * 3600 + part(14..16)? * 60 + part(17..19)?;
    Some(seconds * 1000 + part(20..23)?)
}

fn progress(ledger: &Ledger, settled: &AtomicBool) {
    let began = Instant::now();
    let mut told = 0;
    while !settled.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
        let due = began.elapsed().as_secs() / PROGRESS.as_secs();
        if due > told {
            told = due;
            let seen = ledger.seen();
            let (taken, faults, missing) = (seen.taken.len(), seen.faults.len(), judge::missing(&seen));
            let refused = seen.refused.len();
            println!(
                "{:>5} s  {taken} accepted, {missing} on their way, {refused} refused, {faults} faults",
                due * PROGRESS.as_secs()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(millis("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(millis("2024-02-29T12:00:00.001Z"), Some(1_709_208_000_001));
        assert_eq!(millis("2024-12-31T23:59:59.999Z"), Some(1_735_689_599_999));
        assert_eq!(millis("yesterday"), None);
    }
}
