//! The bound on open files, raised as far as the system lets a process raise it.
//!
//! A sink with thousands of hung connections needs it; the servers under measurement inherit it.

use anyhow::{Context as _, Result};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises this process's soft limit to its hard limit.
pub(crate) fn raise() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the number of files that may be open")
}
