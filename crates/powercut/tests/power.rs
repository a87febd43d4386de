//! Nothing that was acknowledged is lost in a power cut, and the checks that say so bite.

use capa_webhooks_powercut::{Options, Sabotage, campaign};

#[test]
fn the_store_survives_power_cuts() {
    let report = campaign(1, 210, Options::default(), |_| ()).unwrap_or_else(|violation| panic!("{violation}"));
    println!("{report}");
    // Enough of everything happened to be worth the name. Which calls share a commit is up to the threads, and what is in
    // doubt comes whole in groups: the bounds are far below the usual figures.
    assert_eq!(report.cuts, 210);
    assert!(report.in_commit > 50 && report.in_checkpoint > 5 && report.in_creation > 0, "{report}");
    assert!(report.torn > 10 && report.lost > 100 && report.kept > 100, "{report}");
    assert!(report.whole > 2 && report.absent > 20 && report.refused > 5, "{report}");
    assert!(
        report.erased > 3 && report.retried > 20 && report.attempts_checked > 1000 && report.events_checked > 1000,
        "{report}"
    );
}

#[test]
fn every_sabotage_is_found() {
    for sabotage in Sabotage::ALL {
        let options = Options { sabotage: Some(sabotage) };
        match campaign(1, 100, options, |_| ()) {
            Err(violation) => println!("{sabotage:?} is found: {violation}"),
            Ok(report) => panic!("{sabotage:?} was not found\n{report}"),
        }
    }
}
