//! A disk in memory, with a cache that loses what was not synced.
//!
//! Every file has what programs read, what the disk keeps for certain, and the list of changes between the two. When
//! the power is cut, each change of each file survives, vanishes or is torn into sectors, as a seed says, and files do
//! not wait for each other. A sync moves the changes of one file to what is certain.
//!
//! **Names** are kept apart from contents. A file that was made or removed is so for certain only once its folder was
//! synced, which SQLite's own file layer does at the first sync of a new log or journal; syncing the database file
//! alone does not. Real file systems mostly promise more.
//!
//! **After the cut** the disk is dark: what survives is decided and put away, and programs go on for a while as if
//! nothing had happened, on files that nobody will see again. So a store needs no code for being cut off: whoever asked
//! it for something looks whether the disk is dark, and takes no answer after that. [`Disk::power_on`] brings back what
//! survived.

mod file;
mod layer;
mod locks;

pub use file::Tally;

use capa_webhooks_store::conformance::fixture::Random;
use file::File;
use locks::HandleId;
use rusqlite::ffi;
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A folder's files on a disk with a volatile cache.
pub struct Disk {
    state: Mutex<State>,
    dark: AtomicBool,
}

/// What was going on when the power was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The log was written or synced: a commit.
    Commit,
    /// The database file was written or synced: a checkpoint.
    Checkpoint,
    /// The store was being made: its first pages, its journal, names of files.
    Creation,
    /// Nothing.
    Rest,
}

/// A call that fails, as a dying disk lets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A sync. Of what it should have written some was, and the rest is forgotten.
    Sync,
    /// A write. Some of its bytes were written.
    Write,
}

/// An open file.
pub(crate) struct Handle {
    id: HandleId,
    file: FileId,
    /// The first sync of a new log or journal syncs the folder, too.
    sync_folder: bool,
    /// The failed syncs of the file that whoever holds this was told of.
    told: u64,
}

type FileId = u64;

struct State {
    random: Random,
    /// What is torn apart in a cut, in bytes.
    sector: usize,
    files: BTreeMap<FileId, File>,
    names: BTreeMap<String, FileId>,
    /// The names that would be found after a cut.
    durable_names: BTreeMap<String, FileId>,
    next: u64,
    open: usize,
    /// Calls that change something, so far.
    steps: u64,
    /// The call at which the power is cut, and the first at which it is if that is a sync.
    cut_at: Option<u64>,
    cut_in_sync_from: Option<u64>,
    /// Bytes by which files may still grow.
    room: Option<usize>,
    /// The call that fails, after so many of its kind, and where what is left is put then.
    breaks: Option<(Broken, u64, PathBuf)>,
    /// That folder, once the call has failed.
    left: Option<PathBuf>,
    lies: bool,
    /// What was found after the cut.
    cut: Option<(Moment, BTreeMap<String, Vec<u8>>)>,
    tally: Tally,
}

/// What the harness does.
impl Disk {
    /// An empty disk. All that befalls it follows from the seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let sector = if random.once_in(2) { 512 } else { 4096 };
        let state = State {
            random,
            sector,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            next: 0,
            open: 0,
            steps: 0,
            cut_at: None,
            cut_in_sync_from: None,
            room: None,
            breaks: None,
            left: None,
            lies: false,
            cut: None,
            tally: Tally::default(),
        };
        Self { state: Mutex::new(state), dark: AtomicBool::new(false) }
    }

    /// A disk with the files of a folder, as [`Self::break_down`] leaves them there.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn load(seed: u64, folder: &Path) -> std::io::Result<Self> {
        let disk = Self::new(seed);
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            found.insert(entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?);
        }
        disk.state().become_durable(found);
        Ok(disk)
    }

    /// Cuts the power at the call that changes something after so many more of them.
    pub fn cut_after(&self, calls: u64) {
        let mut state = self.state();
        state.cut_at = Some(state.steps + 1 + calls);
    }

    /// Cuts the power at the first sync after so many more calls that change something. Of a commit that was on its way to
    /// the disk at that moment, all may survive.
    pub fn cut_in_sync_after(&self, calls: u64) {
        let mut state = self.state();
        state.cut_in_sync_from = Some(state.steps + 1 + calls);
    }

    /// Cuts the power now, if it is on.
    pub fn cut_now(&self) {
        self.cut(&mut self.state(), Moment::Rest);
    }

    /// Whether the power was cut. An answer that was there before this was asked, and said no, came before the cut.
    pub fn is_dark(&self) -> bool {
        self.dark.load(Ordering::SeqCst)
    }

    /// Brings back what survived the cut. Says when the cut was, and what became of unsynced writes.
    ///
    /// # Panics
    /// The power was not cut, or a program of before still has a file open.
    pub fn power_on(&self) -> (Moment, Tally) {
        let mut state = self.state();
        assert_eq!(state.open, 0, "everything that ran before the cut must have ended");
        let (moment, found) = state.cut.take().expect("the power was cut");
        state.become_durable(found);
        self.dark.store(false, Ordering::SeqCst);
        (moment, std::mem::take(&mut state.tally))
    }

    /// Lets files grow by so many bytes in all; `None` for as much as they like.
    pub fn limit(&self, room: Option<usize>) {
        self.state().room = room;
    }

    /// From now on, says that it has synced, and has not.
    pub fn lie(&self) {
        self.state().lies = true;
    }

    /// Fails one call after so many of its kind. What would be found after a cut at that moment is written to files in
    /// `folder`, because the process may not live to say it. Other threads go on until the process has ended: what they
    /// still sync is written there, too.
    pub fn break_down(&self, what: Broken, after: u64, folder: &Path) {
        self.state().breaks = Some((what, after, folder.to_owned()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, state: &mut State, moment: Moment) {
        state.steps += 1;
        if state.cut_at == Some(state.steps) {
            self.cut(state, moment);
        }
    }

    fn cut(&self, state: &mut State, moment: Moment) {
        if !self.is_dark() {
            state.cut = Some((moment, state.survivors()));
            (state.cut_at, state.cut_in_sync_from) = (None, None);
            self.dark.store(true, Ordering::SeqCst);
        }
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn file(&mut self, handle: &Handle) -> &mut File {
        // A file stays in the map while it is open, also when its name is gone.
        self.files.get_mut(&handle.file).expect("an open file is there")
    }

    /// What a call on this file belongs to.
    fn moment(&self, handle: &Handle) -> Moment {
        let has = |end: &str| self.names.keys().any(|name| name.ends_with(end));
        let name = self.names.iter().find(|(_, file)| **file == handle.file).map(|(name, _)| name.as_str());
        match name {
            Some(name) if name.ends_with("-wal") => Moment::Commit,
            Some(name) if name.ends_with("-journal") => Moment::Creation,
            _ if has("-wal") => Moment::Checkpoint,
            _ => Moment::Creation,
        }
    }

    /// What would be found after a cut at this moment.
    fn survivors(&mut self) -> BTreeMap<String, Vec<u8>> {
        let Self { random, sector, files, names, durable_names, tally, .. } = self;
        let all: std::collections::BTreeSet<&String> = names.keys().chain(durable_names.keys()).collect();
        let mut found = BTreeMap::new();
        for name in all {
            let (new, old) = (names.get(name), durable_names.get(name));
            // A name that was made, removed or given to another file since: either is possible.
            let file = if new == old || random.once_in(2) { new } else { old };
            if let Some(file) = file.and_then(|file| files.get(file)) {
                found.insert(name.clone(), file.survivors(random, *sector, tally));
            }
        }
        found
    }

    fn become_durable(&mut self, found: BTreeMap<String, Vec<u8>>) {
        self.files.clear();
        self.names.clear();
        for (name, bytes) in found {
            let file = self.next();
            self.files.insert(file, File::durable(bytes));
            self.names.insert(name, file);
        }
        self.durable_names = self.names.clone();
    }

    /// Whether this is the call that fails.
    fn is_breaking(&mut self, what: Broken) -> bool {
        match &mut self.breaks {
            Some((breaks, 0, _)) => *breaks == what,
            Some((breaks, after, _)) if *breaks == what => {
                *after -= 1;
                false
            }
            _ => false,
        }
    }

    /// After the call that failed: puts away what is left, and fails no other.
    fn leave_behind(&mut self, code: c_int) {
        if code == ffi::SQLITE_FULL {
            return;
        }
        if let Some((_, _, folder)) = self.breaks.take() {
            for (name, bytes) in self.survivors() {
                put_down(&folder, &name, &bytes);
            }
            self.left = Some(folder);
        }
    }

    /// After a sync: a file is left behind with what it holds for certain now.
    fn leave_synced(&self, file: FileId) {
        let name = self.names.iter().find_map(|(name, its)| (*its == file).then_some(name));
        if let (Some(folder), Some(name), Some(file)) = (&self.left, name, self.files.get(&file)) {
            put_down(folder, name, file.certain());
        }
    }
}

/// Writes a file of what is left, whole or not at all: the process may end meanwhile.
fn put_down(folder: &Path, name: &str, bytes: &[u8]) {
    let unfinished = folder.join("unfinished");
    let put = std::fs::write(&unfinished, bytes).and_then(|()| std::fs::rename(&unfinished, folder.join(name)));
    put.expect("what is left of the disk can be written down");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_is_told_once_of_a_failed_sync_and_what_is_synced_later_is_left_behind() {
        let (disk, folder) = (Disk::new(1), tempfile::TempDir::new().expect("a folder"));
        let open = || disk.open("log", true, false).expect("it opens");
        let (mut mine, mut yours) = (open(), open());
        disk.break_down(Broken::Sync, 0, folder.path());
        disk.write(&mine, 0, &[1; 512]).expect("there is room");
        assert_eq!(disk.sync(&mut mine), Err(ffi::SQLITE_IOERR_FSYNC));
        disk.write(&yours, 512, &[2; 512]).expect("there is room");
        assert_eq!(disk.sync(&mut yours), Err(ffi::SQLITE_IOERR_FSYNC));
        assert_eq!((disk.sync(&mut mine), disk.sync(&mut yours), disk.sync(&mut open())), (Ok(()), Ok(()), Ok(())));
        let left = std::fs::read(folder.path().join("log")).expect("it is left behind");
        assert_eq!(left[512..], [2; 512]);
    }

    #[test]
    fn a_cut_in_a_sync_waits_for_one_and_comes_before_its_end() {
        let disk = Disk::new(1);
        let mut log = disk.open("log", true, true).expect("it opens");
        disk.sync(&mut log).expect("its name is durable from now on");
        disk.cut_in_sync_after(1);
        disk.write(&log, 0, &[1; 512]).expect("there is room");
        disk.write(&log, 512, &[2; 512]).expect("there is room");
        assert!(!disk.is_dark(), "a write does not cut it");
        disk.sync(&mut log).expect("the program does not notice");
        assert!(disk.is_dark());
        disk.close(&log);
        let (_, tally) = disk.power_on();
        assert_eq!(tally.kept + tally.lost + tally.torn, 2, "nothing was synced yet");
    }
}
