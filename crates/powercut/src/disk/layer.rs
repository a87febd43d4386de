//! What SQLite asks of the disk, through the file layer. Errors are its result codes.

use super::file::File;
use super::{Broken, Disk, Handle, Moment, State};
use rusqlite::ffi;
use std::ffi::c_int;

impl Disk {
    pub(crate) fn open(&self, name: &str, make: bool, log_or_journal: bool) -> Result<Handle, c_int> {
        let mut state = self.state();
        let file = match state.names.get(name).copied() {
            Some(file) => file,
            None if !make => return Err(ffi::SQLITE_CANTOPEN),
            None => {
                let file = state.next();
                state.files.insert(file, File::default());
                state.names.insert(name.to_owned(), file);
                self.step(&mut state, Moment::Creation);
                file
            }
        };
        state.open += 1;
        let told = state.files.get(&file).map_or(0, |file| file.failed_syncs);
        Ok(Handle { id: state.next(), file, sync_folder: make && log_or_journal, told })
    }

    pub(crate) fn close(&self, handle: &Handle) {
        self.leave(handle);
        let mut state = self.state();
        state.file(handle).locks.lower(handle.id, ffi::SQLITE_LOCK_NONE);
        state.open -= 1;
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        let state = self.state();
        // An empty file counts as none, as in SQLite's own file layer.
        state.names.get(name).and_then(|file| state.files.get(file)).is_some_and(|file| file.len() > 0)
    }

    pub(crate) fn remove(&self, name: &str, sync_folder: bool) -> Result<(), c_int> {
        let mut state = self.state();
        if state.names.remove(name).is_none() {
            return Err(ffi::SQLITE_IOERR_DELETE_NOENT);
        }
        self.step(&mut state, Moment::Creation);
        if sync_folder && !state.lies {
            state.durable_names = state.names.clone();
        }
        Ok(())
    }

    pub(crate) fn read(&self, handle: &Handle, at: usize, into: &mut [u8]) -> Result<(), c_int> {
        if self.state().file(handle).read(at, into) { Ok(()) } else { Err(ffi::SQLITE_IOERR_SHORT_READ) }
    }

    pub(crate) fn write(&self, handle: &Handle, at: usize, bytes: &[u8]) -> Result<(), c_int> {
        let mut state = self.state();
        let growth = (at + bytes.len()).saturating_sub(state.file(handle).len());
        let failure = if state.is_breaking(Broken::Write) {
            Some(ffi::SQLITE_IOERR_WRITE)
        } else {
            state.room.is_some_and(|room| growth > room).then_some(ffi::SQLITE_FULL)
        };
        let moment = state.moment(handle);
        let Some(code) = failure else {
            state.file(handle).write(at, bytes);
            state.room = state.room.map(|room| room - growth);
            self.step(&mut state, moment);
            return Ok(());
        };
        // As much as went in: of a full disk, no more than there was room for. What begins beyond the end of the file
        // needs room for the gap as well.
        let fits = match state.room {
            Some(room) if code == ffi::SQLITE_FULL => (bytes.len() + room).saturating_sub(growth),
            _ => bytes.len(),
        };
        let written = state.random.below(fits.min(bytes.len() - 1) + 1);
        if written > 0 {
            let growth = (at + written).saturating_sub(state.file(handle).len());
            state.file(handle).write(at, &bytes[..written]);
            state.room = state.room.map(|room| room.saturating_sub(growth));
        }
        self.step(&mut state, moment);
        state.leave_behind(code);
        Err(code)
    }

    pub(crate) fn truncate(&self, handle: &Handle, length: usize) {
        let mut state = self.state();
        state.file(handle).truncate(length);
        let moment = state.moment(handle);
        self.step(&mut state, moment);
    }

    pub(crate) fn sync(&self, handle: &mut Handle) -> Result<(), c_int> {
        let mut state = self.state();
        let moment = state.moment(handle);
        // A cut within a sync finds some of it done: what survives is drawn from what was not synced yet.
        if state.cut_in_sync_from.is_some_and(|from| from <= state.steps + 1) {
            state.cut_at = Some(state.steps + 1);
        }
        self.step(&mut state, moment);
        if state.is_breaking(Broken::Sync) {
            let State { files, random, sector, .. } = &mut *state;
            if let Some(file) = files.get_mut(&handle.file) {
                file.fail_to_sync(random, *sector);
                handle.told = file.failed_syncs;
            }
            state.leave_behind(ffi::SQLITE_IOERR_FSYNC);
            return Err(ffi::SQLITE_IOERR_FSYNC);
        }
        if state.lies {
            return Ok(());
        }
        state.file(handle).sync();
        if std::mem::take(&mut handle.sync_folder) {
            state.durable_names = state.names.clone();
        }
        state.leave_synced(handle.file);
        // Linux says once to each that has a file open that a sync of it failed, whoever called that sync.
        let failed = state.file(handle).failed_syncs;
        if std::mem::replace(&mut handle.told, failed) < failed { Err(ffi::SQLITE_IOERR_FSYNC) } else { Ok(()) }
    }

    pub(crate) fn length(&self, handle: &Handle) -> usize {
        self.state().file(handle).len()
    }

    pub(crate) fn lock(&self, handle: &Handle, to: c_int) -> bool {
        self.state().file(handle).locks.raise(handle.id, to)
    }

    pub(crate) fn unlock(&self, handle: &Handle, to: c_int) {
        self.state().file(handle).locks.lower(handle.id, to);
    }

    pub(crate) fn is_reserved(&self, handle: &Handle) -> bool {
        self.state().file(handle).locks.is_reserved()
    }

    pub(crate) fn map(&self, handle: &Handle, region: usize, size: usize, make: bool) -> *mut u64 {
        self.state().file(handle).memory.map(handle.id, region, size, make)
    }

    pub(crate) fn lock_memory(&self, handle: &Handle, first: c_int, count: c_int, flags: c_int) -> bool {
        self.state().file(handle).memory.lock(handle.id, first, count, flags)
    }

    pub(crate) fn leave(&self, handle: &Handle) {
        self.state().file(handle).memory.leave(handle.id);
    }
}
