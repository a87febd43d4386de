//! Capa Webhooks: accepts events, makes them durable, and delivers each to its partner's URL.
//!
//! The way of one event, in reading order:
//!
//! | step | module | what happens |
//! |---|---|---|
//! | 1 | [`api`] | authenticates, reads the body, lets `core` parse it |
//! | 2 | [`ingest`] | gathers what arrived meanwhile into one transaction; then every caller gets its 202 |
//! | 3 | [`engine`] | drives the step machine of `core`, which chooses what is sent next |
//! | 4 | [`outgoing`] | POSTs, to an address that was checked, within one deadline |
//! | 5 | [`engine`] | lets `core` decide what the answer means, and records outcomes in batches |
//!
//! [`boot`] puts everything together and takes it apart again. [`directory`] knows partners and keys without asking
//! the store each time. [`node`] holds this node's place among others over the same store. [`config`] reads what the operator decides. [`cli`] is the command line. [`clock`] is the only
//! place that reads a clock or a random source.

pub mod api;
pub mod boot;
pub mod cli;
pub mod clock;
pub mod config;
pub mod directory;
pub mod disk;
pub mod door;
pub mod endpoints;
pub mod engine;
pub mod housekeeping;
pub mod inbox;
pub mod ingest;
pub mod keyfile;
pub mod moves;
pub mod node;
pub mod opening;
pub mod outgoing;
pub mod pace;
pub mod permit;
pub mod room;
pub mod telemetry;
pub mod wake;
