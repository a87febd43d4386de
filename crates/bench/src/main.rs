//! Measures Capa Webhooks against the bare minimum that could do the same job.
//!
//! [`load`] publishes events over keep-alive connections, [`sink`] receives them, and between the two stands either the
//! product or [`relay`]: an HTTP server that forwards each event at once and keeps nothing. The relay is the ceiling; the
//! distance to it is the price of durability, signing, retries and fairness. [`compare`] runs the two in turn, each as a
//! child process ([`child`], [`subject`]) so that only the server's own CPU, memory and disk writes are counted, and
//! [`report`] sets the medians side by side.
//!
//! [`suite`] runs all of the [`scenario`]s: rates and latencies, large stores, dead receivers, backlogs. They fill stores
//! through the store's own trait ([`fill`]), hold medians against what was asked ([`figures`]), and write tables and
//! plots into the documentation.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

mod child;
mod client;
mod compare;
mod document;
mod event;
mod figures;
mod fill;
mod http1;
mod load;
mod markdown;
mod measure;
mod metrics;
mod open_files;
mod postgres;
mod priority;
mod probe;
mod relay;
mod report;
mod scenario;
mod sink;
mod sizes;
mod source;
mod subject;
mod suite;
mod svg;
mod units;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(
    name = "capa-webhooks-bench",
    version,
    about = "Load generator, sink, bare relay, and what is measured with them"
)]
enum Cli {
    Relay(relay::Args),
    Sink(sink::Args),
    Load(load::Args),
    Compare(compare::Args),
    Run(suite::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse() {
        Cli::Relay(args) => relay::main(&args),
        Cli::Sink(args) => sink::main(&args),
        Cli::Load(args) => load::main(&args),
        Cli::Compare(args) => compare::main(&args),
        Cli::Run(args) => suite::main(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
