//! Faults of the disk's making: another process that holds, or has damaged, the file of the store.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Runs the statements given as arguments behind the path, says so, and holds what it has until it reads a line.
const PROGRAM: &str = r#"
import sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    store.execute(statement)
print("done", flush=True)
sys.stdin.readline()
"#;

/// Another process in the middle of a transaction, until this is dropped.
pub(crate) struct Intruder {
    child: Child,
    input: ChildStdin,
}

impl Intruder {
    /// Takes the write lock.
    pub(crate) fn locks(store: &Path) -> Self {
        Self::runs(store, &["BEGIN IMMEDIATE"])
    }

    /// Runs these statements.
    pub(crate) fn runs(store: &Path, statements: &[&str]) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", PROGRAM])
            .arg(store)
            .args(statements)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "done");
        let input = child.stdin.take().unwrap();
        Self { child, input }
    }
}

impl Drop for Intruder {
    fn drop(&mut self) {
        _ = self.input.write_all(b"\n");
        _ = self.child.wait();
    }
}
