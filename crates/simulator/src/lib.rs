//! The simulator: the engine of several nodes in a world where everything fails, on a virtual clock.
//!
//! The real step machine of `core` runs here unchanged, driven as the server drives it, against a model store, a seeded
//! network and receivers that misbehave in every way. Processes crash between any two steps, stand still for longer
//! than their lease and come back, and stop in good order; the store is away, stalls, commits and loses the answer, or
//! commits late; partners lose their URL and get it back, and change their limits. All that a seed does follows from its
//! number, so a seed that found a fault finds it again.
//!
//! After every step a judge that keeps its own history checks the invariants of `ARCHITECTURE.md` ([`Rule`]). In the end
//! faults stop, and everything that was accepted must settle within a bounded time, with nothing left in memory.
//!
//! | module | what it is |
//! |---|---|
//! | `world` | the clock, the nodes with their drivers, and what befalls them |
//! | `store` | the model store |
//! | `receiver` | what becomes of a POST |
//! | `weather` | how much of which fault a seed has |
//! | `judge` | the promises |
//!
//! Not simulated: erasing, a partner's limits shared out among nodes, the SQL (the conformance suite judges it against a
//! model of its own), HTTP, and clocks that differ between nodes. Leases of several nodes are modelled as designed;
//! [`Options::nodes`] says what differs.

mod ids;
mod judge;
mod options;
mod random;
mod receiver;
mod report;
mod store;
mod trace;
mod weather;
mod world;

pub use judge::Rule;
pub use options::{Options, Sabotage};
pub use report::Report;

use judge::Breach;
use std::fmt;
use trace::Trace;
use world::World;

/// How much of the trace a failure shows.
const SHOWN: usize = 80;

/// Runs seeds.
#[derive(Debug)]
pub struct Simulation;

impl Simulation {
    /// Runs the world of one seed to its end.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn run(seed: u64, options: &Options) -> Result<Report, Violation> {
        World::new(seed, options, Trace::default()).run().map_err(|breach| explain(seed, options, breach))
    }

    /// Runs the world of one seed and gives everything that happened in it, line by line.
    pub fn trace(seed: u64, options: &Options) -> (Vec<String>, Result<Report, Violation>) {
        let mut world = World::new(seed, options, Trace::on());
        let result = world.run();
        let lines = world.trace().last(usize::MAX, None);
        (lines, result.map_err(|breach| violation(seed, options, breach, Vec::new())))
    }
}

/// Runs the seed once more to see how it came to this.
fn explain(seed: u64, options: &Options, breach: Breach) -> Violation {
    let mut world = World::new(seed, options, Trace::on());
    match world.run() {
        Err(again) if again.rule == breach.rule && again.text == breach.text => {
            let trace = world.trace().last(SHOWN, breach.key);
            violation(seed, options, breach, trace)
        }
        other => {
            let other = other.map(|_| "nothing".to_owned()).unwrap_or_else(|breach| breach.text);
            let text = format!("two runs differ: the first found \"{}\", the second \"{other}\"", breach.text);
            violation(seed, options, Breach::general(Rule::Repeatable, text), Vec::new())
        }
    }
}

fn violation(seed: u64, options: &Options, breach: Breach, trace: Vec<String>) -> Violation {
    Violation { seed, nodes: options.nodes, rule: breach.rule, text: breach.text, trace }
}

/// A promise that was broken.
#[derive(Debug)]
pub struct Violation {
    /// The seed.
    pub seed: u64,
    /// How many nodes there were.
    pub nodes: usize,
    /// Which promise.
    pub rule: Rule,
    /// By what.
    pub text: String,
    /// The last steps that concern the notification.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, nodes, rule, text, trace } = self;
        writeln!(f, "seed {seed} with {nodes} node(s) broke {rule:?}")?;
        for line in trace {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "  {rule:?}: {text}")?;
        write!(
            f,
            "replay: cargo run --release -p capa-webhooks-simulator -- --from {seed} --seeds 1 --nodes {nodes} --trace"
        )
    }
}

impl std::error::Error for Violation {}
