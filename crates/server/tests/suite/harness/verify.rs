//! Signatures, computed by Python's `hmac` module: nothing of the product takes part in judging the product.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Answers each line `secret id timestamp hex(body)` with `capa-signature webhook-signature`, until its input ends.
const PROGRAM: &str = r#"
import base64, hashlib, hmac, sys
for line in sys.stdin:
    secret, id, timestamp, body = line.rstrip("\n").split(" ")
    key, body = secret.encode(), bytes.fromhex(body)
    capa = hmac.new(key, body, hashlib.sha256).hexdigest()
    standard = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    print(capa, "v1," + base64.b64encode(standard).decode(), flush=True)
"#;

/// What the headers of a request must hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Signatures {
    pub(crate) capa: String,
    pub(crate) standard: String,
}

struct Python {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Ends by itself when the test process, and with it the pipe, ends.
    _child: Child,
}

/// The signatures of a request.
pub(crate) fn signatures(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> Signatures {
    static PYTHON: OnceLock<Mutex<Python>> = OnceLock::new();
    for word in [secret, id, timestamp] {
        assert!(!word.contains(char::is_whitespace), "{word:?} would break the line");
    }
    let mut python = PYTHON.get_or_init(|| Mutex::new(start())).lock().unwrap_or_else(PoisonError::into_inner);
    let line = format!("{secret} {id} {timestamp} {}\n", hex(body));
    python.input.write_all(line.as_bytes()).expect("python3 reads");
    let mut answer = String::new();
    python.output.read_line(&mut answer).expect("python3 answers");
    let (capa, standard) = answer.trim_end().split_once(' ').expect("python3 answers two words");
    Signatures { capa: capa.to_owned(), standard: standard.to_owned() }
}

fn start() -> Python {
    let mut child = Command::new("python3")
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the suite verifies signatures with python3");
    let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    Python { input, output: BufReader::new(output), _child: child }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
