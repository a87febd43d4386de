//! `capa-webhooks-powercut`: cuts the power under the store, again and again, and shows the first promise that it breaks.
#![expect(clippy::disallowed_methods, reason = "progress and rate are measured in real time")]

use capa_webhooks_powercut::{Broken, Options, campaign, dying};
use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Cut the power under the real store, on a disk that loses what was not synced, and check every answer it gave.
#[derive(Parser)]
#[command(
    name = "capa-webhooks-powercut",
    after_help = "Examples:\n  \
        capa-webhooks-powercut --cuts 10000\n  \
        capa-webhooks-powercut --cuts 40 --seed 4711     the disk that found a fault, again"
)]
struct Args {
    /// How often the power is cut.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    cuts: u64,
    /// The first seed; each disk has one, and takes 3 to 22 cuts.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Accept events on a disk that fails a call; the store must end this process. The tests start it.
    #[command(hide = true)]
    Dying {
        /// Which call.
        #[arg(long)]
        fails: Fails,
        /// After how many of its kind.
        #[arg(long)]
        after: u64,
        /// Where what is left of the disk is written.
        #[arg(long)]
        left: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Fails {
    Sync,
    Write,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.part {
        None => cut(args.cuts, args.seed),
        Some(Part::Dying { fails, after, left }) => {
            let what = match fails {
                Fails::Sync => Broken::Sync,
                Fails::Write => Broken::Write,
            };
            match dying::accept_until_the_end(args.seed, what, after, &left) {
                Ok(()) => eprintln!("the disk failed, and the store went on"),
                Err(text) => eprintln!("{text}"),
            }
            ExitCode::FAILURE
        }
    }
}

fn cut(cuts: u64, seed: u64) -> ExitCode {
    println!("seed {seed}, {cuts} cuts");
    let started = Instant::now();
    let mut shown = started;
    let result = campaign(seed, cuts, Options::default(), |report| {
        if shown.elapsed() > Duration::from_secs(5) {
            shown = Instant::now();
            println!("{:>8.0} s   {} of {cuts} cuts", started.elapsed().as_secs_f64(), report.cuts);
        }
    });
    match result {
        Ok(report) => {
            println!("{report}\nclean          {:>12.1} s", started.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(violation) => {
            eprintln!("{violation}");
            ExitCode::FAILURE
        }
    }
}
