//! Looks after the disk: closes the door for new events while less is free than the reserve.
//!
//! What is accepted already is still delivered, and what comes of it recorded: that is what the reserve is for.

use crate::clock::Clock;
use crate::door::{Door, Reason};
use crate::telemetry::metrics::Metrics;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

type Measure = dyn Fn(&Path) -> std::io::Result<u64> + Send + Sync;

/// Tells how many bytes are free where a folder lies.
#[derive(Clone)]
pub struct FreeSpace(pub Arc<Measure>);

impl Default for FreeSpace {
    /// Asks the operating system.
    fn default() -> Self {
        Self(Arc::new(|folder| {
            let found = rustix::fs::statvfs(folder)?;
            Ok(found.f_bavail.saturating_mul(found.f_frsize))
        }))
    }
}

impl fmt::Debug for FreeSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FreeSpace")
    }
}

/// The disk on which the store lies.
#[derive(Debug)]
pub struct Disk {
    /// The folder of the store.
    pub folder: PathBuf,
    /// Below this many free bytes the door is closed.
    pub reserve: u64,
    /// Measures it.
    pub free: FreeSpace,
    /// What is closed.
    pub door: Door,
    /// Shows what is free.
    pub metrics: Arc<Metrics>,
}

impl Disk {
    /// Looks now, and then once a second until it is dropped.
    pub async fn watch(self, clock: Clock) {
        let mut told = false;
        loop {
            let now = clock.now();
            match (self.free.0)(&self.folder) {
                Ok(free) => {
                    self.metrics.disk_free(free);
                    self.door
                        .set(Reason::DiskReserve, closes(free, self.reserve, self.door.is_closed(Reason::DiskReserve)));
                    told = false;
                }
                // What cannot be measured closes nothing: a disk that is really full refuses by itself.
                Err(error) if !told => {
                    tracing::warn!(%error, "the free space of the disk cannot be read; the reserve is not watched");
                    told = true;
                }
                Err(_) => {}
            }
            clock.sleep_until(now.plus(LOOK)).await;
        }
    }
}

/// Whether the door is closed with so much free: from below the reserve until an eighth more than it is free.
const fn closes(free: u64, reserve: u64, closed: bool) -> bool {
    free < if closed { reserve.saturating_add(reserve / 8) } else { reserve }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_below_the_reserve_and_opens_well_above() {
        for (free, closed, closes_now) in [
            (799, false, true),
            (800, false, false),
            (800, true, true),
            (899, true, true),
            (900, true, false),
            (0, true, true),
        ] {
            assert_eq!(closes(free, 800, closed), closes_now, "{free} free, {closed}");
        }
        assert!(!closes(0, 0, true), "no reserve, no closed door");
    }

    #[test]
    fn the_operating_system_tells_what_is_free() {
        let folder = tempfile::tempdir().unwrap();
        assert!((FreeSpace::default().0)(folder.path()).unwrap() > 0);
        assert!((FreeSpace::default().0)(&folder.path().join("missing")).is_err());
    }
}
