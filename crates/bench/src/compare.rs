//! The comparison: relay and product in turn, round by round, so that what the machine does meanwhile hits both alike.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::value_parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::measure::{Bench, Load, Round};
use crate::probe;
use crate::report::{self, Report};
use crate::sink::Sink;
use crate::subject::{Kind, Setup};

/// Run relay and product in turn and set their figures side by side.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  capa-webhooks-bench compare --server target/release/capa-webhooks --rounds 5 \
                  --seconds 8 --partners 1,100 --json bench.json")]
pub(crate) struct Args {
    /// The product's binary, built with --release.
    #[arg(long, value_name = "PATH")]
    server: PathBuf,
    /// Rounds of each server for each number of partners.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
    rounds: u32,
    /// Time of load in each round.
    #[arg(long, value_name = "S", default_value_t = 8, value_parser = value_parser!(u64).range(1..))]
    seconds: u64,
    /// Time of load before it, which is not measured.
    #[arg(long, value_name = "S", default_value_t = 2)]
    warm_up: u64,
    /// Numbers of partners.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 100])]
    partners: Vec<usize>,
    /// Keep-alive connections that publish.
    #[arg(long, value_name = "C", default_value_t = 64)]
    connections: usize,
    /// With no arrival for this long, what is missing counts as lost.
    #[arg(long, value_name = "S", default_value_t = 30)]
    patience: u64,
    /// Where the servers keep their files (default: the system's temporary directory). Choose the disk to measure.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Also write every round and the medians to this file.
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
}

/// Runs the subcommand.
pub(crate) fn main(args: &Args) -> Result<()> {
    // One thread for the load here and one for the sink leave the rest of the machine to the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        // Whichever ends first drops the other: an interrupt drops the running server, which ends its process.
        tokio::select! {
            report = run(args) => report,
            signal = interrupted() => bail!("{}; the server that ran was stopped", signal?),
        }
    })?;
    print!("{}", report.table());
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let missing = report.missing();
    ensure!(missing == 0, "{missing} events were accepted with a 202 and never delivered");
    Ok(())
}

async fn run(args: &Args) -> Result<Report> {
    let server = (args.server.canonicalize())
        .with_context(|| format!("no server at {}; build it with --release", args.server.display()))?;
    let directory = args.directory.clone().unwrap_or_else(std::env::temp_dir);
    let machine = probe::machine(&directory)?;
    eprintln!("{machine}");
    let sink = Sink::start((Ipv4Addr::LOCALHOST, 0).into())?;
    let load = Load {
        connections: args.connections,
        warm_up: Duration::from_secs(args.warm_up),
        time: Duration::from_secs(args.seconds),
        rate: None,
        batch: None,
        fsync_beside: false,
        patience: Duration::from_secs(args.patience),
    };
    let sink_address = sink.address;
    let mut bench = Bench::new(sink);
    let mut rounds: Vec<Round> = Vec::new();
    for partners in args.partners.iter().copied() {
        ensure!(partners > 0, "--partners must be at least 1");
        let setup = Setup { server: server.clone(), directory: directory.clone(), partners, sink: sink_address };
        for number in 1..=args.rounds as usize {
            for kind in order(number) {
                let measured = (bench.fresh(kind, &setup, load).await)
                    .with_context(|| format!("round {number} of the {kind} with {partners} partner(s) failed"))?;
                let round = Round { subject: kind, partners, round: number, measured };
                eprintln!("{}", report::progress(&round, args.rounds));
                rounds.push(round);
            }
        }
    }
    Ok(Report::new(machine, args.connections, args.seconds, rounds))
}

/// Who goes first changes from round to round, so that neither always meets the machine warmer.
fn order(round: usize) -> [Kind; 2] {
    if round.is_multiple_of(2) { [Kind::Product, Kind::Relay] } else { [Kind::Relay, Kind::Product] }
}

pub(crate) async fn interrupted() -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.map(|()| "interrupted").context("cannot listen for Ctrl-C"),
        _ = terminate.recv() => Ok("terminated"),
    }
}
