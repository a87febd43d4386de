//! Lets a thread run soon after it wakes.
//!
//! Linux lets a thread that is running use up its time slice (some milliseconds) although another one wakes and waits for
//! that processor; unless the other one has a shorter slice. So a thread that works for a moment at a time, and that others
//! wait for, asks for a short one. It gets no larger share of the processors by that, and need not be privileged.
//!
//! Since Linux 6.12 (`sched_setattr(2)`: `sched_runtime` of an ordinary thread). Older kernels take no notice.
//!
//! A crate of its own because neither the standard library nor `rustix` offers the calls, and no other crate of the
//! product may be unsafe.

use std::io;
use std::time::Duration;

/// The calling thread, wherever a thread's id is asked for.
pub const THIS: i32 = 0;

/// Gives a thread of this process a time slice of this length. Linux takes 0.1 to 100 ms; of 0 it makes the usual one. Does
/// nothing on systems that cannot.
///
/// # Errors
/// There is no such thread, or the system refused it. The thread is as it was.
#[cfg(target_os = "linux")]
pub fn set(thread: i32, slice: Duration) -> io::Result<()> {
    let mut attributes = attributes(thread)?;
    attributes.sched_runtime = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    #[expect(unsafe_code, reason = "a system call that nobody offers otherwise")]
    // SAFETY: the call only reads `attributes`, as much of them as their `size` says.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, thread, &raw const attributes, 0) };
    done(result)
}

/// Gives a thread of this process a time slice of this length. Does nothing on systems that cannot.
///
/// # Errors
/// Never, here.
#[cfg(not(target_os = "linux"))]
pub fn set(_: i32, _: Duration) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn attributes(thread: i32) -> io::Result<libc::sched_attr> {
    /// Of the first version, which has all that is needed here.
    const SIZE: u32 = 48;
    const _: () = assert!(size_of::<libc::sched_attr>() == SIZE as usize);
    let mut attributes = libc::sched_attr {
        size: SIZE,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    #[expect(unsafe_code, reason = "a system call that nobody offers otherwise")]
    // SAFETY: the call writes at most `SIZE` bytes to `attributes`.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, thread, &raw mut attributes, SIZE, 0) };
    done(result)?;
    Ok(attributes)
}

#[cfg(target_os = "linux")]
fn done(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Kernels that know nothing of it give 0; there nothing is to be seen.
    #[test]
    fn the_thread_has_the_slice_that_it_was_given() {
        let slice = || attributes(THIS).expect("the system knows the call").sched_runtime;
        let usual = slice();
        set(THIS, Duration::from_micros(200)).expect("no privilege is needed");
        assert_eq!(slice(), if usual == 0 { 0 } else { 200_000 });
        set(THIS, Duration::ZERO).expect("no privilege is needed");
        assert_eq!(slice(), usual);
        assert!(set(i32::MAX, Duration::ZERO).is_err(), "there is no such thread");
    }
}
