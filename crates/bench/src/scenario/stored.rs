//! A store that has grown: does the product stay as quick as on an empty one?
//!
//! Both stores have the same partners. The questions go to the partner API of a big partner, which owns a fifth of all
//! notifications, and of an ordinary one, in turn on the small and the large store, so that the machine's moods hit both.

use anyhow::{Result, ensure};

use super::{Env, tell, turned};
use crate::figures::{Asked, Plot, Section, Table};
use crate::fill::{self, Filler, Kind, Sample, mixed};
use crate::measure::Measured;
use crate::subject::{Home, Subject};
use crate::units::{grouped, median, micros, micros_text, times_text};

const ASKED_RATE: f64 = 0.9;
const ASKED_QUESTIONS: f64 = 3.0;
const ASKED_START_EMPTY: f64 = 300_000.0;
const ASKED_START: f64 = 1_500_000.0;

/// A question: its key, what it is called, and its path for a notification to ask for.
type Question = (&'static str, &'static str, fn(&Sample) -> String);

const LIST: &str = "/api/partner/v2/webhook-notifications";
const QUESTIONS: [Question; 5] = [
    ("list", "list, first page", |_| LIST.to_owned()),
    ("detail", "detail", |sample| format!("{LIST}/{}", sample.id)),
    ("totals", "total of a status", |_| format!("{LIST}?status=SENT&limit=1")),
    ("byTransaction", "search by transaction", |sample| format!("{LIST}?transactionId={}", sample.transaction)),
    ("byUser", "search by user", |sample| format!("{LIST}?externalUserId={}", sample.user)),
];

/// Runs the scenario.
pub(super) async fn run(env: &mut Env) -> Result<Section> {
    let sizes = env.sizes;
    let pending = sizes.pending.min(sizes.stored);
    let mut section = Section::new(
        "stored",
        "A store that has grown",
        format!(
            "{} notifications of {} partners, of them {} pending and due later, beside an empty store, and beside one with \
             {} for the questions ({} requests each and round, through the partner API). A start counts from the process's \
             beginning to the arrival of an event that is published as soon as the server takes connections.",
            grouped(sizes.stored as f64),
            grouped(sizes.partners as f64),
            grouped(pending as f64),
            grouped(sizes.few as f64),
            sizes.questions
        ),
    );
    let small = env.filled(async |filler| fill(filler, sizes.few, pending.min(sizes.few) / 50).await).await?;
    let large = env.filled(async |filler| fill(filler, sizes.stored, pending).await).await?;
    let home = ask(env, &mut section, small, large).await?;
    let home = rates(env, &mut section, home).await?;
    starts(env, &mut section, home).await?;
    section.plots = vec![
        Plot {
            file: "stored-questions",
            title: "Questions to a small and a large store",
            rows: &["list", "detail", "totals", "byTransaction", "byUser"],
        },
        Plot {
            file: "stored-rate",
            title: "Events a second on a large store",
            rows: &["acceptedPerSecond", "deliveredPerSecond"],
        },
        Plot { file: "stored-start", title: "From start to first delivery", rows: &["start"] },
    ];
    Ok(section)
}

/// Fills a store with so many notifications, of them some that wait; gives some of the others to ask for.
pub(super) async fn fill(filler: &mut Filler, stored: u64, pending: u64) -> Result<Vec<Sample>> {
    let partners = filler.partners.len();
    let samples = filler.add(Kind::Settled, stored - pending, |number| mixed(number, partners)).await?;
    filler.add(Kind::Waiting, pending, |number| mixed(number, partners)).await?;
    Ok(samples)
}

/// Asks both stores, and gives the large one's home back.
pub(super) async fn ask(
    env: &mut Env,
    section: &mut Section,
    (small, few): (Home, Vec<Sample>),
    (large, many): (Home, Vec<Sample>),
) -> Result<Home> {
    let mut small = Subject::on(&env.server, small, Vec::new(), &[])?;
    let mut large = Subject::on(&env.server, large, Vec::new(), &[])?;
    small.ready().await?;
    large.ready().await?;
    // A client for each keeps its one connection.
    let platforms = [small.platform(), large.platform()];
    // Three tenths of the way along the curve of shares an ordinary partner has about the average.
    for (title, number) in [("a big partner", 0), ("an ordinary partner", 1 + env.sizes.partners * 3 / 10)] {
        let key_of_partner = fill::partner(number).key;
        let own = |samples: &[Sample]| -> Result<Vec<Sample>> {
            let own: Vec<Sample> = samples.iter().filter(|sample| sample.partner == number).cloned().collect();
            ensure!(!own.is_empty(), "{title} has no notification to ask for; make the small store larger");
            Ok(own)
        };
        let own = [own(&few)?, own(&many)?];
        let mut table = Table::new(title, ["small", "large"]);
        for (key, label, path) in QUESTIONS {
            let mut values = vec![Vec::new(), Vec::new()];
            for _ in 0..env.sizes.rounds {
                let mut times = [Vec::new(), Vec::new()];
                for request in 0..env.sizes.questions {
                    for ((platform, own), times) in platforms.iter().zip(&own).zip(&mut times) {
                        // Steps of a prime through all of them, so that few are asked for twice.
                        let path = path(&own[request * 7_919 % own.len()]);
                        let (took, _) = platform.ask(&key_of_partner, &path).await?;
                        times.push(micros(took) as f64);
                    }
                }
                for (values, times) in values.iter_mut().zip(times) {
                    values.push(median(times));
                }
            }
            table.add(key, label, values, micros_text);
            let ratio = table.ratio(key, 1, 0);
            eprintln!(
                "{title}, {label}: {} → {}",
                micros_text(table.median(key, 0)),
                micros_text(table.median(key, 1))
            );
            section.ask(format!("{title}, {label}, large to small"), ratio, Asked::AtMost(ASKED_QUESTIONS), times_text);
        }
        section.tables.push(table);
    }
    Ok(large.stop())
}

async fn rates(env: &mut Env, section: &mut Section, mut large: Home) -> Result<Home> {
    let mut found: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
    for number in 1..=env.sizes.rounds {
        for which in if turned(number) { [1, 0] } else { [0, 1] } {
            let round;
            if which == 0 {
                let (empty, ()) = env.filled(async |_| Ok(())).await?;
                (_, round) = env.measured_on(empty).await?;
            } else {
                (large, round) = env.measured_on(large).await?;
            }
            tell(number, env.sizes.rounds, ["empty store", "large store"][which], &round);
            found[which].push(round);
        }
    }
    section.add_measured("flat out", &[("empty", &found[0]), ("large", &found[1])]);
    let ratio = section.tables.last().map_or(0.0, |table| table.ratio("acceptedPerSecond", 1, 0));
    section.ask("accepted events/s, large to empty", ratio, Asked::AtLeast(ASKED_RATE), times_text);
    Ok(large)
}

async fn starts(env: &mut Env, section: &mut Section, mut large: Home) -> Result<()> {
    let mut values = vec![Vec::new(), Vec::new()];
    for number in 1..=env.sizes.rounds {
        let (empty, ()) = env.filled(async |_| Ok(())).await?;
        let (_, took) = env.first_delivery(empty).await?;
        values[0].push(micros(took) as f64);
        let took;
        (large, took) = env.first_delivery(large).await?;
        values[1].push(micros(took) as f64);
        eprintln!(
            "start {number}: {} → {}",
            micros_text(values[0].last().copied().unwrap_or(0.0)),
            micros_text(micros(took) as f64)
        );
    }
    let mut table = Table::new("start", ["empty", "large"]);
    table.add("start", "to the first delivery", values, micros_text);
    let (empty, filled) = (table.median("start", 0), table.median("start", 1));
    section.tables.push(table);
    section.ask("start to first delivery, empty", empty, Asked::AtMost(ASKED_START_EMPTY), micros_text);
    section.ask("start to first delivery, large", filled, Asked::AtMost(ASKED_START), micros_text);
    Ok(())
}
