//! Wishes to the store, and what becomes of them on the way there and back.
//!
//! A wish may be refused (nothing changed), carried out with the answer on time, or be slow. Where several nodes share
//! the store it may also be in doubt: carried out with its answer lost, or answered with an error and carried out later.
//! A release is not carried out later: on a real database the retry would wait for the rows that the first try has
//! locked. `Sabotage::LateRelease` shows why that matters.

use super::{Event, Process, Report, World};
use crate::ids;
use crate::judge::{Breach, Checked, Rule};
use crate::options::Sabotage;
use crate::random::Random;
use crate::store::lives::Beat;
use crate::store::{Accept, Accepted};
use capa_webhooks_core::engine::words::{Claim, Claimed, Job, Record, Recorded};
use capa_webhooks_core::id::{LifeId, NotificationKey};
use capa_webhooks_core::time::Timestamp;
use std::time::Duration;

/// What a node wants of the store.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    Begin,
    End,
    Accept(Vec<Accept>),
    Claim(Claim),
    Release(usize, Vec<NotificationKey>),
    Record(Vec<Record>),
    Retry(NotificationKey),
    Heartbeat,
    EndSilent(Vec<(LifeId, u64)>),
    Owned,
}

/// Which wish an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Begin,
    End,
    Accept,
    Claim,
    Release(usize),
    Record,
    Retry,
    Heartbeat(Timestamp),
    EndSilent,
    Owned,
}

/// What the store answers; an error is no answer.
#[derive(Debug)]
pub(crate) enum Answer {
    Done,
    Accepted(Vec<Accepted>),
    Claimed(Claimed),
    Recorded(Vec<Recorded>),
    Retried(bool),
    Beat(Beat),
    Owned(Vec<Job>),
}

/// A wish on its way.
#[derive(Debug)]
pub(crate) struct Wished {
    node: usize,
    life: LifeId,
    wish: Wish,
    asked: Asked,
    at: Timestamp,
    /// When the node hears of it after it was carried out, and whether it learns the answer; `None`: it has been told
    /// of an error already.
    reply: Option<(Duration, bool)>,
    /// Whether the store carries it out though the node has died meanwhile.
    outlives: bool,
}

impl Wish {
    fn asked(&self, now: Timestamp) -> Asked {
        match self {
            Self::Begin => Asked::Begin,
            Self::End => Asked::End,
            Self::Accept(_) => Asked::Accept,
            Self::Claim(_) => Asked::Claim,
            Self::Release(number, _) => Asked::Release(*number),
            Self::Record(_) => Asked::Record,
            Self::Retry(_) => Asked::Retry,
            Self::Heartbeat => Asked::Heartbeat(now),
            Self::EndSilent(_) => Asked::EndSilent,
            Self::Owned => Asked::Owned,
        }
    }
}

impl World {
    /// Sends a wish to the store.
    pub(super) fn ask(&mut self, node: usize, life: LifeId, wish: Wish) {
        let now = self.now;
        let asked = wish.asked(now);
        let several = self.weather.lease.is_some();
        let way = self.random.millis(0, 8);
        let keeps_time = matches!(asked, Asked::Heartbeat(_) | Asked::EndSilent);
        let mut troubled = |until: Timestamp| {
            if keeps_time {
                let healthy = &mut self.nodes[node].healthy_since;
                *healthy = until.max(*healthy);
            }
        };
        let stormy = self.stormy;
        if now < self.outage_until || (stormy && self.random.chance(self.weather.refused)) {
            troubled(now.plus(way));
            self.report_after(way, node, life, Report::Answered(asked, None));
            return;
        }
        let back = self.random.millis(0, 8);
        let outlives = several && self.random.chance(0.5);
        let mut wished = Wished { node, life, wish, asked, at: now, reply: Some((back, true)), outlives };
        let mut way = way;
        if stormy {
            let late = !matches!(asked, Asked::Release(_)) || self.sabotage == Some(Sabotage::LateRelease);
            if self.random.chance(self.weather.stalled) {
                way = self.random.millis(500, 30_000);
                troubled(now.plus(way + back));
            } else if self.random.chance(self.weather.answer_lost) {
                let waits = self.random.millis(0, 5_000);
                wished.reply = Some((waits, false));
                troubled(now.plus(way + waits));
                self.in_doubt += 1;
            } else if late && self.random.chance(self.weather.done_late) {
                troubled(now.plus(way));
                self.report_after(way, node, life, Report::Answered(asked, None));
                wished.reply = None;
                wished.outlives = true;
                way += late_by(&mut self.random);
                self.in_doubt += 1;
            }
        }
        self.after(way, Event::Store(Box::new(wished)));
    }

    /// The store carries out a wish.
    pub(super) fn carry_out_wish(&mut self, wished: Wished) -> Checked {
        let several = self.weather.lease.is_some();
        let process = self.nodes[wished.node].process.as_mut().filter(|process| process.life == wished.life);
        match process {
            None if !wished.outlives => return Ok(()),
            // The embedded store stands still with its process.
            Some(Process { paused: Some(_), kept_wishes, .. }) if !several => {
                kept_wishes.push(wished);
                return Ok(());
            }
            _ => {}
        }
        let answer = self.apply(&wished)?;
        self.judge.holds(&mut self.store)?;
        if let Some((back, learnt)) = wished.reply {
            let answer = learnt.then_some(answer);
            self.report_after(back, wished.node, wished.life, Report::Answered(wished.asked, answer));
        }
        Ok(())
    }

    fn apply(&mut self, wished: &Wished) -> Result<Answer, Breach> {
        let (life, now) = (wished.life, self.now);
        Ok(match &wished.wish {
            Wish::Begin => {
                let alone = self.weather.lease.is_none();
                self.store.begin_life(life, alone, now);
                if alone {
                    self.check_alone(life)?;
                }
                Answer::Done
            }
            Wish::End => {
                self.store.end_life(life, now);
                Answer::Done
            }
            Wish::Accept(batch) => {
                let accepted = self.store.accept(life, batch, now, wished.at);
                for (accept, accepted) in batch.iter().zip(&accepted) {
                    self.note(Some(accept.key), || format!("{} commits: {accepted:?}", ids::life_name(life)));
                }
                Answer::Accepted(accepted)
            }
            Wish::Claim(claim) => {
                let claimed = self.store.claim(claim, now);
                for job in &claimed.jobs {
                    self.note(Some(job.key), || format!("claimed by {}: {:?}", ids::life_name(life), job.turn));
                }
                Answer::Claimed(claimed)
            }
            Wish::Release(_, keys) => {
                self.store.release(life, keys, now);
                for key in keys {
                    self.note(Some(*key), || format!("released by {}", ids::life_name(life)));
                }
                Answer::Done
            }
            Wish::Record(batch) => {
                let answers = self.store.record(life, batch, now);
                for (record, recorded) in batch.iter().zip(&answers) {
                    let (turn, next) = (record.turn, record.next);
                    self.note(Some(record.key), || {
                        format!("recorded by {}: {recorded:?}, {turn:?} → {next:?}", ids::life_name(life))
                    });
                    self.judge.recorded(life, record, *recorded, &self.store)?;
                }
                Answer::Recorded(answers)
            }
            Wish::Retry(key) => {
                let retried = self.store.retry(*key, now);
                self.report.manual_retries += u64::from(retried);
                self.note(Some(*key), || format!("retry by hand: {retried}"));
                Answer::Retried(retried)
            }
            Wish::Heartbeat => {
                let beat = self.store.heartbeat(life, now);
                self.moved_at.insert(life, now);
                self.check_freed()?;
                Answer::Beat(beat)
            }
            Wish::EndSilent(silent) => {
                self.store.end_silent(silent, now);
                for (other, _) in silent {
                    let ended = !self.store.is_alive(*other);
                    self.note(None, || {
                        format!("{} judges {} dead: {ended}", ids::life_name(life), ids::life_name(*other))
                    });
                }
                Answer::Done
            }
            Wish::Owned => Answer::Owned(self.store.owned(life)),
        })
    }

    /// On the embedded store nothing belongs to anyone but the life that has begun.
    fn check_alone(&self, life: LifeId) -> Checked {
        match self.store.rows.iter().find(|(_, row)| row.owner.is_some_and(|owner| owner != life)) {
            Some((key, row)) => Err(Breach::of(Rule::Freed, *key, format!("not freed by the next life: {row:?}"))),
            None => Ok(()),
        }
    }
}

fn late_by(random: &mut Random) -> Duration {
    if random.chance(0.7) { random.millis(0, 2_000) } else { random.millis(0, 60_000) }
}
