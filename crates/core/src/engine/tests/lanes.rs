//! What holds within one lane: its limit, its rate, its two classes, its return from an outage.

use super::world::{GOOD, HANGS, REFUSES, Receiver, Reply, World, partner};
use super::{Bench, attempted, attempts, job, per_second};
use crate::engine::words::{Job, LaneLimits, Recorded};
use crate::engine::{Action, Input, Limits};
use crate::id::NotificationKey;
use crate::notification::NotSent;
use crate::outcome::Verdict;
use crate::schedule::Schedule;
use crate::settings::RateLimit;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn told(world: &mut World, max_in_flight: Option<usize>, rate: Option<u32>) {
    let limits = LaneLimits { max_in_flight, rate: rate.map(per_second) };
    world.step(Input::LaneLimits { partner: partner(1), limits });
}

#[test]
fn a_lane_starts_with_four_and_grows_to_its_maximum() {
    let mut world = World::new(Limits::default());
    for _ in 0..500 {
        world.publish(1, Duration::ZERO);
    }
    world.run(Duration::from_millis(1));
    assert_eq!(world.starts.len(), 4);
    world.run(Duration::from_millis(20));
    assert_eq!(world.engine.health(partner(1)).unwrap().limit, 32);
    world.run(SECOND);
    assert_eq!(world.starts.iter().map(|start| start.in_flight).max(), Some(32));
    assert_eq!(world.acknowledged, 500);
}

#[test]
fn a_partner_may_set_its_own_maximum() {
    for (own, most) in [(Some(100), 100), (Some(1), 1), (None, 32)] {
        let mut world = World::new(Limits::default());
        world.publish(1, Duration::ZERO);
        world.run(SECOND);
        told(&mut world, own, None);
        for _ in 0..2_000 {
            world.publish(1, Duration::ZERO);
        }
        world.run(11 * SECOND);
        assert_eq!(world.starts.iter().map(|start| start.in_flight).max(), Some(most));
        assert_eq!(world.acknowledged, 2_001);
    }
}

#[test]
fn nothing_is_sent_before_the_limits_are_known() {
    let mut bench = Bench::new(Limits::default());
    let mut actions = Vec::new();
    for n in 1..=3 {
        bench.engine.step(bench.now, Input::Accepted(job(1, n)), &mut actions);
    }
    let of = job(1, 1).key.partner;
    assert_eq!(actions, [Action::Limits(of)], "asked for once");
    let limits = LaneLimits { max_in_flight: Some(2), rate: None };
    let actions = bench.step(Input::LaneLimits { partner: of, limits });
    assert_eq!(attempts(&actions), [job(1, 1).key, job(1, 2).key]);
}

#[test]
fn limits_hold_from_the_first_attempt_on() {
    let mut world = World::new(Limits::default());
    world.limits.insert(1, LaneLimits { max_in_flight: Some(1), rate: None });
    world.limits.insert(2, LaneLimits { max_in_flight: None, rate: Some(per_second(2)) });
    world.stored(1, 100, 1);
    world.stored(2, 20, 1);
    world.run(9_400 * SECOND / 1_000);
    assert_eq!(world.starts.iter().filter(|start| start.of == 1).map(|start| start.in_flight).max(), Some(1));
    assert_eq!(world.started(|of| of == 1), 100);
    assert_eq!(world.started(|of| of == 2), 19, "the first at once, and one every half second");
}

#[test]
fn a_lane_is_remembered_for_as_long_as_it_has_to_wait() {
    let mut bench = Bench::new(Limits::default());
    let sends = |bench: &mut Bench, of: u16| {
        let key = NotificationKey { partner: partner(of), ..job(1, 1).key };
        let starts = attempts(&bench.step(Input::Accepted(Job { key, ..job(1, 1) })));
        if !starts.is_empty() {
            let actions = bench.step(attempted(key, Verdict::Acknowledged));
            bench.recorded(&actions, Recorded::Applied);
        }
        !starts.is_empty()
    };
    assert!(sends(&mut bench, 1));
    let limits = LaneLimits { max_in_flight: None, rate: RateLimit::from_thousandths(10) };
    bench.step(Input::LaneLimits { partner: partner(1), limits });
    assert!(sends(&mut bench, 1), "one in a hundred seconds");
    // More partners than are remembered without need.
    assert!((2..17_000).all(|other| sends(&mut bench, other)));
    assert_eq!(bench.engine.health(partner(2)), None, "it has nothing to wait for");
    assert!(!sends(&mut bench, 1));
    assert_eq!(attempts(&bench.later(99 * SECOND)), []);
    assert_eq!(attempts(&bench.later(SECOND)).len(), 1);
}

#[test]
fn failures_shrink_the_limit() {
    let mut world = World::new(Limits::default());
    for _ in 0..500 {
        world.publish(1, Duration::ZERO);
    }
    world.run(SECOND);
    world.receivers.insert(1, Receiver { millis: 5, reply: Reply::Status(503) });
    world.publish(1, Duration::ZERO);
    world.run(SECOND);
    assert_eq!(world.engine.health(partner(1)).unwrap().limit, 16);
    for _ in 0..2 {
        world.publish(1, Duration::ZERO);
    }
    world.run(SECOND);
    let health = world.engine.health(partner(1)).unwrap();
    assert_eq!((health.limit, health.consecutive_failures, health.failing), (1, 3, true));
}

#[test]
fn a_rate_limit_is_exact_and_nothing_polls() {
    let mut world = World::new(Limits::default());
    world.publish(1, Duration::ZERO);
    world.run(SECOND);
    told(&mut world, None, Some(50));
    for _ in 0..2_000 {
        world.publish(1, Duration::ZERO);
    }
    let from = world.now;
    world.run(Duration::from_millis(29_999));
    assert_eq!(world.starts.len() - 1, 1_500);
    for second in 0..29 {
        let window = from.plus(second * SECOND)..from.plus((second + 1) * SECOND);
        assert_eq!(world.starts[1..].iter().filter(|start| window.contains(&start.at)).count(), 50);
    }
    assert_eq!(world.engine.wake_at(), Some(world.now.plus(Duration::from_millis(1))));
    told(&mut world, None, None);
    world.run(SECOND);
    assert_eq!(world.acknowledged, 2_001, "without the limit the rest goes at once");
}

#[test]
fn a_rate_limited_lane_holds_up_no_other() {
    let mut world = World::new(Limits { in_flight: 4, ..Limits::default() });
    world.publish(1, Duration::ZERO);
    world.run(SECOND);
    told(&mut world, None, Some(1));
    world.stored(1, 100, 1);
    for n in 0..1_000 {
        world.publish(2, Duration::from_millis(n * 5));
    }
    world.run(5 * SECOND);
    assert!(world.p99(|of| of == 2, super::START) <= Duration::from_millis(1));
}

#[test]
fn retries_do_not_starve_first_attempts_nor_the_reverse() {
    for lane_in_flight in [1, 4, 32] {
        let mut world = World::new(Limits { lane_in_flight, ..Limits::default() });
        world.publish(1, Duration::ZERO);
        world.run(SECOND);
        world.receivers.insert(1, Receiver { millis: 20, reply: Reply::Status(200) });
        let mut burst = |number, count| {
            for _ in 0..count {
                let mut job = world.job(1, super::START);
                job.turn.number = number;
                world.hand_in(job);
            }
        };
        burst(2, 1_500);
        burst(1, 1_500);
        while world.starts.len() < 1_000 {
            world.run(Duration::from_millis(100));
        }
        let seen = &world.starts[100..1_000];
        let retries = seen.iter().filter(|start| start.number == 2).count();
        assert!((200..=300).contains(&retries), "{retries} retries of 900 with {lane_in_flight} in flight");
    }
}

#[test]
fn hung_retries_hold_a_quarter_of_a_lane_at_most_while_first_attempts_wait() {
    let mut world = World::new(Limits::default());
    for _ in 0..500 {
        world.publish(1, Duration::ZERO);
    }
    world.run(SECOND);
    world.receivers.insert(1, Receiver { millis: 14_000, reply: Reply::Status(200) });
    for number in [1, 2] {
        for _ in 0..100 {
            let mut job = world.job(1, super::START);
            job.turn.number = number;
            world.hand_in(job);
        }
    }
    world.run(SECOND);
    let seen = world.starts.len();
    world.run(20 * SECOND);
    let second_round = &world.starts[seen..];
    assert!(!second_round.is_empty());
    let retries = second_round.iter().filter(|start| start.number == 2).count();
    assert_eq!(retries, 8, "of {}", second_round.len());
}

#[test]
fn what_is_answered_together_is_not_followed_together() {
    let mut world = World::new(Limits::default());
    world.receivers.insert(1, Receiver { millis: 20, reply: Reply::Status(200) });
    world.stored(1, 20_000, 1);
    world.run(10 * SECOND);
    let seen = &world.starts[world.starts.len() / 2..];
    let mut starts = BTreeMap::<_, usize>::new();
    for start in seen {
        *starts.entry(start.at).or_default() += 1;
    }
    let most = starts.values().max().unwrap();
    assert!(*most <= 4, "{most} in a millisecond");
    let rate = seen.len() * 1_000 / usize::try_from(seen.last().unwrap().at.since(seen[0].at).as_millis()).unwrap();
    assert!(rate > 1_500, "32 in flight for 20 ms each make 1,600 a second, not {rate}");
}

#[test]
fn after_an_outage_a_backlog_drains_without_a_burst() {
    let mut world = World::new(Limits::default());
    world.schedule = Arc::new(Schedule::List([SECOND; 5].to_vec()));
    world.receivers.insert(1, REFUSES);
    world.stored(1, 20_000, 1);
    world.run(Duration::from_millis(500));
    let health = world.engine.health(partner(1)).unwrap();
    assert_eq!((health.failing, health.limit, health.last_success), (true, 1, None));
    world.receivers.insert(1, GOOD);
    let before = world.starts.len();
    world.run(10 * SECOND);
    let seen = &world.starts[before..];
    let from = seen[0].at;
    assert_eq!(seen[1].in_flight, 1, "the first acknowledgement opens two slots, not all");
    let most = |millis| {
        let until = from.plus(Duration::from_millis(millis));
        seen.iter().filter(|start| start.at < until).map(|start| start.in_flight).max().unwrap()
    };
    assert!(most(7) <= 2 && most(13) <= 4 && most(30) <= 8, "{} {} {}", most(7), most(13), most(30));
    assert_eq!(most(10_000), 32, "and then it has its limit");
    let health = world.engine.health(partner(1)).unwrap();
    assert_eq!((health.failing, health.consecutive_failures), (false, 0));
    assert!(health.last_success.is_some());
}

#[test]
fn a_failing_lane_is_tried_one_by_one() {
    let mut world = World::new(Limits::default());
    world.receivers.insert(1, HANGS);
    world.stored(1, 100, 1);
    world.run(40 * SECOND);
    let after = super::START.plus(16 * SECOND);
    assert!(world.starts.iter().filter(|start| start.at > after).all(|start| start.in_flight == 1));
}

#[test]
fn what_was_not_sent_does_not_count_against_the_rate() {
    let mut bench = Bench::new(Limits::default());
    bench.step(Input::Accepted(job(1, 1)));
    let limits = LaneLimits { max_in_flight: Some(1), rate: Some(per_second(1)) };
    bench.step(Input::LaneLimits { partner: job(1, 1).key.partner, limits });
    bench.step(Input::Accepted(job(1, 2)));
    bench.step(Input::Accepted(job(1, 3)));
    let unsendable = |n| Input::Unsendable { key: job(1, n).key, reason: NotSent::NoUrl };
    assert_eq!(attempts(&bench.step(attempted(job(1, 1).key, Verdict::Acknowledged))), [job(1, 2).key]);
    assert_eq!(attempts(&bench.step(unsendable(2))), [job(1, 3).key]);
}
