//! The faults. Each kind has a thread and a generator of its own, so they overlap, and one seed gives one campaign.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use capa_webhooks_cluster::{Moment, Proxy};

use crate::changes::Changing;
use crate::ground::{Database, Ground};
use crate::ledger::{Kind, Ledger, Millis, Span, now};
use crate::node::{Held, Nodes};
use crate::options::Options;
use crate::random::Random;
use crate::run::joined;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// A cut at a commit waits for the next one for so long; then it is a plain cut.
const NO_COMMIT: Duration = Duration::from_secs(2);

/// What faults fall on.
pub(crate) struct Stage<'a> {
    pub(crate) options: &'a Options,
    pub(crate) nodes: &'a Nodes,
    pub(crate) ground: &'a Ground,
    /// Stands before the receiver.
    pub(crate) receiver: &'a Proxy,
    pub(crate) ledger: &'a Ledger,
    /// Set when the campaign has failed: then no more faults are wanted.
    pub(crate) ended: &'a AtomicBool,
}

impl Stage<'_> {
    /// Lets all faults fall, and returns when the last has.
    pub(crate) fn fall(&self) -> Result<()> {
        let Options { kills, stops, cuts, restarts, failovers, changes, .. } = *self.options;
        let Self { nodes, receiver, ledger, ended, .. } = *self;
        let changing = Changing { nodes, receiver, ledger, ended, last: AtomicU64::new(0) };
        let database = self.ground.database();
        // Without a database all cuts are from the receiver.
        let (cut_database, cut_receiver) = if database.is_some() { (cuts.div_ceil(2), cuts / 2) } else { (0, cuts) };
        std::thread::scope(|scope| {
            let mut falling = vec![
                scope.spawn(|| self.again_and_again(1, kills, |random| self.kill(random))),
                scope.spawn(|| self.again_and_again(2, stops, |random| self.stop(random))),
                scope.spawn(|| self.again_and_again(3, cut_receiver, |random| self.cut_receiver(random))),
                // No fault, but spread over the campaign as they are.
                scope.spawn(|| self.again_and_again(7, changes, |random| changing.change(random))),
            ];
            if let Some(database) = database {
                let cut = move || self.again_and_again(4, cut_database, |random| self.cut_database(database, random));
                falling.push(scope.spawn(cut));
                let restart = move || {
                    let restart = || self.ledger.fault(Kind::Restart, || database.restart(self.ledger));
                    self.ledger.disturb(None, restart)
                };
                falling.push(scope.spawn(move || self.again_and_again(5, restarts, |_| restart())));
                let fail_over = move || {
                    let fail_over = || self.ledger.fault(Kind::FailOver, || database.fail_over(self.ledger));
                    self.ledger.disturb(None, fail_over)?;
                    database.add_standby()
                };
                falling.push(scope.spawn(move || self.again_and_again(6, failovers, |_| fail_over())));
            }
            let results: Vec<Result<()>> = falling.into_iter().map(joined).collect();
            results.into_iter().collect()
        })
    }

    /// A fault so many times, spread over the campaign. What is late is made up for: the number counts.
    fn again_and_again(&self, part: u64, times: u32, mut fault: impl FnMut(&mut Random) -> Result<()>) -> Result<()> {
        let mut random = Random::new(self.options.seed, part);
        let began = Instant::now();
        let mean = self.options.time() / times.max(1);
        for number in 0..times {
            let due = mean * number + random.around(mean / 2);
            self.wait(due.saturating_sub(began.elapsed()));
            if self.ended.load(Ordering::Relaxed) {
                return Ok(());
            }
            // One that fails ends the others, too: the campaign cannot go on.
            fault(&mut random).inspect_err(|_| self.ended.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    }

    /// `kill -9`, and a new process.
    fn kill(&self, random: &mut Random) -> Result<()> {
        let mut held = self.hold(random);
        self.ledger.disturb(Some(held.number()), || {
            let life = held.life().map(str::to_owned);
            self.ledger.fault(Kind::Kill, || held.kill());
            self.ledger.broken(life, Kind::Kill, Span { from: now(), until: Millis::MAX });
            held.start()
        })
    }

    /// Stands still for longer than its lease, up to three times as long.
    fn stop(&self, random: &mut Random) -> Result<()> {
        let lease = self.options.lease();
        let time = lease + lease / 4 + random.around(lease / 2);
        let mut held = self.hold(random);
        let (life, from) = (held.life().map(str::to_owned), now());
        let stopped =
            self.ledger.disturb(Some(held.number()), || self.ledger.fault(Kind::Stop, || held.stop_for(time)));
        self.ledger.broken(life, Kind::Stop, Span { from, until: now() });
        stopped
    }

    /// All connections between the nodes and the receiver; now and then it takes no new ones for a while.
    fn cut_receiver(&self, random: &mut Random) -> Result<()> {
        let closed = random.below(3) == 0;
        let time = random.around(Duration::from_millis(200));
        self.ledger.fault(Kind::CutFromReceiver, || {
            if closed {
                self.receiver.refuse();
            }
            self.receiver.cut();
            if closed {
                self.wait(time);
                self.receiver.go_on();
            }
        });
        Ok(())
    }

    /// The connections between one node and the database: all, one at a commit, or all after a silence.
    fn cut_database(&self, database: &Database, random: &mut Random) -> Result<()> {
        let node = random.index(database.proxies.len());
        let proxy = &database.proxies[node];
        self.ledger.disturb(Some(node), || match random.below(4) {
            0 => _ = self.ledger.fault(Kind::CutFromDatabase, || proxy.cut()),
            1 => {
                let silence = random.around(self.options.lease());
                self.ledger.fault(Kind::CutFromDatabase, || {
                    proxy.stall();
                    self.wait(silence);
                    proxy.cut();
                    proxy.go_on();
                });
            }
            2 => self.cut_at_commit(proxy, Moment::BeforeCommit),
            _ => self.cut_at_commit(proxy, Moment::AfterCommit),
        });
        Ok(())
    }

    fn cut_at_commit(&self, proxy: &Proxy, moment: Moment) {
        self.ledger.fault(Kind::CutAtCommit, || {
            let before = proxy.cut_at_commits();
            proxy.cut_at_commit(moment);
            let began = Instant::now();
            while proxy.cut_at_commits() == before {
                if began.elapsed() > NO_COMMIT && proxy.spare_commits() {
                    // This node commits nothing now; others may.
                    proxy.cut();
                    return;
                }
                std::thread::sleep(LOOK);
            }
        });
    }

    /// A node that nobody is breaking.
    fn hold(&self, random: &mut Random) -> Held<'_> {
        let number = random.index(self.options.node_count());
        loop {
            if let Some(held) = self.nodes.hold(number) {
                return held;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits, but not beyond the end of the campaign.
    fn wait(&self, time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time && !self.ended.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK.min(time.saturating_sub(began.elapsed())));
        }
    }
}
