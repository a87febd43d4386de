//! How a cluster is to be: durable or fast, open or with a password, with or without TLS.

use std::fmt::Write as _;

/// How a cluster is to be. The default is right for tests of what is stored: fast, and lost with the machine.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether commits reach the disk (`fsync` and `full_page_writes`). Without, a cluster survives the death of its
    /// processes, but not of the machine. Campaigns about durability and benchmarks turn it on.
    pub durable: bool,
    /// The password of the user `postgres`, asked for with SCRAM. Without one, everybody on this machine may connect.
    pub password: Option<String>,
    /// The certificate to serve with. Without one there is no TLS.
    pub tls: Option<Tls>,
    /// Further settings of `postgresql.conf`, names and values. They win over those of this crate.
    pub settings: Vec<(String, String)>,
}

/// What a cluster needs to serve TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificate and those that lead to its root, in PEM.
    pub certificate: String,
    /// Its private key, in PEM.
    pub key: String,
    /// Whether connections without TLS are refused.
    pub required: bool,
}

/// Names of the files of TLS in the data folder.
pub(crate) const CERTIFICATE: &str = "server.crt";
pub(crate) const KEY: &str = "server.key";

impl Options {
    /// The lines for the end of `postgresql.conf`, where the last of several wins.
    pub(crate) fn configuration(&self, port: u16) -> String {
        let mut lines = String::new();
        let mut set = |name: &str, value: &str| {
            // Writing into a string cannot fail.
            _ = writeln!(lines, "{name} = {}", quoted(value));
        };
        set("listen_addresses", "127.0.0.1");
        set("port", &port.to_string());
        // A socket's path would be too long for some temporary folders, and nobody here needs one.
        set("unix_socket_directories", "");
        set("max_connections", "300");
        set("shared_buffers", "64MB");
        set("log_line_prefix", "%m [%p] ");
        if !self.durable {
            set("fsync", "off");
            set("full_page_writes", "off");
        }
        if self.tls.is_some() {
            set("ssl", "on");
            set("ssl_cert_file", CERTIFICATE);
            set("ssl_key_file", KEY);
        }
        for (name, value) in &self.settings {
            set(name, value);
        }
        lines
    }

    /// The text of `pg_hba.conf`: who may connect from where.
    pub(crate) fn access(&self) -> String {
        let kind = if self.tls.as_ref().is_some_and(|tls| tls.required) { "hostssl" } else { "host" };
        let method = self.method();
        format!("{kind} all all 127.0.0.1/32 {method}\n{kind} replication all 127.0.0.1/32 {method}\n")
    }

    /// How PostgreSQL asks who somebody is.
    pub(crate) fn method(&self) -> &'static str {
        if self.password.is_some() { "scram-sha-256" } else { "trust" }
    }
}

/// A value of `postgresql.conf`.
pub(crate) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_settings_come_last_and_are_quoted() {
        let settings = vec![("port".to_owned(), "it's".to_owned())];
        let text = Options { durable: true, settings, ..Options::default() }.configuration(5);
        assert!(text.contains("port = '5'\n") && text.ends_with("port = 'it''s'\n"), "{text}");
        assert!(!text.contains("fsync"), "a durable cluster keeps what PostgreSQL does by itself: {text}");
    }

    #[test]
    fn connections_without_tls_can_be_refused() {
        let tls = |required| Some(Tls { certificate: String::new(), key: String::new(), required });
        let access = |required| Options { tls: tls(required), ..Options::default() }.access();
        assert!(access(false).lines().all(|line| line.starts_with("host ")));
        assert!(access(true).lines().all(|line| line.starts_with("hostssl ")));
    }
}
