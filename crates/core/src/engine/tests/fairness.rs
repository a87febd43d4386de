//! No partner, however dead, slow or busy, delays another.

use super::world::{GOOD, HANGS, REFUSES, Receiver, Reply, World};
use crate::engine::Limits;
use crate::outcome::FailureKind;
use std::collections::BTreeSet;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// 1,000 partners with 5 events a second each; every tenth is healthy. How long, from a start that knows nobody.
fn thousand_partners(dead: bool) -> World {
    let mut world = World::new(Limits::default());
    for n in 0..1_000_u16 {
        let receiver = match n % 10 {
            0 => GOOD,
            1 | 6 => REFUSES,
            2 | 7 => HANGS,
            3 | 8 => Receiver { millis: 15_000, reply: Reply::Fails(FailureKind::Disconnected) },
            4 | 9 => Receiver { millis: 5, reply: Reply::Status(500) },
            _ => Receiver { millis: 2, reply: Reply::Fails(FailureKind::Disconnected) },
        };
        world.receivers.insert(n, receiver);
        if dead || healthy(n) {
            for event in 0..80 {
                world.publish(n, Duration::from_millis(event * 200 + u64::from(n) * 7 % 200));
            }
        }
    }
    world.run(17 * SECOND);
    world
}

fn healthy(n: u16) -> bool {
    n.is_multiple_of(10)
}

#[test]
fn nine_hundred_dead_partners_do_not_delay_the_others() {
    let (without, with) = (thousand_partners(false), thousand_partners(true));
    assert_eq!(without.started(healthy), 8_000);
    assert!(with.started(healthy) >= 7_200, "{} of 8,000", with.started(healthy));
    assert!(with.acknowledged * 10 >= without.acknowledged * 9, "{}", with.acknowledged);
    let answer = Duration::from_millis(GOOD.millis);
    let (p99_without, p99_with) = (without.p99(healthy, super::START), with.p99(healthy, super::START));
    assert!(p99_with + answer <= (p99_without + answer).mul_f64(1.5), "{p99_with:?} after {p99_without:?}");
    let had_a_turn: BTreeSet<_> = with.starts.iter().map(|start| start.of).collect();
    assert_eq!(had_a_turn.len(), 1_000);
}

#[test]
fn a_backlog_of_100_000_does_not_delay_another() {
    let mut world = World::new(Limits { in_flight: 64, ..Limits::default() });
    world.stored(1, 100_000, 1);
    for n in 0..400 {
        world.publish(2, Duration::from_millis(n * 10));
    }
    world.run(4 * SECOND);
    assert_eq!(world.started(|of| of == 2), 400);
    assert!(world.p99(|of| of == 2, super::START) <= Duration::from_millis(1));
    // 32 at a time, 5 ms each: 6,400 a second.
    assert!(world.started(|of| of == 1) > 25_000, "{} drained", world.started(|of| of == 1));
}

#[test]
fn lanes_get_the_same_slot_time_not_the_same_count() {
    let mut world = World::new(Limits { in_flight: 16, ..Limits::default() });
    world.receivers.insert(1, Receiver { millis: 200, reply: Reply::Status(200) });
    world.receivers.insert(2, Receiver { millis: 20, reply: Reply::Status(200) });
    world.stored(1, 2_000, 1);
    world.stored(2, 20_000, 1);
    world.run(30 * SECOND);
    let slow = world.started(|of| of == 1) * 200;
    let fast = world.started(|of| of == 2) * 20;
    let share =
        |time: usize| u32::try_from(time).map(f64::from).unwrap() / f64::from(u32::try_from(slow + fast).unwrap());
    assert!((0.42..0.58).contains(&share(slow)), "slot time of the slow lane: {}", share(slow));
    assert!(slow + fast > 30_000 * 13, "the slots are in use: {} ms", slow + fast);
}

#[test]
fn failing_lanes_share_a_quarter_of_the_slots_and_take_turns() {
    let mut world = World::new(Limits { in_flight: 64, ..Limits::default() });
    for n in 0..100 {
        world.receivers.insert(n, REFUSES);
        for _ in 0..30 {
            world.publish(n, Duration::ZERO);
        }
    }
    world.run(Duration::from_millis(1));
    for n in 0..100 {
        assert!(world.engine.health(super::world::partner(n)).unwrap().failing);
        world.receivers.insert(n, HANGS);
        world.stored(n, 20, 1);
    }
    // 16 slots, 15 s for each attempt, 100 lanes: each has had a turn after 7 rounds.
    let before = world.starts.len();
    for _ in 0..107 {
        world.run(SECOND);
        assert!(world.engine.in_flight() <= 16, "{} slots", world.engine.in_flight());
    }
    for n in 0..100 {
        let turns = world.starts[before..].iter().filter(|start| start.of == n).count();
        assert!((1..=2).contains(&turns), "lane {n}: {turns}");
    }
}

#[test]
fn lanes_that_never_answered_leave_slots_to_those_that_did() {
    let mut world = World::new(Limits { in_flight: 64, ..Limits::default() });
    world.publish(0, Duration::ZERO);
    world.run(SECOND);
    for n in 1..200 {
        world.receivers.insert(n, HANGS);
        world.publish(n, Duration::ZERO);
        world.publish(n, Duration::ZERO);
    }
    for n in 0..100 {
        world.publish(0, Duration::from_millis(n * 100));
    }
    world.run(10 * SECOND);
    assert_eq!(world.p99(|of| of == 0, super::START), Duration::ZERO);
    assert_eq!(world.started(|of| of > 0), 56, "seven eighths of the slots");
}

#[test]
fn a_few_slow_lanes_leave_a_slot_for_a_fast_one() {
    let mut world = World::new(Limits { in_flight: 64, ..Limits::default() });
    for n in 1..=4 {
        world.receivers.insert(n, Receiver { millis: 2_000, reply: Reply::Status(200) });
        world.stored(n, 5_000, 1);
    }
    world.publish(0, Duration::ZERO);
    world.run(60 * SECOND);
    assert_eq!(world.engine.in_flight(), 60, "one slot is left for each lane that holds some");
    for n in 0..100 {
        world.publish(0, Duration::from_millis(n * 50));
    }
    world.run(5 * SECOND);
    assert_eq!(world.p99(|of| of == 0, super::START), Duration::ZERO);
}

#[test]
fn a_new_lane_has_few_slots_until_it_answers() {
    let mut world = World::new(Limits { in_flight: 64, ..Limits::default() });
    for n in 1..=10 {
        world.receivers.insert(n, HANGS);
        for _ in 0..10 {
            world.publish(n, Duration::ZERO);
        }
    }
    world.run(SECOND);
    assert_eq!(world.starts.len(), 13, "four of the first, then one of each");
}

#[test]
fn what_an_attempt_has_cost_is_settled_at_its_end() {
    let mut world = World::new(Limits { in_flight: 1, ..Limits::default() });
    world.receivers.insert(1, Receiver { millis: 1_000, reply: Reply::Status(200) });
    world.publish(1, Duration::ZERO);
    world.publish(1, Duration::ZERO);
    for _ in 0..100 {
        world.publish(2, Duration::from_millis(1));
    }
    world.run(3 * SECOND);
    let order: Vec<_> = world.starts.iter().map(|start| start.of).collect();
    assert_eq!(order[0], 1);
    assert!(order[1..101].iter().all(|of| *of == 2), "a second of slot time is worth 200 answers of 5 ms");
    assert_eq!(order[101], 1);
}

#[test]
fn nobody_saves_up_slot_time() {
    let mut world = World::new(Limits { in_flight: 1, ..Limits::default() });
    world.publish(2, Duration::ZERO);
    for n in 0..2_000 {
        world.publish(1, Duration::from_millis(n * 5));
    }
    world.run(10 * SECOND);
    world.stored(2, 300, 1);
    world.stored(1, 300, 1);
    let before = world.starts.len();
    world.run(2 * SECOND);
    let first = world.starts[before..].iter().take(200).filter(|start| start.of == 1).count();
    assert!((80..=120).contains(&first), "{first} of 200");
}
