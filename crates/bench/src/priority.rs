//! Who goes first where processors are short.
//!
//! Dead receivers and the load that goes to them stand for other machines than the one that is measured. Here all share
//! its processors, so they stand back: what is measured should wait for what the server does about them, not for them.

use rustix::process::setpriority_process;
use rustix::thread::gettid;

/// The lowest is 19.
const LOW: i32 = 10;

/// Gives this thread, and those that it starts, a low priority.
pub(crate) fn stand_back() {
    // Linux sets the priority of the one thread with that id. A process may always lower it.
    if let Err(error) = setpriority_process(Some(gettid()), LOW) {
        eprintln!("a thread keeps its priority: {error}");
    }
}
