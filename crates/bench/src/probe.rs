//! What the figures were measured on: the machine, and the time of one durable write on the disk under the store.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::units::{histogram, micros};

const WRITES: usize = 100;
const BLOCK: [u8; 4096] = [0x5a; 4096];

/// The machine, as far as the figures depend on it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    cpus: usize,
    cpu_model: String,
    kernel: String,
    file_system: String,
}

/// Describes this machine; `directory` is where the store under test will be.
pub(crate) fn machine(directory: &Path) -> Result<Machine> {
    let directory = directory.canonicalize().with_context(|| format!("no directory {}", directory.display()))?;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = std::thread::available_parallelism()?.get();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown CPU");
    Ok(Machine {
        cpus,
        cpu_model: model.trim_start_matches([' ', '\t', ':']).to_owned(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        file_system: file_system(&read("/proc/self/mounts"), &directory),
    })
}

/// The type of the file system that holds `directory`: that of the longest mount point which contains it.
fn file_system(mounts: &str, directory: &Path) -> String {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let holding = fields.filter(|fields| fields.len() > 2 && directory.starts_with(fields[1]));
    holding.max_by_key(|fields| fields[1].len()).map_or_else(|| "unknown".to_owned(), |fields| fields[2].to_owned())
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpus, cpu_model, kernel, file_system } = self;
        write!(formatter, "{cpus} CPUs ({cpu_model}), Linux {kernel}, store on {file_system}")?;
        if file_system == "tmpfs" {
            write!(formatter, " (in memory: durable writes cost nothing here, choose another --directory)")?;
        }
        Ok(())
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_decides() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/run/bench")), "tmpfs");
        assert_eq!(file_system(mounts, Path::new("/var/lib")), "ext4");
        assert_eq!(file_system("", Path::new("/")), "unknown");
    }

    #[test]
    fn every_write_is_timed_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(fsync(directory.path()).unwrap().len(), WRITES as u64);
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }
}
