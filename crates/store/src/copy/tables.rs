//! What is copied: every table that is not derived from another, column by column.
//!
//! What one engine keeps and the other does not: `seq` and `used_order`, the order of commits (SQLite); event and
//! acceptance once more in `queue` (PostgreSQL); `listed`, `counters`, `days` and the like, which follow from the rest. An
//! owner is not copied either: no process holds in memory what was just copied.

/// A column, as both engines see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// SQLite does not keep it here, but with the notification.
    pub(crate) of_notification: bool,
}

/// How a value is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 16 bytes, or a UUID.
    Id,
    Bytes,
    Text,
    /// 64 bits in both.
    Integer,
    /// 32 bits in PostgreSQL.
    Small,
    /// 0 or 1, or a boolean.
    Flag,
    /// Numbers separated by commas, or an array.
    Numbers,
    /// Names separated by line feeds, or an array.
    Names,
}

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [Column],
    /// The order in which SQLite is read; unique.
    pub(crate) sqlite_order: &'static [&'static str],
    /// The order in which PostgreSQL is read; unique, and made of columns.
    pub(crate) postgres_order: &'static [&'static str],
    /// Columns that only SQLite has.
    pub(crate) sqlite_only: &'static [&'static str],
    /// Columns that only PostgreSQL has.
    pub(crate) postgres_only: &'static [&'static str],
    /// Cut into partitions by id, in PostgreSQL.
    pub(crate) by_day: bool,
}

impl Table {
    /// Whether SQLite's table has such a column, as far as this version knows.
    pub(crate) fn is_of_sqlite(&self, name: &str) -> bool {
        let copied = self.columns.iter().any(|column| column.name == name && !column.of_notification);
        copied || self.sqlite_only.contains(&name)
    }

    /// Whether PostgreSQL's table has such a column, as far as this version knows.
    pub(crate) fn is_of_postgres(&self, name: &str) -> bool {
        self.place(name).is_some() || self.postgres_only.contains(&name)
    }

    /// The place of a column among the columns.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// Everything that is copied, what others refer to first.
///
/// Notifications leave PostgreSQL in the order of their ids, which begin with their time, and idempotency keys in the order
/// of their first use: that becomes SQLite's order of commits.
pub(crate) static TABLES: [Table; 10] = [
    Table {
        columns: &[
            column("id", Kind::Id),
            column("name", Kind::Text),
            column("disabled", Kind::Flag),
            column("state", Kind::Text),
            column("data_key", Kind::Bytes),
            column("created_at", Kind::Integer),
            column("updated_at", Kind::Integer),
            column("failing_since", Kind::Integer),
        ],
        ..table("partners", &["id"])
    },
    Table {
        columns: &[
            column("partner", Kind::Id),
            column("id", Kind::Id),
            column("url", Kind::Bytes),
            column("ack_rule", Kind::Text),
            column("retry_delays", Kind::Numbers),
            column("attempt_timeout", Kind::Integer),
            column("max_in_flight", Kind::Small),
            column("rate_limit", Kind::Integer),
            column("events", Kind::Names),
            column("created_at", Kind::Integer),
            column("updated_at", Kind::Integer),
        ],
        ..table("settings", &["partner"])
    },
    Table {
        columns: &[column("partner", Kind::Id), column("secret", Kind::Bytes), column("created_at", Kind::Integer)],
        ..table("secrets", &["partner"])
    },
    Table {
        columns: &[
            column("id", Kind::Id),
            column("partner", Kind::Id),
            column("secret_hash", Kind::Bytes),
            column("created_at", Kind::Integer),
            column("revoked_at", Kind::Integer),
        ],
        ..table("api_keys", &["id"])
    },
    Table {
        columns: &[
            column("id", Kind::Id),
            column("secret_hash", Kind::Bytes),
            column("publish", Kind::Flag),
            column("admin", Kind::Flag),
            column("read", Kind::Flag),
            column("name", Kind::Text),
            column("created_at", Kind::Integer),
            column("revoked_at", Kind::Integer),
        ],
        ..table("platform_keys", &["id"])
    },
    Table {
        columns: &[
            column("partner", Kind::Id),
            column("id", Kind::Id),
            column("event", Kind::Text),
            column("accepted_at", Kind::Integer),
            column("transaction_hash", Kind::Integer),
            column("user_hash", Kind::Integer),
            column("sealed", Kind::Bytes),
        ],
        sqlite_order: &["seq"],
        sqlite_only: &["seq"],
        by_day: true,
        ..table("notifications", &["id", "partner"])
    },
    Table {
        columns: &[
            column("partner", Kind::Id),
            column("id", Kind::Id),
            column("cycle", Kind::Small),
            column("number", Kind::Small),
            column("due", Kind::Integer),
            column("blocked", Kind::Flag),
            Column { of_notification: true, ..column("event", Kind::Text) },
            Column { of_notification: true, ..column("accepted_at", Kind::Integer) },
        ],
        sqlite_only: &["seq", "owner", "listed"],
        postgres_only: &["owner"],
        ..table("queue", &["id", "partner"])
    },
    Table {
        columns: &[
            column("partner", Kind::Id),
            column("id", Kind::Id),
            column("cycle", Kind::Small),
            column("number", Kind::Small),
            column("life", Kind::Id),
            column("started_at", Kind::Integer),
            column("duration_us", Kind::Integer),
            column("class", Kind::Text),
            column("http_status", Kind::Small),
            column("detail", Kind::Bytes),
            column("next_due", Kind::Integer),
            column("result", Kind::Text),
            column("reason", Kind::Text),
        ],
        sqlite_only: &["seq"],
        by_day: true,
        ..table("attempts", &["id", "partner", "cycle", "number", "life"])
    },
    Table {
        columns: &[
            column("partner", Kind::Id),
            column("id", Kind::Id),
            column("cycle", Kind::Small),
            column("at", Kind::Integer),
            column("via", Kind::Text),
        ],
        sqlite_order: &["partner", "id", "cycle"],
        by_day: true,
        ..table("cycles", &["id", "partner", "cycle"])
    },
    Table {
        columns: &[
            column("partner", Kind::Id),
            column("key_hash", Kind::Bytes),
            column("payload_hash", Kind::Bytes),
            column("id", Kind::Id),
            column("first_used", Kind::Integer),
        ],
        sqlite_order: &["used_order"],
        sqlite_only: &["used_order"],
        ..table("idempotency", &["first_used", "partner", "key_hash"])
    },
];

/// Starts of processes. Not copied: facts name a life by its id alone. They tell whether a store was served since.
pub(crate) static LIVES: Table = Table {
    columns: &[column("life", Kind::Id), column("begun_at", Kind::Integer), column("ended_at", Kind::Integer)],
    postgres_only: &["counter"],
    ..table("nodes", &["life"])
};

/// What SQLite keeps beside [`TABLES`], and makes by itself.
pub(crate) const SQLITE_DERIVES: [&str; 6] = ["meta", "nodes", "listed", "counters", "search", "search_runs"];
/// What PostgreSQL keeps beside [`TABLES`], and makes by itself.
pub(crate) const POSTGRES_DERIVES: [&str; 10] =
    ["meta", "migrations", "nodes", "change_number", "changes", "days", "counters", "totals", "deltas", "folded"];
/// Where PostgreSQL keeps what was published from SQL and is not accepted yet. Nothing else can hold that: the copy waits
/// until a node has drained it.
pub(crate) const INBOX: &str = "inbox";
/// Where PostgreSQL keeps what was refused of [`INBOX`]. None of it was accepted, and only its publishers ask for it, in
/// that database: it stays there.
pub(crate) const REFUSED: &str = "inbox_refused";

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, of_notification: false }
}

const fn table(name: &'static str, order: &'static [&'static str]) -> Table {
    Table {
        name,
        columns: &[],
        sqlite_order: order,
        postgres_order: order,
        sqlite_only: &[],
        postgres_only: &[],
        by_day: false,
    }
}
