-- Publishing from within other transactions: the inbox, its two doors, and what was refused behind them.
--
-- A row of the inbox holds the event as it was given, in plain text, until a node has drained it. The API's checks are made
-- then; here only what costs nothing.

CREATE TABLE inbox (
    id              bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The transaction that published it. A look that knows which transactions were open at the last one need not walk over
    -- what was removed since.
    transaction     bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    partner         uuid   NOT NULL,
    idempotency_key text,
    payload         text   NOT NULL,
    published_by    text   NOT NULL DEFAULT session_user,
    published_at    bigint NOT NULL DEFAULT floor(extract(epoch FROM clock_timestamp()) * 1000)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 1000);
-- Read by every look.
CREATE INDEX inbox_by_transaction ON inbox (transaction, id);

-- The payload is sealed where the partner takes events; else only its hash is kept, by which its publisher can find it.
CREATE TABLE inbox_refused (
    id           bigint NOT NULL PRIMARY KEY,                 -- that it had in the inbox
    partner      uuid   NOT NULL,
    published_by text   NOT NULL,
    published_at bigint NOT NULL,
    refused_at   bigint NOT NULL,
    code         text   NOT NULL,
    message      text   NOT NULL,
    details      json   NOT NULL,
    sealed       bytea,
    hash         bytea  CHECK (length(hash) = 32),            -- SHA-256
    CHECK (num_nonnulls(sealed, hash) = 1)
);
-- Read by the view of publishers.
CREATE INDEX inbox_refused_by_publisher ON inbox_refused (published_by, id);
-- Read by retention.
CREATE INDEX inbox_refused_by_age ON inbox_refused (refused_at);

-- Publishes an event for a partner when the calling transaction commits. Gives the id that it has in `refusals`, should it be
-- refused.
CREATE FUNCTION publish(partner_id uuid, payload json, idempotency_key text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = capa_webhooks, pg_temp AS $$
DECLARE
    given bigint;
BEGIN
    IF partner_id IS NULL OR payload IS NULL THEN
        RAISE EXCEPTION '% is null', CASE WHEN partner_id IS NULL THEN 'partner_id' ELSE 'payload' END
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    INSERT INTO inbox (partner, payload, idempotency_key) VALUES ($1, $2::text, $3) RETURNING id INTO given;
    PERFORM wake_1();
    RETURN given;
END $$;

-- Publishes many events, as `publish` does one. The arrays hold one value for each event; the ids come in their order.
CREATE FUNCTION publish_batch(partner_ids uuid[], payloads json[], idempotency_keys text[] DEFAULT NULL) RETURNS SETOF bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = capa_webhooks, pg_temp AS $$
BEGIN
    IF partner_ids IS NULL OR payloads IS NULL OR EXISTS (
        SELECT FROM unnest(partner_ids, payloads) AS t (partner, payload) WHERE partner IS NULL OR t.payload IS NULL) THEN
        RAISE EXCEPTION 'partner_ids and payloads must have the same length and hold no null'
            USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF cardinality(idempotency_keys) <> cardinality(partner_ids) THEN
        RAISE EXCEPTION 'idempotency_keys must be null or have the length of partner_ids'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give null for an event that has no key.';
    END IF;
    RETURN QUERY INSERT INTO inbox (partner, payload, idempotency_key)
        SELECT t.partner, t.payload::text, t.key
        FROM unnest(partner_ids, payloads, idempotency_keys) WITH ORDINALITY AS t (partner, payload, key, place)
        ORDER BY t.place
        RETURNING id;
    PERFORM wake_1();
END $$;

-- Has every node look into the inbox when the transaction commits. A hint: nodes look once a second without it. Commits that
-- give one wait for each other, and cannot be prepared for two phases; so it can be turned off.
CREATE FUNCTION wake_1() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('capa_webhooks.wake', true) IS DISTINCT FROM 'off' THEN
        NOTIFY capa_webhooks_inbox;
    END IF;
END $$;

-- What was refused of what the asking login published.
CREATE VIEW refusals WITH (security_barrier) AS
SELECT id, partner AS partner_id, code, message, details,
       to_timestamp(published_at / 1000.0) AS published_at, to_timestamp(refused_at / 1000.0) AS refused_at
FROM inbox_refused WHERE published_by = session_user;

-- Makes a batch of the inbox durable, as `accept_1` does, and removes it there. What another node has drained meanwhile is
-- `gone`; what is not accepted stays, to be refused. Rows are locked in the order of their ids, before any idempotency key, so
-- two nodes with the same rows wait and never meet head on.
CREATE FUNCTION accept_inbox_1(
    now bigint, lives uuid[], of_partners uuid[], ids uuid[], events text[], transactions bigint[], users bigint[],
    payloads bytea[], owners uuid[], reasons text[], keys bytea[], payload_hashes bytea[], oldest bigint[], inbox_ids bigint[]
) RETURNS TABLE (place bigint, earlier uuid, status text, same boolean, gone boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    there  bigint[];
    places bigint[];
    stays  bigint[] := '{}';
    other  record;
BEGIN
    WITH locked AS (SELECT id FROM inbox WHERE id = ANY (inbox_ids) ORDER BY id FOR UPDATE)
    SELECT coalesce(array_agg(id), '{}') INTO there FROM locked;
    places := ARRAY(SELECT t.place FROM unnest(inbox_ids) WITH ORDINALITY AS t (id, place) WHERE t.id = ANY (there)
                    ORDER BY t.place);
    IF cardinality(places) < cardinality(inbox_ids) THEN
        RETURN QUERY SELECT t.place, NULL::uuid, NULL::text, NULL::boolean, true
            FROM unnest(inbox_ids) WITH ORDINALITY AS t (id, place) WHERE t.id <> ALL (there);
        SELECT array_agg(t.partner ORDER BY t.place), array_agg(t.id ORDER BY t.place), array_agg(t.event ORDER BY t.place),
               array_agg(t.transaction ORDER BY t.place), array_agg(t.usr ORDER BY t.place),
               array_agg(t.payload ORDER BY t.place), array_agg(t.owner ORDER BY t.place),
               array_agg(t.reason ORDER BY t.place), array_agg(t.key ORDER BY t.place), array_agg(t.hash ORDER BY t.place),
               array_agg(t.oldest ORDER BY t.place)
        INTO of_partners, ids, events, transactions, users, payloads, owners, reasons, keys, payload_hashes, oldest
        FROM unnest(of_partners, ids, events, transactions, users, payloads, owners, reasons, keys, payload_hashes, oldest)
            WITH ORDINALITY
            AS t (partner, id, event, transaction, usr, payload, owner, reason, key, hash, oldest, place)
        WHERE t.place = ANY (places);
    END IF;
    IF cardinality(places) = 0 THEN
        RETURN;
    END IF;
    FOR other IN
        SELECT a.place, a.earlier, a.status, a.same
        FROM accept_1(now, lives, of_partners, ids, events, transactions, users, payloads, owners, reasons, keys,
                      payload_hashes, oldest) AS a
    LOOP
        place := places[other.place];
        earlier := other.earlier;
        status := other.status;
        same := other.same;
        gone := false;
        RETURN NEXT;
        -- Either the partner takes no events, or the idempotency key belongs to another event.
        IF NOT coalesce(other.same, false) THEN
            stays := stays || inbox_ids[place];
        END IF;
    END LOOP;
    DELETE FROM inbox WHERE id = ANY (there) AND id <> ALL (stays);
END $$;

-- The role of those who publish. It may do this and nothing else: what everybody may do by default is taken away when the
-- steps are done. Where we may make no roles, the operator makes it (docs/publish-from-sql.md).
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'capa_webhooks_publisher') THEN
        CREATE ROLE capa_webhooks_publisher NOLOGIN;
    END IF;
EXCEPTION
    -- The latter two: another database of the same server was faster.
    WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN NULL;
END $$;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'capa_webhooks_publisher') THEN
        GRANT USAGE ON SCHEMA capa_webhooks TO capa_webhooks_publisher;
        GRANT EXECUTE ON FUNCTION publish(uuid, json, text), publish_batch(uuid[], json[], text[])
            TO capa_webhooks_publisher;
        GRANT SELECT ON refusals TO capa_webhooks_publisher;
    END IF;
END $$;
