-- The tables of Capa Webhooks. Times are milliseconds since the Unix epoch, ids the 16 bytes of a UUID.
--
-- What an event costs (happy path): one row each in notifications and attempts, and one in queue that is gone again when
-- the event is settled. These rows land at the end of their tables, whichever partner they belong to, so that a batch
-- of many partners changes as few pages as one of a single partner. What lists need in another order (`listed`,
-- `counters`, `search`) follows a few thousand events behind, in sorted runs. Each index here says who reads it.

CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value ANY  NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for each start of the process.
CREATE TABLE nodes (
    life     BLOB    NOT NULL PRIMARY KEY CHECK (length(life) = 16),
    begun_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT, WITHOUT ROWID;

-- A row outlives its partner, so that an id is never used again; erasing takes the data key and blanks the name.
CREATE TABLE partners (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name          TEXT    NOT NULL,
    disabled      INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    state         TEXT    NOT NULL CHECK (state IN ('active', 'erasing', 'erased')),
    data_key      BLOB,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    failing_since INTEGER,                                   -- of an endpoint of which the operator was told
    CHECK ((state = 'erased') = (data_key IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
    partner         BLOB    NOT NULL PRIMARY KEY REFERENCES partners (id),
    id              BLOB    NOT NULL CHECK (length(id) = 16),
    url             BLOB,                                    -- sealed
    ack_rule        TEXT    CHECK (ack_rule IN ('200', '2xx')),
    retry_delays    TEXT,                                    -- milliseconds, separated by commas
    attempt_timeout INTEGER,                                 -- milliseconds
    max_in_flight   INTEGER CHECK (max_in_flight BETWEEN 1 AND 256),
    rate_limit      INTEGER CHECK (rate_limit BETWEEN 10 AND 10000000), -- thousandths of an attempt a second
    events          TEXT,                                    -- names, separated by line feeds
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE secrets (
    partner    BLOB    NOT NULL PRIMARY KEY REFERENCES partners (id),
    secret     BLOB    NOT NULL,                             -- sealed
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
    id          BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    partner     BLOB    NOT NULL REFERENCES partners (id),
    secret_hash BLOB    NOT NULL CHECK (length(secret_hash) = 32),
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER
) STRICT, WITHOUT ROWID;
-- Read when a partner is shown or erased.
CREATE INDEX api_keys_of_partner ON api_keys (partner);

CREATE TABLE platform_keys (
    id          BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    secret_hash BLOB    NOT NULL CHECK (length(secret_hash) = 32),
    publish     INTEGER NOT NULL CHECK (publish IN (0, 1)),
    admin       INTEGER NOT NULL CHECK (admin IN (0, 1)),
    read        INTEGER NOT NULL CHECK (read IN (0, 1)),
    name        TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER
) STRICT, WITHOUT ROWID;

-- Append-only, in the order of the commits (`seq`). The two hashes are also the resource key: the transaction's, or the
-- user's where the event is of no transaction. The sealed body comes last, so that the rest is read without it.
CREATE TABLE notifications (
    seq              INTEGER NOT NULL PRIMARY KEY,
    partner          BLOB    NOT NULL,
    id               BLOB    NOT NULL CHECK (length(id) = 16),
    event            TEXT    NOT NULL,
    accepted_at      INTEGER NOT NULL,
    transaction_hash INTEGER,
    user_hash        INTEGER NOT NULL,
    sealed           BLOB    NOT NULL
) STRICT;

-- The notifications again, without their bodies, in the order of lists. Follows behind: see `meta`, `listed_to`, the
-- newest `seq` up to which every notification is listed. Some later ones may be listed too.
CREATE TABLE listed (
    partner          BLOB    NOT NULL,
    id               BLOB    NOT NULL,
    seq              INTEGER NOT NULL,
    event            TEXT    NOT NULL,
    accepted_at      INTEGER NOT NULL,
    transaction_hash INTEGER,
    user_hash        INTEGER NOT NULL,
    PRIMARY KEY (partner, id)
) STRICT, WITHOUT ROWID;

-- How many listed notifications there are, by the hour of their acceptance: totals are sums of few rows.
CREATE TABLE counters (
    partner BLOB    NOT NULL,
    hour    INTEGER NOT NULL,
    event   TEXT    NOT NULL,
    status  TEXT    NOT NULL CHECK (status = 'PENDING' OR status = 'SENT' OR status = 'FAILED' OR status = 'NOT_SENT'),
    count   INTEGER NOT NULL,
    PRIMARY KEY (partner, hour, event, status)
) STRICT, WITHOUT ROWID;

-- Where to look for the notifications with a hash, for all that are listed: sorted runs, which are merged as they grow.
CREATE TABLE search_runs (
    run         INTEGER NOT NULL PRIMARY KEY,
    level       INTEGER NOT NULL CHECK (level >= 0),
    newest      INTEGER NOT NULL,                            -- no entry has a greater `seq`
    merged_into INTEGER                                      -- the run of the next level that its entries go to
) STRICT;

-- Some entries of a run, sorted: the first six bytes of a hash and the last six of a `seq` each. Rows of about a page,
-- in a table by row number, because a table by another key would put such long rows into overflow pages.
CREATE TABLE search (
    row     INTEGER NOT NULL PRIMARY KEY,
    run     INTEGER NOT NULL,
    last    BLOB    NOT NULL CHECK (length(last) = 12),      -- the greatest of the entries
    entries BLOB    NOT NULL
) STRICT;
-- Read by lists that search, and by merges.
CREATE UNIQUE INDEX search_in_order ON search (run, last);

-- One row for every notification that is not settled. This is the whole truth about what is still to be done. The id
-- comes first in the key, because ids rise with time: what comes and goes at once does so at the end, however long the
-- queues of some partners are.
CREATE TABLE queue (
    id      BLOB    NOT NULL,
    partner BLOB    NOT NULL,
    seq     INTEGER NOT NULL,
    cycle   INTEGER NOT NULL CHECK (cycle >= 1),
    number  INTEGER NOT NULL CHECK (number BETWEEN 1 AND 6),
    due     INTEGER NOT NULL,
    owner   BLOB,
    blocked INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1)),
    listed  INTEGER NOT NULL CHECK (listed IN (0, 1)),       -- whether the notification has its row in `listed`
    PRIMARY KEY (id, partner)
) STRICT, WITHOUT ROWID;
-- Read by lists of what is pending. Few enter it: most are settled before they are listed.
CREATE INDEX queue_listed ON queue (partner, id) WHERE listed = 1;
-- Read by claims. An event that its node holds in memory from accept to settling never enters it.
CREATE INDEX queue_unowned ON queue (partner, due) WHERE owner IS NULL AND blocked = 0;

-- Append-only facts. The life is part of the key: after a crash or a takeover two lives may have made the same attempt.
-- A fact with a result is the one that settled its cycle. The id comes first in the key, because ids rise with time. No
-- IN over three values or more in these checks: SQLite would build a table of the values anew for every row.
CREATE TABLE attempts (
    id          BLOB    NOT NULL,
    partner     BLOB    NOT NULL,
    seq         INTEGER NOT NULL,                            -- of the notification
    cycle       INTEGER NOT NULL CHECK (cycle >= 1),
    number      INTEGER NOT NULL CHECK (number BETWEEN 1 AND 6),
    life        BLOB    NOT NULL,                            -- all zeros where no life took part
    started_at  INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    class       TEXT    NOT NULL CHECK (class = 'acked' OR class = 'rejected' OR class = 'not_sent' OR class = 'timeout'
                                        OR class = 'connect' OR class = 'connect_timeout' OR class = 'disconnected'
                                        OR class = 'dns' OR class = 'tls' OR class = 'protocol'
                                        OR class = 'address_refused'),
    http_status INTEGER,
    detail      BLOB,                                        -- sealed: URL, then response body or failure message
    next_due    INTEGER,
    result      TEXT    CHECK (result = 'SENT' OR result = 'FAILED' OR result = 'NOT_SENT'),
    reason      TEXT    CHECK (reason = 'no_url' OR reason = 'partner_disabled' OR reason = 'event_filtered'
                               OR reason = 'partner_erased'),
    PRIMARY KEY (id, partner, cycle, number, life),
    CHECK (result IS NOT 'SENT' OR class = 'acked'),
    CHECK (result IS NOT 'FAILED' OR class NOT IN ('acked', 'not_sent')),
    CHECK ((class = 'not_sent') = (result IS 'NOT_SENT')),
    CHECK ((reason IS NOT NULL) = (result IS 'NOT_SENT')),
    CHECK (next_due IS NULL OR result IS NULL)
) STRICT, WITHOUT ROWID;
-- Read by lists of a status. What was simply sent never enters it.
CREATE INDEX attempts_unhappy ON attempts (partner, id, cycle, result, seq) WHERE result IN ('FAILED', 'NOT_SENT');

-- Append-only: one row for each manual retry. The first cycle has none.
CREATE TABLE cycles (
    partner BLOB    NOT NULL,
    id      BLOB    NOT NULL,
    cycle   INTEGER NOT NULL CHECK (cycle BETWEEN 2 AND 4),
    at      INTEGER NOT NULL,
    via     TEXT    NOT NULL CHECK (via IN ('single', 'bulk')),
    PRIMARY KEY (partner, id, cycle)
) STRICT, WITHOUT ROWID;
-- Read by the limit of single retries a minute.
CREATE INDEX cycles_of_partner ON cycles (partner, at);

-- Rows lie in the order in which keys were first used, so that the oldest are found without an index by time.
CREATE TABLE idempotency (
    used_order   INTEGER NOT NULL PRIMARY KEY,
    partner      BLOB    NOT NULL,
    key_hash     BLOB    NOT NULL CHECK (length(key_hash) = 16),
    payload_hash BLOB    NOT NULL CHECK (length(payload_hash) = 16),
    id           BLOB    NOT NULL,
    first_used   INTEGER NOT NULL
) STRICT;
-- Read by every publish that carries a key.
CREATE UNIQUE INDEX idempotency_by_key ON idempotency (partner, key_hash);
