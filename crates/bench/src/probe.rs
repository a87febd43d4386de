//! What the figures were measured on: the machine, and the time of one durable write on the disk under the store.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::units::{histogram, micros};

const WRITES: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);
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

/// Waits until the kernel has written what was written before, so that no round pays for another's.
pub(crate) async fn written_out() -> Result<()> {
    Ok(tokio::task::spawn_blocking(rustix::fs::sync).await?)
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

/// The time of all processors since the machine's start, in ticks.
pub(crate) struct Processors {
    all: u64,
    /// What the host gave to others while something here was ready to run (steal).
    taken: u64,
}

impl Processors {
    /// Up to now.
    pub(crate) fn now() -> Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        Self::read(&stat).context("/proc/stat does not begin with the processors' times")
    }

    fn read(stat: &str) -> Option<Self> {
        // user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in the first two.
        let times = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
        let times: Vec<u64> = times.map(|time| time.parse().ok()).collect::<Option<_>>()?;
        Some(Self { all: times.iter().sum(), taken: *times.get(7)? })
    }

    /// The share that was taken since `before`.
    pub(crate) fn taken_since(&self, before: &Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.taken.saturating_sub(before.taken) as f64 / all as f64
    }
}

/// Appends 4 KiB and calls fsync, 100 times, in a file of its own in `directory`; microseconds of each.
pub(crate) fn fsync(directory: &Path) -> Result<Histogram<u64>> {
    let path = directory.join("fsync-probe");
    let probe = || -> std::io::Result<Histogram<u64>> {
        let mut file = File::create(&path)?;
        let mut times = histogram();
        for _ in 0..WRITES {
            time_write(&mut file, &mut times)?;
        }
        std::fs::remove_file(&path)?;
        Ok(times)
    };
    probe().with_context(|| format!("cannot measure fsync with {}", path.display()))
}

/// Times an fsync every 50 ms in a thread of its own, beside a load on the same disk.
pub(crate) struct Beside {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Histogram<u64>>>,
}

impl Beside {
    /// Begins, in a file of its own in `directory`.
    pub(crate) fn start(directory: &Path) -> Self {
        let path = directory.join("fsync-beside");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut file = File::create(&path)?;
            let mut times = histogram();
            while !stopped.load(Ordering::Relaxed) {
                time_write(&mut file, &mut times)?;
                std::thread::sleep(PAUSE);
            }
            std::fs::remove_file(&path)?;
            Ok(times)
        });
        Self { stop, thread }
    }

    /// Ends, and gives the microseconds of each.
    pub(crate) fn finish(self) -> Result<Histogram<u64>> {
        self.stop.store(true, Ordering::Relaxed);
        let times = self.thread.join().map_err(|_| anyhow!("the thread that measures fsync was lost"))?;
        times.context("cannot measure fsync beside the load")
    }
}

fn time_write(file: &mut File, times: &mut Histogram<u64>) -> std::io::Result<()> {
    let started = Instant::now();
    file.write_all(&BLOCK)?;
    file.sync_all()?;
    times.saturating_record(micros(started.elapsed()));
    Ok(())
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
    fn what_the_host_takes_is_a_share_of_all_time() {
        let before = Processors::read("cpu  100 0 50 800 10 5 5 30 7 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n").unwrap();
        let after = Processors::read("cpu  150 0 70 810 10 5 5 50 7 0\n").unwrap();
        assert_eq!(format!("{:.2}", after.taken_since(&before)), "0.20");
        assert!(Processors::read("intr 1 2 3\n").is_none() && Processors::read("cpu  1 2 3\n").is_none());
        assert!(Processors::now().is_ok());
    }

    #[test]
    fn every_write_is_timed_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(fsync(directory.path()).unwrap().len(), WRITES as u64);
        let beside = Beside::start(directory.path());
        while directory.path().join("fsync-beside").metadata().map_or(0, |file| file.len()) == 0 {
            std::thread::yield_now();
        }
        assert!(!beside.finish().unwrap().is_empty());
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }
}
