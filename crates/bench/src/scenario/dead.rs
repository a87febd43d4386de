//! Healthy partners beside dead ones: nine of ten partners have a receiver that fails, in five ways in equal shares.
//!
//! Every partner is offered the same rate of events; in one kind of round the dead ones get none, in another they are as
//! healthy as the others, so that what their events cost can be told from what their deaths cost. The
//! total is far below what the product takes flat out, so that what shows is not a lack of capacity but whether dead
//! receivers hold up healthy ones. The load lasts longer than an attempt's time-out.

use std::time::Duration;

use anyhow::Result;

use super::calm::Calm;
use super::{Env, tell, turned};
use crate::figures::{Asked, Plot, Section};
use crate::fill::{self, Filler};
use crate::load::{self, Plan};
use crate::measure::{Load, Measured};
use crate::priority::Before;
use crate::sink::{Manner, Sink};
use crate::source::Limit;
use crate::subject::{Home, Subject};
use crate::units::{grouped, times_text};

/// Events a second for each partner: 2,000 in all with the usual 1,000 partners.
const RATE: f64 = 2.0;
/// One of so many partners is healthy.
const HEALTHY: usize = 10;
/// How dead receivers behave; `None` refuses connections.
const DEAD: [Option<Manner>; 5] =
    [None, Some(Manner::Hang), Some(Manner::Drip), Some(Manner::Fail), Some(Manner::Reset)];
/// The dead get events from before the healthy ones are measured until after.
const MARGIN: Duration = Duration::from_secs(2);
const ASKED_RATE: f64 = 0.9;
const ASKED_LATENCY: f64 = 1.5;

/// What becomes of the partners that are not measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    /// They get no events.
    Idle,
    /// They answer.
    Healthy,
    /// Their receivers fail.
    Dead,
}

impl Others {
    const ALL: [Self; 3] = [Self::Idle, Self::Healthy, Self::Dead];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "others idle",
            Self::Healthy => "others healthy",
            Self::Dead => "others dead",
        }
    }
}

/// Runs the scenario.
pub(super) async fn run(env: &mut Env) -> Result<Section> {
    let partners = env.sizes.partners;
    let healthy = partners.div_ceil(HEALTHY);
    let mut section = Section::new(
        "dead",
        "Dead receivers",
        format!(
            "{healthy} healthy partners beside {} others, which get no events (idle), are as healthy, or are dead: their receivers \
             refuse, hang, send a byte a second, answer 500, or reset, in equal shares. Open loop, {RATE} events/s for each \
             partner, {} events/s in all; {} s of load before the {} s that are measured. Figures are those of the first.",
            partners - healthy,
            grouped(RATE * partners as f64),
            env.sizes.long.as_secs_f64(),
            env.sizes.long.as_secs_f64()
        ),
    );
    let mut found: [Vec<Measured>; 3] = Default::default();
    for number in 1..=env.sizes.rounds {
        let mut order = Others::ALL;
        if turned(number) {
            order.reverse();
        }
        for others in order {
            let measure = async |env: &mut Env| {
                let (round, lost) = round(env, others).await?;
                section.note(&format!("events of the others, round {number}"), lost, 0);
                Ok(round)
            };
            let round = env.calm(Calm::for_rates(env.sizes.taken), |round| round, measure).await?;
            tell(number, env.sizes.rounds, others.as_str(), &round);
            found[others as usize].push(round);
        }
    }
    let series = Others::ALL.map(|others| (others.as_str(), &found[others as usize][..]));
    section.add_measured_without(&["cpuPerEvent", "writtenPerEvent"], "healthy partners", &series);
    let table = &section.tables[0];
    let rate = table.ratio("deliveredPerSecond", Others::Dead as usize, Others::Idle as usize);
    let latency = [Others::Idle, Others::Healthy]
        .map(|others| (others, table.ratio("endToEndP99", Others::Dead as usize, others as usize)));
    section.ask(
        "events/s to healthy partners, others dead to others idle",
        rate,
        Asked::AtLeast(ASKED_RATE),
        times_text,
    );
    for (others, latency) in latency {
        let what = format!("their end to end p99, others dead to {}", others.as_str());
        section.ask(what, latency, Asked::AtMost(ASKED_LATENCY), times_text);
    }
    let rows: &[&str] = &["endToEndP50", "endToEndP99"];
    section.plots = vec![Plot { file: "dead-latency", title: "Healthy partners beside others", rows }];
    Ok(section)
}

/// One round on a fresh server. Also gives how many accepted events of the other partners the store does not hold.
async fn round(env: &mut Env, others: Others) -> Result<(Measured, u64)> {
    let partners = env.sizes.partners;
    let home = Home::new(&env.directory)?;
    let mut filler = Filler::open(&home).await?;
    filler.partners((0..partners).map(|number| url(&env.bench.sink, number, others))).await?;
    filler.close().await?;
    let (healthy, dead): (Vec<usize>, Vec<usize>) = (0..partners).partition(|number| number % HEALTHY == 0);
    let ids =
        |numbers: &[usize]| numbers.iter().map(|number| fill::partner(*number).id.to_string()).collect::<Vec<_>>();

    let mut subject = Subject::on(&env.server, home, ids(&healthy), env.sizes.environment)?;
    subject.ready().await?;
    let long = env.sizes.long;
    let load = |partners: usize| Load { warm_up: long, time: long, rate: Some(RATE * partners as f64), ..env.load() };
    let healthy = load(healthy.len());
    let plan = Plan {
        partners: ids(&dead),
        ..subject.plan(load(dead.len()), Limit::Time(2 * long + MARGIN), env.bench.next_phase())
    };
    let _before = Before::others(env.bench.sink.thread);
    let measured = env.bench.measured(&mut subject, healthy);
    if others == Others::Idle {
        return Ok((measured.await?, 0));
    }
    let (measured, published) = tokio::join!(measured, load::run_aside(plan));
    let (measured, published) = (measured?, published?);
    let platform = subject.platform();
    let mut held = 0;
    for number in dead {
        held += platform.total(&fill::partner(number).key, None).await?;
    }
    Ok((measured, (published.accepted.len() as u64).saturating_sub(held)))
}

/// The receiver of the partner with this number.
fn url(sink: &Sink, number: usize, others: Others) -> String {
    if number.is_multiple_of(HEALTHY) {
        return sink.url(Manner::Healthy);
    }
    if others == Others::Healthy {
        return sink.url(Manner::Aside);
    }
    // The healthy ones are left out of the count, so that the shares of the dead are equal.
    let dead = number - number / HEALTHY - 1;
    match DEAD[dead % DEAD.len()] {
        Some(manner) => sink.url(manner),
        None => format!("http://{}/", sink.refusing),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn the_dead_are_dead_in_equal_shares_and_the_healthy_all_answer() {
        let sink = Sink::start((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let mut counts = BTreeMap::<String, usize>::new();
        for number in 0..1_000 {
            *counts.entry(url(&sink, number, Others::Dead)).or_default() += 1;
        }
        assert_eq!(counts.remove(&sink.url(Manner::Healthy)), Some(100));
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [180; 5]);
        let aside = (0..1_000).filter(|number| url(&sink, *number, Others::Healthy) == sink.url(Manner::Aside));
        assert_eq!(aside.count(), 900);
    }
}
