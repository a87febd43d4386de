//! One integration binary: what the system does, seen from outside. See `harness` for how it is driven.

mod harness;

mod acknowledge;
mod batch;
mod cli;
mod delivery;
mod details;
mod documents;
mod errors;
mod idempotency;
mod keys;
mod kill;
mod layers;
mod lists;
mod manual_retry;
mod not_sent;
mod partners;
mod publish;
mod retries;
mod settings;
