//! What the disk can do: the time of one durable write, measured where the store under test keeps its files.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

use crate::units::{histogram, micros};

const WRITES: usize = 100;
const BLOCK: [u8; 4096] = [0x5a; 4096];

/// Appends 4 KiB and calls fsync, 100 times, in a file of its own in `directory`; microseconds of each.
pub(crate) fn fsync(directory: &Path) -> Result<Histogram<u64>> {
    let path = directory.join("fsync-probe");
    let probe = || -> std::io::Result<Histogram<u64>> {
        let mut file = File::create(&path)?;
        let mut times = histogram();
        for _ in 0..WRITES {
            let started = Instant::now();
            file.write_all(&BLOCK)?;
            file.sync_all()?;
            times.saturating_record(micros(started.elapsed()));
        }
        std::fs::remove_file(&path)?;
        Ok(times)
    };
    probe().with_context(|| format!("cannot measure fsync with {}", path.display()))
}
