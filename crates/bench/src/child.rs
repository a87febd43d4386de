//! A server under measurement, as a child process: started, watched through `/proc`, and always ended.
//!
//! [`Child`] ends its process when it is dropped, which is also what happens when the run fails or is interrupted.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Linux counts CPU time for user space in ticks of 1/100 s, on every architecture.
const TICK: Duration = Duration::from_millis(10);
/// A server that has not stopped this long after SIGTERM is killed.
const GRACE: Duration = Duration::from_secs(20);
const LOG_LINES: usize = 20;

/// A running child process.
pub(crate) struct Child {
    process: std::process::Child,
    name: &'static str,
    log: PathBuf,
}

/// What a process has used since it started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// CPU time of all its threads, in user and kernel mode.
    pub(crate) cpu: Duration,
    /// Bytes it caused to be written to disk.
    pub(crate) written: u64,
    /// The most memory it ever held in RAM, in bytes.
    pub(crate) peak_memory: u64,
}

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let none = Self { cpu: Duration::ZERO, written: 0, peak_memory: 0 };
        all.fold(none, |sum, one| Self {
            cpu: sum.cpu + one.cpu,
            written: sum.written + one.written,
            peak_memory: sum.peak_memory + one.peak_memory,
        })
    }
}

impl Child {
    /// Starts `command`, with everything it prints going to `log`.
    pub(crate) fn start(name: &'static str, mut command: Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let process = (command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file))
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { process, name, log })
    }

    /// An error when the process has ended, with the end of its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("the {} ended by itself ({status}); its log ends with:\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// The last lines that the process printed.
    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// What the process has used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let directory = PathBuf::from(format!("/proc/{}", self.process.id()));
        let read = |name: &str| read(&directory, name);
        Ok(Usage {
            cpu: cpu(&read("stat")?).context("cannot understand /proc/PID/stat")?,
            written: field(&read("io")?, "write_bytes:").context("/proc/PID/io has no write_bytes")?,
            peak_memory: field(&read("status")?, "VmHWM:").context("/proc/PID/status has no VmHWM")? * 1024,
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let pid = self.process.id().to_string();
        // While `try_wait` says that it runs, the process is not reaped, and its id cannot belong to another.
        if matches!(self.process.try_wait(), Ok(None)) {
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
            let asked = Instant::now();
            while matches!(self.process.try_wait(), Ok(None)) && asked.elapsed() < GRACE {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if matches!(self.process.try_wait(), Ok(None)) {
            eprintln!("the {} did not stop within {GRACE:?} of SIGTERM and is killed", self.name);
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// CPU time of a process and its children, those included that have ended.
pub(crate) fn cpu_of_family(parent: u32) -> Result<Duration> {
    let stat = |id: u32| read(&PathBuf::from(format!("/proc/{id}")), "stat");
    let own = stat(parent)?;
    let (Some(own), Some(ended)) = (cpu(&own), cpu_of_ended(&own)) else { bail!("cannot understand /proc/PID/stat") };
    let children = read(&PathBuf::from(format!("/proc/{parent}/task/{parent}")), "children")?;
    let children = children.split_whitespace().filter_map(|id| id.parse().ok());
    // One that has ended since is counted by its parent the next time.
    Ok(own + ended + children.filter_map(|id| cpu(&stat(id).ok()?)).sum::<Duration>())
}

fn read(directory: &Path, name: &str) -> Result<String> {
    let path = directory.join(name);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// User and system time, fields 14 and 15. Field 2 is the program's name in brackets, which may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    ticks(stat, 11)
}

/// The same of its children that have ended, fields 16 and 17.
fn cpu_of_ended(stat: &str) -> Option<Duration> {
    ticks(stat, 13)
}

/// The sum of two counts of ticks, so many fields behind the name.
fn ticks(stat: &str, skip: usize) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(skip);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(TICK * (user + system))
}

/// The number after `key` on the line that begins with it.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        let stat = "42 (odd ) name) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 30 10 20 0 8 0 12345 1000 10";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu_of_ended(stat), Some(Duration::from_millis(400)));
        assert_eq!(field("VmPeak:\t 9 kB\nVmHWM:\t  2048 kB\n", "VmHWM:"), Some(2048));
        assert_eq!(field("rchar: 1\n", "write_bytes:"), None);
    }

    #[test]
    fn the_cpu_of_a_family_holds_that_of_its_children() {
        let directory = tempfile::tempdir().unwrap();
        // The child works until it is ended with its parent's input; the parent only waits for it.
        let mut command = Command::new("sh");
        command.args(["-c", "(while :; do :; done) & trap 'kill $!' TERM; wait"]);
        let family = Child::start("family", command, directory.path().join("log")).unwrap();
        let id = family.process.id();
        let begun = Instant::now();
        while cpu_of_family(id).unwrap() < 5 * TICK {
            assert!(begun.elapsed() < Duration::from_secs(60), "the child's work is not seen");
            std::thread::yield_now();
        }
        assert!(family.usage().unwrap().cpu < 5 * TICK, "the work is the child's, not the parent's");
    }

    #[test]
    fn a_child_is_measured_and_ended() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut child = Child::start("sleeper", command, directory.path().join("log")).unwrap();
        child.check().unwrap();
        assert!(child.usage().unwrap().peak_memory > 0);
        let proc = PathBuf::from(format!("/proc/{}", child.process.id()));
        assert!(proc.exists());
        drop(child);
        assert!(!proc.exists());
    }
}
