mod fairness;
mod lanes;
mod memory;
mod world;

use super::*;
use crate::id::NotificationId;
use crate::notification::End;
use crate::outcome::{Answer, Failure, FailureKind};
use crate::settings::RateLimit;
use bytes::Bytes;

const START: Timestamp = Timestamp::from_millis(1_000_000);

fn partner(n: u8) -> PartnerId {
    PartnerId::from_bytes([n; 16])
}

fn job(of: u8, n: u8) -> Job {
    let key = NotificationKey { partner: partner(of), id: NotificationId::from_bytes([n; 16]) };
    Job { key, turn: Turn::first(START), body: Bytes::from_static(b"{}") }
}

fn per_second(rate: u32) -> RateLimit {
    RateLimit::from_per_second(f64::from(rate)).unwrap()
}

fn attempt() -> Attempt {
    let failure = Failure { kind: FailureKind::Connect, status: None, message: "refused".into() };
    Attempt {
        started_at: START,
        duration: Duration::ZERO,
        url: "https://a.example/".into(),
        answer: Answer::None(failure),
    }
}

fn attempted(key: NotificationKey, verdict: Verdict) -> Input {
    let schedule = Arc::new(Schedule::default());
    Input::Attempted { key, attempt: attempt(), verdict, schedule, random: 0.5 }
}

/// An engine on a stepped clock, with its actions sorted by kind.
struct Bench {
    engine: Engine,
    now: Timestamp,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let mut bench = Self { engine: Engine::new(limits), now: START };
        let actions = bench.step(Input::Tick);
        assert!(matches!(actions[..], [Action::Claim(_)]), "the first step asks the store for work");
        bench.step(Input::Claimed { jobs: vec![], more: false });
        bench
    }

    fn step(&mut self, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        self.engine.step(self.now, input, &mut actions);
        // Nobody here has limits of its own, which is told at once.
        while let Some(at) = actions.iter().position(|action| matches!(action, Action::Limits(_))) {
            let Action::Limits(partner) = actions.remove(at) else { unreachable!("it was looked for") };
            let input = Input::LaneLimits { partner, limits: LaneLimits::default() };
            self.engine.step(self.now, input, &mut actions);
        }
        actions
    }

    fn recorded(&mut self, actions: &[Action], recorded: Recorded) -> Vec<Action> {
        let record = record(actions);
        self.step(Input::Recorded { key: record.key, turn: record.turn, recorded })
    }

    fn later(&mut self, by: Duration) -> Vec<Action> {
        self.now = self.now.plus(by);
        self.step(Input::Tick)
    }
}

fn attempts(actions: &[Action]) -> Vec<NotificationKey> {
    actions.iter().filter_map(|a| if let Action::Attempt(job) = a { Some(job.key) } else { None }).collect()
}

fn record(actions: &[Action]) -> &Record {
    actions.iter().find_map(|a| if let Action::Record(record) = a { Some(record) } else { None }).unwrap()
}

#[test]
fn an_accepted_job_is_sent_at_once_and_forgotten_when_recorded() {
    let mut bench = Bench::new(Limits::default());
    let job = job(1, 1);
    assert_eq!(attempts(&bench.step(Input::Accepted(job.clone()))), [job.key]);
    let actions = bench.step(attempted(job.key, Verdict::Acknowledged));
    assert_eq!(record(&actions).next, State::Settled { cycle: 1, end: End::Sent });
    assert_eq!((bench.engine.held(), bench.engine.unrecorded()), (1, 1));
    bench.recorded(&actions, Recorded::Applied);
    assert_eq!((bench.engine.held(), bench.engine.unrecorded(), bench.engine.bytes), (0, 0, 0));
}

#[test]
fn a_near_retry_waits_in_memory_and_is_never_early() {
    let mut bench = Bench::new(Limits::default());
    let job = job(1, 1);
    bench.step(Input::Accepted(job.clone()));
    let actions = bench.step(attempted(job.key, Verdict::Failed { retry_after: None }));
    assert!(record(&actions).keep);
    bench.recorded(&actions, Recorded::Applied);
    assert_eq!(attempts(&bench.later(Duration::from_millis(9_999))), []);
    assert_eq!(attempts(&bench.later(Duration::from_millis(1))), [job.key]);
}

#[test]
fn a_far_retry_is_left_to_the_store() {
    let mut bench = Bench::new(Limits::default());
    let mut job = job(1, 1);
    job.turn.number = 3;
    bench.step(Input::Accepted(job.clone()));
    let actions = bench.step(attempted(job.key, Verdict::Failed { retry_after: None }));
    assert!(!record(&actions).keep);
    bench.recorded(&actions, Recorded::Applied);
    assert_eq!(bench.engine.held(), 0);
}

#[test]
fn a_cycle_has_six_attempts() {
    let mut bench = Bench::new(Limits { near: Duration::from_secs(1 << 40), ..Limits::default() });
    let job = job(1, 1);
    let mut actions = bench.step(Input::Accepted(job.clone()));
    let mut made = 0;
    loop {
        made += attempts(&actions).len();
        let concluded = bench.step(attempted(job.key, Verdict::Failed { retry_after: None }));
        let next = record(&concluded).next;
        bench.recorded(&concluded, Recorded::Applied);
        let State::Pending(turn) = next else {
            assert_eq!(next, State::Settled { cycle: 1, end: End::Failed });
            break;
        };
        actions = bench.later(turn.due.since(bench.now));
    }
    assert_eq!(made, 6);
    assert_eq!(bench.engine.held(), 0);
}

#[test]
fn lanes_take_turns_and_keep_to_their_limit() {
    let limits = Limits { lane_in_flight: 2, in_flight: 3, ..Limits::default() };
    let mut bench = Bench::new(limits);
    let mut started = Vec::new();
    for n in 1..=5 {
        started.extend(attempts(&bench.step(Input::Accepted(job(1, n)))));
    }
    assert_eq!(started.len(), 2, "the lane's own limit");
    started.extend(attempts(&bench.step(Input::Accepted(job(2, 11)))));
    started.extend(attempts(&bench.step(Input::Accepted(job(2, 12)))));
    assert_eq!(started.len(), 3, "the limit in all");
    let freed = attempts(&bench.step(attempted(job(1, 1).key, Verdict::Acknowledged)));
    assert_eq!(freed, [job(2, 12).key], "the other partner waited longer for a turn");
}

#[test]
fn what_has_no_room_is_released() {
    let mut bench = Bench::new(Limits { lane_jobs: 1, ..Limits::default() });
    bench.step(Input::Accepted(job(1, 1)));
    assert_eq!(bench.step(Input::Accepted(job(1, 2))), [Action::Release(vec![job(1, 2).key])]);
    assert_eq!(attempts(&bench.step(Input::Accepted(job(2, 3)))).len(), 1, "another partner has room");
    let mut small = Bench::new(Limits { bytes: 300, ..Limits::default() });
    small.step(Input::Accepted(job(1, 1)));
    assert_eq!(small.step(Input::Accepted(job(2, 2))), [Action::Release(vec![job(2, 2).key])]);
    assert_eq!(small.engine.lanes.len(), 1);
}

#[test]
fn unrecorded_outcomes_stop_the_sending() {
    let mut bench = Bench::new(Limits { unrecorded: 1, lane_in_flight: 1, ..Limits::default() });
    bench.step(Input::Accepted(job(1, 1)));
    bench.step(Input::Accepted(job(1, 2)));
    let actions = bench.step(attempted(job(1, 1).key, Verdict::Acknowledged));
    assert_eq!(attempts(&actions), []);
    let actions = bench.recorded(&actions, Recorded::Applied);
    assert_eq!(attempts(&actions), [job(1, 2).key]);
}

#[test]
fn claims_at_each_poll_and_when_poked_but_one_at_a_time() {
    let mut bench = Bench::new(Limits::default());
    assert_eq!(bench.step(Input::Tick), []);
    assert_eq!(bench.engine.wake_at(), Some(START.plus(Duration::from_secs(1))));
    assert!(matches!(bench.step(Input::Poked)[..], [Action::Claim(_)]));
    assert_eq!(bench.step(Input::Poked), [], "one claim at a time");
    assert!(
        matches!(bench.step(Input::Claimed { jobs: vec![], more: false })[..], [Action::Claim(_)]),
        "a poke during a claim is not lost"
    );
    assert_eq!(bench.step(Input::Claimed { jobs: vec![], more: false }), []);
    assert!(matches!(bench.later(Duration::from_secs(1))[..], [Action::Claim(_)]));
    let actions = bench.step(Input::Claimed { jobs: vec![job(1, 1)], more: true });
    assert!(matches!(actions[..], [Action::Claim(_), Action::Attempt(_)]), "what was left is asked for at once");
    assert_eq!(bench.step(Input::ClaimFailed), [], "a failed claim waits for the next poll");
}

#[test]
fn a_late_outcome_is_forgotten_and_a_stray_one_ignored() {
    let mut bench = Bench::new(Limits::default());
    let job = job(1, 1);
    bench.step(Input::Accepted(job.clone()));
    let actions = bench.step(attempted(job.key, Verdict::Failed { retry_after: None }));
    assert_eq!(bench.step(attempted(job.key, Verdict::Acknowledged)), [], "reported twice");
    bench.recorded(&actions, Recorded::Late);
    assert_eq!(bench.engine.held(), 0);
    assert_eq!(attempts(&bench.later(Duration::from_secs(3_600))), []);
}

#[test]
fn without_a_url_it_settles_as_not_sent() {
    let mut bench = Bench::new(Limits::default());
    let job = job(1, 1);
    bench.step(Input::Accepted(job.clone()));
    let actions = bench.step(Input::Unsendable { key: job.key, reason: NotSent::NoUrl });
    assert_eq!(record(&actions).next, State::Settled { cycle: 1, end: End::NotSent(NotSent::NoUrl) });
}

#[test]
fn a_postponed_attempt_is_made_later_under_the_same_number() {
    let mut bench = Bench::new(Limits::default());
    let job = job(1, 1);
    bench.step(Input::Accepted(job.clone()));
    bench.step(Input::Postponed { key: job.key });
    let actions = bench.later(Duration::from_secs(1));
    assert!(actions.contains(&Action::Attempt(job)));
}

#[test]
fn draining_starts_nothing_and_keeps_nothing() {
    let mut bench = Bench::new(Limits { lane_in_flight: 1, ..Limits::default() });
    bench.step(Input::Accepted(job(1, 1)));
    bench.step(Input::Accepted(job(1, 2)));
    bench.step(Input::Drain);
    let actions = bench.step(attempted(job(1, 1).key, Verdict::Failed { retry_after: None }));
    assert_eq!(attempts(&actions), []);
    assert!(!record(&actions).keep);
    assert_eq!(bench.step(Input::Accepted(job(1, 3))), [Action::Release(vec![job(1, 3).key])]);
    assert_eq!(bench.engine.wake_at(), None);
}

#[test]
fn a_manual_retry_may_overtake_the_report_of_the_last_cycle() {
    let mut bench = Bench::new(Limits::default());
    let first = Job { turn: Turn { number: 6, ..job(1, 1).turn }, ..job(1, 1) };
    bench.step(Input::Accepted(first.clone()));
    let ended = bench.step(attempted(first.key, Verdict::Failed { retry_after: None }));
    let again = Job { turn: Turn { cycle: 2, number: 1, due: START }, ..first };
    assert_eq!(attempts(&bench.step(Input::Claimed { jobs: vec![again.clone()], more: false })), [again.key]);
    let sent = bench.step(attempted(again.key, Verdict::Acknowledged));
    bench.recorded(&ended, Recorded::Applied);
    assert_eq!(bench.engine.unrecorded(), 1);
    bench.recorded(&sent, Recorded::Applied);
    assert_eq!((bench.engine.held(), bench.engine.bytes, bench.engine.unrecorded()), (0, 0, 0));
}
