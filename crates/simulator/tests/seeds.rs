//! Seeds that must be clean: a fixed number of new ones, and those that found a fault once.
//! The numbers at the end show that what should happen in a simulated world does happen.

use capa_webhooks_simulator::{Options, Report, Simulation, Violation};

/// So many seeds with one node; those with three take three times as long.
const SEEDS: u64 = 1_500;

fn run(seeds: impl Iterator<Item = u64>, nodes: usize) -> Result<Report, Violation> {
    let mut total = Report::default();
    for seed in seeds {
        total += &Simulation::run(seed, &Options::nodes(nodes))?;
    }
    Ok(total)
}

#[test]
fn one_node_on_the_embedded_store_keeps_its_promises() {
    let total = run(1..=SEEDS, 1).unwrap_or_else(|violation| panic!("{violation}"));
    println!("{total}");
    assert!(total.sent > 0 && total.failed > 0 && total.not_sent > 0, "{total}");
    assert!(total.deaths > SEEDS && total.pauses > 0 && total.manual_retries > 0 && total.duplicates > 0, "{total}");
    assert!(total.rated > SEEDS && total.choices > SEEDS, "{total}");
    assert_eq!((total.in_doubt, total.taken_up), (0, 0), "the embedded store leaves no doubt");
}

#[test]
fn several_nodes_over_one_store_keep_their_promises() {
    let seeds = SEEDS / 3;
    let total = run(1..=seeds, 3).unwrap_or_else(|violation| panic!("{violation}"));
    println!("{total}");
    assert!(total.deaths > seeds && total.pauses > 0 && total.duplicates > 0, "{total}");
    assert!(total.in_doubt > 0 && total.late_outcomes > 0 && total.fenced > 0 && total.taken_up > 0, "{total}");
}

#[test]
fn seeds_that_found_a_fault_stay_clean() {
    for line in include_str!("../kept_seeds.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).expect("seed and nodes");
        let (seed, nodes) = (number(), number());
        let run = run(std::iter::once(seed), usize::try_from(nodes).unwrap());
        run.unwrap_or_else(|violation| panic!("{violation}"));
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    for seed in 1..=20 {
        for nodes in [1, 3] {
            let options = Options::nodes(nodes);
            let (first, second) = (Simulation::trace(seed, &options), Simulation::trace(seed, &options));
            assert_eq!(first.0, second.0);
            assert_eq!(first.1.unwrap(), second.1.unwrap());
        }
    }
}
