//! Opening a store: the checks, the lock, the connections.

use super::checkpoint::{Checkpoints, MARKS, STEP};
use super::fault::Fault;
use super::readers::Readers;
use super::session::Session;
use super::writer::Writer;
use super::{SqliteStore, copy, listing, schema, search};
use crate::Error;
use crate::copy::{COPYING, unfinished};
use crate::seal::{Entropy, Keyring, MasterKey, MasterKeyId};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The oldest SQLite that is safe here: earlier ones can damage a database in WAL mode.
const OLDEST_SQLITE: i32 = 3_051_003;

/// How long to wait for another process that holds SQLite's write lock (an operator's shell; never a second server).
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often to try again for the lock of a store, and after how long.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// The key under which data keys are sealed.
    pub master_key: MasterKey,
    /// Random bytes for data keys and nonces.
    pub entropy: Entropy,
    /// A clock that only runs forward, in microseconds from any origin; measures commits.
    pub stopwatch: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Told of every commit, on the writer thread: it must be quick.
    pub on_commit: Arc<dyn Fn(&Commit) + Send + Sync>,
    /// How many connections read at a time.
    pub readers: usize,
    /// How many events make a run of the listing (`listing.rs`): lists read that many rows, twice at most, apart from
    /// the others.
    pub run_length: usize,
    /// How many runs of the search (`search/`) are merged into one, at least 2: a search looks into a few times as many.
    pub fan_in: usize,
    /// How many entries of the search make a row: as many as fit into a page, except to test with few.
    pub search_row: usize,
    /// How SQLite reaches the disk.
    pub disk: Disk,
}

impl Options {
    /// The usual options: four readers, nobody told of commits, and no stopwatch.
    pub fn new(master_key: MasterKey, entropy: Entropy) -> Self {
        Self {
            master_key,
            entropy,
            stopwatch: Arc::new(|| 0),
            on_commit: Arc::new(|_| ()),
            readers: 4,
            run_length: listing::RUN,
            fan_in: search::FAN_IN,
            search_row: search::ROW,
            disk: Disk::default(),
        }
    }
}

/// How SQLite reaches the disk. Anything but the default is for tests, and can be made only with the feature
/// `fault-injection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// The name of the registered file layer (VFS); `None` for the system's files.
    pub(super) vfs: Option<&'static str>,
    /// When the log is flushed.
    synchronous: &'static str,
    /// Pages of the log in a step of its copying.
    step: usize,
}

impl Default for Disk {
    fn default() -> Self {
        // FULL: the log is flushed to the disk at every commit. This is what a 202 stands on.
        Self { vfs: None, synchronous: "FULL", step: STEP }
    }
}

#[cfg(feature = "fault-injection")]
impl Disk {
    /// Through a file layer (VFS) that was registered under this name, copying the log in steps of so many pages.
    pub fn through(vfs: &'static str, step: usize) -> Self {
        Self { vfs: Some(vfs), step, ..Self::default() }
    }

    /// With another `PRAGMA synchronous`, to show that a test notices.
    #[must_use]
    pub fn synchronous(self, synchronous: &'static str) -> Self {
        Self { synchronous, ..self }
    }
}

/// One transaction that reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Pieces of work (calls of the store) in it.
    pub calls: usize,
    /// Rows (events, outcomes, …) in it, as the calls counted them.
    pub rows: usize,
    /// From beginning the transaction to its end on the disk, without what it waited for somebody to come.
    pub took: Duration,
}

impl SqliteStore {
    /// Opens the store at `path` for serving, and makes it if there is none. Blocks while it reads the disk.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process serves the store; [`Error::CannotOpen`] says what else is wrong and how to mend
    /// it: the store names another master key, the file is not a store, or the file system refuses.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        check_version()?;
        make_folder(path)?;
        let lock = lock(path)?;
        let (session, file) = begin_session(path, &options)?;
        let readers = Readers::open(path, options.disk, options.readers).map_err(|fault| cannot_open(path, fault))?;
        let writer = Writer::start(session, options.stopwatch, options.on_commit)
            .map_err(|error| cannot_open(path, Error::Failed(error.to_string()).into()))?;
        Ok(Self {
            writer: Some(writer),
            readers,
            ring: Arc::new(Keyring::new(&options.master_key, options.entropy)),
            served_last: Mutex::new(None),
            _file: file,
            _lock: Some(lock),
        })
    }

    /// Opens the store at `path` for reading, also while a server runs on it. Every method that writes fails.
    ///
    /// # Errors
    /// As [`Self::open`]; a store that is not there, or not at this version's tables, is refused too.
    pub fn open_read_only(path: &Path, options: Options) -> Result<Self, Error> {
        check_version()?;
        if !path.exists() {
            return Err(Error::CannotOpen(format!("there is no store at {}", path.display())));
        }
        let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, options.disk)?;
        if !schema::is_current(&conn).map_err(|fault| cannot_open(path, fault))? {
            let text = "the tables are of an older version; start the server once, which brings them up to date";
            return Err(cannot_open(path, Error::CannotOpen(text.to_owned()).into()));
        }
        check_key(&conn, path, &options.master_key)?;
        Ok(Self {
            writer: None,
            readers: Readers::open(path, options.disk, options.readers).map_err(|fault| cannot_open(path, fault))?,
            ring: Arc::new(Keyring::new(&options.master_key, options.entropy)),
            served_last: Mutex::new(None),
            _file: None,
            _lock: None,
        })
    }

    /// The master key that the store at `path` names; `None` if there is no store. To be asked before a new key file is
    /// made: a new key beside a store that names another could open nothing in it.
    ///
    /// # Errors
    /// [`Error::CannotOpen`] if the file cannot be read or is not a store.
    pub fn names_key(path: &Path) -> Result<Option<MasterKeyId>, Error> {
        if !path.exists() {
            return Ok(None);
        }
        let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, Disk::default())?;
        schema::master_key_id(&conn).map_err(|fault| cannot_open(path, fault))
    }
}

/// What the writer works with, on a file that is made if there is none; and the file itself, where it is a plain one.
pub(super) fn begin_session(path: &Path, options: &Options) -> Result<(Session, Option<Arc<File>>), Error> {
    let disk = options.disk;
    let mut conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE, disk)?;
    prepare(&mut conn, options.master_key.id(), disk).map_err(|fault| cannot_open(path, fault))?;
    check_key(&conn, path, &options.master_key)?;
    if copy::mark(&conn, COPYING).map_err(|fault| cannot_open(path, fault))?.is_some() {
        return Err(unfinished(&format!("the store {}", path.display())));
    }
    let failed = |error: std::io::Error| cannot_open(path, Error::Failed(error.to_string()).into());
    let copier = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, disk)?;
    copier.pragma_update(None, "synchronous", disk.synchronous).map_err(|error| cannot_open(path, error.into()))?;
    let marks = (0..MARKS).map(|_| connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, disk)).collect::<Result<_, _>>()?;
    let file = match disk.vfs {
        None => Some(Arc::new(File::open(path).map_err(failed)?)),
        Some(_) => None,
    };
    let checkpoints =
        Checkpoints::start(copier, marks, file.clone(), disk.step, options.stopwatch.clone()).map_err(failed)?;
    let search = search::Shape { row: options.search_row, fan_in: options.fan_in };
    let session =
        Session::new(conn, checkpoints, options.run_length, search).map_err(|fault| cannot_open(path, fault))?;
    Ok((session, file))
}

/// A connection as all of ours are.
pub(super) fn connect(path: &Path, flags: OpenFlags, disk: Disk) -> Result<Connection, Error> {
    let open = || -> Result<Connection, Fault> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = match disk.vfs {
            None => Connection::open_with_flags(path, flags)?,
            Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs)?,
        };
        conn.busy_timeout(BUSY_TIMEOUT)?;
        // No memory mapping: an I/O error under a mapping is a signal that ends the process, not a code to decide by.
        conn.pragma_update(None, "mmap_size", 0)?;
        conn.pragma_update(None, "temp_store", "MEMORY")?;
        conn.pragma_update(None, "trusted_schema", false)?;
        // Without it SQLite looks at bound values to see whether a partial index fits, and for that plans a statement
        // such as `… WHERE owner = ?` anew for each row.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        conn.set_prepared_statement_cache_capacity(128);
        Ok(conn)
    };
    open().map_err(|fault| cannot_open(path, fault))
}

/// Brings the file into the form that the writer needs.
pub(super) fn prepare(conn: &mut Connection, key: MasterKeyId, disk: Disk) -> Result<(), Fault> {
    conn.pragma_update(None, "page_size", 4096)?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let text = "the file system does not allow SQLite's WAL mode (a network share?); use a local disk";
        return Err(Error::CannotOpen(text.to_owned()).into());
    }
    conn.pragma_update(None, "synchronous", disk.synchronous)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    // What is deleted is overwritten where it lies, so that a destroyed data key is not found in the file.
    conn.pragma_update_and_check(None, "secure_delete", "FAST", |_| Ok(()))?;
    // 4 MiB, which hold what changes again and again. Not more: a commit after which a tree was balanced looks through every
    // cached page once. What else is read comes from the system's own cache.
    conn.pragma_update(None, "cache_size", -4_096)?;
    schema::migrate(conn, key)
}

pub(super) fn check_version() -> Result<(), Error> {
    if rusqlite::version_number() >= OLDEST_SQLITE {
        return Ok(());
    }
    let version = rusqlite::version();
    Err(Error::CannotOpen(format!("SQLite {version} can damage a store; build with SQLite 3.51.3 or newer")))
}

pub(super) fn check_key(conn: &Connection, path: &Path, given: &MasterKey) -> Result<(), Error> {
    let named = schema::master_key_id(conn).map_err(|fault| cannot_open(path, fault))?;
    match named {
        Some(named) if named == given.id() => Ok(()),
        Some(named) => Err(Error::CannotOpen(format!(
            "the store {} is sealed under the master key {named}, but the key given is {}; give the key file that belongs to \
             this store",
            path.display(),
            given.id(),
        ))),
        None => Err(Error::Corrupt { table: "meta", column: "value", id: "master_key_id".to_owned() }),
    }
}

/// Makes the folder of the store, readable by its owner only, and makes its name durable.
pub(super) fn make_folder(path: &Path) -> Result<(), Error> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) else {
        return Ok(());
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let made = builder.create(folder).and_then(|()| match folder.parent() {
        Some(above) if cfg!(unix) && !above.as_os_str().is_empty() => File::open(above)?.sync_all(),
        _ => Ok(()),
    });
    made.map_err(|error| Error::CannotOpen(format!("cannot make the folder {}: {error}", folder.display())))
}

#[expect(clippy::disallowed_methods, reason = "opening blocks, before any clock could be stepped")]
fn wait_for_lock() {
    std::thread::sleep(LOCK_PAUSE);
}

/// Takes the lock that makes this process the only one to write. One that has just been ended may hold it for a moment
/// more. The system frees it when the process ends.
pub(super) fn lock(path: &Path) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let cannot = |error| Error::CannotOpen(format!("cannot lock {}: {error}", name.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(cannot)?;
    let mut taken = file.try_lock();
    for _ in 0..LOCK_TRIES {
        if !matches!(taken, Err(TryLockError::WouldBlock)) {
            break;
        }
        wait_for_lock();
        taken = file.try_lock();
    }
    match taken {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse(format!(
            "another process serves the store {}; stop it first, or send the change through its API",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(cannot(error)),
    }
}

fn cannot_open(path: &Path, fault: Fault) -> Error {
    let why = match fault {
        Fault::Sql(error) => error.to_string(),
        Fault::Store(Error::CannotOpen(text)) => text,
        Fault::Store(error) => return error,
    };
    Error::CannotOpen(format!("cannot open the store {}: {why}", path.display()))
}
