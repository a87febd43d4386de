//! The nodes: real processes of the binary, which are killed, stopped, and started again whenever they end.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::ledger::Ledger;

/// The platform key of all nodes.
pub(crate) const PLATFORM_KEY: &str = "3f0c9d52-8a9e-4f6c-9a53-0f6f0e1f8a11:7d1e5a34-52f4-4a36-8f0b-6c2d9b7e4c22";
/// Between two looks at a node.
const LOOK: Duration = Duration::from_millis(20);
/// A node that has not come up for so long never will. The database may be away for a part of it.
const PATIENCE: Duration = Duration::from_secs(120);
const LOG_LINES: usize = 30;

/// How the binary is run for one node.
pub(crate) struct Recipe {
    pub(crate) program: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
}

/// All nodes.
pub(crate) struct Nodes(Vec<Node>);

struct Node {
    number: usize,
    recipe: Recipe,
    /// Where it serves now. Apart from the process, so that publishers wait for nobody who breaks it.
    address: Mutex<Option<SocketAddr>>,
    process: Mutex<Option<Process>>,
}

/// One process of a node. Dropping it kills it.
struct Process {
    child: Child,
    /// The id of its life, as its log says.
    life: Option<String>,
    log: Arc<Mutex<VecDeque<String>>>,
}

/// A node that nobody else may break meanwhile.
pub(crate) struct Held<'a> {
    node: &'a Node,
    process: MutexGuard<'a, Option<Process>>,
}

impl Recipe {
    /// The binary with a command, as this node would run it.
    pub(crate) fn command(&self, command: &str) -> Command {
        let mut program = Command::new(&self.program);
        program.arg(command).current_dir(&self.folder).env_clear().envs(self.environment.iter().cloned());
        program
    }
}

impl Nodes {
    /// Starts all of them.
    pub(crate) fn start(recipes: Vec<Recipe>) -> Result<Self> {
        let node = |(number, recipe)| Node { number, recipe, address: Mutex::default(), process: Mutex::default() };
        let nodes = Self(recipes.into_iter().enumerate().map(node).collect());
        for node in &nodes.0 {
            node.hold().start()?;
        }
        Ok(nodes)
    }

    /// Where a node serves, counted round; `None` while it does not.
    pub(crate) fn address(&self, number: usize) -> Option<SocketAddr> {
        *lock(&self.0[number % self.0.len()].address)
    }

    /// A node that nobody is breaking, looked for from `number` on. `None` if there is none now.
    pub(crate) fn hold(&self, number: usize) -> Option<Held<'_>> {
        let count = self.0.len();
        (0..count).find_map(|more| self.0[(number + more) % count].try_hold())
    }

    /// Starts again whatever ends by itself, until it is told to end. A node that others thought dead must end.
    pub(crate) fn keep_running(&self, ledger: &Ledger, ended: &AtomicBool) -> Result<()> {
        while !ended.load(Ordering::Relaxed) {
            for node in &self.0 {
                if let Some(mut held) = node.try_hold()
                    && held.has_ended()?
                {
                    ledger.seen().ended_by_themselves += 1;
                    ledger.disturb(Some(node.number), || held.start())?;
                }
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Asks all to stop, and waits until they have.
    pub(crate) fn stop(&self) -> Result<()> {
        for node in &self.0 {
            let mut held = node.hold();
            held.signal(Signal::TERM)?;
            if let Some(process) = held.process.as_mut() {
                let status = process.child.wait()?;
                ensure!(status.success(), "a node ended with {status} when it was asked to stop:\n{}", process.tail());
            }
        }
        Ok(())
    }

    /// Runs `doctor`. Fails unless all is well.
    pub(crate) fn doctor(&self) -> Result<String> {
        let output = self.0[0].recipe.command("doctor").output().context("cannot start doctor")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "doctor found something:\n{said}");
        Ok(said.trim_end().to_owned())
    }
}

impl Node {
    fn hold(&self) -> Held<'_> {
        Held { node: self, process: lock(&self.process) }
    }

    fn try_hold(&self) -> Option<Held<'_>> {
        match self.process.try_lock() {
            Ok(process) => Some(Held { node: self, process }),
            Err(TryLockError::Poisoned(held)) => Some(Held { node: self, process: held.into_inner() }),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Held<'_> {
    /// Which of the nodes it is.
    pub(crate) fn number(&self) -> usize {
        self.node.number
    }

    /// The id of its life.
    pub(crate) fn life(&self) -> Option<&str> {
        self.process.as_ref()?.life.as_deref()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        *lock(&self.node.address) = None;
        *self.process = None;
    }

    /// Starts it, again and again while it does not come up: the database may be away.
    pub(crate) fn start(&mut self) -> Result<()> {
        *lock(&self.node.address) = None;
        let began = Instant::now();
        loop {
            match Process::start(&self.node.recipe) {
                Ok((process, address)) => {
                    *self.process = Some(process);
                    *lock(&self.node.address) = Some(address);
                    return Ok(());
                }
                Err(error) if began.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    }

    /// Makes it stand still, and go on after that time.
    pub(crate) fn stop_for(&mut self, time: Duration) -> Result<()> {
        self.signal(Signal::STOP)?;
        std::thread::sleep(time);
        self.signal(Signal::CONT)
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        let Some(process) = self.process.as_mut() else { return Ok(()) };
        if process.child.try_wait()?.is_some() {
            return Ok(());
        }
        let id = i32::try_from(process.child.id()).ok().and_then(Pid::from_raw).context("a process has an id")?;
        // Not waited for yet, so the id is still its own.
        kill_process(id, signal).context("cannot send a signal")
    }

    fn has_ended(&mut self) -> Result<bool> {
        let Some(process) = self.process.as_mut() else { return Ok(true) };
        Ok(process.child.try_wait()?.is_some())
    }
}

impl Process {
    /// Starts it and waits until it serves.
    fn start(recipe: &Recipe) -> Result<(Self, SocketAddr)> {
        let mut command = recipe.command("serve");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut log = BufReader::new(child.stderr.take().context("it is piped")?).lines();
        let mut process = Self { child, life: None, log: Arc::default() };
        while let Some(line) = log.next() {
            let line = line?;
            let (address, life) = (address(&line), life(&line));
            process.life = life.or(process.life.take());
            process.remember(line);
            if let Some(address) = address {
                let kept = process.log.clone();
                // Read to its end, so that a full pipe holds nobody up.
                std::thread::spawn(move || log.map_while(Result::ok).for_each(|line| remember(&kept, line)));
                return Ok((process, address));
            }
        }
        bail!("a node ended before it served:\n{}", process.tail())
    }

    fn remember(&self, line: String) {
        remember(&self.log, line);
    }

    fn tail(&self) -> String {
        lock(&self.log).iter().map(|line| format!("{line}\n")).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn remember(log: &Mutex<VecDeque<String>>, line: String) {
    let mut log = lock(log);
    if log.len() == LOG_LINES {
        log.pop_front();
    }
    log.push_back(line);
}

/// The address in the line in which a node says that it serves.
fn address(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    (line["message"] == "serving").then(|| line["address"].as_str()?.parse().ok())?
}

/// The id in the line in which a node says that its life begins.
fn life(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    (line["message"] == "a life begins").then(|| line["life"].as_str().map(str::to_owned))?
}

/// What a thread that panicked leaves is as good as before: each of these is written in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
