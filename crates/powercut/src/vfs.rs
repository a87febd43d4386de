//! The file layer under SQLite (a VFS) that leads to a [`Disk`].
//!
//! It is the system's own layer with other files: time, sleep and randomness stay as they are, and a file is one of the
//! disk that was mounted at its folder. What it says of the device is what the system's layer says on Linux, so that
//! SQLite writes and syncs the same calls in the same order.
#![expect(unsafe_code, reason = "a file layer of SQLite's is a table of C functions")]

use crate::disk::{Disk, Handle};
use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, PoisonError};

/// The name under which the layer is registered.
const NAME: &CStr = c"powercut";

static MOUNTED: Mutex<BTreeMap<PathBuf, Arc<Disk>>> = Mutex::new(BTreeMap::new());

/// A disk under a folder, until it is dropped. The folder itself may be a real one; only SQLite's files are the disk's.
pub struct Mount(PathBuf);

impl Mount {
    /// Puts the disk under the folder, in place of one that was there.
    pub fn new(folder: &Path, disk: Arc<Disk>) -> Self {
        register();
        MOUNTED.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned(), disk);
        Self(folder.to_owned())
    }

    /// The name of the file layer, as a store is told it.
    pub fn vfs(&self) -> &'static str {
        NAME.to_str().unwrap_or_default()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        MOUNTED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// SQLite's file, and behind it ours. SQLite gives the room; `open` is null until the file is open.
#[repr(C)]
struct OpenFile {
    base: sqlite3_file,
    open: *mut (Arc<Disk>, Handle),
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    // 2: with shared memory, without mapped files.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: SQLite initialises itself in the first call. The default layer is a valid table that is never freed;
        // the copy is leaked, so that it stays valid for the life of the process, as registering asks for. None of the
        // functions that are taken over reads the fields that are set here.
        let code = unsafe {
            let system = ffi::sqlite3_vfs_find(std::ptr::null());
            let ours = Box::leak(Box::new(*system));
            ours.szOsFile = c_int::try_from(size_of::<OpenFile>()).unwrap_or(c_int::MAX);
            ours.pNext = std::ptr::null_mut();
            ours.zName = NAME.as_ptr();
            ours.xOpen = Some(open);
            ours.xDelete = Some(delete);
            ours.xAccess = Some(access);
            ours.xFullPathname = Some(full_pathname);
            ffi::sqlite3_vfs_register(ours, 0)
        };
        assert_eq!(code, ffi::SQLITE_OK, "SQLite takes a file layer");
    });
}

/// The disk at the folder of a path, and the file's name on it.
fn find(path: *const c_char) -> Option<(Arc<Disk>, String)> {
    if path.is_null() {
        return None;
    }
    // SAFETY: SQLite gives a string that ends with a zero and lives for the call.
    let path = Path::new(unsafe { CStr::from_ptr(path) }.to_str().ok()?);
    let disk = MOUNTED.lock().unwrap_or_else(PoisonError::into_inner).get(path.parent()?).cloned()?;
    Some((disk, path.file_name()?.to_str()?.to_owned()))
}

/// The open file behind SQLite's.
fn opened<'a>(file: *mut sqlite3_file) -> &'a mut (Arc<Disk>, Handle) {
    // SAFETY: these methods are called only for a file that `open` succeeded on, which has set `open`, and not after
    // `close`. SQLite never calls two methods of one file at the same time.
    unsafe { &mut *(*file.cast::<OpenFile>()).open }
}

/// A result code.
fn code(done: Result<(), c_int>) -> c_int {
    done.err().unwrap_or(ffi::SQLITE_OK)
}

fn granted(granted: bool) -> c_int {
    if granted { ffi::SQLITE_OK } else { ffi::SQLITE_BUSY }
}

/// A length or place, which SQLite never gives below zero.
fn size(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or(0)
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    path: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let file = file.cast::<OpenFile>();
    // SAFETY: SQLite gives room of `szOsFile` bytes. Without methods the file counts as not open.
    unsafe { file.write(OpenFile { base: sqlite3_file { pMethods: std::ptr::null() }, open: std::ptr::null_mut() }) };
    // Without a name it would be a temporary file; the store keeps those in memory.
    let Some((disk, name)) = find(path) else { return ffi::SQLITE_CANTOPEN };
    let log_or_journal = flags & (ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL) != 0;
    let handle = match disk.open(&name, flags & ffi::SQLITE_OPEN_CREATE != 0, log_or_journal) {
        Ok(handle) => handle,
        Err(code) => return code,
    };
    // SAFETY: the room is still SQLite's; `out_flags` may be null.
    unsafe {
        (*file).open = Box::into_raw(Box::new((disk, handle)));
        (*file).base.pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, path: *const c_char, sync_folder: c_int) -> c_int {
    match find(path) {
        Some((disk, name)) => code(disk.remove(&name, sync_folder != 0)),
        None => ffi::SQLITE_IOERR_DELETE,
    }
}

unsafe extern "C" fn access(_: *mut sqlite3_vfs, path: *const c_char, _: c_int, answer: *mut c_int) -> c_int {
    let exists = find(path).is_some_and(|(disk, name)| disk.exists(&name));
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *answer = c_int::from(exists) };
    ffi::SQLITE_OK
}

/// Paths are taken as they are given.
unsafe extern "C" fn full_pathname(_: *mut sqlite3_vfs, path: *const c_char, room: c_int, into: *mut c_char) -> c_int {
    // SAFETY: SQLite gives a string that ends with a zero, and `room` bytes for the answer.
    unsafe {
        let path = CStr::from_ptr(path).to_bytes_with_nul();
        if path.len() > size(room) {
            return ffi::SQLITE_CANTOPEN;
        }
        std::ptr::copy_nonoverlapping(path.as_ptr().cast(), into, path.len());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: as in `opened`; this is the last call for the file, so the box is taken back once.
    let (disk, handle) = unsafe { *Box::from_raw((*file.cast::<OpenFile>()).open) };
    disk.close(&handle);
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut sqlite3_file, into: *mut c_void, length: c_int, at: sqlite3_int64) -> c_int {
    let (disk, handle) = opened(file);
    // SAFETY: SQLite gives room for `length` bytes; writing zeros first makes it a slice of bytes that have a value.
    let into = unsafe {
        std::ptr::write_bytes(into.cast::<u8>(), 0, size(length));
        std::slice::from_raw_parts_mut(into.cast::<u8>(), size(length))
    };
    code(disk.read(handle, size(at), into))
}

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, length: c_int, at: sqlite3_int64) -> c_int {
    let (disk, handle) = opened(file);
    // SAFETY: SQLite gives `length` bytes that live for the call.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), size(length)) };
    code(disk.write(handle, size(at), bytes))
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, length: sqlite3_int64) -> c_int {
    let (disk, handle) = opened(file);
    disk.truncate(handle, size(length));
    ffi::SQLITE_OK
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    let (disk, handle) = opened(file);
    code(disk.sync(handle))
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, answer: *mut sqlite3_int64) -> c_int {
    let (disk, handle) = opened(file);
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *answer = sqlite3_int64::try_from(disk.length(handle)).unwrap_or(sqlite3_int64::MAX) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, to: c_int) -> c_int {
    let (disk, handle) = opened(file);
    granted(disk.lock(handle, to))
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, to: c_int) -> c_int {
    let (disk, handle) = opened(file);
    disk.unlock(handle, to);
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, answer: *mut c_int) -> c_int {
    let (disk, handle) = opened(file);
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *answer = c_int::from(disk.is_reserved(handle)) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn device_characteristics(_: *mut sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    length: c_int,
    make: c_int,
    answer: *mut *mut c_void,
) -> c_int {
    let (disk, handle) = opened(file);
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *answer = disk.map(handle, size(region), size(length), make != 0).cast() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, first: c_int, count: c_int, flags: c_int) -> c_int {
    let (disk, handle) = opened(file);
    granted(disk.lock_memory(handle, first, count, flags))
}

unsafe extern "C" fn shm_barrier(_: *mut sqlite3_file) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, _: c_int) -> c_int {
    let (disk, handle) = opened(file);
    disk.leave(handle);
    ffi::SQLITE_OK
}
