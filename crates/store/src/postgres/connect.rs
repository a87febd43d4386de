//! Where the database is, and how a connection to it is made.
//!
//! The address is a `postgres://` URL as libpq takes it. Two of its settings are read here and not by the driver, because
//! the driver knows only half of them: `sslmode` and `sslrootcert` (see `tls.rs`). Every connection is set up the same way:
//!
//! * `synchronous_commit` is at least `on`, whatever the server's default is: a 202 stands on it.
//! * Every statement has a time-out, and so has a transaction in which nothing is said.
//! * Plans are made once for each statement, and read in the order of an index. Statistics of `queue`, which is full at one
//!   moment and empty at the next, would mislead the planner into reading tables whole (how statements are written to prevent
//!   that stands in `migrations/0002_functions.sql`). Only what does read tables whole asks otherwise ([`READ_WHOLE`]).

use super::fault::{Fault, Remedy, chain, text};
use super::session::{Session, within};
use super::tls::{Tls, TlsChoice};
use crate::Error;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};
use url::form_urlencoded;

/// The oldest PostgreSQL that the tables and statements are made for.
const OLDEST_SERVER: i32 = 150_000;

/// Lets the planner choose, to the end of the transaction.
pub(super) const READ_WHOLE: &str =
    "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;
     SET LOCAL plan_cache_mode = auto; SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on;
     SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on";

/// A database to connect to.
#[derive(Clone)]
pub(super) struct Target {
    config: Config,
    tls: TlsChoice,
    statement_timeout: Duration,
    /// Told of every notification that the database sends to a connection that listens.
    notified: Arc<Notify>,
}

impl Target {
    /// Reads the URL. What is wrong with it is told without showing it: it holds a password.
    pub(super) fn parse(url: &str, statement_timeout: Duration) -> Result<Self, Error> {
        let cannot = |why: String| Error::CannotOpen(format!("the address of the database cannot be used: {why}"));
        // Not by a reader of URLs in general: libpq allows several hosts in one.
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let given = |name: &str| pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let (mode, root) = (given("sslmode"), given("sslrootcert"));
        let ours = |name: &str| matches!(name, "sslmode" | "sslrootcert");
        let rest = pairs.iter().filter(|(name, _)| !ours(name));
        let rest = form_urlencoded::Serializer::new(String::new()).extend_pairs(rest).finish();
        // The driver reads no `+` for a space.
        let address = format!("{place}?{}", rest.replace('+', "%20"));
        let form = "it should read postgres://USER:PASSWORD@HOST:PORT/DATABASE";
        let mut config: Config =
            address.parse().map_err(|error: tokio_postgres::Error| cannot(format!("{}; {form}", chain(&error))))?;
        if config.get_hosts().is_empty() {
            return Err(cannot(format!("it names no host; {form}")));
        }
        let tls = TlsChoice::new(mode.as_deref(), root.as_deref()).map_err(cannot)?;
        config.ssl_mode(tls.mode());
        if config.get_application_name().is_none() {
            config.application_name("capa-webhooks");
        }
        if config.get_dbname().is_none() {
            config.dbname("capa_webhooks");
        }
        config.connect_timeout(config.get_connect_timeout().copied().unwrap_or(Duration::from_secs(5)));
        // A peer that is gone without a word is noticed within about fifteen seconds.
        config.keepalives_idle(Duration::from_secs(5));
        config.keepalives_interval(Duration::from_secs(3));
        config.keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(15));
        Ok(Self { config, tls, statement_timeout, notified: Arc::default() })
    }

    /// How long to wait for an answer: a little longer than the database works on it.
    pub(super) fn deadline(&self) -> Duration {
        self.statement_timeout + Duration::from_secs(5)
    }

    /// Woken by what the database notifies of.
    pub(super) fn notified(&self) -> &Arc<Notify> {
        &self.notified
    }

    /// Makes a connection and sets it up.
    pub(super) async fn connect(&self) -> Result<Session, Fault> {
        // Logging in is a few round trips, for each of the addresses that the host has.
        within(Some(self.deadline()), self.connect_at_last()).await
    }

    async fn connect_at_last(&self) -> Result<Session, Fault> {
        let unconfirmed = Arc::new(AtomicBool::new(false));
        let client = match self.tls.connector()? {
            Tls::Off => {
                let (client, connection) = self.config.connect(NoTls).await?;
                drive(connection, Arc::clone(&unconfirmed), Arc::clone(&self.notified));
                client
            }
            Tls::On(connector) => {
                let (client, connection) = self.config.connect(connector).await?;
                drive(connection, Arc::clone(&unconfirmed), Arc::clone(&self.notified));
                client
            }
        };
        set_up(&client, self.statement_timeout).await?;
        Ok(Session::new(client, unconfirmed))
    }

    /// Connects for the first time, and says how to mend what is wrong.
    pub(super) async fn connect_first(&self) -> Result<Session, Error> {
        let mut session = self.connect().await.map_err(|fault| self.explain(fault))?;
        let version = version(&mut session).await.map_err(|fault| self.explain(fault))?;
        if version < OLDEST_SERVER {
            return Err(Error::CannotOpen(format!(
                "{} runs PostgreSQL {}; 15 is the oldest that can be used: upgrade it",
                self.place(),
                version / 10_000
            )));
        }
        Ok(session)
    }

    /// Host, port and database, for messages.
    pub(super) fn place(&self) -> String {
        let hosts: Vec<String> = self
            .config
            .get_hosts()
            .iter()
            .map(|host| match host {
                tokio_postgres::config::Host::Tcp(name) => name.clone(),
                #[cfg(unix)]
                tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        format!("the database {} at {}:{port}", self.config.get_dbname().unwrap_or_default(), hosts.join(","))
    }

    fn explain(&self, fault: Fault) -> Error {
        let place = self.place();
        let Fault::Sql(error) = &fault else { return cannot(&place, &fault.tell().to_string()) };
        let Some(told) = error.as_db_error() else {
            return match fault.remedy() {
                Remedy::Lost => {
                    cannot(&place, &format!("{}; check that it runs, its address, and sslmode", chain(error)))
                }
                _ => cannot(&place, &chain(error)),
            };
        };
        let mend = match *told.code() {
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                "check user and password in the address, and pg_hba.conf of the server"
            }
            SqlState::INVALID_CATALOG_NAME => "make it (`CREATE DATABASE …`), or name another one in the address",
            SqlState::INSUFFICIENT_PRIVILEGE => {
                "give the user the right to connect and to create the schema capa_webhooks"
            }
            SqlState::TOO_MANY_CONNECTIONS => "raise max_connections, or let fewer connections to it",
            _ => "see the log of the server",
        };
        cannot(&place, &format!("{}; {mend}", text(told)))
    }
}

async fn version(session: &mut Session) -> Result<i32, Fault> {
    Ok(session.query_one("SELECT current_setting('server_version_num')::integer", &[]).await?.try_get(0)?)
}

fn cannot(place: &str, why: &str) -> Error {
    Error::CannotOpen(format!("cannot open {place}: {why}"))
}

/// Carries a connection until it ends, and watches what the database says beside its answers.
fn drive<S, T>(mut connection: Connection<S, T>, unconfirmed: Arc<AtomicBool>, notified: Arc<Notify>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                // "canceling wait for synchronous replication due to …": a commit that was not waited for. It comes before
                // the answer to that commit. Any warning that is not known to be harmless counts.
                Ok(AsyncMessage::Notice(notice)) if notice.parsed_severity() == Some(Severity::Warning) => {
                    if *notice.code() != SqlState::NO_ACTIVE_SQL_TRANSACTION {
                        unconfirmed.store(true, Ordering::Relaxed);
                        tracing::warn!(message = %text(&notice), "the database warns");
                    }
                }
                Ok(AsyncMessage::Notification(_)) => notified.notify_one(),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "a connection to the database has ended");
                    return;
                }
            }
        }
    });
}

async fn set_up(client: &Client, statement_timeout: Duration) -> Result<(), Fault> {
    let millis = statement_timeout.as_millis();
    let sql = format!(
        "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'remote_apply'
                           THEN 'remote_apply' ELSE 'on' END, false);
         SET search_path = capa_webhooks, pg_temp;
         SET default_transaction_isolation = 'read committed'; SET client_min_messages = warning;
         SET statement_timeout = {millis}; SET lock_timeout = {millis};
         SET idle_in_transaction_session_timeout = {millis}; SET jit = off;
         SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off;
         SET enable_hashjoin = off; SET enable_mergejoin = off; SET max_parallel_workers_per_gather = 0"
    );
    Ok(client.batch_execute(&sql).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::SslMode;

    fn parse(url: &str) -> Result<Target, Error> {
        Target::parse(url, Duration::from_secs(10))
    }

    #[test]
    fn an_address_is_read_as_libpq_reads_it() {
        let target = parse("postgres://me:secret@db.example:6432/ours?sslmode=disable&connect_timeout=3").unwrap();
        assert_eq!(target.config.get_ssl_mode(), SslMode::Disable);
        assert_eq!(target.config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(target.place(), "the database ours at db.example:6432");
        let two = parse("postgres://me@one.example:1,two.example:2/ours?target_session_attrs=read-write").unwrap();
        assert_eq!((two.config.get_hosts().len(), two.config.get_ports()), (2, [1, 2].as_slice()));
        assert_eq!(parse("postgres://me@db.example").unwrap().config.get_ssl_mode(), SslMode::Prefer);
        assert_eq!(
            parse("postgres://me@db.example?sslmode=verify-full").unwrap().config.get_ssl_mode(),
            SslMode::Require
        );
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        for bad in [
            "postgres://me:hunter2@db.example:port/x",
            "postgres://me:hunter2@db.example/x?sslmode=sometimes",
            "postgres://me:hunter2@db.example/x?nonsense=1",
            "postgres://me:hunter2@db.example/x?sslmode=verify-ca&sslrootcert=/not/there.pem",
        ] {
            let refused = parse(bad).and_then(|target| target.tls.connector().map(drop).map_err(Fault::tell));
            let text = refused.unwrap_err().to_string();
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
