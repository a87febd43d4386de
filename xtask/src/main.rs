//! The tasks of this repository: what CI runs, and all that a newcomer needs to know.
#![expect(clippy::disallowed_methods, reason = "stages are timed in real time")]

mod bench;
mod check;
mod prove;
mod run;
mod setup;
mod test;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The tasks of this repository")]
enum Cli {
    Setup(setup::Args),
    Check(check::Args),
    Test(test::Args),
    Bench(bench::Args),
    Prove(prove::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse() {
        Cli::Setup(args) => setup::main(&args),
        Cli::Check(args) => check::main(&args),
        Cli::Test(args) => test::main(&args),
        Cli::Bench(args) => bench::main(&args),
        Cli::Prove(args) => prove::main(&args),
    };
    if let Err(error) = result {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
