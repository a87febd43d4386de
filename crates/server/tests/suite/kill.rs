//! `kill -9` of the real binary under load, again and again (invariants 1, 2 and 3).
//!
//! Publishers send single events without a pause; a receiver refuses every eighth event once, so that retries cross the
//! kills too. The process is killed after a random number of 202s. After each kill `doctor` examines what is left, and
//! the store says what was pending; then the next process starts on the same store. In the end:
//!
//! * every event that got a 202 was delivered;
//! * an event that was delivered more often than it was asked for was pending at that many kills: duplicates are what
//!   was in flight or not yet recorded, and nothing else;
//! * every delivery of an event carries the same `webhook-id`, the one of the 202.
//!
//! `CAPA_KILLS` sets the number of kills, `CAPA_SEED` the seed.

mod load;
mod server;

use load::{Ledger, Receiver, publish};
use server::Server;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

/// How many publishers run at a time.
const PUBLISHERS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_accepted_is_lost_by_kill() {
    let kills: usize = number("CAPA_KILLS").unwrap_or(50);
    let seed = number("CAPA_SEED").unwrap_or_else(|| u64::from_le_bytes(capa_webhooks::clock::random_bytes()));
    println!("CAPA_KILLS={kills} CAPA_SEED={seed}");
    let mut random = Random(seed | 1);

    let folder = tempfile::tempdir().unwrap();
    let ledger = Arc::new(Ledger::default());
    let receiver = Receiver::start(ledger.clone()).await;
    let mut server = Server::start(folder.path()).await;
    let partner = server.create_partner(&receiver.url()).await;

    let (address, running) = watch::channel(Some(server.address));
    let publishers: Vec<_> =
        (0..PUBLISHERS).map(|n| tokio::spawn(publish(n, partner.clone(), running.clone(), ledger.clone()))).collect();

    for kill in 1..=kills {
        ledger.wait_for_accepted(1 + random.below(400)).await;
        // The publishers are not told before the kill: it hits requests in every stage.
        server.kill();
        address.send_replace(None);
        server.doctor();
        let pending: BTreeSet<String> = server.pending(&partner).await;
        if kill % 10 == 0 {
            println!("{kill} kills, {} accepted, {} pending at the last", ledger.accepted(), pending.len());
        }
        ledger.killed(pending);
        server = Server::start(folder.path()).await;
        address.send_replace(Some(server.address));
    }

    drop(address);
    for publisher in publishers {
        publisher.await.unwrap();
    }
    server.wait_until_settled(&partner).await;
    server.stop();
    server.doctor();
    let report = ledger.judge();
    println!("{report}");
    assert!(report.accepted >= kills, "the load never ran: {report}");
    assert!(report.repeated > 0, "no kill hit anything in flight, so the test proved nothing: {report}");
}

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok().map(|text| text.parse().ok().unwrap_or_else(|| panic!("{variable} must be a number")))
}

/// A small generator: the seed gives the whole sequence.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}
