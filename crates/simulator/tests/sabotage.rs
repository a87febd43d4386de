//! The checks bite: a world that is broken on purpose is found out within a few seeds, and for the right reason.

use capa_webhooks_simulator::{Options, Rule, Sabotage, Simulation, Violation};

/// Within so many seeds every sabotage is found.
const SEEDS: u64 = 500;

/// The promises that this sabotage breaks.
fn breaks(sabotage: Sabotage) -> &'static [Rule] {
    match sabotage {
        Sabotage::PromiseBeforeCommit => &[Rule::Promised],
        Sabotage::OutcomesDropped => &[Rule::Stuck],
        Sabotage::AttemptDropped | Sabotage::ReportLost => &[Rule::Counters],
        Sabotage::SentTwice => &[Rule::Duplicate, Rule::Owned],
        Sabotage::ClockAhead => &[Rule::Early],
        Sabotage::OneAttemptMore => &[Rule::TooMany],
        Sabotage::LimitsIgnored | Sabotage::RateIgnored => &[Rule::Limits],
        Sabotage::FactLost | Sabotage::RowLeft => &[Rule::OneTruth],
        Sabotage::DeadRowsKept => &[Rule::Freed],
        Sabotage::OwnerIgnored => &[Rule::TooMany, Rule::Owned, Rule::OneTruth],
        Sabotage::LateAcknowledgementIgnored => &[Rule::Honest],
        Sabotage::NoFence => &[Rule::Owned],
        Sabotage::NoComparison => &[Rule::Stuck],
        Sabotage::ReleaseRepeated | Sabotage::LateRelease => &[Rule::Owned, Rule::Duplicate],
    }
}

fn found(sabotage: Sabotage, nodes: usize) -> Option<(u64, Violation)> {
    let options = Options { sabotage: Some(sabotage), ..Options::nodes(nodes) };
    (1..=SEEDS).find_map(|seed| Simulation::run(seed, &options).err().map(|violation| (seed, violation)))
}

#[test]
fn every_sabotage_is_found() {
    let mut missed = Vec::new();
    for (sabotage, nodes) in Sabotage::ALL {
        match found(sabotage, nodes) {
            Some((seed, violation)) => {
                println!("{sabotage:?} is found by seed {seed}: {:?}: {}", violation.rule, violation.text);
                if !breaks(sabotage).contains(&violation.rule) {
                    missed.push(format!("{sabotage:?} was found as {violation}"));
                }
            }
            None => missed.push(format!("{sabotage:?} was not found")),
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_failure_says_how_to_see_it_again() {
    let (seed, violation) = found(Sabotage::SentTwice, 1).unwrap();
    let text = violation.to_string();
    assert!(text.contains(&format!("--from {seed} --seeds 1 --nodes 1 --trace")), "{text}");
    assert!(violation.trace.iter().any(|line| line.contains("sends Turn")), "{text}");
}
