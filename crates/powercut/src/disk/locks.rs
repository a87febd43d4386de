//! What the users of a file share: its locks, and the index of the log in shared memory. None of it is on the disk.

use rusqlite::ffi;
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::atomic::AtomicU64;

/// Who has a file open.
pub(super) type HandleId = u64;

/// SQLite's locks of a file: many may hold SHARED, one of them RESERVED beside; PENDING lets no new SHARED in; EXCLUSIVE
/// is alone.
#[derive(Default)]
pub(super) struct Locks(BTreeMap<HandleId, c_int>);

impl Locks {
    /// Raises the lock of a handle. Whether it was to be had.
    pub(super) fn raise(&mut self, handle: HandleId, to: c_int) -> bool {
        let held = self.0.get(&handle).copied().unwrap_or(ffi::SQLITE_LOCK_NONE);
        if held >= to {
            return true;
        }
        let others = self.0.iter().filter(|(other, _)| **other != handle).map(|(_, level)| *level).max();
        let others = others.unwrap_or(ffi::SQLITE_LOCK_NONE);
        let granted = match to {
            ffi::SQLITE_LOCK_SHARED => others < ffi::SQLITE_LOCK_PENDING,
            ffi::SQLITE_LOCK_RESERVED => others < ffi::SQLITE_LOCK_RESERVED,
            _ if others >= ffi::SQLITE_LOCK_RESERVED => false,
            _ if others == ffi::SQLITE_LOCK_NONE => true,
            _ => {
                // Readers are left: they may finish, and no new one comes in.
                self.0.insert(handle, ffi::SQLITE_LOCK_PENDING);
                false
            }
        };
        if granted {
            self.0.insert(handle, to);
        }
        granted
    }

    pub(super) fn lower(&mut self, handle: HandleId, to: c_int) {
        if to == ffi::SQLITE_LOCK_NONE {
            self.0.remove(&handle);
        } else if let Some(held) = self.0.get_mut(&handle) {
            *held = to.min(*held);
        }
    }

    pub(super) fn is_reserved(&self) -> bool {
        self.0.values().any(|level| *level >= ffi::SQLITE_LOCK_RESERVED)
    }
}

/// The shared memory of a log, with its eight locks.
#[derive(Default)]
pub(super) struct SharedMemory {
    /// Atomics, because C writes into them while they are borrowed here.
    regions: Vec<Box<[AtomicU64]>>,
    users: BTreeMap<HandleId, Held>,
}

/// The locks that a user holds, one bit each.
#[derive(Default, Clone, Copy)]
struct Held {
    shared: u32,
    exclusive: u32,
}

impl SharedMemory {
    /// The place of a region of `size` bytes; null if there is none and none is to be made. It stays where it is until
    /// the last user has left.
    pub(super) fn map(&mut self, handle: HandleId, region: usize, size: usize, make: bool) -> *mut u64 {
        self.users.entry(handle).or_default();
        while make && self.regions.len() <= region {
            self.regions.push(std::iter::repeat_with(AtomicU64::default).take(size.div_ceil(8)).collect());
        }
        self.regions.get(region).and_then(|region| region.first()).map_or(std::ptr::null_mut(), AtomicU64::as_ptr)
    }

    /// Takes or frees `count` locks from the lock `first` on. Whether they were to be had.
    pub(super) fn lock(&mut self, handle: HandleId, first: c_int, count: c_int, flags: c_int) -> bool {
        let wanted = (0..ffi::SQLITE_SHM_NLOCK)
            .filter(|lock| (first..first + count).contains(lock))
            .fold(0, |bits, lock| bits | 1 << lock);
        let others = self.users.iter().filter(|(other, _)| **other != handle).map(|(_, held)| *held);
        let others = others.fold(Held::default(), |all, held| Held {
            shared: all.shared | held.shared,
            exclusive: all.exclusive | held.exclusive,
        });
        let own = self.users.entry(handle).or_default();
        if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
            own.shared &= !wanted;
            own.exclusive &= !wanted;
            return true;
        }
        let exclusive = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
        if others.exclusive & wanted != 0 || (exclusive && others.shared & wanted != 0) {
            return false;
        }
        *(if exclusive { &mut own.exclusive } else { &mut own.shared }) |= wanted;
        true
    }

    /// A user leaves. With the last one the memory goes.
    pub(super) fn leave(&mut self, handle: HandleId) {
        self.users.remove(&handle);
        if self.users.is_empty() {
            self.regions.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ffi::{SQLITE_LOCK_EXCLUSIVE, SQLITE_LOCK_NONE, SQLITE_LOCK_RESERVED, SQLITE_LOCK_SHARED};

    #[test]
    fn a_writer_waits_for_readers_and_keeps_new_ones_out() {
        let mut locks = Locks::default();
        assert!(locks.raise(1, SQLITE_LOCK_SHARED) && locks.raise(2, SQLITE_LOCK_SHARED));
        assert!(locks.raise(1, SQLITE_LOCK_RESERVED));
        assert!(!locks.raise(2, SQLITE_LOCK_RESERVED));
        assert!(!locks.raise(1, SQLITE_LOCK_EXCLUSIVE));
        assert!(!locks.raise(3, SQLITE_LOCK_SHARED));
        locks.lower(2, SQLITE_LOCK_NONE);
        assert!(locks.raise(1, SQLITE_LOCK_EXCLUSIVE));
        assert!(!locks.raise(2, SQLITE_LOCK_SHARED));
        locks.lower(1, SQLITE_LOCK_SHARED);
        assert!(!locks.is_reserved() && locks.raise(2, SQLITE_LOCK_SHARED));
    }

    #[test]
    fn an_exclusive_lock_of_the_log_is_alone() {
        let mut memory = SharedMemory::default();
        let (shared, exclusive) = (ffi::SQLITE_SHM_SHARED, ffi::SQLITE_SHM_EXCLUSIVE);
        assert!(memory.lock(1, 3, 1, shared) && memory.lock(2, 3, 1, shared));
        assert!(!memory.lock(2, 0, 8, exclusive));
        assert!(memory.lock(1, 3, 1, ffi::SQLITE_SHM_UNLOCK) && memory.lock(2, 0, 8, exclusive));
        assert!(!memory.lock(1, 7, 1, shared));
        memory.leave(2);
        assert!(memory.lock(1, 7, 1, shared));
    }

    #[test]
    fn shared_memory_lasts_as_long_as_its_users() {
        let mut memory = SharedMemory::default();
        assert!(memory.map(1, 0, 64, false).is_null());
        let first = memory.map(1, 0, 64, true);
        memory.map(2, 5, 64, true);
        assert_eq!(memory.map(2, 0, 64, false), first);
        memory.leave(1);
        assert!(!memory.map(2, 0, 64, false).is_null());
        memory.leave(2);
        assert!(memory.map(1, 0, 64, false).is_null());
    }
}
