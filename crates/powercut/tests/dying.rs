//! A write or a sync that fails ends the process, and nothing is acknowledged that the disk does not hold.

use capa_webhooks_powercut::dying;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use tempfile::TempDir;

/// What a process is ended with by `abort`.
const ABORTED: i32 = 6;

fn die(fails: &str, after: u64, seed: u64) -> usize {
    // The process leaves its own folder behind, within `temporary`.
    let (left, temporary) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_capa-webhooks-powercut"));
    command.args(["--seed", &seed.to_string(), "dying", "--fails", fails, "--after", &after.to_string(), "--left"]);
    let ended = command.arg(left.path()).env("TMPDIR", temporary.path()).output().expect("the process starts");
    let case = format!("{fails} {after} with seed {seed}");
    let complaints = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.signal(), Some(ABORTED), "{case}: {}: {complaints}", ended.status);
    let said = String::from_utf8_lossy(&ended.stdout);
    let checked = dying::check(left.path(), &said);
    assert!(checked.is_ok(), "{case}: {checked:?}");
    checked.unwrap_or_default()
}

#[test]
fn a_failed_sync_ends_the_process() {
    let acknowledged: usize = (0..12).map(|case| die("sync", case * case, case)).sum();
    assert!(acknowledged > 100, "{acknowledged}");
}

#[test]
fn a_failed_write_ends_the_process() {
    let acknowledged: usize = (0..12).map(|case| die("write", 7 * case * case, case)).sum();
    assert!(acknowledged > 100, "{acknowledged}");
}
