//! `cargo xtask prove`: the long campaigns, which look for what a test of seconds cannot find.

use anyhow::{Result, ensure};

use crate::run::{Stages, cargo};
use crate::test::Engine;

/// A campaign: a test that is run far more often than the suite runs it.
struct Campaign {
    name: &'static str,
    what: &'static str,
    arguments: &'static [&'static str],
    /// Further arguments that say how much of it.
    amount: fn(&Args) -> Vec<String>,
    /// Whether it is over this store.
    over: fn(Engine) -> bool,
    /// Whether an option says how much of it, and so that it is wanted.
    asked: fn(&Args) -> bool,
    /// Variables that say how much of it.
    variables: fn(&Args) -> Vec<(&'static str, String)>,
}

const CAMPAIGNS: [Campaign; 5] = [
    Campaign {
        name: "simulate",
        what: "runs the engine in simulated worlds where everything fails; its promises are checked after every step",
        arguments: &["run", "--release", "-p", "capa-webhooks-simulator", "--", "--seeds"],
        amount: |args| vec![args.simulate.unwrap_or(20_000).to_string()],
        over: |engine| engine == Engine::Sqlite,
        asked: |args| args.simulate.is_some(),
        variables: |_| Vec::new(),
    },
    Campaign {
        name: "kill",
        what: "kills the server at random moments; every 202 must still be delivered",
        arguments: &["test", "--release", "-p", "capa-webhooks", "--test", "suite", "kill", "--", "--nocapture"],
        amount: |_| Vec::new(),
        over: |engine| engine == Engine::Sqlite,
        asked: |args| args.kills.is_some(),
        variables: |args| vec![("CAPA_KILLS", args.kills.unwrap_or(500).to_string())],
    },
    Campaign {
        name: "power",
        what: "cuts the power under the store, on a disk that loses what was not synced; every answer must still hold",
        arguments: &["run", "--release", "-p", "capa-webhooks-powercut", "--", "--cuts"],
        amount: |args| vec![args.cuts.unwrap_or(10_000).to_string(), "--seed".to_owned(), args.seed.to_string()],
        over: |engine| engine == Engine::Sqlite,
        asked: |args| args.cuts.is_some(),
        variables: |_| Vec::new(),
    },
    Campaign {
        name: NODES,
        what: "kills, stops and cuts off real nodes, and their database with --store postgres; nothing may be lost",
        arguments: RUN_NODES,
        amount: |args| match args.store {
            Engine::Sqlite => nodes(args, "--store sqlite --seconds 300 --kills 40 --stops 12 --cuts 24 --changes 60"),
            // How much it is by itself is what is asked of it.
            Engine::Postgres => nodes(args, "--store postgres"),
        },
        over: |_| true,
        asked: |_| false,
        variables: |_| Vec::new(),
    },
    Campaign {
        name: "lease",
        what: "a few of these faults with --store postgres, under the lease that a service has by itself",
        arguments: RUN_NODES,
        amount: |args| nodes(args, LEASE),
        over: |engine| engine == Engine::Postgres,
        asked: |_| false,
        variables: |_| Vec::new(),
    },
];

/// The campaign that can be over either store.
const NODES: &str = "nodes";
const RUN_NODES: &[&str] = &["run", "--release", "-p", "capa-webhooks-campaign", "--"];
/// Faults under the lease of 15 s.
const LEASE: &str =
    "--store postgres --lease 15 --seconds 240 --kills 6 --stops 3 --cuts 4 --restarts 1 --failovers 1 --changes 40";

/// What a campaign of nodes is run with. Arguments that were given come last, and so win.
fn nodes(args: &Args, words: &str) -> Vec<String> {
    let words = words.split(' ').map(str::to_owned);
    words.chain(["--seed".to_owned(), args.seed.to_string()]).chain(args.nodes.iter().cloned()).collect()
}

/// Run the long campaigns, all or those that are named.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask prove\n  cargo xtask prove kill\n  cargo xtask prove --simulate 100000\n  cargo xtask prove --cuts 10000 --seed 7\n  cargo xtask prove --store postgres\n  cargo xtask prove nodes --store postgres -- --nodes 4 --seconds 600 --kills 60\n  cargo xtask prove --list"
)]
pub(crate) struct Args {
    /// Names of campaigns. By default those of which an option says how much; without such an option all.
    campaigns: Vec<String>,
    /// How often the server is killed [default: 500].
    #[arg(long, value_name = "N")]
    kills: Option<u32>,
    /// How many seeds are simulated [default: 20000].
    #[arg(long, value_name = "N")]
    simulate: Option<u64>,
    /// How often the power is cut [default: 10000].
    #[arg(long, value_name = "N")]
    cuts: Option<u64>,
    /// The seed of the first disk under which the power is cut, and of the faults that fall on nodes.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// What keeps the events of the nodes. With postgres, and no campaign named, only theirs are run.
    #[arg(long, value_enum, default_value = "sqlite")]
    store: Engine,
    /// Arguments of `capa-webhooks-campaign`.
    #[arg(last = true)]
    nodes: Vec<String>,
    /// Only list the campaigns.
    #[arg(long)]
    list: bool,
}

/// Runs the task.
pub(crate) fn main(args: &Args) -> Result<()> {
    if args.list {
        for Campaign { name, what, .. } in CAMPAIGNS {
            println!("{name:<12} {what}");
        }
        return Ok(());
    }
    for wanted in &args.campaigns {
        let known = CAMPAIGNS.iter().any(|campaign| campaign.name == wanted);
        ensure!(known, "there is no campaign \"{wanted}\"; `cargo xtask prove --list` shows all");
    }
    let mut stages = Stages::default();
    let result = all(&mut stages, args);
    stages.finish(result)
}

fn all(stages: &mut Stages, args: &Args) -> Result<()> {
    for campaign in chosen(args) {
        if campaign.arguments == RUN_NODES {
            stages.command("build the nodes", &mut cargo(&["build", "--release", "-p", "capa-webhooks"]))?;
        }
        let mut command = cargo(campaign.arguments);
        stages.command(campaign.name, command.args((campaign.amount)(args)).envs((campaign.variables)(args)))?;
    }
    Ok(())
}

/// The campaigns to run, in their order.
fn chosen(args: &Args) -> impl Iterator<Item = &'static Campaign> {
    let asked = CAMPAIGNS.iter().any(|campaign| (campaign.asked)(args));
    CAMPAIGNS.iter().filter(move |campaign| match args.campaigns.as_slice() {
        [] if asked => (campaign.asked)(args),
        [] => (campaign.over)(args.store),
        named => named.iter().any(|name| name == campaign.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    /// What `cargo xtask prove` with these arguments runs.
    fn run(arguments: &str) -> Vec<&'static str> {
        let arguments = ["prove"].into_iter().chain(arguments.split_whitespace());
        let args = Command::try_parse_from(arguments).map_err(|error| error.to_string()).expect("good arguments").args;
        chosen(&args).map(|campaign| campaign.name).collect()
    }

    #[test]
    fn a_name_or_an_amount_chooses_a_campaign() {
        assert_eq!(run("kill"), ["kill"]);
        assert_eq!(run("--simulate 5"), ["simulate"]);
        assert_eq!(run("--kills 5 --cuts 7"), ["kill", "power"]);
        assert_eq!(run("nodes --store postgres"), [NODES]);
        assert_eq!(run("power --simulate 5"), ["power"], "a name says more than an amount");
    }

    #[test]
    fn without_either_all_of_a_store_are_run() {
        let names: Vec<&str> = CAMPAIGNS.iter().map(|campaign| campaign.name).collect();
        assert_eq!(run("--seed 7"), names.iter().copied().filter(|name| *name != "lease").collect::<Vec<_>>());
        assert_eq!(run("--store postgres"), [NODES, "lease"]);
    }
}
