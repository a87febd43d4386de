//! The receivers: one that answers 200 `ok` to everything as fast as it can, and keeps account of what arrived, and all
//! the bad ones that a sender meets.
//!
//! It runs on threads of its own, so that one process can hold it together with the load generator: one for the
//! healthy receiver, and one for the others, which must not hold it up here, of all places. The path says which receiver
//! is meant ([`manner`]); nobody listens at [`Sink::refusing`]. Only what arrives at the healthy one is counted as an
//! arrival, in the phase since the last [`Sink::begin`].

mod arrivals;
mod gate;
mod manner;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::{Buf as _, BytesMut};
use rustix::process::Pid;
use rustix::thread::gettid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::http1::Message;
use crate::priority;
use crate::units::{grouped, micros_text};
use arrivals::Arrivals;
use gate::Gate;
pub(crate) use manner::Manner;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
const ROOM: usize = 4096;
const POLL: Duration = Duration::from_millis(5);

/// Receive events and count them until Ctrl-C.
#[derive(clap::Args)]
#[command(
    after_help = "The path of a partner's URL says how its receiver behaves:\n  /aside  answers 200 at once, and is not \
                  counted\n  /hang   takes the request, never answers\n  \
                  /drip   answers 200 and sends the body at a byte a second\n  /fail   answers 500\n  /reset  resets the \
                  connection\n  all others answer 200 at once, and are counted\n\n\
                  Example:\n  capa-webhooks-bench sink --listen 127.0.0.1:9999"
)]
pub(crate) struct Args {
    /// Address to listen on.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
}

/// A running sink.
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The thread of the healthy receiver.
    pub(crate) thread: Pid,
    /// Where all receivers but the healthy one are to be called: the same ones, on another thread.
    others: SocketAddr,
    /// An address of this machine where every connection is refused.
    pub(crate) refusing: SocketAddr,
    shared: Arc<Shared>,
    /// Holds the port of `refusing`, without listening on it.
    _reserved: TcpSocket,
}

/// What all connections share.
struct Shared {
    arrivals: Mutex<Arrivals>,
    gate: Gate,
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
    println!("webhook-ids {} distinct, {} duplicates", arrivals.ids.distinct(), arrivals.duplicates());
    println!(
        "end to end  p50 {}, p99 {}, max {}",
        micros_text(arrivals.latency.value_at_quantile(0.5) as f64),
        micros_text(arrivals.latency.value_at_quantile(0.99) as f64),
        micros_text(arrivals.latency.max() as f64)
    );
    Ok(())
}

impl Sink {
    /// Starts a sink on its own threads. It serves until the process ends.
    pub(crate) fn start(listen: SocketAddr) -> Result<Self> {
        let reserved = TcpSocket::new_v4()?;
        reserved.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let shared = Arc::new(Shared { arrivals: Mutex::new(Arrivals::new(0)), gate: Gate::default() });
        let (address, thread) = serve_at(listen, shared.clone(), || {})?;
        let (others, _) = serve_at((listen.ip(), 0).into(), shared.clone(), priority::stand_back)?;
        Ok(Self { address, thread, others, refusing: reserved.local_addr()?, shared, _reserved: reserved })
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
        self.shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gate of the receiver at `/gate`.
    pub(crate) fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    /// The URL of the receiver that behaves like this.
    pub(crate) fn url(&self, manner: Manner) -> String {
        let address = if manner == Manner::Healthy { self.address } else { self.others };
        format!("http://{address}{}", manner.path())
    }
}

/// Serves on a thread of its own, and says at which address.
fn serve_at(listen: SocketAddr, shared: Arc<Shared>, begin: fn()) -> Result<(SocketAddr, Pid)> {
    let listener = std::net::TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        begin();
        // The other end waits for it.
        _ = tell.send(gettid());
        if let Err(error) = runtime.block_on(accept(listener, shared)) {
            eprintln!("the sink stopped: {error:#}");
        }
    });
    Ok((address, told.recv().context("the sink's thread was lost")?))
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let shared = shared.clone();
        tokio::spawn(async move {
            // A sender that hangs up, or sends what we cannot read, ends its own connection only.
            if let Err(error) = serve(stream, &shared).await {
                eprintln!("the sink closed a connection: {error:#}");
            }
        });
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    let mut buffer = BytesMut::with_capacity(4 * ROOM);
    let mut answers = Vec::new();
    loop {
        let mut close = false;
        while let Some(request) = Message::parse(&buffer)? {
            match Manner::of(&request) {
                Manner::Healthy => {
                    shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner).record(&request);
                    answers.extend_from_slice(ANSWER);
                }
                Manner::Aside => answers.extend_from_slice(ANSWER),
                // Whatever a bad receiver does to its connection, the sender may already have turned away from it.
                Manner::Fail => drop(manner::fail(&mut stream).await),
                Manner::Hang => {
                    manner::hang(&mut stream).await;
                    return Ok(());
                }
                Manner::Drip => {
                    drop(manner::drip(&mut stream).await);
                    return Ok(());
                }
                Manner::Reset => return manner::reset(&stream),
                Manner::Gate => {
                    if !pass(&mut stream, &shared.gate, &request).await {
                        return Ok(());
                    }
                }
            }
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

/// Brings a request through the gate. Whether it was answered; if not, its sender has given up.
async fn pass(stream: &mut TcpStream, gate: &Gate, request: &Message<'_>) -> bool {
    let answered = async {
        if gate.enter() {
            tokio::time::sleep(gate::DELAY).await;
            if gate.acknowledge(request) {
                return stream.write_all(ANSWER).await.is_ok();
            }
        }
        manner::hang(stream).await;
        false
    };
    let answered = answered.await;
    gate.leave();
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends one request to `url` and gives back all that comes until the sink closes, or `None` after a reset.
    async fn ask(address: SocketAddr, path: &str, until: usize) -> Option<String> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("POST {path} HTTP/1.1\r\nwebhook-id: {path}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while answer.len() < until {
            match stream.read_buf(&mut answer).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) => return None,
            }
        }
        Some(String::from_utf8(answer).unwrap())
    }

    #[tokio::test]
    async fn one_sink_plays_every_receiver() {
        let sink = Sink::start((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert!(ask(sink.address, "/", 12).await.unwrap().starts_with("HTTP/1.1 200"));
        assert!(ask(sink.address, "/aside", 12).await.unwrap().starts_with("HTTP/1.1 200"));
        assert!(ask(sink.address, "/fail", 12).await.unwrap().starts_with("HTTP/1.1 500"));
        assert_eq!(ask(sink.address, "/reset", 12).await, None);
        let dripped = ask(sink.address, "/drip", manner::DRIP_HEAD.len() + 1).await.unwrap();
        assert!(dripped.len() < manner::DRIP_HEAD.len() + 3_600, "a body that never ends in time");
        assert!(TcpStream::connect(sink.refusing).await.is_err());
        assert_eq!(sink.arrivals().requests, 1, "only what is measured counts");
    }

    #[tokio::test]
    async fn a_receiver_that_hangs_holds_its_sender() {
        let sink = Sink::start((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        for path in ["/hang", "/gate"] {
            let mut stream = TcpStream::connect(sink.address).await.unwrap();
            let request = format!("POST {path} HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            // The healthy request is sent later and answered; the hung one still has nothing.
            assert!(ask(sink.address, "/", 12).await.is_some());
            assert!(stream.try_read(&mut [0; 16]).is_err(), "{path}");
        }
    }

    #[tokio::test]
    async fn an_open_gate_counts_what_passes() {
        let sink = Sink::start((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        sink.gate().open();
        let (first, second) = tokio::join!(ask(sink.address, "/gate", 12), ask(sink.address, "/gate", 12));
        assert!(first.is_some() && second.is_some());
        let state = sink.gate().state();
        assert_eq!((state.acknowledged.distinct(), state.acknowledged.duplicates()), (1, 1));
        assert!((1..=2).contains(&state.peak_in_flight) && state.first.is_some());
    }
}
