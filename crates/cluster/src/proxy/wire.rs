//! As much of PostgreSQL's protocol as it takes to see commits pass.
//!
//! A client sends messages, each with a letter and a length. A simple query (`Q`) is a request of its own. In the extended
//! form a request is a row of messages that ends with a sync (`S`). The server ends its answer to each request with one
//! "ready for query" (`Z`), so counting both tells which request an answer belongs to.
//!
//! What commits: the statement `COMMIT` in either form; and a request that changes something outside of a transaction
//! block, because the server commits by itself at its end. Of functions that a `SELECT` calls, those of the service that
//! change something are known by their names ([`WRITERS`]).

use std::collections::HashMap;

/// The codes in a first message that ask for encryption: TLS, and that of GSSAPI.
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];
/// Letter and length.
const HEAD: usize = 5;
/// Functions of the service that change something, without the number of their form (`accept_1`).
const WRITERS: [&str; 6] = ["ACCEPT", "RECORD", "HEARTBEAT", "SWEEP", "FOLD", "MAKE_PARTITIONS"];

/// What a client sends, cut into messages.
#[derive(Default)]
pub(super) struct Requests {
    buffer: Vec<u8>,
    started: bool,
    /// How many requests have ended.
    ended: u64,
    /// What the prepared statements do, by name.
    statements: HashMap<Vec<u8>, Effect>,
    in_block: bool,
    /// Whether the request so far has changed something outside of a block.
    changed: bool,
}

/// One message of a client.
#[derive(Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    /// Whether the server commits when it reads this.
    pub(super) commits: bool,
    /// The number of the request that this message ends.
    pub(super) ends_request: Option<u64>,
    /// What the proxy itself answers; the server does not see the message.
    pub(super) answer: Option<&'static [u8]>,
}

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Begin,
    Commit,
    RollBack,
    Change,
    Nothing,
}

impl Requests {
    /// Adds what arrived.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    pub(super) fn next(&mut self) -> Option<Piece> {
        let head = if self.started { HEAD } else { HEAD - 1 };
        let length = self.buffer.get(head - 4..head)?;
        let length = u32::from_be_bytes(length.try_into().ok()?);
        let total = head - 4 + usize::try_from(length).ok()?.max(4);
        if self.buffer.len() < total {
            return None;
        }
        let rest = self.buffer.split_off(total);
        let bytes = std::mem::replace(&mut self.buffer, rest);
        Some(if self.started { self.message(bytes) } else { self.first(bytes) })
    }

    /// A message before the session starts: it has no letter.
    fn first(&mut self, bytes: Vec<u8>) -> Piece {
        let code = bytes.get(4..8).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
        let encryption = code.is_some_and(|code| ENCRYPTION.contains(&code));
        self.started = !encryption;
        // "N": there is no encryption, go on in plain text. The session's start is answered with the first "ready".
        self.ended += u64::from(self.started);
        Piece { bytes, commits: false, ends_request: None, answer: encryption.then_some(b"N") }
    }

    fn message(&mut self, bytes: Vec<u8>) -> Piece {
        let (letter, body) = (bytes[0], &bytes[HEAD..]);
        let mut commits = false;
        match letter {
            b'Q' => {
                for statement in until_zero(body).split(|byte| *byte == b';') {
                    commits |= self.run(effect(statement));
                }
                commits |= std::mem::take(&mut self.changed);
            }
            b'P' => {
                let name = until_zero(body);
                let effect = effect(until_zero(body.get(name.len() + 1..).unwrap_or_default()));
                self.statements.insert(name.to_vec(), effect);
            }
            b'B' => {
                // The portal's name comes first, then that of the statement.
                let portal = until_zero(body);
                let name = until_zero(body.get(portal.len() + 1..).unwrap_or_default());
                let effect = self.statements.get(name).copied().unwrap_or(Effect::Nothing);
                commits = self.run(effect);
            }
            b'S' => commits = std::mem::take(&mut self.changed),
            _ => {}
        }
        let ends = matches!(letter, b'Q' | b'S');
        self.ended += u64::from(ends);
        Piece { commits, ends_request: ends.then_some(self.ended), answer: None, bytes }
    }

    /// Notes that a statement runs, and says whether it is the commit of a block.
    fn run(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::Begin => self.in_block = true,
            Effect::RollBack => self.in_block = false,
            Effect::Commit => return std::mem::take(&mut self.in_block),
            Effect::Change => self.changed |= !self.in_block,
            Effect::Nothing => {}
        }
        false
    }
}

/// What a server answers, as far as it must be read to count the requests that are answered.
#[derive(Default)]
pub(super) struct Answers {
    head: Vec<u8>,
    /// How much of the present message is still to come.
    body: usize,
    ready: u64,
}

impl Answers {
    /// Adds what arrived, and says how many requests are answered by now.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> u64 {
        while !bytes.is_empty() {
            let skipped = self.body.min(bytes.len());
            self.body -= skipped;
            bytes = &bytes[skipped..];
            let wanted = if self.body == 0 { (HEAD - self.head.len()).min(bytes.len()) } else { 0 };
            self.head.extend_from_slice(&bytes[..wanted]);
            bytes = &bytes[wanted..];
            if let [letter, length @ ..] = self.head.as_slice()
                && let Ok(length) = length.try_into()
            {
                self.ready += u64::from(*letter == b'Z');
                self.body = usize::try_from(u32::from_be_bytes(length)).unwrap_or(4).saturating_sub(4);
                self.head.clear();
            }
        }
        self.ready
    }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// What a statement does, as far as its words tell.
fn effect(statement: &[u8]) -> Effect {
    let text = String::from_utf8_lossy(statement).to_ascii_uppercase();
    let mut words =
        text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').filter(|w| !w.is_empty());
    match words.next() {
        Some("BEGIN" | "START") => Effect::Begin,
        Some("COMMIT" | "END") => Effect::Commit,
        Some("ROLLBACK" | "ABORT") => Effect::RollBack,
        Some("INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY" | "CREATE" | "DROP" | "ALTER" | "TRUNCATE") => {
            Effect::Change
        }
        Some("SELECT") if words.any(is_writer) => Effect::Change,
        Some("WITH") if words.any(|word| ["INSERT", "UPDATE", "DELETE", "MERGE"].contains(&word)) => Effect::Change,
        _ => Effect::Nothing,
    }
}

/// Whether a word is the name of a function that changes something.
fn is_writer(word: &str) -> bool {
    let form = word.rsplit_once('_').filter(|(_, number)| number.parse::<u32>().is_ok());
    form.is_some_and(|(name, _)| WRITERS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(letter: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[letter], length.to_be_bytes().as_slice(), body].concat()
    }

    fn started() -> Requests {
        let mut requests = Requests::default();
        requests.take(&[0, 0, 0, 8, 0, 3, 0, 0]);
        assert!(!requests.next().unwrap().commits);
        requests
    }

    /// Which of the messages commit, and the numbers of the requests that end.
    fn seen(messages: &[Vec<u8>]) -> (Vec<usize>, Vec<u64>) {
        let mut requests = started();
        let bytes = messages.concat();
        // In two parts, so that a message is torn.
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let mut pieces = Vec::new();
        for part in [first, second] {
            requests.take(part);
            pieces.extend(std::iter::from_fn(|| requests.next()));
        }
        assert_eq!(pieces.iter().flat_map(|piece| piece.bytes.clone()).collect::<Vec<_>>(), bytes);
        let commits = pieces.iter().enumerate().filter(|(_, piece)| piece.commits).map(|(at, _)| at).collect();
        (commits, pieces.iter().filter_map(|piece| piece.ends_request).collect())
    }

    #[test]
    fn encryption_is_declined() {
        let mut requests = Requests::default();
        requests.take(&[0, 0, 0, 8, 4, 210, 22, 47]);
        assert_eq!(requests.next().unwrap().answer, Some(b"N".as_slice()));
        requests.take(&[0, 0, 0, 8, 0, 3, 0, 0]);
        assert_eq!(requests.next().unwrap().answer, None);
    }

    #[test]
    fn a_block_commits_where_it_says_so() {
        let simple = |text: &str| message(b'Q', format!("{text}\0").as_bytes());
        let texts = ["begin", "INSERT INTO t VALUES (1)", "SELECT 1", "Commit;", "COMMIT", "SELECT 1"];
        assert_eq!(seen(&texts.map(simple)), (vec![3], vec![2, 3, 4, 5, 6, 7]));
        assert_eq!(seen(&[simple("BEGIN; UPDATE t SET a = 1; COMMIT")]).0, [0]);
        assert_eq!(seen(&["BEGIN", "DELETE FROM t", "ROLLBACK", "COMMIT"].map(simple)).0, []);
    }

    #[test]
    fn what_changes_outside_of_a_block_commits_at_the_end_of_its_request() {
        let parse = |name: &str, text: &str| message(b'P', format!("{name}\0{text}\0\0\0").as_bytes());
        let bind = |name: &str| message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes());
        let (run, sync) = (message(b'E', b"\0\0\0\0\0"), message(b'S', b""));
        let change = [parse("c", " with x as (select 1) update t set a = 1"), bind("c"), run.clone(), sync.clone()];
        assert_eq!(seen(&change), (vec![3], vec![2]));
        let read = [parse("r", "SELECT 'UPDATE'"), bind("r"), run.clone(), sync.clone()];
        assert_eq!(seen(&read).0, []);
        let block = [parse("", "BEGIN"), bind(""), change.concat(), parse("e", "COMMIT"), sync, bind("e"), run];
        assert_eq!(seen(&block), (vec![8], vec![2, 3]));
    }

    #[test]
    fn a_function_that_changes_something_commits_with_its_request() {
        let simple = |text: &str| message(b'Q', format!("{text}\0").as_bytes());
        let calls = ["SELECT place FROM accept_1($1)", "SELECT record_12($1)", "SELECT * FROM heartbeat_1($1)"];
        assert_eq!(seen(&calls.map(simple)).0, [0, 1, 2]);
        assert_eq!(seen(&["SELECT id FROM look_1($1)", "SELECT accept FROM record_of_1x"].map(simple)).0, []);
        assert_eq!(seen(&["BEGIN", "SELECT record_1($1)", "COMMIT"].map(simple)).0, [2]);
    }

    #[test]
    fn answers_are_counted_wherever_they_are_torn() {
        let row = message(b'D', b"ZZZZZZZZZZ");
        let bytes = [row.clone(), message(b'Z', b"I"), row, message(b'Z', b"T")].concat();
        for size in 1..bytes.len() {
            let mut answers = Answers::default();
            let counts: Vec<u64> = bytes.chunks(size).map(|chunk| answers.take(chunk)).collect();
            assert_eq!(counts.last(), Some(&2), "in chunks of {size}");
        }
    }
}
