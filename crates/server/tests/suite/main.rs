//! One integration binary: what the system does, seen from outside. See `harness` for how it is driven.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test does not expect ends it")]

mod harness;

mod acknowledge;
mod batch;
mod cli;
mod delivery;
mod details;
mod documents;
mod door;
mod endpoint_health;
mod errors;
mod hostile;
mod idempotency;
mod keys;
mod kill;
mod layers;
mod limits;
mod lists;
mod logs;
mod manual_retry;
mod memory;
mod nodes;
mod not_sent;
mod operations;
mod partners;
mod publish;
mod receivers;
mod retries;
mod settings;
