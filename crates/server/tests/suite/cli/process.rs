//! The real binary as a child process, in a folder of its own.

use crate::harness::store::{TestStore, on_postgres};
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tempfile::TempDir;

/// How long a line of output may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder to work in, with another one in it for what is temporary.
pub(super) struct Place {
    store: Option<TestStore>,
    folder: TempDir,
    environment: Vec<(String, String)>,
}

/// What a command that has ended said.
pub(super) struct Done {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl Place {
    /// With no store but the one that commands make by themselves, in a file here.
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("tmp")).expect("a folder in it");
        Self { store: None, folder, environment: Vec::new() }
    }

    /// With a store of the engine that was chosen for this run. One that nodes share comes with its keys, because nobody
    /// makes them by himself; the other is the default, so commands need not be told of it.
    pub(super) fn with_store() -> Self {
        let mut place = Self::new();
        let store = TestStore::new(place.folder.path());
        if on_postgres() {
            for (name, value) in store.variables() {
                place.set(name, &value);
            }
            let key = place.good(&["keys", "new"]);
            place.set("CAPA_WEBHOOKS_PLATFORM_KEY", key.trim());
        }
        place.store = Some(store);
        place
    }

    /// The store, to be disturbed past everything that keeps it in order.
    pub(super) fn store(&self) -> &TestStore {
        self.store.as_ref().expect("it was made with a store")
    }

    /// The path of a file.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// From now on commands find this variable.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The names of what is in a folder.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).expect(folder).map(|entry| entry.expect(folder));
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Starts a command.
    pub(super) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_capa-webhooks"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CAPA_WEBHOOKS_") {
                command.env_remove(name);
            }
        }
        command.env("TMPDIR", self.path("tmp")).envs(self.environment.iter().cloned());
        command.args(arguments).current_dir(self.folder.path());
        Running::start(command)
    }

    /// Runs a command to its end.
    pub(super) fn run(&self, arguments: &[&str]) -> Done {
        self.start(arguments).finish()
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub(super) fn good(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, Some(0), "{arguments:?}: {}{}", done.out, done.err);
        done.out
    }

    /// Runs a command that must fail with 1, and gives what it said about it.
    pub(super) fn bad(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, Some(1), "{arguments:?}: {}{}", done.out, done.err);
        done.out + &done.err
    }

    /// Serves, on free ports.
    pub(super) fn serve(&self, arguments: &[&str]) -> Server {
        let ports = ["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
        let mut running = self.start(&[&ports, arguments].concat());
        let line = running.line("it serves", |line| line.contains("\"message\":\"serving\""));
        let entry: serde_json::Value = serde_json::from_str(&line).expect("a log line is JSON");
        let address = entry["address"].as_str().and_then(|address| address.parse().ok());
        Server { running, address: address.expect("it says where it serves") }
    }
}

/// A service that answers.
pub(super) struct Server {
    pub(super) running: Running,
    pub(super) address: SocketAddr,
}

impl Server {
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Asks it to stop, and waits until it has.
    pub(super) fn stop(self) -> Done {
        self.running.signal("TERM");
        self.running.finish()
    }
}

/// A command that runs. Dropping it ends it.
pub(super) struct Running {
    child: Child,
    lines: Receiver<(Stream, String)>,
    /// What was read so far.
    done: Done,
}

#[derive(Clone, Copy)]
enum Stream {
    Out,
    Err,
}

impl Running {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let (sender, lines) = channel();
        forward(child.stdout.take().expect("it is piped"), Stream::Out, sender.clone());
        forward(child.stderr.take().expect("it is piped"), Stream::Err, sender);
        Self { child, lines, done: Done { code: None, out: String::new(), err: String::new() } }
    }

    /// Waits for the next line, of either stream, that is `wanted`.
    pub(super) fn line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let found = std::iter::from_fn(|| self.next()).find(|line| wanted(line));
        assert!(found.is_some(), "waited for {what} in vain:\n{}{}", self.done.out, self.done.err);
        found.unwrap_or_default()
    }

    /// What the system says of it, under this name.
    pub(super) fn status(&self, name: &str) -> String {
        let all = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let found = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.expect("the system knows that name").trim().to_owned()
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("these tests need kill").success());
    }

    /// Waits for its end.
    pub(super) fn finish(mut self) -> Done {
        while self.next().is_some() {}
        self.done.code = self.child.wait().expect("it was started").code();
        let nothing = Done { code: None, out: String::new(), err: String::new() };
        std::mem::replace(&mut self.done, nothing)
    }

    /// The next line; none if the output has ended.
    fn next(&mut self) -> Option<String> {
        let next = self.lines.recv_timeout(PATIENCE);
        let timed_out = matches!(next, Err(std::sync::mpsc::RecvTimeoutError::Timeout));
        assert!(!timed_out, "no further line in {PATIENCE:?}:\n{}{}", self.done.out, self.done.err);
        let (stream, line) = next.ok()?;
        let text = match stream {
            Stream::Out => &mut self.done.out,
            Stream::Err => &mut self.done.err,
        };
        text.push_str(&line);
        text.push('\n');
        Some(line)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn forward(stream: impl Read + Send + 'static, kind: Stream, lines: Sender<(Stream, String)>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // A test that has ended reads no more.
            _ = lines.send((kind, line));
        }
    });
}

/// Runs a line in a shell, as somebody who pasted it would.
pub(super) fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("these tests need sh");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error} (is curl installed?)");
    String::from_utf8(output.stdout).expect("an answer is text")
}

/// Makes a call with curl, and gives the status and the answer.
pub(super) fn curl(arguments: &[&str]) -> (u16, String) {
    let output = Command::new("curl").args(["-sS", "-w", "\n%{http_code}"]).args(arguments).output();
    let output = output.expect("these tests need curl");
    let text = String::from_utf8(output.stdout).expect("an answer is text");
    let (answer, status) = text.rsplit_once('\n').expect("the status follows");
    (status.parse().expect("a status is a number"), answer.to_owned())
}
