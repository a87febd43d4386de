//! What the server's driver does, step by step: it takes in what happened and carries out what the engine wants.
//!
//! Mirrors `server/engine` (driver, attempts, recorder, claims, releases).

use super::wishes::{Answer, Asked, Wish};
use super::{Event, Flight, Report, World};
use crate::ids;
use crate::judge::{Breach, Checked, Rule};
use crate::options::Sabotage;
use crate::receiver::Fate;
use capa_webhooks_core::engine::words::{Attempt, Claim, Job, Recorded};
use capa_webhooks_core::engine::{Action, Engine, Input, Wanted};
use capa_webhooks_core::id::LifeId;
use capa_webhooks_core::outcome::{Verdict, judge};
use capa_webhooks_core::schedule::Schedule;
use capa_webhooks_core::settings::AckRule;
use std::sync::Arc;
use std::time::Duration;

/// How long the driver waits before it asks the store again.
const STORE_PAUSE: Duration = Duration::from_millis(250);

impl World {
    pub(super) fn handle(&mut self, node: usize, life: LifeId, report: Report) -> Checked {
        match report {
            Report::Tick(at) => {
                if self.process(node, life).is_some_and(|process| process.tick_at == Some(at)) {
                    return self.feed(node, life, Input::Tick);
                }
                Ok(())
            }
            Report::Answered(asked, answer) => self.answered(node, life, asked, answer),
            Report::Limits(partner) => self.tell_limits(node, life, partner),
            Report::Post(flight) => self.post(node, life, flight),
            Report::Seen(flight) => self.seen(node, life, flight),
            Report::RecordAgain => {
                self.record(node, life);
                Ok(())
            }
            Report::ReleaseAgain(number) => {
                self.release(node, life, number);
                Ok(())
            }
            Report::Beat => {
                self.beats(node, life);
                Ok(())
            }
            Report::BeatOnce => {
                self.beat(node, life);
                Ok(())
            }
            Report::Compare => {
                self.compare(node, life);
                Ok(())
            }
            Report::Publish(events) => self.publish(node, life, events),
            Report::Retry(key) => {
                self.ask(node, life, Wish::Retry(key));
                Ok(())
            }
            Report::Stop => self.stop(node, life),
            Report::GraceOver => {
                self.end(node, life);
                Ok(())
            }
            Report::BeginAgain => {
                self.ask(node, life, Wish::Begin);
                Ok(())
            }
        }
    }

    /// One step of the engine, and what it wants.
    pub(super) fn feed(&mut self, node: usize, life: LifeId, input: Input) -> Checked {
        let ahead = Duration::from_secs(if self.sabotage == Some(Sabotage::ClockAhead) { 1 } else { 0 });
        let now = self.now.plus(ahead);
        let Some(process) = self.process(node, life) else { return Ok(()) };
        let mut actions = Vec::new();
        process.engine.step(now, input, &mut actions);
        for action in actions {
            if self.dies_now(node) {
                return Ok(());
            }
            self.carry_out(node, life, action)?;
        }
        self.wake(node, life);
        self.check_counters(node, life)
    }

    fn wake(&mut self, node: usize, life: LifeId) {
        let now = self.now;
        let Some(process) = self.process(node, life) else { return };
        let wake_at = process.engine.wake_at().map(|at| at.max(now));
        if process.tick_at.is_some_and(|at| Some(at) == wake_at && at > now) {
            return;
        }
        process.tick_at = wake_at;
        if let Some(at) = wake_at {
            self.at(at, Event::Node(node, life, Report::Tick(at)));
        }
    }

    fn carry_out(&mut self, node: usize, life: LifeId, action: Action) -> Checked {
        match action {
            Action::Attempt(job) => self.attempt(node, life, job),
            Action::Record(record) => {
                let Some(process) = self.process(node, life) else { return Ok(()) };
                process.unrecorded += 1;
                process.outcomes.push(*record);
                if process.recording.is_empty() {
                    self.record(node, life);
                }
                Ok(())
            }
            Action::Claim(Wanted { until, room, rooms, total, bytes }) => {
                self.claim(node, life, Claim { life, until, room, rooms, total, bytes });
                Ok(())
            }
            Action::Limits(partner) => {
                let wait = if self.random.chance(0.02) { self.random.millis(0, 2_000) } else { Duration::ZERO };
                self.report_after(wait, node, life, Report::Limits(partner));
                Ok(())
            }
            other => {
                self.carry_out_quietly(node, life, other);
                Ok(())
            }
        }
    }

    /// Everything but attempts, records and claims.
    fn carry_out_quietly(&mut self, node: usize, life: LifeId, action: Action) {
        let Some(process) = self.process(node, life) else { return };
        if let Action::Release(keys) = action {
            process.released += 1;
            let number = process.released;
            process.membership.comparison.move_begins(keys.iter().copied());
            process.releases.insert(number, keys);
            self.release(node, life, number);
        } else if let Action::Full(partner) = action {
            process.full.insert(partner);
        } else if let Action::Room(partner) = action {
            process.full.remove(&partner);
        }
    }

    fn attempt(&mut self, node: usize, life: LifeId, job: Job) -> Checked {
        let (limits, now) = (self.limits, self.now);
        if self.sabotages(Sabotage::AttemptDropped) {
            return Ok(());
        }
        let twice = self.sabotages(Sabotage::SentTwice);
        let number = self.flights.len();
        let Some(process) = self.process(node, life) else { return Ok(()) };
        process.flights.insert(number);
        let lane = process.lanes.entry(job.key.partner).or_default();
        *lane += 1;
        let Some(told) = process.told.get_mut(&job.key.partner) else {
            return Err(Breach::of(Rule::Limits, job.key, "is sent before the limits of its partner are known"));
        };
        if !told.starts(now) {
            return Err(Breach::of(Rule::Limits, job.key, format!("is sent too soon for {:?}", told.limits)));
        }
        let (most, rated) = (told.limits.max_in_flight.unwrap_or(limits.lane_in_flight), told.limits.rate.is_some());
        if *lane > most || process.flights.len() > limits.in_flight {
            let text = format!("{lane} in flight in its lane, {} in all", process.flights.len());
            return Err(Breach::of(Rule::Limits, job.key, text));
        }
        self.report.rated += u64::from(rated);
        self.flights.push(Flight { job, posted: None, cut: false });
        // Looking up the partner and connecting takes a while, and seldom a long one.
        let wait = if self.random.chance(0.02) { self.random.millis(0, 2_000) } else { self.random.millis(0, 5) };
        for _ in 0..=usize::from(twice) {
            self.report_after(wait, node, life, Report::Post(number));
        }
        Ok(())
    }

    /// The attempt is made, unless there is nowhere to send it or this life may not send.
    fn post(&mut self, node: usize, life: LifeId, flight: usize) -> Checked {
        let Flight { job: Job { key, turn, .. }, .. } = self.flights[flight];
        let Some(process) = self.nodes[node].process.as_ref() else { return Ok(()) };
        if self.is_fenced(process) {
            self.note(Some(key), || format!("{} is fenced and does not send", ids::life_name(life)));
            self.report.fenced += 1;
            self.comes_to_nothing(node, life, flight);
            return self.feed(node, life, Input::Postponed { key });
        }
        let partner = ids::partner_number(key.partner);
        if let Some(reason) = self.store.settings[partner].unsendable() {
            self.note(Some(key), || format!("nowhere to send it: {reason:?}"));
            self.comes_to_nothing(node, life, flight);
            return self.feed(node, life, Input::Unsendable { key, reason });
        }
        let sent = self.judge.starts(key, turn, life, self.now, &self.store)?;
        let fate = Fate::draw(self.moods[partner], &mut self.random);
        self.report.attempts += 1;
        self.note(Some(key), || format!("{} sends {turn:?}: {fate:?}", ids::life_name(life)));
        if let Some(after) = fate.received {
            self.after(after, Event::Receive(flight));
        }
        self.report_after(fate.seen, node, life, Report::Seen(flight));
        self.flights[flight].posted = Some((self.now, fate, sent));
        Ok(())
    }

    /// The POST has arrived at the receiver.
    pub(super) fn receive(&mut self, flight: usize) {
        let Flight { job, posted: Some((_, fate, sent)), cut: false, .. } = &self.flights[flight] else { return };
        if fate.acknowledges {
            let learnt = judge(&fate.answer, AckRule::Exactly200) == Verdict::Acknowledged;
            let (key, sent) = (job.key, *sent);
            self.judge.acknowledged(key, sent, !learnt);
            self.note(Some(key), || format!("received and understood; answer arrives: {learnt}"));
        }
    }

    fn seen(&mut self, node: usize, life: LifeId, flight: usize) -> Checked {
        let Some((started_at, fate, _)) = self.flights[flight].posted.clone() else { return Ok(()) };
        let key = self.flights[flight].job.key;
        self.lands(node, life, flight);
        let verdict = judge(&fate.answer, AckRule::Exactly200);
        let attempt = Attempt { started_at, duration: fate.seen, url: String::new(), answer: fate.answer };
        let mut schedule = Arc::clone(&self.weather.schedules[ids::partner_number(key.partner)]);
        if self.sabotage == Some(Sabotage::OneAttemptMore) {
            let mut delays = vec![Duration::from_secs(90); schedule.retries() as usize];
            delays.push(Duration::from_secs(90));
            schedule = Arc::new(Schedule::List(delays));
        }
        let random = self.random.fraction();
        self.feed(node, life, Input::Attempted { key, attempt, verdict, schedule, random })
    }

    /// The attempt is not made after all.
    fn comes_to_nothing(&mut self, node: usize, life: LifeId, flight: usize) {
        let partner = self.flights[flight].job.key.partner;
        if let Some(told) = self.process(node, life).and_then(|process| process.told.get_mut(&partner)) {
            told.gives_back();
        }
        self.lands(node, life, flight);
    }

    /// The attempt reports: it is not in flight any more.
    fn lands(&mut self, node: usize, life: LifeId, flight: usize) {
        let partner = self.flights[flight].job.key.partner;
        let Some(process) = self.process(node, life) else { return };
        if process.flights.remove(&flight)
            && let Some(lane) = process.lanes.get_mut(&partner)
        {
            *lane -= 1;
        }
    }

    /// The recorder takes everything that waits, or what it has not got rid of.
    fn record(&mut self, node: usize, life: LifeId) {
        let Some(process) = self.process(node, life) else { return };
        if process.recording.is_empty() {
            process.recording = std::mem::take(&mut process.outcomes);
        }
        if process.recording.is_empty() {
            return;
        }
        let batch = process.recording.clone();
        self.ask(node, life, Wish::Record(batch));
    }

    fn release(&mut self, node: usize, life: LifeId, number: usize) {
        let Some(process) = self.process(node, life) else { return };
        let Some(keys) = process.releases.get(&number).cloned() else { return };
        self.ask(node, life, Wish::Release(number, keys));
    }

    fn answered(&mut self, node: usize, life: LifeId, asked: Asked, answer: Option<Answer>) -> Checked {
        match (asked, answer) {
            (Asked::Begin, Some(_)) => self.begun(node, life),
            (Asked::Begin, None) => {
                self.report_after(Duration::from_secs(1), node, life, Report::BeginAgain);
                Ok(())
            }
            (Asked::End, _) => {
                self.dies(node);
                Ok(())
            }
            (Asked::Accept, Some(Answer::Accepted(accepted))) => self.accepted(node, life, Some(accepted)),
            (Asked::Accept, _) => self.accepted(node, life, None),
            (Asked::Claim, Some(Answer::Claimed(claimed))) => self.claimed(node, life, Some(claimed)),
            (Asked::Claim, _) => self.claimed(node, life, None),
            (Asked::Release(number), answer) => {
                // A release in doubt must not be repeated: it may have been done, and this life may have claimed the
                // same row again. The next comparison finds what is still owned. The embedded store leaves no doubt.
                let again = self.weather.lease.is_none() || self.sabotage == Some(Sabotage::ReleaseRepeated);
                let Some(process) = self.process(node, life) else { return Ok(()) };
                if answer.is_none() && again {
                    self.report_after(STORE_PAUSE, node, life, Report::ReleaseAgain(number));
                } else if let Some(keys) = process.releases.remove(&number) {
                    process.membership.comparison.move_ends(keys);
                }
                Ok(())
            }
            (Asked::Record, Some(Answer::Recorded(answers))) => self.recorded(node, life, answers),
            (Asked::Record, _) => {
                if self.sabotage == Some(Sabotage::OutcomesDropped) {
                    let Some(process) = self.process(node, life) else { return Ok(()) };
                    let answers = vec![Recorded::Late; process.recording.len()];
                    return self.recorded(node, life, answers);
                }
                self.report_after(STORE_PAUSE, node, life, Report::RecordAgain);
                Ok(())
            }
            (Asked::Retry, Some(Answer::Retried(true))) => self.feed(node, life, Input::Poked),
            (Asked::Heartbeat(sent), Some(Answer::Beat(beat))) => self.beaten(node, life, sent, Some(beat)),
            (Asked::Heartbeat(sent), _) => self.beaten(node, life, sent, None),
            (Asked::Owned, Some(Answer::Owned(owned))) => self.compared(node, life, Some(owned)),
            (Asked::Owned, _) => self.compared(node, life, None),
            (Asked::Retry | Asked::EndSilent, _) => Ok(()),
        }
    }

    fn recorded(&mut self, node: usize, life: LifeId, answers: Vec<Recorded>) -> Checked {
        let Some(process) = self.process(node, life) else { return Ok(()) };
        let batch = std::mem::take(&mut process.recording);
        batch.iter().for_each(|record| process.membership.comparison.moved(record.key));
        process.unrecorded -= batch.len();
        for (index, (record, recorded)) in batch.iter().zip(answers).enumerate() {
            if self.sabotages(Sabotage::ReportLost) {
                continue;
            }
            // The engine hears of one outcome after the other; in between it counts those that are still to come.
            let still_to_come = batch.len() - 1 - index;
            if let Some(process) = self.process(node, life) {
                process.unrecorded += still_to_come;
            }
            self.feed(node, life, Input::Recorded { key: record.key, turn: record.turn, recorded })?;
            let Some(process) = self.process(node, life) else { return Ok(()) };
            process.unrecorded -= still_to_come;
        }
        self.record_if_idle(node, life);
        self.end_if_done(node, life);
        Ok(())
    }

    /// Feeding the engine may have begun a transaction already.
    fn record_if_idle(&mut self, node: usize, life: LifeId) {
        if self.process(node, life).is_some_and(|process| process.recording.is_empty()) {
            self.record(node, life);
        }
    }

    /// The engine counts what the driver has in hand, no more and no less.
    fn check_counters(&mut self, node: usize, life: LifeId) -> Checked {
        let Some(process) = self.process(node, life) else { return Ok(()) };
        let engine: &Engine = &process.engine;
        let (in_flight, unrecorded, held) = (engine.in_flight(), engine.unrecorded(), engine.held());
        if (in_flight, unrecorded) == (process.flights.len(), process.unrecorded) && held >= in_flight + unrecorded {
            return Ok(());
        }
        let text = format!(
            "the engine of {} counts {in_flight} in flight, {unrecorded} unrecorded, {held} held; there are {} and {}",
            ids::life_name(life),
            process.flights.len(),
            process.unrecorded
        );
        Err(Breach::general(Rule::Counters, text))
    }
}
