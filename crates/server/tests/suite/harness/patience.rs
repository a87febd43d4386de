//! The one place of the suite that waits in real time: for a program that runs beside the test.
//!
//! Product time is stepped (see [`super::World`]); what is waited for here is only that the program gets there. Both
//! functions fail the test with what they waited for.

#![expect(
    clippy::disallowed_methods,
    reason = "the suite waits for real sockets and threads, which no stepped clock moves"
)]

use std::time::Duration;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits for `work` to end.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Looks again and again until there is something to be seen.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    within(what, looking).await
}
