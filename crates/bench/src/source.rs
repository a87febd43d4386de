//! Where the load generator's connections get their next request from.
//!
//! Closed loop: each connection takes the next one as soon as its last was answered, which finds the highest rate. Open
//! loop: a thread of its own releases requests at a fixed rate whether or not a connection is free, and the time that
//! a request waits for one counts as latency; so a server that stalls cannot hide it by slowing its own load.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};

/// The shortest nap of the pacing thread. At higher rates it releases several requests at once.
const SHORTEST_NAP: Duration = Duration::from_micros(100);

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// After this many events.
    Events(u64),
    /// After this time.
    Time(Duration),
}

/// One request to send.
#[derive(Debug)]
pub(crate) struct Job {
    /// The number of its first event, from 0.
    pub(crate) offset: u64,
    /// When it was to be sent; `None` in a closed loop, where it is due when a connection takes it.
    pub(crate) due: Option<Instant>,
}

/// Hands out jobs to all connections.
pub(crate) enum Source {
    /// As fast as they are taken.
    Closed { next: AtomicU64, step: u64, limit: Limit, started: Instant },
    /// As fast as they are released.
    Open { released: Mutex<mpsc::UnboundedReceiver<Job>> },
}

impl Source {
    /// Starts the clock. `step` is the number of events in each request, `rate` the events released in a second.
    pub(crate) fn start(limit: Limit, step: u64, rate: Option<f64>) -> Self {
        let started = Instant::now();
        match rate {
            None => Self::Closed { next: AtomicU64::new(0), step, limit, started },
            Some(rate) => {
                let (release, released) = mpsc::unbounded_channel();
                std::thread::spawn(move || pace(&release, limit, step, rate, started));
                Self::Open { released: Mutex::new(released) }
            }
        }
    }

    /// The next job, or `None` when the limit is reached.
    pub(crate) async fn next(&self) -> Option<Job> {
        match self {
            Self::Open { released } => released.lock().await.recv().await,
            Self::Closed { next, step, limit, started } => {
                let offset = next.fetch_add(*step, Ordering::Relaxed);
                limit.allows(offset, started.elapsed()).then_some(Job { offset, due: None })
            }
        }
    }
}

impl Limit {
    fn allows(self, offset: u64, elapsed: Duration) -> bool {
        match self {
            Self::Events(events) => offset < events,
            Self::Time(time) => elapsed < time,
        }
    }
}

/// Releases each job when it is due. It counts as due at its intended moment, however late this thread wakes up: then
/// nothing that holds up the load, on whichever side, can make a latency look shorter.
fn pace(release: &mpsc::UnboundedSender<Job>, limit: Limit, step: u64, rate: f64, started: Instant) {
    let mut offset = 0;
    loop {
        let due = Duration::from_secs_f64(offset as f64 / rate);
        if !limit.allows(offset, due) {
            return;
        }
        let elapsed = started.elapsed();
        if due > elapsed {
            std::thread::sleep((due - elapsed).max(SHORTEST_NAP));
        }
        if release.send(Job { offset, due: Some(started + due) }).is_err() {
            return;
        }
        offset += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn open_load_keeps_its_intended_moments() {
        let source = Source::start(Limit::Events(40), 10, Some(1_000.0));
        let mut moments = Vec::new();
        while let Some(job) = source.next().await {
            assert_eq!(job.offset, moments.len() as u64 * 10);
            moments.push(job.due.unwrap());
        }
        let gaps: Vec<Duration> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps, [Duration::from_millis(10); 3], "whenever the thread woke up");
    }
}
