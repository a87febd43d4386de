//! Connections that rest between two posts, by origin.
//!
//! The connection that was used last is taken first, so that the others can end. What has rested too long is closed by
//! a task that runs while anything rests. One that is old is not kept, however busy: the next one follows the receiver's
//! name to where it points by then.

use super::connection::Connection;
use crate::clock::Clock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many resting connections are kept for each scheme, host and port. As many as the busiest of times needs: many
/// partners may share one, and whatever is closed here has to be opened again.
const MOST_RESTING: usize = 1024;
/// How long a connection rests at most.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// How old a connection may be and still be kept.
const LONGEST_LIFE: Duration = Duration::from_secs(300);

/// The pool. Clones share one.
#[derive(Clone)]
pub(super) struct Pool {
    clock: Clock,
    resting: Arc<Mutex<Resting>>,
}

#[derive(Default)]
struct Resting {
    by_origin: HashMap<Arc<str>, Vec<Connection>>,
    /// Whether the task runs that closes what has rested too long.
    tidied: bool,
}

impl Pool {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, resting: Arc::default() }
    }

    /// Takes a connection to the origin out of the pool.
    pub(super) fn take(&self, origin: &str) -> Option<Connection> {
        let connection = self.lock().by_origin.get_mut(origin)?.pop()?;
        (connection.rested() < LONGEST_REST).then_some(connection)
    }

    /// Keeps a connection that is ready for the next request.
    pub(super) fn keep(&self, origin: &Arc<str>, mut connection: Connection) {
        if connection.age() >= LONGEST_LIFE {
            return;
        }
        connection.rest(&self.clock);
        let mut resting = self.lock();
        let of_origin = match resting.by_origin.get_mut(origin) {
            Some(known) => known,
            None => resting.by_origin.entry(origin.clone()).or_default(),
        };
        if of_origin.len() < MOST_RESTING {
            of_origin.push(connection);
        }
        if !resting.tidied {
            resting.tidied = true;
            tokio::spawn(self.clone().tidy());
        }
    }

    /// Closes what has rested too long, until nothing is left.
    async fn tidy(self) {
        loop {
            self.clock.sleep(LONGEST_REST / 2).await;
            let mut resting = self.lock();
            resting.by_origin.retain(|_, connections| {
                connections.retain(|connection| connection.rested() < LONGEST_REST);
                !connections.is_empty()
            });
            if resting.by_origin.is_empty() {
                resting.tidied = false;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Resting> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
