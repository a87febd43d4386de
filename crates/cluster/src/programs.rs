//! Where the programs of PostgreSQL are, and as whom they run.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Debian puts each major version into a folder of its own here, and nothing of it on PATH.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The programs of one version of PostgreSQL.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    folder: PathBuf,
    user: Option<User>,
}

/// A user of the system.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct User {
    pub(crate) id: u32,
    pub(crate) group: u32,
}

impl Programs {
    /// The newest that are installed.
    pub(crate) fn find() -> Result<Self> {
        let user = if rustix::process::geteuid().is_root() { Some(postgres_user()?) } else { None };
        let folder = newest(Path::new(VERSIONS)).with_context(|| {
            format!("there is no PostgreSQL under {VERSIONS}; `cargo xtask setup` installs it where it is missing")
        })?;
        Ok(Self { folder, user })
    }

    /// The user that the server runs as, if that is not who we are.
    pub(crate) fn user(&self) -> Option<User> {
        self.user
    }

    /// One of the programs, to be run as the server's user in `folder`, with nothing of our own environment that
    /// PostgreSQL would listen to.
    pub(crate) fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = Command::new(self.folder.join(program));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        // Clients look for certificates at home, and our own home may be closed to the user that they run as.
        command.env("LC_ALL", "C").env("HOME", folder).current_dir(folder);
        if let Some(user) = self.user {
            command.uid(user.id).gid(user.group);
        }
        command
    }
}

/// Runs a command to its end and gives what it printed. An error holds what it said about its failure.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// The `bin` of the highest version that has a server.
fn newest(versions: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(versions).ok()?.flatten();
    let versions = entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())));
    let complete = versions.map(|(version, path)| (version, path.join("bin")));
    complete.filter(|(_, bin)| bin.join("postgres").is_file()).max().map(|(_, bin)| bin)
}

fn postgres_user() -> Result<User> {
    let users = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    named(&users, "postgres").context("PostgreSQL refuses to run as root, and there is no system user `postgres`")
}

/// A user in the text of `/etc/passwd`: name, password, id, group, and more.
fn named(users: &str, name: &str) -> Option<User> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some(User { id: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name() {
        let users = "root:x:0:0:root:/root:/bin/sh\npostgres:x:101:104:,,,:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(named(users, "postgres"), Some(User { id: 101, group: 104 }));
        assert_eq!(named(users, "post"), None);
    }

    #[test]
    fn the_newest_version_with_a_server_is_taken() {
        let versions = tempfile::tempdir().unwrap();
        for version in ["9", "15", "16", "common"] {
            std::fs::create_dir_all(versions.path().join(version).join("bin")).unwrap();
        }
        assert_eq!(newest(versions.path()), None);
        for version in ["9", "15"] {
            std::fs::write(versions.path().join(version).join("bin/postgres"), "").unwrap();
        }
        assert_eq!(newest(versions.path()), Some(versions.path().join("15/bin")));
    }
}
