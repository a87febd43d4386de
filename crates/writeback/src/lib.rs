//! Has the system write a part of a file to the disk, and waits until it has.
//!
//! A flush (`File::sync_data`) writes all that has changed in a file at once, and whoever flushes another file on the
//! same disk meanwhile waits for all of it. Written part by part beforehand, there is little left for the flush, and nobody
//! waits for more than a part.
//!
//! Not promised: durability. The disk may still hold what was written in its cache; only a flush ends that.
//!
//! A crate of its own because neither the standard library nor `rustix` offers the call, and no other crate of the
//! product may be unsafe.

use std::fs::File;
use std::io;
use std::ops::Range;

/// Has the bytes of `range` that have changed written, and waits for that. Does nothing on systems that cannot.
///
/// # Errors
/// What was changed could not be written, and may be lost: as after a failed flush, it is not known what the disk holds.
#[cfg(target_os = "linux")]
pub fn write_back(file: &File, range: Range<u64>) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    const ALL: u32 = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
    let from = i64::try_from(range.start).map_err(too_large)?;
    let length = i64::try_from(range.end.saturating_sub(range.start)).map_err(too_large)?;
    // A length of 0 means: to the end of the file.
    if length == 0 {
        return Ok(());
    }
    #[expect(unsafe_code, reason = "a system call that nobody offers otherwise")]
    // SAFETY: takes no pointer, and the descriptor is open as long as `file` is borrowed.
    let done = unsafe { libc::sync_file_range(file.as_raw_fd(), from, length, ALL) };
    if done == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // Some sandboxes do not have the call, or forbid it; it has no such errors itself.
        error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        error => Err(error),
    }
}

/// Has the bytes of `range` that have changed written, and waits for that. Does nothing on systems that cannot.
///
/// # Errors
/// Never, here.
#[cfg(not(target_os = "linux"))]
pub fn write_back(_: &File, _: Range<u64>) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn says_what_is_wrong() {
        let mut file = tempfile::tempfile().expect("there is a disk");
        file.write_all(&[1; 100_000]).expect("there is room");
        write_back(&file, 0..100_000).expect("it is an ordinary file");
        write_back(&file, 50_000..50_000).expect("nothing is to be written");
        assert!(write_back(&file, u64::MAX - 1..u64::MAX).is_err());
        let null = File::open("/dev/null").expect("every system has it");
        assert!(write_back(&null, 0..1).is_err(), "not a file that could be written back");
    }
}
