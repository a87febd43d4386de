//! What is kept in memory, and how the rest comes back.

use super::world::{GOOD, HANGS, REFUSES, Receiver, Reply, World, partner};
use super::{Bench, job};
use crate::engine::words::{Job, LaneLimits};
use crate::engine::{Action, Input, Limits};
use crate::outcome::Verdict;
use bytes::Bytes;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_lane_is_full_from_three_quarters_until_it_has_drained_to_half() {
    let mut bench = Bench::new(Limits { lane_jobs: 8, lane_in_flight: 1, ..Limits::default() });
    let of = job(1, 1).key.partner;
    for n in 1..=5 {
        assert!(!bench.step(Input::Accepted(job(1, n))).contains(&Action::Full(of)));
    }
    assert_eq!(bench.step(Input::Accepted(job(1, 6))), [Action::Full(of)]);
    assert!(bench.engine.is_full(of));
    assert_eq!(bench.step(Input::Accepted(job(1, 7))), [], "told once");
    bench.now = bench.now.plus(Duration::from_millis(100));
    let mut hints = Vec::new();
    for n in 1..=3 {
        let actions = bench.step(super::attempted(job(1, n).key, Verdict::Acknowledged));
        hints.extend(bench.recorded(&actions, crate::engine::words::Recorded::Applied));
    }
    assert!(hints.contains(&Action::Room(of)));
    assert!(!bench.engine.is_full(of));
    let claims = hints.iter().filter(|action| matches!(action, Action::Claim(_))).count();
    assert_eq!(claims, 1, "what may have gone to the store meanwhile is asked for at once");
}

#[test]
fn a_backlog_is_read_back_as_it_drains_without_haste() {
    for heeds_hints in [true, false] {
        let mut world = World::new(Limits { lane_jobs: 400, ..Limits::default() });
        world.heeds_hints = heeds_hints;
        world.stored(1, 10_000, 1);
        for n in 0..5_000 {
            world.publish(1, Duration::from_micros(n * 100));
        }
        world.run(6 * SECOND);
        assert_eq!(world.acknowledged, 15_000, "32 at a time, 5 ms each, nearly without a pause");
        assert!(world.store.is_empty());
        let gaps = world.claims.windows(2).filter(|pair| pair[1].since(pair[0]) < Duration::from_millis(50)).count();
        assert!(world.claims.len() < 130, "{} claims", world.claims.len());
        assert!(gaps <= 2, "{gaps} claims came in haste");
        if heeds_hints {
            assert_eq!(world.released, 0);
        } else {
            assert!(world.released > 0);
        }
    }
}

#[test]
fn a_full_lane_that_does_not_drain_asks_for_nothing_more_than_the_poll() {
    let mut world = World::new(Limits { lane_jobs: 100, ..Limits::default() });
    world.receivers.insert(1, HANGS);
    world.stored(1, 10_000, 1);
    for n in 0..1_000 {
        world.publish(1, Duration::from_millis(n * 10));
    }
    world.run(10 * SECOND);
    assert!(world.claims.len() <= 14, "{} claims in 10 s", world.claims.len());
    assert!(world.released <= 36, "only what it gives up when it turns failing, once: {}", world.released);
    assert!(world.engine.held() <= 200, "a claim that was under way may have come on top");
}

#[test]
fn a_claim_that_brought_too_much_is_not_repeated_at_once() {
    let mut bench = Bench::new(Limits { bytes: 1_000_000, lane_in_flight: 1, ..Limits::default() });
    let large = |n| Job { body: Bytes::from(vec![b' '; 40_000]), ..job(1, n) };
    bench.now = bench.now.plus(SECOND);
    assert!(matches!(bench.step(Input::Tick)[..], [Action::Claim(_)]));
    let actions = bench.step(Input::Claimed { jobs: (1..=12).map(large).collect(), more: true });
    let released = actions.iter().map(|a| if let Action::Release(keys) = a { keys.len() } else { 0 }).sum::<usize>();
    assert!((4..=6).contains(&released), "{released}");
    assert!(!actions.iter().any(|action| matches!(action, Action::Claim(_))), "{actions:?}");
    assert_eq!(bench.step(Input::Poked), []);
    assert_eq!(bench.engine.wake_at(), Some(bench.now.plus(SECOND)));
}

#[test]
fn a_claim_asks_for_what_is_likely_to_fit() {
    let mut bench = Bench::new(Limits { bytes: 4_000_000, ..Limits::default() });
    for n in 1..=50 {
        let large = Job { body: Bytes::from(vec![b' '; 40_000]), ..job(n, n) };
        bench.step(Input::Accepted(large));
    }
    bench.now = bench.now.plus(SECOND);
    let actions = bench.step(Input::Tick);
    let Some(Action::Claim(wanted)) = actions.last() else { panic!("{actions:?}") };
    assert!((20..=30).contains(&wanted.total), "{} of 40 kB into half of 2 MB", wanted.total);
    assert!(wanted.room < 10, "{} of 40 kB into a share of half a MB", wanted.room);
}

#[test]
fn claims_never_bring_more_than_half_of_what_is_free() {
    let mut world = World::new(Limits { bytes: 1_000_000, ..Limits::default() });
    for of in 1..=20 {
        world.receivers.insert(of, HANGS);
        for large in 0..30 {
            let mut job = world.job(of, super::START);
            // The first rows say nothing of the weight of the rest.
            job.body = Bytes::from(vec![b' '; if large < 3 { 10 } else { 50_000 }]);
            world.store.entry(job.key.partner).or_default().insert((job.turn.due, job.key), job);
        }
    }
    for _ in 0..100 {
        world.run(Duration::from_millis(100));
        assert!(world.engine.held_bytes() <= 1_000_000, "{}", world.engine.held_bytes());
    }
    assert!(world.most_claimed <= 500_000, "{}", world.most_claimed);
    for of in 1..=20 {
        world.receivers.insert(of, GOOD);
    }
    world.run(Duration::from_secs(600));
    assert!(world.store.is_empty());
    assert_eq!(world.engine.held(), 0);
}

#[test]
fn without_room_whoever_publishes_is_told_so() {
    let mut bench = Bench::new(Limits { bytes: 10_000, ..Limits::default() });
    assert!(bench.engine.has_room());
    for of in 1..=40 {
        bench.step(Input::Accepted(job(of, of)));
    }
    assert!(!bench.engine.has_room(), "{} bytes held", bench.engine.held_bytes());
    for of in 1..=40 {
        let actions = bench.step(super::attempted(job(of, of).key, Verdict::Acknowledged));
        if !super::attempts(&actions).is_empty() || actions.iter().any(|action| matches!(action, Action::Record(_))) {
            bench.recorded(&actions, crate::engine::words::Recorded::Applied);
        }
    }
    assert!(bench.engine.has_room());
}

#[test]
fn a_lane_alone_has_a_fifth_of_the_memory_and_many_leave_room_for_others() {
    let limits = Limits { bytes: 1_000_000, ..Limits::default() };
    let mut world = World::new(limits);
    let hand_in = |world: &mut World, of: u16| {
        world.receivers.insert(of, HANGS);
        for _ in 0..1_000 {
            let mut job = world.job(of, super::START);
            job.body = Bytes::from_static(&[b' '; 744]);
            world.hand_in(job);
        }
    };
    for of in [1, 100] {
        world.publish(of, Duration::ZERO);
    }
    world.run(SECOND);
    world.starts.clear();
    hand_in(&mut world, 1);
    assert!((190..=200).contains(&world.engine.held()), "{}", world.engine.held());
    for of in 2..=40 {
        hand_in(&mut world, of);
    }
    for of in [100, 100, 100, 101] {
        world.publish(of, Duration::ZERO);
    }
    world.run(Duration::from_millis(1));
    let held = world.engine.held();
    assert!((700..800).contains(&held), "{held} held");
    assert_eq!(world.started(|of| of == 100), 3);
    assert_eq!(world.started(|of| of == 101), 1, "a lane's first needs no share");
}

#[test]
fn a_large_event_is_sent_however_small_the_memory() {
    let mut bench = Bench::new(Limits { bytes: 1_000, ..Limits::default() });
    let large = Job { body: Bytes::from(vec![b' '; 5_000]), ..job(1, 1) };
    assert_eq!(super::attempts(&bench.step(Input::Accepted(large.clone()))), [large.key]);
}

#[test]
fn retries_to_come_leave_half_of_a_lane_to_first_attempts() {
    let mut world = World::new(Limits { lane_jobs: 100, ..Limits::default() });
    world.receivers.insert(1, Receiver { millis: 1, reply: Reply::Status(500) });
    for n in 0..500 {
        world.publish(1, Duration::from_millis(n * 10));
    }
    world.run(6 * SECOND);
    assert_eq!(world.started(|of| of == 1), 500, "all had their first attempt");
    assert_eq!(world.engine.held(), 32);
    world.receivers.insert(1, GOOD);
    world.run(20 * SECOND);
    assert_eq!((world.acknowledged, world.engine.held()), (500, 0));
}

#[test]
fn retries_that_come_late_leave_the_room_to_those_that_come_soon() {
    let mut world = World::new(Limits::default());
    world.receivers.insert(1, REFUSES);
    for n in 0..120 {
        world.publish(1, Duration::from_millis(n * 500));
    }
    let mut late = 0;
    for _ in 0..60 {
        world.run(SECOND);
        let left = world.store.get(&partner(1)).into_iter().flatten().map(|(_, job)| job.turn.number);
        let (soon, later): (Vec<u32>, Vec<u32>) = left.partition(|number| *number == 2);
        assert_eq!(soon.len(), 0, "due within ten seconds, but left to the store");
        late = late.max(later.len());
    }
    assert!(late > 60, "{late} are due within a minute");
}

#[test]
fn what_is_known_of_a_receiver_outlives_its_work() {
    let mut world = World::new(Limits { near: SECOND, ..Limits::default() });
    world.receivers.insert(1, HANGS);
    for _ in 0..4 {
        world.publish(1, Duration::ZERO);
    }
    world.run(18 * SECOND);
    assert_eq!(world.engine.held(), 0);
    assert!(world.engine.health(partner(1)).unwrap().failing);
    assert_eq!(world.engine.health(partner(2)), None);
}

#[test]
fn lanes_without_work_are_forgotten_in_the_end() {
    let mut world = World::new(Limits::default());
    for n in 0..17_000 {
        world.publish(n, Duration::from_millis(u64::from(n)));
    }
    world.run(20 * SECOND);
    assert_eq!(world.acknowledged, 17_000);
    assert_eq!(world.engine.lanes.len(), 16_384);
}

#[test]
fn a_lane_that_turns_failing_gives_up_what_it_will_not_send_soon() {
    let mut world = World::new(Limits::default());
    world.publish(1, Duration::ZERO);
    world.run(SECOND);
    world.receivers.insert(1, HANGS);
    for _ in 0..500 {
        world.publish(1, Duration::ZERO);
    }
    world.run(14 * SECOND);
    assert_eq!((world.engine.held(), world.released), (500, 0), "it has been a good one so far");
    world.run(4 * SECOND);
    assert!(world.engine.held() <= 64, "{}", world.engine.held());
}

#[test]
fn a_slow_lane_holds_what_it_can_send_in_ten_seconds() {
    for rate in [None, Some(super::per_second(10))] {
        let mut world = World::new(Limits::default());
        world.publish(1, Duration::ZERO);
        world.run(SECOND);
        let millis = if rate.is_none() { 2_000 } else { 5 };
        world.receivers.insert(1, Receiver { millis, reply: Reply::Status(200) });
        let limits = LaneLimits { max_in_flight: Some(20), rate };
        world.step(Input::LaneLimits { partner: partner(1), limits });
        world.run(2 * SECOND);
        for _ in 0..50 {
            world.publish(1, Duration::ZERO);
        }
        world.run(20 * SECOND);
        world.stored(1, 5_000, 1);
        world.run(20 * SECOND);
        assert!((40..=101).contains(&world.engine.held()), "{} with {rate:?}", world.engine.held());
    }
}
