//! The receiver: answers 200 `ok` to everything, as fast as it can, and keeps account of what arrived.
//!
//! It runs on a thread of its own, so that one process can hold it together with the load generator. Each arrival is
//! counted twice: by `webhook-id`, to see duplicates as a partner would, and by `benchSequence`, to see losses. Both
//! counts cover the phase since the last [`Sink::begin`]; what arrives late from an earlier phase is kept apart.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::{Buf as _, BytesMut};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::event::{Mark, PHASE, unix_micros};
use crate::http1::Message;
use crate::units::{grouped, histogram, micros_text};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
const ROOM: usize = 4096;
const POLL: Duration = Duration::from_millis(5);

/// Receive events and count them until Ctrl-C.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  capa-webhooks-bench sink --listen 127.0.0.1:9999")]
pub(crate) struct Args {
    /// Address to listen on.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
}

/// A running sink.
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    arrivals: Arc<Mutex<Arrivals>>,
}

/// What arrived in one phase.
pub(crate) struct Arrivals {
    first_sequence: u64,
    /// How often each event arrived, by its distance from `first_sequence`; 255 stands for that many or more.
    events: Vec<u8>,
    /// How often each notification arrived, by a 128-bit fingerprint of its `webhook-id`.
    ids: HashMap<u128, u32>,
    /// Distinct events.
    pub(crate) distinct: u64,
    /// Requests, whatever they held.
    pub(crate) requests: u64,
    /// Requests without the mark of this phase: late arrivals of an earlier one, or foreign bodies.
    pub(crate) unmarked: u64,
    /// When the last event arrived for the first time.
    pub(crate) last: Option<Instant>,
    /// Microseconds from send to first arrival.
    pub(crate) latency: Histogram<u64>,
}

/// Runs the subcommand.
pub(crate) fn main(args: &Args) -> Result<()> {
    let sink = Sink::start(args.listen)?;
    eprintln!("sink listens on {}; Ctrl-C ends it", sink.address);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut seen = 0;
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => break,
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    let requests = sink.arrivals().requests;
                    if requests != seen {
                        eprintln!("{} requests, {} in the last second", grouped(requests as f64), requests - seen);
                    }
                    seen = requests;
                }
            }
        }
    });
    let arrivals = sink.arrivals();
    println!("requests    {}", grouped(arrivals.requests as f64));
    println!("webhook-ids {} distinct, {} duplicates", arrivals.ids.len(), arrivals.duplicates());
    println!(
        "end to end  p50 {}, p99 {}, max {}",
        micros_text(arrivals.latency.value_at_quantile(0.5) as f64),
        micros_text(arrivals.latency.value_at_quantile(0.99) as f64),
        micros_text(arrivals.latency.max() as f64)
    );
    Ok(())
}

impl Sink {
    /// Starts a sink on its own thread. It serves until the process ends.
    pub(crate) fn start(listen: SocketAddr) -> Result<Self> {
        let listener = std::net::TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let arrivals = Arc::new(Mutex::new(Arrivals::new(0)));
        let shared = arrivals.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            if let Err(error) = runtime.block_on(accept(listener, shared)) {
                eprintln!("the sink stopped: {error:#}");
            }
        });
        Ok(Self { address, arrivals })
    }

    /// Forgets what arrived so far and counts from here; `first_sequence` is the number of the next event to be sent.
    pub(crate) fn begin(&self, first_sequence: u64) {
        *self.arrivals() = Arrivals::new(first_sequence);
    }

    /// Waits until `events` distinct events have arrived, or until none has for as long as `patience`.
    pub(crate) async fn wait_for(&self, events: u64, patience: Duration) {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            let distinct = self.arrivals().distinct;
            if distinct > seen {
                (seen, since) = (distinct, Instant::now());
            }
            if distinct >= events || since.elapsed() > patience {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What has arrived in this phase. The sink answers nothing while the guard is held.
    pub(crate) fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrivals {
    fn new(first_sequence: u64) -> Self {
        Self {
            first_sequence,
            events: Vec::new(),
            ids: HashMap::new(),
            distinct: 0,
            requests: 0,
            unmarked: 0,
            last: None,
            latency: histogram(),
        }
    }

    /// Whether the event with this number has arrived.
    pub(crate) fn holds(&self, sequence: u64) -> bool {
        self.index(sequence).and_then(|index| self.events.get(index)).is_some_and(|times| *times > 0)
    }

    /// Requests that repeated a `webhook-id`.
    pub(crate) fn duplicates(&self) -> u64 {
        self.ids.values().map(|times| u64::from(times - 1)).sum()
    }

    fn record(&mut self, request: &Message<'_>) {
        self.requests += 1;
        if let Some(id) = request.header(b"webhook-id") {
            *self.ids.entry(fingerprint(id)).or_default() += 1;
        }
        let mark = Mark::read(request.body);
        let Some((index, mark)) = mark.and_then(|mark| Some((self.index(mark.sequence)?, mark))) else {
            self.unmarked += 1;
            return;
        };
        if index >= self.events.len() {
            self.events.resize(index + 1, 0);
        }
        if self.events[index] == 0 {
            self.distinct += 1;
            self.last = Some(Instant::now());
            self.latency.saturating_record(unix_micros().saturating_sub(mark.sent_at));
        }
        self.events[index] = self.events[index].saturating_add(1);
    }

    fn index(&self, sequence: u64) -> Option<usize> {
        let offset = sequence.checked_sub(self.first_sequence).filter(|offset| *offset < PHASE)?;
        usize::try_from(offset).ok()
    }
}

async fn accept(listener: std::net::TcpListener, arrivals: Arc<Mutex<Arrivals>>) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let arrivals = arrivals.clone();
        tokio::spawn(async move {
            // A sender that hangs up, or sends what we cannot read, ends its own connection only.
            if let Err(error) = serve(stream, &arrivals).await {
                eprintln!("the sink closed a connection: {error:#}");
            }
        });
    }
}

async fn serve(mut stream: TcpStream, arrivals: &Mutex<Arrivals>) -> Result<()> {
    let mut buffer = BytesMut::with_capacity(4 * ROOM);
    let mut answers = Vec::new();
    loop {
        let mut close = false;
        while let Some(request) = Message::parse(&buffer)? {
            arrivals.lock().unwrap_or_else(PoisonError::into_inner).record(&request);
            answers.extend_from_slice(ANSWER);
            close |= request.close;
            let total = request.total;
            buffer.advance(total);
        }
        if !answers.is_empty() {
            stream.write_all(&answers).await?;
            answers.clear();
        }
        // Without room for a whole request each read would take a few bytes only.
        buffer.reserve(ROOM);
        // An error in reading is the sender's way of going away, as ordinary as an orderly end.
        if close || !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
            return Ok(());
        }
    }
}

/// FNV-1a in 128 bits: two different ids out of millions do not meet.
fn fingerprint(id: &[u8]) -> u128 {
    id.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(arrivals: &mut Arrivals, id: &str, sequence: u64) {
        let body = format!(r#"{{"benchSequence":"{sequence:012}","benchSentAt":"{:018}"}}"#, unix_micros());
        let text = format!("POST / HTTP/1.1\r\nwebhook-id: {id}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        arrivals.record(&Message::parse(text.as_bytes()).unwrap().unwrap());
    }

    #[test]
    fn duplicates_and_losses_are_seen() {
        let mut arrivals = Arrivals::new(100);
        for (id, sequence) in [("a", 100), ("b", 102), ("a", 100), ("late", 99)] {
            arrive(&mut arrivals, id, sequence);
        }
        assert_eq!((arrivals.requests, arrivals.distinct, arrivals.unmarked), (4, 2, 1));
        assert_eq!(arrivals.duplicates(), 1);
        assert_eq!([99, 100, 101, 102].map(|sequence| arrivals.holds(sequence)), [false, true, false, true]);
        assert_eq!(arrivals.latency.len(), 2);
    }
}
