//! Who goes first where processors are short.
//!
//! Load generator and receivers stand for other machines than the one that is measured. Here all share its processors.
//! Where a few events are measured beside much else, what publishes and receives them goes first ([`Before`]), and dead
//! receivers and the load that goes to them stand back ([`stand_back`]): what is measured should wait for what the server
//! does about them, not for them.

use rustix::process::{Pid, setpriority_process};
use rustix::thread::gettid;

/// The lowest is 19.
const LOW: i32 = 10;
/// The usual one is 0.
const HIGH: i32 = -10;

/// Gives this thread, and those that it starts, a low priority.
pub(crate) fn stand_back() {
    // A process may always lower it.
    set(gettid(), LOW);
}

/// As long as this lives, this thread and another go before all others. Whoever starts a process meanwhile passes it on.
#[must_use]
pub(crate) struct Before([Pid; 2]);

impl Before {
    /// The other thread is this one's receiver.
    pub(crate) fn others(receiver: Pid) -> Self {
        let threads = [gettid(), receiver];
        for thread in threads {
            set(thread, HIGH);
        }
        Self(threads)
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        for thread in self.0 {
            set(thread, 0);
        }
    }
}

fn set(thread: Pid, priority: i32) {
    // Linux sets the priority of the one thread with that id.
    if let Err(error) = setpriority_process(Some(thread), priority) {
        eprintln!("a thread of the benchmark keeps its priority, which only root may raise: {error}");
    }
}
