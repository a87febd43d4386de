//! What the service tells about itself: logs and metrics. Neither ever holds a secret, a payload or a person's name.

pub mod log;
pub mod metrics;
