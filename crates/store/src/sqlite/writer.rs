//! The one thread that writes.
//!
//! Every method that changes something hands a piece of work to this thread and waits. The thread takes what is waiting,
//! applies it within one transaction, commits (one fsync), and only then answers: group commit. While one batch is being
//! flushed, the next one gathers by itself; nothing that somebody waits for is held back for more to come. What nobody
//! waits for comes second, piece by piece in a transaction that whoever comes can share (`gather`).
//!
//! Work has no savepoint of its own, which the way of an event would pay for. If something fails, the whole batch is
//! rolled back, and [`after_failure`] says what then: refuse everybody, end the process, or apply each piece again in
//! a transaction of its own, so that only the one at fault fails. That is why work can be applied more than once.

use super::checkpoint::within_policy;
use super::fault::{AfterFailure, Fault, after_failure};
use super::gather::{Gathered, Urgency};
use super::listing::Part;
use super::open::Commit;
use super::pending::Committed;
use super::session::Session;
use crate::Error;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// With nothing new for so long, a transaction is begun for the little that nobody waits for.
const LULL: Duration = Duration::from_millis(2);
/// After so long without work the writer begins to list what is not listed yet, and to merge what is to be merged.
const IDLE: Duration = Duration::from_secs(1);
/// Rows that it then lists at a time.
const IDLE_ROWS: usize = 256;
/// Between one time and the next.
const IDLE_PAUSE: Duration = Duration::from_millis(2);

pub(super) type Stopwatch = Arc<dyn Fn() -> u64 + Send + Sync>;
type OnCommit = Arc<dyn Fn(&Commit) + Send + Sync>;

/// The way to the writer thread. Dropping it lets the thread finish what waits, and waits for it.
pub(super) struct Writer {
    work: Option<Sender<Box<dyn Work>>>,
    thread: Option<JoinHandle<()>>,
    pending: Committed,
}

impl Writer {
    pub(super) fn start(session: Session, stopwatch: Stopwatch, on_commit: OnCommit) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let pending = session.pending();
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            let _guard = EndOnPanic;
            serve(session, &receiver, &stopwatch, &on_commit);
        })?;
        Ok(Self { work: Some(sender), thread: Some(thread), pending })
    }

    /// How many notifications are pending.
    pub(super) fn pending(&self) -> u64 {
        self.pending.get()
    }

    /// Has `apply` applied and made durable, and gives its answer. `apply` may run again after a failed batch, so it
    /// must give the same answer from the same store. `rows` is how many rows it is about.
    pub(super) async fn run<T, F>(&self, urgency: Urgency, rows: usize, apply: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut Session) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::Failed("the store's writer has ended".to_owned());
        let work = self.work.as_ref().ok_or_else(gone)?;
        work.send(Box::new(Request { urgency, rows, apply, done: None, reply })).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

/// A piece of work with its type forgotten.
trait Work: Send {
    fn urgency(&self) -> Urgency;
    fn rows(&self) -> usize;
    fn apply(&mut self, session: &mut Session) -> Result<(), Fault>;
    fn answer(self: Box<Self>, outcome: Result<(), Error>);
}

struct Request<T, F> {
    urgency: Urgency,
    rows: usize,
    apply: F,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T: Send, F: FnMut(&mut Session) -> Result<T, Fault> + Send> Work for Request<T, F> {
    fn urgency(&self) -> Urgency {
        self.urgency
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn apply(&mut self, session: &mut Session) -> Result<(), Fault> {
        self.done = Some((self.apply)(session)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), Error>) {
        let Self { done, reply, .. } = *self;
        let not_applied = || Error::Failed("a piece of work was not applied".to_owned());
        // A caller that has gone away does not need its answer; what it asked for is done all the same.
        let _ = reply.send(outcome.and_then(|()| done.ok_or_else(not_applied)));
    }
}

/// What comes to the writer.
struct Inflow<'a> {
    gathered: Gathered<Box<dyn Work>>,
    queue: &'a Receiver<Box<dyn Work>>,
    stopwatch: &'a Stopwatch,
    /// Microseconds that the transaction stayed open only because somebody might come.
    waited: u64,
}

impl Inflow<'_> {
    /// Takes in what is there already.
    fn take_in(&mut self) {
        while self.gathered.has_room()
            && let Ok(work) = self.queue.try_recv()
        {
            self.push(work);
        }
    }

    fn push(&mut self, work: Box<dyn Work>) {
        self.gathered.push(work.urgency(), work.rows(), work, (self.stopwatch)());
    }

    /// What the next transaction begins with.
    fn next(&mut self) -> Vec<Box<dyn Work>> {
        self.take_in();
        self.gathered.next((self.stopwatch)())
    }

    /// What the open transaction takes besides.
    fn further(&mut self) -> Vec<Box<dyn Work>> {
        self.take_in();
        self.gathered.further()
    }

    fn is_worth_waiting(&self) -> bool {
        self.gathered.patience((self.stopwatch)()) > 0
    }

    /// The same as [`Self::further`], after some time if need be. Empty if nobody came.
    fn wait(&mut self) -> Vec<Box<dyn Work>> {
        let begun = (self.stopwatch)();
        let mut more = Vec::new();
        while more.is_empty() {
            let patience = Duration::from_micros(self.gathered.patience((self.stopwatch)()));
            let Ok(work) = self.queue.recv_timeout(patience) else { break };
            self.push(work);
            more = self.gathered.further();
        }
        self.waited += (self.stopwatch)().saturating_sub(begun);
        more
    }
}

fn serve(mut session: Session, queue: &Receiver<Box<dyn Work>>, stopwatch: &Stopwatch, on_commit: &OnCommit) {
    let mut inflow = Inflow { gathered: Gathered::new(), queue, stopwatch, waited: 0 };
    let mut patience = IDLE;
    // After a failure nothing is listed until there was other work, or none for a while.
    let mut lists = true;
    loop {
        let mut batch = inflow.next();
        let list = batch.is_empty() && lists && session.owes_lists();
        if batch.is_empty() && !list {
            match queue.recv_timeout(if inflow.gathered.is_empty() { patience } else { LULL }) {
                Ok(work) => {
                    inflow.push(work);
                    continue;
                }
                Err(_) if !inflow.gathered.is_empty() => batch = inflow.gathered.rest(),
                Err(RecvTimeoutError::Timeout) if session.is_behind() => {
                    lists = list_by_itself(&mut session, Part::Idle(IDLE_ROWS));
                    patience = if lists { IDLE_PAUSE } else { IDLE };
                }
                Err(RecvTimeoutError::Timeout) => patience = IDLE,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        if list || !batch.is_empty() {
            patience = IDLE;
            lists = run(&mut session, batch, Some(&mut inflow), stopwatch, on_commit);
        }
        session.look_after_log();
    }
}

/// Lists and merges some rows in a transaction of their own; whether that went well.
fn list_by_itself(session: &mut Session, part: Part) -> bool {
    let listed = session.list(part);
    let well = listed.is_ok();
    if !well {
        session.roll_back();
        within_policy("listing", listed);
    }
    well
}

/// Applies the batch, or does something for the lists if it is empty, and what comes while nobody waits for it.
fn apply(
    session: &mut Session,
    batch: &mut Vec<Box<dyn Work>>,
    mut inflow: Option<&mut Inflow<'_>>,
) -> Result<(), Fault> {
    session.begin()?;
    if batch.is_empty() && !session.list_owed()? {
        inflow = None;
    }
    let (mut applied, mut rows) = (0, 0);
    loop {
        for work in &mut batch[applied..] {
            work.apply(session)?;
            rows += work.rows();
        }
        applied = batch.len();
        let Some(inflow) = &mut inflow else { break };
        batch.append(&mut inflow.further());
        if batch.len() == applied && inflow.is_worth_waiting() {
            // Whoever comes is not to wait for these pages.
            session.flush()?;
            batch.append(&mut inflow.wait());
        }
        if batch.len() == applied {
            break;
        }
    }
    session.list_and_commit(Part::Beside(rows))
}

/// Makes the batch durable, or not, and answers every caller. Without a batch it is the lists that something is done for;
/// whether that went well.
fn run(
    session: &mut Session,
    mut batch: Vec<Box<dyn Work>>,
    mut inflow: Option<&mut Inflow<'_>>,
    stopwatch: &Stopwatch,
    on_commit: &OnCommit,
) -> bool {
    let begun = stopwatch();
    let for_lists = batch.is_empty();
    let Err(fault) = apply(session, &mut batch, inflow.as_deref_mut()) else {
        let waited = inflow.map_or(0, |inflow| std::mem::take(&mut inflow.waited));
        let took = Duration::from_micros(stopwatch().saturating_sub(begun).saturating_sub(waited));
        if !batch.is_empty() {
            on_commit(&Commit { calls: batch.len(), rows: batch.iter().map(|work| work.rows()).sum(), took });
        }
        batch.into_iter().for_each(|work| work.answer(Ok(())));
        return true;
    };
    if let Some(inflow) = inflow {
        inflow.waited = 0;
    }
    if batch.is_empty() {
        session.roll_back();
        within_policy("listing", Err(fault));
        return false;
    }
    match after_failure(fault.code().unwrap_or(0)) {
        AfterFailure::EndProcess => end_process("writing", &fault),
        AfterFailure::RefuseAll => {
            tracing::warn!(%fault, calls = batch.len(), "a batch was rolled back and refused");
            session.roll_back();
            for work in batch {
                work.answer(Err(Error::Unavailable(fault.to_string())));
            }
        }
        AfterFailure::ApplyApart => {
            session.roll_back();
            let mut batch = batch.into_iter();
            match (batch.next(), batch.len()) {
                (Some(only), 0) if !for_lists => only.answer(Err(fault.into())),
                (first, _) => {
                    let apart = |work| _ = run(session, vec![work], None, stopwatch, on_commit);
                    first.into_iter().chain(batch).for_each(apart);
                }
            }
        }
    }
    true
}

/// Ends the process at once, without running anything that could write again.
pub(super) fn end_process(what: &str, fault: &Fault) -> ! {
    tracing::error!(%fault, "{what} failed, and it is not known what reached the disk: the process ends; start it again");
    std::process::abort()
}

/// Held by the store's threads: without one of them the store can do nothing, and a panic may have left half a batch applied: better to start again.
pub(super) struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a thread of the store panicked: the process ends; start it again");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::listing::Unlisted;
    use super::super::open::{Options, begin_session};
    use super::super::tests::options;
    use super::*;
    use capa_webhooks_core::id::{NotificationId, NotificationKey, PartnerId};
    use capa_webhooks_core::notification::Status;

    const EVENTS: u8 = 8;

    /// A run of events for so many partners is accepted and the writer begins to list it, while a retention comes that
    /// lists all that there is. Whether they share a transaction, and how many entries the search has then.
    fn listed_beside_a_retention(partners: u8) -> (bool, u64) {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { run_length: usize::from(EVENTS), ..options(7) };
        let (mut session, _file) = begin_session(&folder.path().join("store.db"), &options).unwrap();
        session.begin().unwrap();
        for number in 0..EVENTS {
            let partner = PartnerId::v4([number % partners; 16]);
            let key = NotificationKey { partner, id: NotificationId::v4([number; 16]) };
            let (seq, event) = (session.next_seq(), "user.verified".into());
            let row = Unlisted { key, seq, event, accepted_at: 0, transaction_hash: None, user_hash: seq };
            session.accepted(row, Status::Sent);
        }
        session.list_and_commit(Part::Beside(usize::from(EVENTS))).unwrap();
        assert!(session.owes_lists());

        let (sender, queue) = channel::<Box<dyn Work>>();
        let (stopwatch, on_commit) = (&options.stopwatch, &options.on_commit);
        let mut inflow = Inflow { gathered: Gathered::new(), queue: &queue, stopwatch, waited: 0 };
        let batch = inflow.next();
        let (reply, mut answer) = oneshot::channel();
        let apply = |session: &mut Session| session.list_all();
        sender.send(Box::new(Request { urgency: Urgency::Now, rows: 1, apply, done: None, reply })).unwrap();
        assert!(run(&mut session, batch, Some(&mut inflow), stopwatch, on_commit));
        let shared = answer.try_recv().is_ok();
        if !shared {
            let batch = inflow.next();
            assert!(run(&mut session, batch, Some(&mut inflow), stopwatch, on_commit));
            answer.try_recv().unwrap().unwrap();
        }
        let entries = "SELECT sum(length(entries)) / 12 FROM search";
        (shared, session.conn.query_row(entries, [], |row| row.get(0)).unwrap())
    }

    #[test]
    fn nobody_shares_the_transaction_that_ends_a_run() {
        assert_eq!(listed_beside_a_retention(EVENTS), (true, u64::from(EVENTS)), "one event of eight was listed");
        assert_eq!(listed_beside_a_retention(1), (false, u64::from(EVENTS)), "those of one partner are listed at once");
    }
}
