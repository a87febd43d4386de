//! Power cuts under the real store.
//!
//! SQLite has a layer for files (a VFS). Here is one that leads to a [`Disk`] in memory with a volatile cache: what was
//! written and not synced survives a cut, vanishes, or is torn into sectors, in any order between files. The store is
//! opened on it by its own code, with its own settings, and is asked for what the server asks of it, by several callers
//! at a time. The power goes at a drawn call, so also within a commit, within a checkpoint, while the store is made,
//! while it recovers from the last cut. Then the store starts on what survived, and must hold every answer:
//!
//! * what it acknowledged is there, byte for byte: events, outcomes, manual retries, removals, partners, erasures;
//! * what it refused is not there, nor anything that nobody asked for;
//! * what had no answer yet is whole or absent, never half;
//! * its own examination finds nothing wrong.
//!
//! The disk is also full at times: the store must refuse, and go on by itself when there is room.
//!
//! | module | what it is |
//! |---|---|
//! | `disk` | the files, and what becomes of them in a cut |
//! | `vfs` | the table of C functions between SQLite and the disk |
//! | `calls` | what callers ask, and what must be answered |
//! | `ledger` | what was answered, and whether it still holds |
//! | `world` | a disk, the store on it, cut after cut |
//! | `dying` | a disk that fails a write or a sync, in a process of its own that must end |
//!
//! A world follows from its seed: the calls, the moment of each cut and what it leaves. Not from it follow how the
//! store's threads take turns (which calls share a commit, how far a checkpoint is) and the random numbers in the header of
//! SQLite's log. So a seed that found a fault mostly finds it again, but not always at the same cut.
//!
//! What is not modelled: bytes that rot without a power cut, and a disk that says it has synced and has not
//! ([`Sabotage::LyingDisk`] shows that no store can stand that).

mod calls;
mod disk;
pub mod dying;
mod ledger;
mod report;
mod vfs;
mod world;

pub use disk::{Broken, Disk, Moment, Tally};
pub use report::Report;
pub use vfs::Mount;

use capa_webhooks_store::conformance::fixture::Random;
use std::fmt;
use world::World;

/// What a campaign is to break.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// A fault that the checks must find.
    pub sabotage: Option<Sabotage>,
}

/// A way to lose what was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The store runs with `synchronous=OFF`: it never syncs.
    SynchronousOff,
    /// The store runs with `synchronous=NORMAL`: it syncs at checkpoints only.
    SynchronousNormal,
    /// Calls count as answered once they were made.
    AnswerBeforeCommit,
    /// The disk says it has synced, and has not.
    LyingDisk,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::SynchronousOff, Self::SynchronousNormal, Self::AnswerBeforeCommit, Self::LyingDisk];
}

/// A promise of the store that was broken.
#[derive(Debug)]
pub struct Violation {
    /// The seed of the disk.
    pub seed: u64,
    /// After how many cuts of this disk.
    pub cut: u64,
    /// What was found.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, cut, text } = self;
        writeln!(f, "seed {seed}, after {cut} cuts: {text}")?;
        let cuts = cut + 1;
        write!(f, "replay: cargo run --release -p capa-webhooks-powercut -- --seed {seed} --cuts {cuts}")
    }
}

impl std::error::Error for Violation {}

/// Cuts the power so many times: a few or some tens of times on the disk of the first seed, then on that of the next one. Calls
/// `progress` after each cut.
///
/// # Errors
/// The first promise that was broken.
///
/// # Panics
/// This machine has no room for a folder or a thread.
pub fn campaign(
    first: u64,
    cuts: u64,
    options: Options,
    mut progress: impl FnMut(&Report),
) -> Result<Report, Violation> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    let mut report = Report::default();
    for seed in first.. {
        report.worlds += 1;
        let mut world = World::new(seed, options).expect("a folder can be made");
        let here = (3 + Random(seed.rotate_left(32)).number() % 20).min(cuts - report.cuts);
        for cut in 0..here {
            let done = runtime.block_on(world.until_the_next_cut(&mut report));
            done.map_err(|text| Violation { seed, cut, text })?;
            progress(&report);
        }
        let looked = runtime.block_on(world.last_look(&mut report));
        looked.map_err(|text| Violation { seed, cut: here, text })?;
        if report.cuts == cuts {
            break;
        }
    }
    Ok(report)
}
