//! `capa-webhooks-campaign`: real nodes under load, and faults that overlap; in the end nothing accepted may be lost.
//!
//! Publishers send events through all nodes, each with an idempotency key, and repeat what got no answer. One receiver
//! acknowledges whatever arrives, another often fails or hangs, and what has failed for good is retried by hand. Meanwhile faults fall, drawn from a seed: nodes are killed or stopped for longer than
//! their lease, connections to the database (also at a commit) and to the receiver are cut, the database restarts at once
//! or dies and its standby takes over. All the while the partners' settings change. In the end:
//!
//! * every event that got a 202 was delivered, under one id only;
//! * each delivery that no attempt was recorded for was of a row that its life still held when it was killed, or ended by
//!   others: repeats have no other reason (over a file: it came within seconds of a fault);
//! * what a dead life held was free again within its lease and 5 s;
//! * no cycle has more recorded attempts than the schedule, none began before it was due, or after the end of its life;
//! * no attempt that began more than 2 s after settings were changed, through whatever node, went by older ones;
//! * `doctor` finds nothing;
//! * while the database was away there was no 202, only 503.
//!
//! [`ground`] holds what the nodes stand on, [`faults`] breaks it, [`load`], [`changes`] and [`receiver`] write into the
//! [`ledger`], the [`trace`] tells what the database saw, and [`judge`] reads both.
#![expect(clippy::disallowed_methods, reason = "real processes are broken in real time")]

mod changes;
mod faults;
mod freeing;
mod ground;
mod http;
mod in_force;
mod judge;
mod ledger;
mod load;
mod node;
mod options;
mod partners;
mod random;
mod receiver;
mod report;
mod run;
mod trace;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match run::run(&options::Options::parse()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
