//! Structured logs on standard error.

use crate::config::{Config, LogFormat};
use std::io::IsTerminal as _;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

/// Starts logging as configured. A second call changes nothing.
///
/// # Errors
/// The `log` setting cannot be read.
pub fn start(config: &Config) -> Result<(), String> {
    let filter = EnvFilter::try_new(&config.log).map_err(|error| format!("the log setting cannot be read: {error}"))?;
    let terminal = std::io::stderr().is_terminal();
    let format = config.log_format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let lines = registry().with(filter).with(filter_fn(holds_no_values));
    let layer = fmt::layer().with_writer(std::io::stderr);
    // An error here only says that a subscriber is set already.
    _ = match format {
        LogFormat::Json => lines.with(layer.json().flatten_event(true)).try_init(),
        LogFormat::Text => lines.with(layer.with_ansi(terminal).with_target(false)).try_init(),
    };
    Ok(())
}

/// Whether a line comes from where nobody writes payloads, secrets or names into lines. The client of PostgreSQL shows the
/// values of each statement in its finer lines, so these never stand in the log, whatever is asked for.
fn holds_no_values(line: &Metadata<'_>) -> bool {
    *line.level() <= Level::INFO || !line.target().starts_with("tokio_postgres")
}
