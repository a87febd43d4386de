//! Configuration: a TOML file, then the environment, then flags, each over the one before.
//!
//! Every setting stands once, in [`settings::SETTINGS`]: its names, its default, its meaning and how its text is read.
//! The command line, the environment, the file and the reference in `docs/configuration.md` all come from that table.
//! What comes out is a [`Config`], in which everything has been checked.

mod settings;

use capa_webhooks_core::destination::Destinations;
use capa_webhooks_core::event::catalogue::{Catalogue, CatalogueAdditions};
use capa_webhooks_core::problem::{Problem, nearest};
use capa_webhooks_core::schedule::Schedule;
pub use settings::{SETTINGS, Setting};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that the operator decides, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the API.
    pub listen: SocketAddr,
    /// Address of the metrics.
    pub metrics_listen: SocketAddr,
    /// Where everything is kept.
    pub store: StoreUrl,
    /// An admin platform key that is made to exist at start.
    pub platform_key: Option<Hidden>,
    /// Where the first start writes the admin key that it makes.
    pub admin_key_file: PathBuf,
    /// The file that holds the master key.
    pub master_key_file: PathBuf,
    /// Which URLs and addresses may be called.
    pub destinations: Destinations,
    /// The delays between attempts.
    pub schedule: Schedule,
    /// The deadline of a whole attempt.
    pub attempt_timeout: Duration,
    /// The deadline of a connect.
    pub connect_timeout: Duration,
    /// The largest event, in bytes.
    pub max_body: usize,
    /// With less free space than this, in bytes, no new events are taken.
    pub disk_reserve: u64,
    /// How long settled notifications are kept.
    pub retention: Duration,
    /// How long idempotency keys count.
    pub idempotency_retention: Duration,
    /// Header names that carry the hex signature.
    pub signature_headers: Vec<http::HeaderName>,
    /// Where the operator is told of failing endpoints, checked.
    pub operations_url: Option<String>,
    /// The secret that signs what is told there.
    pub operations_secret_file: PathBuf,
    /// After how long a failing endpoint is told.
    pub failing_after: Duration,
    /// For how long a node over a shared store may be silent before the others think it dead.
    pub node_lease: Duration,
    /// How long a stop waits for what is in flight.
    pub shutdown_grace: Duration,
    /// Which log lines are written.
    pub log: String,
    /// In which form; `None` means text on a terminal and JSON elsewhere.
    pub log_format: Option<LogFormat>,
    /// The known events.
    pub catalogue: Catalogue,
    /// Environment variables that look like settings and are none.
    pub unknown_variables: Vec<String>,
}

/// Where everything is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// In this file.
    Sqlite(PathBuf),
    /// In this database.
    Postgres(PostgresUrl),
}

/// The URL of a PostgreSQL database. Shows itself without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

impl PostgresUrl {
    /// The URL with this text, if it begins like one.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"))?;
        (!rest.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The whole of it, for the driver only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PostgresUrl {
    /// Leaves out the password, and everything behind the question mark, where another one can stand.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        // A password that was not escaped may hold anything: all up to the last sign is kept back.
        match rest.rsplit_once('@') {
            Some((who, place)) => {
                let user = who.split(':').next().unwrap_or_default();
                let hidden = if who.contains(':') { ":***" } else { "" };
                write!(f, "{scheme}://{user}{hidden}@{place}")
            }
            None => write!(f, "{scheme}://{rest}"),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// A secret that was configured. Shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(***)")
    }
}

/// Why the configuration cannot be used; every problem on a line of its own.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used:\n{}", .0.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// Where values come from.
#[derive(Debug, Default)]
pub struct Sources {
    /// The configuration file, if one was named.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// Flags, by the setting's key.
    pub flags: BTreeMap<&'static str, String>,
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// Every value that cannot be used, with where it came from and how to mend it.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let mut config = Self::default();
        let mut schedule = settings::ScheduleParts::default();
        let file = match &sources.file {
            Some(path) => read_file(path, &mut problems),
            None => ConfigFile::default(),
        };
        let name = sources.file.as_deref().unwrap_or(Path::new("")).display().to_string();
        for setting in SETTINGS {
            let variable = setting.variable();
            let given = [
                file.values.get(setting.key).map(|value| (value, format!("{} in {name}", setting.key))),
                sources.environment.get(&variable).map(|value| (value, variable.clone())),
                sources.flags.get(setting.key).map(|value| (value, setting.flag())),
            ];
            // The last source wins, but a wrong value in an earlier one is told as well.
            for (value, source) in given.into_iter().flatten() {
                if let Err(problem) = (setting.read)(value.trim(), &mut config, &mut schedule) {
                    problems.push(format!("{source} {problem}"));
                }
            }
        }
        match schedule.build() {
            Ok(built) => config.schedule = built,
            Err(problem) => problems.push(problem),
        }
        // The rules for URLs may come after the URL.
        if let Some(url) = config.operations_url.take() {
            match config.destinations.check_url(&url) {
                Ok(url) => config.operations_url = Some(url),
                Err(wrong) => {
                    problems.extend(wrong.into_iter().map(|wrong| format!("operations_url: {}", wrong.problem)));
                }
            }
        }
        if let Err(wrong) = config.catalogue.extend(file.additions) {
            problems
                .extend(wrong.into_iter().map(|Problem { field, problem }| format!("{field} in {name}: {problem}")));
        }
        config.unknown_variables = sources
            .environment
            .keys()
            .filter(|name| name.starts_with(settings::PREFIX) && *name != settings::FILE_VARIABLE)
            .filter(|name| !SETTINGS.iter().any(|setting| setting.variable() == **name))
            .cloned()
            .collect();
        if problems.is_empty() { Ok(config) } else { Err(ConfigError(problems)) }
    }
}

impl Default for Config {
    fn default() -> Self {
        settings::defaults()
    }
}

#[derive(Default)]
struct ConfigFile {
    values: BTreeMap<String, String>,
    additions: CatalogueAdditions,
}

fn read_file(path: &Path, problems: &mut Vec<String>) -> ConfigFile {
    let name = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.push(format!("{name} cannot be read: {error}"));
            return ConfigFile::default();
        }
    };
    let mut table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            problems
                .push(format!("{name} is not valid TOML: {}", error.to_string().trim_end().replace('\n', "\n    ")));
            return ConfigFile::default();
        }
    };
    let mut catalogue = toml::Table::new();
    for key in ["types", "events"] {
        if let Some(value) = table.remove(key) {
            catalogue.insert(key.to_owned(), value);
        }
    }
    let additions = catalogue.try_into().unwrap_or_else(|error: toml::de::Error| {
        problems.push(format!("{name}: {}", error.message()));
        CatalogueAdditions::default()
    });
    let mut values = BTreeMap::new();
    for (key, value) in table {
        if !SETTINGS.iter().any(|setting| setting.key == key) {
            let hint = nearest(&key, SETTINGS.iter().map(|setting| setting.key));
            let hint = hint.map_or_else(String::new, |known| format!("; did you mean {known}?"));
            problems.push(format!("{key} in {name} is not a setting{hint}"));
            continue;
        }
        match as_text(&value) {
            Some(text) => _ = values.insert(key, text),
            None => problems
                .push(format!("{key} in {name} must be a string, a number, true or false, or a list of strings")),
        }
    }
    ConfigFile { values, additions }
}

/// A TOML value in the form in which the environment would carry it.
fn as_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<String>> =
                items.iter().map(|item| if item.is_array() { None } else { as_text(item) }).collect();
            texts.map(|texts| texts.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests;
