//! `cargo xtask setup`: the programs and libraries outside Rust that building and testing need.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::run::{self, line, root, target_directory};

/// What must be on this machine, the Debian package that brings it, and what it is for.
struct Tool {
    what: What,
    package: &'static str,
    why: &'static str,
}

enum What {
    /// A program on PATH.
    Program(&'static str),
    /// A module of the system's python3.
    PythonModule(&'static str),
    /// A server of PostgreSQL. Its programs lie in a folder for each version, and not on PATH.
    Postgres,
}

/// Where Debian puts the versions of PostgreSQL.
const POSTGRES: &str = "/usr/lib/postgresql";

/// What keeps Debian's package from starting a server of its own at its installation. Removed after it.
const NO_DEFAULT_CLUSTER: (&str, &str) =
    ("/etc/postgresql-common/createcluster.d/capa-webhooks-setup.conf", "create_main_cluster = false");

const TOOLS: [Tool; 7] = [
    Tool {
        what: What::Program("cc"),
        package: "build-essential",
        why: "compiles the bundled SQLite and the cryptography",
    },
    Tool {
        what: What::Program("curl"),
        package: "curl",
        why: "calls a running server in the tests of the documentation",
    },
    Tool {
        what: What::Program("node"),
        package: "nodejs",
        why: "verifies deliveries with Capa's published JavaScript sample",
    },
    Tool { what: What::Program("npm"), package: "npm", why: "installs the library of Standard Webhooks for Node" },
    Tool {
        what: What::Program("python3"),
        package: "python3",
        why: "verifies deliveries with an independent implementation",
    },
    Tool {
        what: What::PythonModule("ensurepip"),
        package: "python3-venv",
        why: "installs the library of Standard Webhooks for Python",
    },
    Tool { what: What::Postgres, package: "postgresql", why: "is started by the tests of the store of many nodes" },
];

/// Install the programs and libraries that building and testing need, where they are missing.
///
/// Programs come from the system's packages; libraries go into the target folder, and nowhere else.
#[derive(Default, clap::Args)]
#[command(after_help = "Example:\n  cargo xtask setup")]
pub(crate) struct Args {
    /// Only say what is missing; fail if anything is.
    #[arg(long)]
    dry_run: bool,
}

/// Runs the task.
pub(crate) fn main(args: &Args) -> Result<()> {
    programs(args)?;
    libraries(args)
}

fn programs(args: &Args) -> Result<()> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !tool.is_here()).collect();
    if missing.is_empty() {
        let names: Vec<&str> = TOOLS.iter().map(Tool::name).collect();
        eprintln!("setup: {} are here, no program to install", names.join(", "));
        return Ok(());
    }
    for tool in &missing {
        eprintln!("setup: {} is missing ({}); the package {} brings it", tool.name(), tool.why, tool.package);
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    let by_hand = format!("install {} with your system's package manager", packages.join(", "));
    ensure!(!args.dry_run, "{} program(s) missing; run `cargo xtask setup`, or {by_hand}", missing.len());
    ensure!(is_on_path("apt-get"), "there is no apt-get here; {by_hand}");
    install(&packages)?;
    let still: Vec<&str> = missing.iter().filter(|tool| !tool.is_here()).map(|tool| tool.name()).collect();
    ensure!(still.is_empty(), "apt-get succeeded, but {} is still not here", still.join(", "));
    Ok(())
}

impl Tool {
    fn name(&self) -> &'static str {
        match self.what {
            What::Program(name) | What::PythonModule(name) => name,
            What::Postgres => "PostgreSQL",
        }
    }

    fn is_here(&self) -> bool {
        match self.what {
            What::Program(program) => is_on_path(program),
            What::PythonModule(module) => has_python_module(module),
            What::Postgres => has_postgres(Path::new(POSTGRES)),
        }
    }
}

fn has_python_module(module: &str) -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", &format!("import {module}")]).stderr(Stdio::null());
    python.status().is_ok_and(|status| status.success())
}

/// Whether a version is there with its server, and not only its clients.
fn has_postgres(versions: &Path) -> bool {
    let Ok(mut versions) = std::fs::read_dir(versions) else { return false };
    versions.any(|version| version.is_ok_and(|version| is_executable(&version.path().join("bin/postgres"))))
}

fn install(packages: &[&str]) -> Result<()> {
    let mut commands = vec![apt_get(&["update"])];
    let mut install = apt_get(&["install", "--yes", "--no-install-recommends"]);
    install.args(packages);
    if packages.contains(&"postgresql") {
        let (file, text) = NO_DEFAULT_CLUSTER;
        let write = format!("mkdir -p $(dirname {file}) && echo '{text}' > {file}");
        commands.extend([shell(&write), install, shell(&format!("rm {file}"))]);
    } else {
        commands.push(install);
    }
    if !is_root()? {
        if !is_on_path("sudo") {
            let lines: Vec<String> = commands.iter().map(line).collect();
            bail!("installing needs root, and there is no sudo; as root, run: {}", lines.join(" && "));
        }
        commands = commands.iter().map(with_sudo).collect();
    }
    commands.iter_mut().try_for_each(run::run)?;
    eprintln!("setup: installed {}", packages.join(", "));
    Ok(())
}

fn shell(script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]);
    shell
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// sudo does not hand variables on by itself, so they go before the program as arguments.
fn with_sudo(command: &Command) -> Command {
    let mut sudo = Command::new("sudo");
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            let mut variable = name.to_owned();
            variable.push("=");
            variable.push(value);
            sudo.arg(variable);
        }
    }
    sudo.arg(command.get_program()).args(command.get_args());
    sudo
}

fn is_root() -> Result<bool> {
    let answer = Command::new("id").arg("-u").output().context("cannot ask `id -u` who runs this")?;
    Ok(answer.stdout.trim_ascii() == b"0")
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| is_executable(&directory.join(program)))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The libraries of one language: what is locked, and the folder they go into.
struct Libraries {
    what: &'static str,
    /// Files in `crates/server/tests/receivers`; the last one locks the versions.
    files: &'static [&'static str],
    folder: &'static str,
    install: fn(&Path, &Path) -> Result<()>,
}

const LIBRARIES: [Libraries; 2] = [
    Libraries {
        what: "the library of Standard Webhooks for Node",
        files: &["package.json", "package-lock.json"],
        folder: "node",
        install: with_npm,
    },
    Libraries {
        what: "the library of Standard Webhooks for Python",
        files: &["requirements.txt"],
        folder: "python",
        install: with_pip,
    },
];

/// Installs what the receivers of the suite use into `receivers` in the target folder, where the suite looks for it.
fn libraries(args: &Args) -> Result<()> {
    let source = root().join("crates/server/tests/receivers");
    let receivers = target_directory()?.join("receivers");
    for Libraries { what, files, folder, install } in LIBRARIES {
        let folder = receivers.join(folder);
        if is_installed(&source, &folder, files)? {
            eprintln!("setup: {what} is here");
            continue;
        }
        ensure!(!args.dry_run, "{what} is missing; `cargo xtask setup` installs it");
        eprintln!("setup: installing {what} into {}", folder.display());
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        install(&source, &folder)?;
        // Copied last: they say that all of it is there.
        for file in files {
            std::fs::copy(source.join(file), installed(&folder, file))
                .with_context(|| format!("cannot copy {file}"))?;
        }
    }
    Ok(())
}

/// Where the copy of a locking file says that what it locks is installed.
fn installed(folder: &Path, file: &str) -> PathBuf {
    folder.join(format!("installed-{file}"))
}

/// Whether exactly what is locked was installed.
fn is_installed(source: &Path, folder: &Path, files: &[&str]) -> Result<bool> {
    for file in files {
        let path = source.join(file);
        let locked = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if std::fs::read(installed(folder, file)).ok() != Some(locked) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn with_npm(source: &Path, folder: &Path) -> Result<()> {
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(source.join(file), folder.join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    let mut npm = Command::new("npm");
    // Nothing is written outside the folder, and nothing of the packages is run.
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--cache"]);
    npm.arg(folder.join("cache")).current_dir(folder);
    run::run(&mut npm)
}

fn with_pip(source: &Path, folder: &Path) -> Result<()> {
    run::run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--require-hashes"]);
    pip.args(["--only-binary", ":all:", "--requirement"]).arg(source.join("requirements.txt"));
    run::run(&mut pip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_path() {
        assert!(is_on_path("sh"));
        assert!(!is_on_path("no-such-program"));
    }

    #[test]
    fn postgres_is_found_only_with_its_server() {
        use std::os::unix::fs::PermissionsExt as _;
        let versions = target_directory().unwrap().join(format!("postgres-test-{}", std::process::id()));
        assert!(!has_postgres(&versions));
        let programs = versions.join("15/bin");
        std::fs::create_dir_all(&programs).unwrap();
        assert!(!has_postgres(&versions), "there are only clients");
        let server = programs.join("postgres");
        std::fs::write(&server, "").unwrap();
        std::fs::set_permissions(&server, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(has_postgres(&versions));
        std::fs::remove_dir_all(&versions).unwrap();
    }

    #[test]
    fn modules_of_python_are_found() {
        assert!(has_python_module("json"));
        assert!(!has_python_module("no_such_module"));
    }

    #[test]
    fn a_changed_lock_is_noticed() {
        let place = target_directory().unwrap().join(format!("setup-test-{}", std::process::id()));
        let (source, folder) = (place.join("source"), place.join("folder"));
        std::fs::create_dir_all(&source).unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        let look = || is_installed(&source, &folder, &["lock"]);
        assert!(look().is_err(), "there is nothing to be installed");
        std::fs::write(source.join("lock"), "1").unwrap();
        assert!(!look().unwrap());
        std::fs::write(installed(&folder, "lock"), "1").unwrap();
        assert!(look().unwrap());
        std::fs::write(source.join("lock"), "2").unwrap();
        assert!(!look().unwrap());
        std::fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn sudo_gets_the_variables_too() {
        assert_eq!(
            line(&with_sudo(&apt_get(&["update"]))),
            "sudo DEBIAN_FRONTEND=noninteractive apt-get --quiet update"
        );
    }
}
