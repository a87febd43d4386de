//! A database of a cluster, and statements run in it by `psql`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::programs::Programs;

/// A fresh database. Dropping it drops the database, also when somebody is still connected to it.
#[derive(Debug)]
pub struct Database {
    programs: Programs,
    /// The database from which it is created and dropped.
    maintenance: String,
    name: String,
    url: String,
}

impl Database {
    pub(crate) fn create(programs: Programs, maintenance: &str, url: &str, name: String) -> Result<Self> {
        sql(&programs, maintenance, &format!("CREATE DATABASE {name}"))?;
        Ok(Self { programs, maintenance: maintenance.to_owned(), name, url: url.to_owned() })
    }

    /// Its URL, for the superuser.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs statements in it over `address`, such as that of a [`Proxy`](crate::Proxy).
    pub fn sql_through(&self, address: SocketAddr, statements: &str) -> Result<String> {
        sql(&self.programs, &self.url_through(address), statements)
    }

    /// Its URL for clients that connect to `address`.
    pub fn url_through(&self, address: SocketAddr) -> String {
        let (user, place) = self.url.rsplit_once('@').unwrap_or_default();
        let (_, database) = place.split_once('/').unwrap_or_default();
        format!("{user}@{address}/{database}")
    }

    /// Runs statements in it, as [`Cluster::sql`](crate::Cluster::sql) does.
    pub fn sql(&self, statements: &str) -> Result<String> {
        sql(&self.programs, &self.url, statements)
    }
}

/// A session in which a transaction stays open, with its locks. Dropping it rolls back.
#[derive(Debug)]
pub struct Session(Child);

impl Database {
    /// Begins a transaction, runs statements in it, and holds it open.
    pub fn hold(&self, statements: &str) -> Result<Session> {
        let mut psql = psql(&self.programs, &self.url);
        let mut session = Session(psql.stderr(Stdio::inherit()).spawn().context("cannot start psql")?);
        let input = session.0.stdin.as_mut().context("the input is piped")?;
        writeln!(input, "BEGIN;\n{statements};\n\\echo held").context("psql takes no statements")?;
        let output = session.0.stdout.take().context("the output is piped")?;
        let held = BufReader::new(output).lines().map_while(std::io::Result::ok).any(|line| line == "held");
        ensure!(held, "the transaction has failed");
        Ok(session)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // psql ends with its input.
        drop(self.0.stdin.take());
        _ = self.0.wait();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The cluster may not run any more, and then goes as a whole.
        _ = sql(&self.programs, &self.maintenance, &format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

/// Runs statements, each in a transaction of its own. They come through standard input: as an argument they would be one
/// transaction, in which no database can be created.
pub(crate) fn sql(programs: &Programs, url: &str, statements: &str) -> Result<String> {
    let mut child = psql(programs, url).spawn().context("cannot start psql")?;
    let mut input = child.stdin.take().context("the input is piped")?;
    // psql may end before it has read everything. It then says why.
    let written = input.write_all(statements.as_bytes());
    drop(input);
    let output = child.wait_with_output().context("cannot wait for psql")?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr).trim());
    written.context("psql did not read all statements")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

fn psql(programs: &Programs, url: &str) -> Command {
    let mut psql = programs.command("psql", "/".as_ref());
    psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set", "ON_ERROR_STOP=1", "--file", "-"]);
    psql.args(["--dbname", url]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    psql
}
