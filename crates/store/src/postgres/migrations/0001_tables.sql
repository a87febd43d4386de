-- The tables of Capa Webhooks. Times are milliseconds since the Unix epoch; ids are UUIDs.
--
-- What an event costs (happy path): one row each in notifications and attempts, one in queue that is gone again when the
-- event is settled, and for each batch a row of deltas. Each index here says who reads it.
--
-- Ids of notifications are UUIDv7 and so begin with their time: a day is a range of ids. notifications, attempts and cycles
-- are cut into one partition for each day, by the id of the notification. A lookup by id reads one of them, and what is
-- past its retention goes by the day.

CREATE TABLE meta (
    name  text  NOT NULL PRIMARY KEY,
    value bytea NOT NULL
);

-- One row for each start of a process. Several are alive at a time; each adds to its counter as long as it lives.
CREATE TABLE nodes (
    life     uuid   NOT NULL PRIMARY KEY,
    counter  bigint NOT NULL DEFAULT 0,
    begun_at bigint NOT NULL,
    ended_at bigint
) WITH (fillfactor = 50);

-- A row outlives its partner, so that an id is never used again; erasing takes the data key and blanks the name.
CREATE TABLE partners (
    id            uuid    NOT NULL PRIMARY KEY,
    name          text    NOT NULL,
    disabled      boolean NOT NULL DEFAULT false,
    state         text    NOT NULL CHECK (state IN ('active', 'erasing', 'erased')),
    data_key      bytea,
    created_at    bigint  NOT NULL,
    updated_at    bigint  NOT NULL,
    failing_since bigint,                                     -- of an endpoint of which the operator was told
    CHECK ((state = 'erased') = (data_key IS NULL))
);

CREATE TABLE settings (
    partner         uuid   NOT NULL PRIMARY KEY REFERENCES partners (id),
    id              uuid   NOT NULL,
    url             bytea,                                    -- sealed
    ack_rule        text   CHECK (ack_rule IN ('200', '2xx')),
    retry_delays    bigint[],                                 -- milliseconds
    attempt_timeout bigint,                                   -- milliseconds
    max_in_flight   integer CHECK (max_in_flight BETWEEN 1 AND 256),
    rate_limit      bigint CHECK (rate_limit BETWEEN 10 AND 10000000), -- thousandths of an attempt a second
    events          text[],
    created_at      bigint NOT NULL,
    updated_at      bigint NOT NULL
);

CREATE TABLE secrets (
    partner    uuid   NOT NULL PRIMARY KEY REFERENCES partners (id),
    secret     bytea  NOT NULL,                               -- sealed
    created_at bigint NOT NULL
);

CREATE TABLE api_keys (
    id          uuid   NOT NULL PRIMARY KEY,
    partner     uuid   NOT NULL REFERENCES partners (id),
    secret_hash bytea  NOT NULL CHECK (length(secret_hash) = 32),
    created_at  bigint NOT NULL,
    revoked_at  bigint
);
-- Read when a partner is shown or erased.
CREATE INDEX api_keys_of_partner ON api_keys (partner);

CREATE TABLE platform_keys (
    id          uuid    NOT NULL PRIMARY KEY,
    secret_hash bytea   NOT NULL CHECK (length(secret_hash) = 32),
    publish     boolean NOT NULL,
    admin       boolean NOT NULL,
    read        boolean NOT NULL,
    name        text    NOT NULL,
    created_at  bigint  NOT NULL,
    revoked_at  bigint
);

-- Which partners and keys changed, numbered in the order of the commits: the one row of change_number is locked from the
-- moment the number is taken to the commit.
CREATE TABLE change_number (
    number bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO change_number VALUES (0);
CREATE TABLE changes (
    number  bigint      NOT NULL PRIMARY KEY,
    partner uuid,
    key     uuid,
    at      timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nonnulls(partner, key) = 1)
);

-- Append-only. The hashes are also the resource key: the transaction's, or the user's where the event is of none.
CREATE TABLE notifications (
    partner          uuid   NOT NULL,
    id               uuid   NOT NULL,
    accepted_at      bigint NOT NULL,
    transaction_hash bigint,
    user_hash        bigint NOT NULL,
    event            text   NOT NULL,
    sealed           bytea  NOT NULL,
    PRIMARY KEY (partner, id)
) PARTITION BY RANGE (id);
-- What is sealed cannot be made smaller.
ALTER TABLE notifications ALTER COLUMN sealed SET STORAGE EXTERNAL;
-- Read by searches.
CREATE INDEX notifications_of_user ON notifications (partner, user_hash, id);
CREATE INDEX notifications_of_transaction ON notifications (partner, transaction_hash, id)
    WHERE transaction_hash IS NOT NULL;

-- One row for every notification that is not settled. This is the whole truth about what is still to be done. Event and
-- acceptance stand here once more, so that settling need not read the notification.
CREATE TABLE queue (
    partner     uuid    NOT NULL,
    id          uuid    NOT NULL,
    due         bigint  NOT NULL,
    accepted_at bigint  NOT NULL,
    owner       uuid,
    cycle       integer NOT NULL CHECK (cycle >= 1),
    number      integer NOT NULL CHECK (number BETWEEN 1 AND 6),
    blocked     boolean NOT NULL DEFAULT false,
    event       text    NOT NULL,
    PRIMARY KEY (partner, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
-- Read by claims. An event that its node holds in memory from accept to settling never enters it.
CREATE INDEX queue_unowned ON queue (partner, due, id) WHERE owner IS NULL AND NOT blocked;
-- Read by the sweep, between the living, and by the comparison of a node with its memory.
CREATE INDEX queue_owned ON queue (owner) WHERE owner IS NOT NULL;

-- Append-only facts. The life is part of the key: after a crash or a takeover two lives may have made the same attempt. A
-- fact with a result is the one that settled its cycle.
CREATE TABLE attempts (
    partner     uuid    NOT NULL,
    id          uuid    NOT NULL,                             -- of the notification
    life        uuid    NOT NULL,                             -- all zeros where no life took part
    started_at  bigint  NOT NULL,
    duration_us bigint  NOT NULL,
    next_due    bigint,
    cycle       integer NOT NULL CHECK (cycle >= 1),
    number      integer NOT NULL CHECK (number BETWEEN 1 AND 6),
    http_status integer,
    class       text    NOT NULL CHECK (class IN ('acked', 'rejected', 'not_sent', 'timeout', 'connect', 'connect_timeout',
                                                  'disconnected', 'dns', 'tls', 'protocol', 'address_refused')),
    result      text    CHECK (result IN ('SENT', 'FAILED', 'NOT_SENT')),
    reason      text    CHECK (reason IN ('no_url', 'partner_disabled', 'event_filtered', 'partner_erased')),
    detail      bytea,                                        -- sealed: URL, then response body or failure message
    PRIMARY KEY (partner, id, cycle, number, life),
    CHECK (result IS DISTINCT FROM 'SENT' OR class = 'acked'),
    CHECK (result IS DISTINCT FROM 'FAILED' OR class NOT IN ('acked', 'not_sent')),
    CHECK ((class = 'not_sent') = (result IS NOT DISTINCT FROM 'NOT_SENT')),
    CHECK ((reason IS NOT NULL) = (result IS NOT DISTINCT FROM 'NOT_SENT')),
    CHECK (next_due IS NULL OR result IS NULL)
) PARTITION BY RANGE (id);
ALTER TABLE attempts ALTER COLUMN detail SET STORAGE EXTERNAL;
-- Read by lists of a status. What was simply sent never enters it.
CREATE INDEX attempts_unhappy ON attempts (partner, id, cycle, result) WHERE result IN ('FAILED', 'NOT_SENT');

-- Append-only: one row for each manual retry. The first cycle has none.
CREATE TABLE cycles (
    partner uuid    NOT NULL,
    id      uuid    NOT NULL,
    at      bigint  NOT NULL,
    cycle   integer NOT NULL CHECK (cycle BETWEEN 2 AND 4),
    via     text    NOT NULL CHECK (via IN ('single', 'bulk')),
    PRIMARY KEY (partner, id, cycle)
) PARTITION BY RANGE (id);
-- Read by the limit of single retries a minute.
CREATE INDEX cycles_of_partner ON cycles (partner, at);

-- The days that have partitions, counted from the Unix epoch.
CREATE TABLE days (
    day bigint NOT NULL PRIMARY KEY
);

CREATE TABLE idempotency (
    partner      uuid   NOT NULL,
    key_hash     bytea  NOT NULL CHECK (length(key_hash) = 16),
    payload_hash bytea  NOT NULL CHECK (length(payload_hash) = 16),
    id           uuid   NOT NULL,
    first_used   bigint NOT NULL,
    PRIMARY KEY (partner, key_hash)
);
-- Read by the removal of old keys.
CREATE INDEX idempotency_by_age ON idempotency (first_used);

-- How many notifications there are, by the hour of their acceptance: totals are sums of few rows.
CREATE TABLE counters (
    partner  uuid    NOT NULL,
    hour     integer NOT NULL,
    event    text    NOT NULL,
    pending  bigint  NOT NULL,
    sent     bigint  NOT NULL,
    failed   bigint  NOT NULL,
    not_sent bigint  NOT NULL,
    PRIMARY KEY (partner, hour, event)
);
-- Read by the backlog.
CREATE INDEX counters_pending ON counters (partner, hour) WHERE pending <> 0;
-- Their sums over all hours: what is asked for most often, and would read a row for each hour that there ever was.
CREATE TABLE totals (
    partner  uuid   NOT NULL,
    event    text   NOT NULL,
    pending  bigint NOT NULL,
    sent     bigint NOT NULL,
    failed   bigint NOT NULL,
    not_sent bigint NOT NULL,
    PRIMARY KEY (partner, event)
) WITH (fillfactor = 50);

-- What is still to be added to the counters: no row that many write to is changed. Every transaction writes its deltas under
-- the epoch of its beginning (see the functions); an epoch that nobody writes to any more is added up and removed. One row
-- holds all of a transaction: a batch of a hundred partners would pay for a hundred rows.
CREATE TYPE delta AS (
    partner  uuid,
    hour     integer,
    event    text,
    pending  integer,
    sent     integer,
    failed   integer,
    not_sent integer
);
CREATE TABLE deltas (
    epoch bigint  NOT NULL,
    each  delta[] NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
CREATE INDEX deltas_by_epoch ON deltas (epoch);
-- The deltas one by one.
CREATE VIEW each_delta AS
    SELECT deltas.epoch, d.partner, d.hour, d.event, d.pending, d.sent, d.failed, d.not_sent
    FROM deltas CROSS JOIN LATERAL unnest(deltas.each) AS d;
CREATE SEQUENCE epochs;
SELECT setval('epochs', 1);
CREATE TABLE folded (
    upto bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO folded VALUES (0);
