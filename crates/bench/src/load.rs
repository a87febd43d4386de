//! The load generator: publishes events over keep-alive connections and keeps account of every answer.
//!
//! Requests are prepared in advance ([`crate::event`]) and sent over plain TCP, one at a time on each connection, all on
//! one thread: it must cost far less than the server it drives. What was accepted is remembered by sequence number, so
//! that every 202 can be held against what arrived at the sink.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, BytesMut};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::event::{Mark, Template, unix_micros};
use crate::http1::Message;
use crate::priority;
use crate::source::{Job, Limit, Source};
use crate::units::{grouped, histogram, micros, micros_text, per_second};

/// A request without an answer for this long ends the run with an error.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
const ROOM: usize = 4096;
/// From the last connection to the first request of an open loop: what a server does for new connections is not what is
/// measured.
const ACCEPTING: Duration = Duration::from_millis(50);

/// Publish events at full speed (closed loop) or at a fixed rate (open loop).
#[derive(clap::Args)]
#[command(after_help = "Example:\n  capa-webhooks-bench load --target http://127.0.0.1:8080 --events 100000 \
                  --connections 64 --partners partners.txt")]
pub(crate) struct Args {
    /// Base URL of the server (plain http).
    #[arg(long, value_name = "URL")]
    target: String,
    /// Stop after this many events (rounded up to whole batches).
    #[arg(long, value_name = "N", required_unless_present = "seconds", conflicts_with = "seconds")]
    events: Option<u64>,
    /// Stop after this time.
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    /// Keep-alive connections.
    #[arg(long, value_name = "C", default_value_t = 64)]
    connections: usize,
    /// File with one partner id on each line; events go to them in turn.
    #[arg(long, value_name = "FILE")]
    partners: PathBuf,
    /// Events released in a second, whether or not earlier ones were answered (default: as fast as they are answered).
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Publish this many events in each request, through the batch endpoint.
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Platform key; by default the environment variable CAPA_WEBHOOKS_PLATFORM_KEY.
    #[arg(long, value_name = "KEY")]
    platform_key: Option<String>,
}

/// What to publish, where, and how fast.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Servers that share the connections evenly; at least one.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) platform_key: String,
    pub(crate) partners: Vec<String>,
    pub(crate) connections: usize,
    pub(crate) limit: Limit,
    /// Events in a second, or `None` for a closed loop.
    pub(crate) rate: Option<f64>,
    /// Events in each request, or `None` to publish one by one.
    pub(crate) batch: Option<usize>,
    /// Number of the first event.
    pub(crate) first_sequence: u64,
}

/// What came of it.
pub(crate) struct Outcome {
    /// Sequence numbers of the events that were accepted.
    pub(crate) accepted: Vec<u64>,
    /// Events that were not accepted, by HTTP status, or by error code for an item of a batch.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Microseconds from when a request was due until its 202. A quick refusal does not count.
    pub(crate) latency: Histogram<u64>,
    /// When the first request was due.
    pub(crate) started: Instant,
    /// From then until the last answer.
    pub(crate) took: Duration,
}

/// Runs the subcommand.
pub(crate) fn main(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let plan = Plan::from_args(args).await?;
        run(&plan).await
    })?;
    let accepted = outcome.accepted.len() as u64;
    println!("accepted    {} events, {}/s", grouped(accepted as f64), grouped(per_second(accepted, outcome.took)));
    println!(
        "latency     p50 {}, p99 {}, max {}",
        micros_text(outcome.latency.value_at_quantile(0.5) as f64),
        micros_text(outcome.latency.value_at_quantile(0.99) as f64),
        micros_text(outcome.latency.max() as f64)
    );
    for (reason, events) in &outcome.refused {
        println!("refused     {events} events with {reason}");
    }
    Ok(())
}

impl Plan {
    async fn from_args(args: &Args) -> Result<Self> {
        let host = args.target.strip_prefix("http://").context("--target must begin with http://")?;
        let host = host.trim_end_matches('/');
        let address = tokio::net::lookup_host(host).await.ok().and_then(|mut found| found.next());
        let text = std::fs::read_to_string(&args.partners)
            .with_context(|| format!("cannot read the partner ids from {}", args.partners.display()))?;
        let partners: Vec<String> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        ensure!(!partners.is_empty(), "{} holds no partner id", args.partners.display());
        ensure!(args.rate.is_none_or(|rate| rate > 0.0), "--rate must be above 0");
        ensure!(args.batch != Some(0), "--batch must be at least 1");
        let limit = match (args.events, args.seconds) {
            (Some(events), _) => Limit::Events(events),
            (None, Some(seconds)) => Limit::Time(Duration::from_secs(seconds)),
            (None, None) => bail!("give --events or --seconds"),
        };
        Ok(Self {
            addresses: vec![address.with_context(|| format!("--target {host} is no host:port that can be resolved"))?],
            platform_key: (args.platform_key.clone())
                .or_else(|| std::env::var("CAPA_WEBHOOKS_PLATFORM_KEY").ok())
                .unwrap_or_default(),
            partners,
            connections: args.connections.max(1),
            limit,
            rate: args.rate,
            batch: args.batch,
            first_sequence: 0,
        })
    }

    fn templates(&self) -> Vec<Template> {
        // One name for all of them: no server looks at it.
        let host = self.addresses.first().map_or_else(String::new, SocketAddr::to_string);
        match self.batch {
            Some(size) => vec![Template::batch(&host, &self.platform_key, &self.partners, size)],
            None => self.partners.iter().map(|partner| Template::single(&host, &self.platform_key, partner)).collect(),
        }
    }
}

/// Publishes until the plan's limit is reached and every request has its answer.
pub(crate) async fn run(plan: &Plan) -> Result<Outcome> {
    let mut streams = Vec::with_capacity(plan.connections);
    for address in plan.addresses.iter().copied().cycle().take(plan.connections) {
        streams.push((connect(address).await?, address));
    }
    // All is made ready before the clock runs. One tally for all, because 256 histograms are 42 MB, which take tens of
    // milliseconds to write.
    let templates = Arc::new(plan.templates());
    let tally = Arc::new(Mutex::new(Tally::default()));
    if plan.rate.is_some() {
        tokio::time::sleep(ACCEPTING).await;
    }
    let started = Instant::now();
    let source = Arc::new(Source::start(plan.limit, plan.batch.unwrap_or(1) as u64, plan.rate));
    let mut connections = JoinSet::new();
    for (stream, address) in streams {
        let connection = Connection {
            stream,
            address,
            request: Vec::new(),
            answer: BytesMut::with_capacity(4 * ROOM),
            templates: templates.clone(),
            first_sequence: plan.first_sequence,
            batch: plan.batch,
            tally: tally.clone(),
        };
        connections.spawn(connection.run(source.clone()));
    }
    while let Some(finished) = connections.join_next().await {
        finished.context("a connection's task was lost")??;
    }
    let took = started.elapsed();
    let Tally { accepted, refused, latency } = std::mem::take(&mut *lock(&tally));
    Ok(Outcome { accepted, refused, latency, started, took })
}

/// The same on a thread of its own, which stands back: for load that is not measured, but is there while other load is.
pub(crate) async fn run_aside(plan: Plan) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (done, outcome) = oneshot::channel();
    std::thread::spawn(move || {
        priority::stand_back();
        // Nobody may be left to hear it.
        drop(done.send(runtime.block_on(run(&plan))));
    });
    outcome.await.context("the thread of the load aside was lost")?
}

struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    request: Vec<u8>,
    answer: BytesMut,
    templates: Arc<Vec<Template>>,
    first_sequence: u64,
    batch: Option<usize>,
    tally: Arc<Mutex<Tally>>,
}

/// What came of the requests of all connections.
struct Tally {
    accepted: Vec<u64>,
    refused: BTreeMap<String, u64>,
    latency: Histogram<u64>,
}

impl Connection {
    async fn run(mut self, source: Arc<Source>) -> Result<()> {
        while let Some(job) = source.next().await {
            tokio::time::timeout(ANSWER_DEADLINE, self.publish(&job))
                .await
                .with_context(|| format!("{} gave no answer for {ANSWER_DEADLINE:?}", self.address))?
                .with_context(|| format!("publishing to {} failed", self.address))?;
        }
        Ok(())
    }

    async fn publish(&mut self, job: &Job) -> Result<()> {
        let now = Instant::now();
        let due = job.due.unwrap_or(now);
        let sent_at = unix_micros().saturating_sub(micros(now - due));
        let sequence = self.first_sequence + job.offset;
        let turn = usize::try_from(job.offset).unwrap_or_default() % self.templates.len();
        self.templates[turn].fill(&mut self.request, Mark { sequence, sent_at });
        self.stream.write_all(&self.request).await?;
        loop {
            if let Some(answer) = Message::parse(&self.answer)? {
                lock(&self.tally).count(&answer, sequence, self.batch, due.elapsed())?;
                let (total, close) = (answer.total, answer.close);
                self.answer.advance(total);
                if close {
                    self.stream = connect(self.address).await?;
                }
                return Ok(());
            }
            // Without room for a whole answer each read would take a few bytes only.
            self.answer.reserve(ROOM);
            ensure!(self.stream.read_buf(&mut self.answer).await? > 0, "the server closed the connection");
        }
    }
}

impl Tally {
    fn count(&mut self, answer: &Message<'_>, first: u64, batch: Option<usize>, took: Duration) -> Result<()> {
        let status = answer.status()?;
        if status == 202 {
            self.latency.saturating_record(micros(took));
        }
        match (status, batch) {
            (202, None) => self.accepted.push(first),
            (202, Some(_)) => self.count_batch(answer.body, first)?,
            (status, batch) => *self.refused.entry(status.to_string()).or_default() += batch.unwrap_or(1) as u64,
        }
        Ok(())
    }

    /// Counts the items of a batch one by one: each is accepted or refused by itself.
    fn count_batch(&mut self, body: &[u8], first: u64) -> Result<()> {
        let body: serde_json::Value = serde_json::from_slice(body).context("the batch's answer is not JSON")?;
        let items = body["data"]["events"].as_array().context("the batch's answer has no data.events")?;
        for (sequence, item) in (first..).zip(items) {
            match item["code"].as_str() {
                None => self.accepted.push(sequence),
                Some(code) => *self.refused.entry(code.to_owned()).or_default() += 1,
            }
        }
        Ok(())
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self { accepted: Vec::new(), refused: BTreeMap::new(), latency: histogram() }
    }
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}; is the server running there?"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
