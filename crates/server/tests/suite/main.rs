//! One integration binary: what the system does, seen from outside. See `harness` for how it is driven.

mod harness;

mod acknowledge;
mod delivery;
mod documents;
mod kill;
mod layers;
mod manual_retry;
mod not_sent;
mod retries;
