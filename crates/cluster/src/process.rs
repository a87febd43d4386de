//! The server's process: started, waited for, ended in several ways.
//!
//! The server is our own child, not one that `pg_ctl` sent into the background. So its id cannot come to belong to another
//! process before we have taken note of its end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::place::Place;

/// How often something is looked at while it is waited for.
pub(crate) const LOOK: Duration = Duration::from_millis(5);
/// How long anything is waited for. Only what hangs for ever takes as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How long an orderly stop may take before the server is stopped at once.
const ORDERLY: Duration = Duration::from_secs(30);

/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    data: PathBuf,
}

impl Process {
    /// Starts the server and waits until it takes connections.
    pub(crate) fn start(place: &Place) -> Result<Self> {
        let log = File::options().create(true).append(true).open(place.log()).context("cannot open the log")?;
        let mut command = place.command("postgres");
        command.arg("-D").arg(place.data()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // An interrupt from the keyboard goes to our whole group; the server is ended by us or the guardian.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().context("cannot start postgres")?;
        let mut process = Self { child, data: place.data() };
        let ready = wait_until(|| Ok(process.has_ended()? || process.is_ready()))?;
        if !ready || process.has_ended()? {
            let log = std::fs::read_to_string(place.log()).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            bail!("postgres does not serve; its log ends with:\n{tail}");
        }
        Ok(process)
    }

    /// The id of its first process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end its sessions and to stop, and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.signal(Signal::INT)?;
        if wait_for(ORDERLY, || self.has_ended())? {
            return Ok(());
        }
        self.stop_at_once()
    }

    /// Stops it without a checkpoint, so that the next start must recover. This is `pg_ctl stop -m immediate`.
    pub(crate) fn stop_at_once(mut self) -> Result<()> {
        self.signal(Signal::QUIT)?;
        ensure!(wait_until(|| self.has_ended())?, "postgres does not stop");
        Ok(())
    }

    /// Ends it and all its processes with SIGKILL, as a crash of the machine would: none of them does anything more.
    pub(crate) fn kill(mut self) -> Result<()> {
        // While it stands still it neither starts further processes nor takes note of the end of these.
        self.signal(Signal::STOP)?;
        let own = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"))
            .context("cannot list the processes of postgres")?;
        let children: Vec<i32> = children.split_whitespace().filter_map(|id| id.parse().ok()).collect();
        for child in children.iter().filter_map(|id| Pid::from_raw(*id)) {
            // It may have ended by itself.
            _ = kill_process(child, Signal::KILL);
        }
        self.signal(Signal::KILL)?;
        self.child.wait().context("cannot wait for postgres")?;
        let gone = wait_until(|| Ok(!children.iter().any(|child| works_in(*child, &self.data))))?;
        ensure!(gone, "processes of postgres outlive SIGKILL");
        Ok(())
    }

    /// Makes it read its configuration again.
    pub(crate) fn reload(&self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process has an id")?;
        kill_process(id, signal).context("cannot send a signal to postgres")
    }

    fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context("cannot ask how postgres does")?.is_some())
    }

    /// The server tells its id in the first line of its file, and how it does in the eighth.
    fn is_ready(&self) -> bool {
        let text = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let line = |number| text.lines().nth(number).unwrap_or_default().trim();
        line(0) == self.child.id().to_string() && line(7) == "ready"
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.has_ended(), Ok(false)) {
            // Errors have nobody to go to; the guardian tries again.
            _ = self.signal(Signal::QUIT);
            _ = self.child.wait();
        }
    }
}

/// Looks again and again whether something has come about. False if it has not for longer than anything takes.
pub(crate) fn wait_until(look: impl FnMut() -> Result<bool>) -> Result<bool> {
    wait_for(PATIENCE, look)
}

fn wait_for(patience: Duration, mut look: impl FnMut() -> Result<bool>) -> Result<bool> {
    let began = Instant::now();
    while !look()? {
        if began.elapsed() > patience {
            return Ok(false);
        }
        std::thread::sleep(LOOK);
    }
    Ok(true)
}

/// Whether a process lives and works in this folder. One that only waits to be taken note of has none.
fn works_in(process: i32, folder: &Path) -> bool {
    std::fs::read_link(format!("/proc/{process}/cwd")).is_ok_and(|found| found == folder)
}
