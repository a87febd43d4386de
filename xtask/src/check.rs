//! `cargo xtask check`: all that can be judged without running the tests.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::run::{Stages, cargo, root};

/// What may not stand in a Rust file, and what to do instead. Written in two parts, so that this file passes.
const FORBIDDEN: [(&str, &str); 5] = [
    (concat!("#[", "ignore"), "a test runs or does not exist; make it fast and deterministic instead"),
    (concat!("todo", "!("), "finish it or leave it out"),
    (concat!("unimplemented", "!("), "finish it or leave it out"),
    (concat!("dbg", "!("), "use tracing, or remove it"),
    (concat!("[", "allow("), "use #[expect(lint, reason = \"…\")], which says why and ends when it is not needed"),
];

/// Check format, lints, documentation, generated files and forbidden text.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  cargo xtask check")]
pub(crate) struct Args {}

/// Runs the task.
pub(crate) fn main(_: &Args) -> Result<()> {
    let mut stages = Stages::default();
    let result = all(&mut stages);
    stages.finish(result)
}

/// The cheapest first.
fn all(stages: &mut Stages) -> Result<()> {
    stages.stage("forbidden text", forbidden_text)?;
    stages
        .command("format", &mut cargo(&["fmt", "--all", "--check"]))
        .context("`cargo fmt --all` puts the format right")?;
    stages.command("lints", &mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
    stages.command("documentation", doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    let generate = ["run", "--quiet", "-p", "capa-webhooks", "--example", "generate-docs"];
    let mut generated = cargo(&generate);
    stages
        .command("generated files", generated.args(["--", "--check"]))
        .with_context(|| format!("`cargo {}` writes them anew", generate.join(" ")))
}

fn forbidden_text() -> Result<()> {
    let mut found = Vec::new();
    for file in rust_files()? {
        // A file that was deleted but is still known to git has no text to check.
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
        found.extend(offences(&text).map(|(line, problem)| format!("{file}:{line}: {problem}")));
    }
    for problem in &found {
        eprintln!("{problem}");
    }
    ensure!(found.is_empty(), "{} line(s) hold forbidden text", found.len());
    Ok(())
}

/// The Rust files that git tracks, or would track.
fn rust_files() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.rs"]).current_dir(root());
    let listed = git.output().context("cannot start git, which lists the files to check; install it")?;
    if !listed.status.success() {
        bail!("git cannot list the files to check: {}", String::from_utf8_lossy(&listed.stderr).trim());
    }
    let names = String::from_utf8(listed.stdout).context("a file's name is not UTF-8; rename it")?;
    Ok(names.split_terminator('\0').map(str::to_owned).collect())
}

/// Line numbers and problems of a Rust file. Comments may say what they like.
fn offences(text: &str) -> impl Iterator<Item = (usize, String)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//")).flat_map(|(number, line)| {
        let hits = FORBIDDEN.iter().filter(|(forbidden, _)| line.contains(forbidden));
        hits.map(move |(forbidden, instead)| (number, format!("`{forbidden}`: {instead}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_text_is_found_outside_comments() {
        for (forbidden, _) in FORBIDDEN {
            let text = format!("fn f() {{}}\n    #{forbidden}x)]\n// {forbidden}\n");
            let found: Vec<usize> = offences(&text).map(|(line, _)| line).collect();
            assert_eq!(found, [2], "{forbidden}");
        }
        assert_eq!(offences("#![expect(dead_code, reason = \"shown\")]\nlet allowed = allow(1);").count(), 0);
    }
}
