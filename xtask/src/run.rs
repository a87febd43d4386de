//! Running commands in stages: each says what it runs, and all of them how long they took.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the repository")
}

/// The directory that holds `debug` and `release`: this program runs from one of them, wherever cargo was told to build.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let directory = program.parent().and_then(Path::parent).context("this program is in no target directory")?;
    Ok(directory.to_owned())
}

/// `cargo` with these arguments, in the repository's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(root());
    // `cargo run` tells this program which package it is. Some build scripts watch these variables, and would build
    // their crate anew each time a command is given here rather than by hand.
    let ours = |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|start| name.starts_with(start));
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command
}

/// The stages of a task so far.
#[derive(Default)]
pub(crate) struct Stages {
    done: Vec<(String, Duration, bool)>,
}

impl Stages {
    /// Runs a stage that is one command. An error when the command fails.
    pub(crate) fn command(&mut self, title: &str, command: &mut Command) -> Result<()> {
        self.stage(title, || run(command))
    }

    /// Runs a stage that is a function.
    pub(crate) fn stage(&mut self, title: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        eprintln!("\n== {title}");
        let started = Instant::now();
        let result = work();
        self.done.push((title.to_owned(), started.elapsed(), result.is_ok()));
        result.with_context(|| format!("stage \"{title}\" failed"))
    }

    /// Prints the time of each stage, then gives `result` back: the table is wanted after a failure too.
    pub(crate) fn finish(self, result: Result<()>) -> Result<()> {
        eprintln!();
        for (title, took, passed) in &self.done {
            eprintln!("{title:<40} {:>8.1} s{}", took.as_secs_f64(), if *passed { "" } else { "  FAILED" });
        }
        let total: Duration = self.done.iter().map(|(_, took, _)| *took).sum();
        eprintln!("{:<40} {:>8.1} s", "total", total.as_secs_f64());
        result
    }
}

/// Prints a command, then runs it to its end. An error unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    eprintln!("$ {line}");
    let program = command.get_program().display().to_string();
    let status = command.status().with_context(|| format!("cannot start {program}; is it installed and on PATH?"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}; its output above says why. Mend that, then run the same line again");
    }
    Ok(())
}

/// The command as one would type it, with the variables that were set for it.
pub(crate) fn line(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        let value = quoted(value?);
        Some(format!("{}={value}", name.display()))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=./:,+@".contains(letter);
    if !word.is_empty() && word.chars().all(plain) { word.into_owned() } else { format!("'{word}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("cargo");
        command.args(["test", "--test", "*"]).env("KILLS", "5").env_remove("OTHER").env("FLAGS", "-D warnings");
        assert_eq!(line(&command), "FLAGS='-D warnings' KILLS=5 cargo test --test '*'");
    }

    #[test]
    fn a_failed_stage_is_named_and_counted() {
        let mut stages = Stages::default();
        let result = stages.stage("sums", || bail!("two and two"));
        assert_eq!(format!("{:#}", result.unwrap_err()), "stage \"sums\" failed: two and two");
        assert!(!stages.done[0].2);
    }
}
