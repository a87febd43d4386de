//! The folder of one cluster, and the guardian that removes it when nobody needs it any more.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::programs::Programs;

/// What the guardian runs, with the folder as its argument. Its input ends when our process ends, however that happens.
/// Then it ends the server of the folder, if one still runs. A server that was killed leaves a segment of shared memory
/// behind, which it names in the seventh line of its file.
const GUARDIAN: &str = r#"
read -r _
file=$1/data/postmaster.pid
pid=$(sed -n 1p "$file" 2>/dev/null)
while [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$1/data" ]; do
    kill -QUIT "$pid"; kill -CONT "$pid"; sleep 0.1
done 2>/dev/null
segment=$(sed -n '7s/^ *[0-9]* *//p' "$file" 2>/dev/null)
if [ -n "$segment" ]; then ipcrm -m "$segment" 2>/dev/null; fi
rm -rf -- "$1"
"#;

/// The folder of one cluster. Dropping it removes the folder, and ends whatever server still runs there.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    guardian: Child,
    programs: Programs,
}

impl Place {
    /// A fresh folder, which the server's user owns.
    pub(crate) fn new(programs: Programs) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("capa-cluster-").tempdir().context("cannot make a folder")?.keep();
        // The guardian compares it with a path that the system resolved.
        let folder = folder.canonicalize().context("cannot resolve the folder's path")?;
        let guardian = (Command::new("sh").args(["-c", GUARDIAN, "guardian"]).arg(&folder).current_dir("/"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // An interrupt from the keyboard goes to our whole group. The guardian must outlive it.
            .process_group(0)
            .spawn()
            .context("cannot start sh")?;
        let place = Self { folder, guardian, programs };
        place.give_away(&place.folder)?;
        Ok(place)
    }

    /// The programs, and as whom they run.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.programs.command(program, &self.folder)
    }

    pub(crate) fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Where the server logs to.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Writes a file that only the server's user can read, and gives its path. `name` is relative to the folder.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| format!("cannot write {name}"))?;
        self.give_away(&path)?;
        Ok(path)
    }

    /// Adds to the end of a file in the data folder.
    pub(crate) fn append(&self, name: &str, text: &str) -> Result<()> {
        let file = std::fs::OpenOptions::new().append(true).open(self.data().join(name));
        file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| format!("cannot write {name}"))
    }

    fn give_away(&self, path: &Path) -> Result<()> {
        let Some(user) = self.programs.user() else { return Ok(()) };
        std::os::unix::fs::chown(path, Some(user.id), Some(user.group))
            .with_context(|| format!("cannot give {} to the user postgres", path.display()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The guardian's input ends, and with it its wait.
        drop(self.guardian.stdin.take());
        _ = self.guardian.wait();
    }
}
