//! `capa-webhooks-simulate`: runs many seeds, and shows the first that breaks a promise.
#![expect(clippy::disallowed_methods, reason = "progress and rate are measured in real time")]

use capa_webhooks_simulator::{Options, Report, Simulation};
use clap::Parser;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How many nodes there are when nobody says: the embedded store on one, and leases among several.
const NODES: [usize; 2] = [1, 3];

/// Run the engine in simulated worlds and check its promises after every step.
#[derive(Parser)]
#[command(
    name = "capa-webhooks-simulate",
    after_help = "Examples:\n  \
        capa-webhooks-simulate --seeds 20000             half of them with one node, half with three\n  \
        capa-webhooks-simulate --seeds 5000 --nodes 4\n  \
        capa-webhooks-simulate --from 4711 --seeds 1 --nodes 3 --trace"
)]
struct Args {
    /// How many seeds to run.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 1)]
    from: u64,
    /// How many nodes share the store (default: half of the seeds with 1, half with 3).
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u8).range(1..=16))]
    nodes: Option<u8>,
    /// Print all that happens.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let started = Instant::now();
    let mut total = Report::default();
    let mut shown = started;
    for seed in args.from..args.from.saturating_add(args.seeds) {
        let nodes = args.nodes.map_or(NODES[usize::from(seed % 2 == 0)], usize::from);
        let result = if args.trace {
            let (lines, result) = Simulation::trace(seed, &Options::nodes(nodes));
            print_all(&lines);
            result
        } else {
            Simulation::run(seed, &Options::nodes(nodes))
        };
        match result {
            Ok(report) => total += &report,
            Err(violation) => {
                eprintln!("\n{violation}");
                return ExitCode::FAILURE;
            }
        }
        if std::io::stderr().is_terminal() && shown.elapsed() > Duration::from_millis(500) {
            shown = Instant::now();
            eprint!("\r{} of {} seeds", total.seeds, args.seeds);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "\r{total}\nclean          {:>12.1} s   {:.0} seeds a minute",
        seconds,
        total.seeds as f64 * 60.0 / seconds
    );
    ExitCode::SUCCESS
}

fn print_all(lines: &[String]) {
    let mut out = std::io::stdout().lock();
    for line in lines {
        if writeln!(out, "{line}").is_err() {
            return;
        }
    }
}
