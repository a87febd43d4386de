//! The engine for many nodes: everything in one PostgreSQL database, which several processes share as equals.
//!
//! A batch is one round trip and one commit: what must be several statements is a function of the database
//! (`migrations/0002_functions.sql`), everything else stands beside the method that uses it. What an event needs sealed or
//! hashed is sealed and hashed in the calling task.
//!
//! | file | what |
//! |---|---|
//! | `connect.rs`, `tls.rs`, `session.rs`, `fault.rs` | connections, and what becomes of it when one breaks |
//! | `schema.rs`, `migrations/` | the tables |
//! | `accept.rs`, `record.rs` | the two transactions of an event |
//! | `claim.rs`, `retry.rs`, `lives.rs`, `sweep.rs` | who makes the next attempt |
//! | `partners.rs`, `keys.rs`, `erase.rs`, `changes.rs` | partners, and who is told that they changed |
//! | `inbox.rs` | what was published from within other transactions |
//! | `counters.rs`, `list.rs`, `detail.rs` | questions |
//! | `expire.rs`, `partitions.rs`, `examine.rs` | housekeeping |
//! | `copy.rs` | one end of a copy to the other engine, or from it |
//!
//! What is guaranteed: an event that was accepted is in a transaction that the database has committed, on its disk
//! and on its synchronous standby, where it has one. An answer that was lost during a commit is
//! [`Error::InDoubt`](crate::Error::InDoubt), never a guess.
//!
//! **Who owns a row.** The life of a node that holds it in memory, until that life has ended. Lives end by themselves, or are
//! ended by others who saw their counter stand still ([`Store::end_silent`](crate::Store::end_silent)). Taking over is a sweep that never
//! ends: every heartbeat frees what belongs to nobody alive, so a commit that lands after its life was ended is freed by the
//! next one.
//!
//! **What a long transaction of somebody else costs.** The database cannot clean up behind it, so nothing that is done often
//! may walk over what was deleted: claims read an index that the happy path never enters, the sweep looks only
//! between the living, the backlog is a sum of counters, counters are folded from where the last fold ended, and looks into
//! the inbox ask only for transactions that were open at the last one.

mod accept;
mod changes;
mod claim;
mod connect;
pub(crate) mod copy;
mod counters;
mod detail;
mod erase;
mod examine;
mod expire;
mod fault;
mod inbox;
mod keys;
mod list;
mod lives;
mod open;
mod partitions;
mod partners;
mod record;
mod retry;
mod rows;
mod schema;
mod session;
mod store;
mod sweep;
mod tls;

pub use open::Options;

use crate::seal::Keyring;
use capa_webhooks_core::id::PartnerId;
use counters::Unfolded;
use inbox::Seen;
use partitions::Days;
use session::Pool;
use std::sync::{Arc, Mutex};
use sweep::Freed;
use tokio::sync::Notify;

/// A store in a PostgreSQL database, as one of its nodes uses it.
pub struct PostgresStore {
    /// For accepts.
    accepts: Pool,
    /// For outcomes.
    records: Pool,
    /// For claims and what people change.
    claims: Pool,
    /// For signs of life, which wait for nothing else.
    lives: Pool,
    /// For the counters and for what is past its retention.
    chores: Arc<Pool>,
    /// For questions.
    readers: Pool,
    /// How many sessions there are for accepts, and as many for outcomes.
    batches: usize,
    ring: Arc<Keyring>,
    /// The days whose partitions are known to be there.
    days: Days,
    /// The partner that the last claim served last; the next one begins after it.
    served_last: Mutex<Option<PartnerId>>,
    unfolded: Arc<Unfolded>,
    /// For looks into the inbox, and for hearing that something was put there.
    inbox: Pool,
    /// Woken when something was published.
    notified: Arc<Notify>,
    /// How far the inbox was seen.
    seen: Mutex<Seen>,
    /// Rows of ended lives that were freed since the last heartbeat told of them.
    freed: Freed,
}
