-- What must be one round trip and yet several statements, each of which sees what was committed before it began. The number
-- at the end of a name is that of its form: a release that needs another form adds it under the next number, so that two
-- releases can run together.
--
-- Given rows look up what belongs to them, never the other way round: a plan that walks a table and compares each row with all
-- that is given is quick as long as the table is empty, which is when plans are made, and takes minutes when it is full. The
-- planner has no choice where the first column of a key is compared as `= ANY (ARRAY[…])`, and an owner as IS NOT DISTINCT
-- FROM: there is no order to walk the key by, and no index of owners. Where rows are only read, LATERAL (… OFFSET 0) says so, or
-- a value, (SELECT 1 …) = 1, in the place of EXISTS, which would be a join again.
-- This holds for all statements of this store.

-- The epoch of this transaction, which stays open until the transaction ends: the shared lock says so. It is read again
-- under the lock, because it may have ended in between. A sequence is used for what it is not made for, because it has one
-- value for everybody at every moment, whatever they may see of tables.
CREATE FUNCTION take_epoch_1() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    taken bigint;
BEGIN
    LOOP
        SELECT last_value INTO taken FROM epochs;
        PERFORM pg_advisory_xact_lock_shared(4854322862930100224 + taken);
        EXIT WHEN taken = (SELECT last_value FROM epochs);
    END LOOP;
    RETURN taken;
END $$;

-- Ends the epoch and waits for all that was begun in it or before.
CREATE FUNCTION wait_for_epochs_1() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    open bigint;
BEGIN
    FOR open IN SELECT generate_series(folded.upto + 1, nextval('epochs') - 1) FROM folded LOOP
        PERFORM pg_advisory_xact_lock(4854322862930100224 + open);
    END LOOP;
END $$;

-- Ends the epoch, and adds to the counters what was written in epochs in which nobody writes any more. One at a time.
CREATE FUNCTION fold_1() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    done bigint;
    next bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(4854322862930100223) THEN
        RETURN;
    END IF;
    SELECT upto INTO done FROM folded;
    FOR next IN done + 1 .. nextval('epochs') - 1 LOOP
        EXIT WHEN NOT pg_try_advisory_xact_lock(4854322862930100224 + next);
        done := next;
    END LOOP;
    WITH gone AS (DELETE FROM deltas WHERE epoch <= done AND epoch > (SELECT upto FROM folded) RETURNING each),
         sums AS (SELECT d.partner, d.hour, d.event, sum(d.pending) AS pending, sum(d.sent) AS sent,
                         sum(d.failed) AS failed, sum(d.not_sent) AS not_sent
                  FROM gone CROSS JOIN LATERAL unnest(gone.each) AS d GROUP BY d.partner, d.hour, d.event),
         hourly AS (
             INSERT INTO counters AS c (partner, hour, event, pending, sent, failed, not_sent)
             SELECT * FROM sums WHERE (pending, sent, failed, not_sent) <> (0, 0, 0, 0)
             ON CONFLICT (partner, hour, event) DO UPDATE
             SET pending = c.pending + excluded.pending, sent = c.sent + excluded.sent,
                 failed = c.failed + excluded.failed, not_sent = c.not_sent + excluded.not_sent)
    INSERT INTO totals AS t (partner, event, pending, sent, failed, not_sent)
    SELECT partner, event, sum(pending), sum(sent), sum(failed), sum(not_sent) FROM sums GROUP BY partner, event
    ON CONFLICT (partner, event) DO UPDATE
    SET pending = t.pending + excluded.pending, sent = t.sent + excluded.sent, failed = t.failed + excluded.failed,
        not_sent = t.not_sent + excluded.not_sent;
    UPDATE folded SET upto = done WHERE upto < done;
END $$;

-- Makes the partitions of these days (counted from the Unix epoch) where they are missing. They are made beside the tables
-- and attached, which holds up nobody who reads or writes.
CREATE FUNCTION make_partitions_1(wanted bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    this   bigint;
    parent text;
    name   text;
    ends   text;
BEGIN
    PERFORM pg_advisory_xact_lock(4854322862930100222);
    FOREACH this IN ARRAY wanted LOOP
        CONTINUE WHEN EXISTS (SELECT FROM days d WHERE d.day = this);
        FOREACH parent IN ARRAY ARRAY['notifications', 'attempts', 'cycles'] LOOP
            name := parent || '_' || day_name_1(this);
            ends := coalesce(quote_literal(least_id_1((this + 1) * 86400000)), 'MAXVALUE');
            EXECUTE format('CREATE TABLE capa_webhooks.%I (LIKE capa_webhooks.%I INCLUDING ALL)', name, parent);
            EXECUTE format('ALTER TABLE capa_webhooks.%I ATTACH PARTITION capa_webhooks.%I FOR VALUES FROM (%L) TO (%s)',
                           parent, name, least_id_1(this * 86400000), ends);
        END LOOP;
        INSERT INTO days VALUES (this);
    END LOOP;
END $$;

-- The least id of a moment; null after the last one that an id can name.
CREATE FUNCTION least_id_1(at bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN at < 281474976710656 THEN (lpad(to_hex(greatest(at, 0)), 12, '0') || repeat('0', 20))::uuid END
$$;

-- A day as it stands in the names of partitions.
CREATE FUNCTION day_name_1(day bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT to_char(date '1970-01-01' + day::integer, 'YYYYMMDD')
$$;

-- Has a change of a partner or a key told to every node.
CREATE FUNCTION tell_change_1(changed_partner uuid, changed_key uuid) RETURNS void LANGUAGE sql AS $$
    WITH taken AS (UPDATE change_number SET number = number + 1 RETURNING number)
    INSERT INTO changes (number, partner, key) SELECT number, changed_partner, changed_key FROM taken
$$;

-- The status of a notification; null if there is none (any more).
CREATE FUNCTION status_of_1(of_partner uuid, of_id uuid) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN EXISTS (SELECT FROM queue WHERE partner = of_partner AND id = of_id) THEN 'PENDING'
           ELSE (SELECT result FROM attempts WHERE partner = of_partner AND id = of_id AND result IS NOT NULL
                 ORDER BY cycle DESC LIMIT 1) END
$$;

-- Makes a batch of events durable. Arrays hold one value for each event, `keys` and what belongs to it null for all if none
-- has a key. Gives a row for each event that did not become a notification: with the earlier one, or, where the partner takes
-- no events, without. The keys come first, in sorted order, so that two batches that share some never wait for each other.
CREATE FUNCTION accept_1(
    now bigint, lives uuid[], of_partners uuid[], ids uuid[], events text[], transactions bigint[], users bigint[],
    payloads bytea[], owners uuid[], reasons text[], keys bytea[], payload_hashes bytea[], oldest bigint[]
) RETURNS TABLE (place bigint, earlier uuid, status text, same boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    epoch_taken bigint := take_epoch_1();
    alive       uuid[] := ARRAY(SELECT life FROM nodes WHERE life = ANY (lives) AND ended_at IS NULL);
    won         uuid[];
    given       record;
    found_use   record;
    stands      text;
    made        bigint;
    refused     bigint := 0;
BEGIN
    IF keys IS NOT NULL THEN
        WITH inserted AS (
            INSERT INTO idempotency (partner, key_hash, payload_hash, id, first_used)
            SELECT t.partner, t.key, t.hash, t.id, now
            FROM unnest(of_partners, ids, keys, payload_hashes) WITH ORDINALITY AS t (partner, id, key, hash, place)
            JOIN partners p ON p.id = ANY (ARRAY[t.partner]) AND p.state = 'active'
            WHERE t.key IS NOT NULL ORDER BY t.partner, t.key, t.place
            ON CONFLICT (partner, key_hash) DO NOTHING RETURNING id)
        SELECT coalesce(array_agg(id), '{}') INTO won FROM inserted;
        FOR given IN
            SELECT t.* FROM unnest(of_partners, ids, keys, payload_hashes, oldest) WITH ORDINALITY
                AS t (partner, id, key, hash, oldest, place)
            JOIN partners p ON p.id = ANY (ARRAY[t.partner]) AND p.state = 'active'
            WHERE t.key IS NOT NULL AND t.id <> ALL (won) ORDER BY t.partner, t.key, t.place
        LOOP
            LOOP
                SELECT i.id, i.payload_hash, i.first_used INTO found_use FROM idempotency i
                WHERE i.partner = given.partner AND i.key_hash = given.key FOR UPDATE;
                IF NOT FOUND THEN
                    INSERT INTO idempotency (partner, key_hash, payload_hash, id, first_used)
                    VALUES (given.partner, given.key, given.hash, given.id, now)
                    ON CONFLICT (partner, key_hash) DO NOTHING;
                    CONTINUE WHEN NOT FOUND;
                    won := won || given.id;
                    EXIT;
                END IF;
                -- The earlier use may be of this very batch, whose notifications are not written yet.
                IF found_use.id = ANY (won) AND found_use.id = ANY (ids) THEN
                    stands := CASE WHEN reasons[array_position(ids, found_use.id)] IS NULL THEN 'PENDING' ELSE 'NOT_SENT' END;
                ELSE
                    stands := status_of_1(given.partner, found_use.id);
                END IF;
                IF found_use.first_used >= given.oldest AND stands IS NOT NULL THEN
                    place := given.place;
                    earlier := found_use.id;
                    status := stands;
                    same := found_use.payload_hash = given.hash;
                    refused := refused + 1;
                    RETURN NEXT;
                ELSE
                    UPDATE idempotency i SET payload_hash = given.hash, id = given.id, first_used = now
                    WHERE i.partner = given.partner AND i.key_hash = given.key;
                    won := won || given.id;
                END IF;
                EXIT;
            END LOOP;
        END LOOP;
    END IF;
    WITH input AS MATERIALIZED (
        SELECT t.* FROM unnest(of_partners, ids, events, transactions, users, payloads, owners, reasons, keys)
            AS t (partner, id, event, transaction_hash, user_hash, sealed, owner, reason, key)
        JOIN partners p ON p.id = ANY (ARRAY[t.partner]) AND p.state = 'active'
        WHERE t.key IS NULL OR t.id = ANY (won)),
    kept AS (
        INSERT INTO notifications (partner, id, accepted_at, transaction_hash, user_hash, event, sealed)
        SELECT partner, id, now, transaction_hash, user_hash, event, sealed FROM input),
    queued AS (
        INSERT INTO queue (partner, id, due, accepted_at, owner, cycle, number, event)
        SELECT partner, id, now, now, CASE WHEN owner = ANY (alive) THEN owner END, 1, 1, event FROM input
        WHERE reason IS NULL),
    settled AS (
        INSERT INTO attempts (partner, id, cycle, number, life, started_at, duration_us, class, result, reason)
        SELECT partner, id, 1, 1, '00000000-0000-0000-0000-000000000000'::uuid, now, 0, 'not_sent', 'NOT_SENT', reason
        FROM input WHERE reason IS NOT NULL),
    counted AS (
        INSERT INTO deltas (epoch, each)
        SELECT epoch_taken, array_agg(d) FROM (
            SELECT ROW (partner, now / 3600000, event, count(*) FILTER (WHERE reason IS NULL), 0, 0, count(reason))::delta AS d
            FROM input GROUP BY partner, event) AS sums
        HAVING count(*) > 0)
    SELECT count(*) INTO made FROM input;
    IF made + refused < cardinality(ids) THEN
        RETURN QUERY SELECT t.place, NULL::uuid, NULL::text, NULL::boolean
        FROM unnest(of_partners) WITH ORDINALITY AS t (partner, place)
        WHERE (SELECT 1 FROM partners p WHERE p.id = t.partner AND p.state = 'active') IS NULL;
    END IF;
END $$;

-- Records a batch of outcomes, no two of one notification. Arrays hold one value for each. Gives the places of those that
-- apply; the others are late.
CREATE FUNCTION record_1(
    of_life uuid, of_partners uuid[], ids uuid[], cycles_ integer[], numbers integer[], starts bigint[], durations bigint[],
    classes text[], http_statuses integer[], details bytea[], results text[], reasons text[], next_numbers integer[],
    next_dues bigint[], keeps boolean[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    epoch_taken bigint := take_epoch_1();
    applied     bigint[];
BEGIN
    WITH input AS MATERIALIZED (
        SELECT * FROM unnest(of_partners, ids, cycles_, numbers, starts, durations, classes, http_statuses, details, results,
                             reasons, next_numbers, next_dues, keeps) WITH ORDINALITY
            AS t (partner, id, cycle, number, started_at, duration_us, class, http_status, detail, result, reason,
                  next_number, next_due, keep, place)),
    ended AS (
        DELETE FROM queue q USING input i
        WHERE q.partner = ANY (ARRAY[i.partner]) AND q.id = i.id AND i.result IS NOT NULL
        AND q.cycle = i.cycle AND q.number = i.number AND q.owner IS NOT DISTINCT FROM of_life
        RETURNING i.*, q.event, q.accepted_at),
    moved AS (
        UPDATE queue q SET number = i.next_number, due = i.next_due, owner = CASE WHEN i.keep THEN of_life END
        FROM input i
        WHERE q.partner = ANY (ARRAY[i.partner]) AND q.id = i.id AND i.result IS NULL
        AND q.cycle = i.cycle AND q.number = i.number AND q.owner IS NOT DISTINCT FROM of_life
        RETURNING i.*),
    facts AS (
        INSERT INTO attempts (partner, id, cycle, number, life, started_at, duration_us, class, http_status, detail, next_due,
                              result, reason)
        SELECT partner, id, cycle, number, of_life, started_at, duration_us, class, http_status, detail, NULL, result, reason
        FROM ended
        UNION ALL
        SELECT partner, id, cycle, number, of_life, started_at, duration_us, class, http_status, detail, next_due, NULL, NULL
        FROM moved
        ON CONFLICT (partner, id, cycle, number, life) DO UPDATE
        SET started_at = excluded.started_at, duration_us = excluded.duration_us, class = excluded.class,
            http_status = excluded.http_status, detail = excluded.detail, next_due = excluded.next_due,
            result = excluded.result, reason = excluded.reason),
    counted AS (
        INSERT INTO deltas (epoch, each)
        SELECT epoch_taken, array_agg(d) FROM (
            SELECT ROW (partner, accepted_at / 3600000, event, -count(*), count(*) FILTER (WHERE result = 'SENT'),
                        count(*) FILTER (WHERE result = 'FAILED'), count(*) FILTER (WHERE result = 'NOT_SENT'))::delta AS d
            FROM ended GROUP BY partner, accepted_at / 3600000, event) AS sums
        HAVING count(*) > 0)
    SELECT array_agg(place) INTO applied FROM (SELECT place FROM ended UNION ALL SELECT place FROM moved) AS all_applied;
    applied := coalesce(applied, '{}');
    IF cardinality(applied) = cardinality(ids) THEN
        RETURN applied;
    END IF;
    -- The others are late. An acknowledgement settles what is pending in its cycle, whoever owns it; everything else is at
    -- most a fact, from which nothing follows.
    WITH late AS MATERIALIZED (
        SELECT i.* FROM unnest(of_partners, ids, cycles_, numbers, starts, durations, classes, http_statuses, details, results)
            WITH ORDINALITY
            AS i (partner, id, cycle, number, started_at, duration_us, class, http_status, detail, result, place)
        WHERE i.place <> ALL (applied) AND i.class <> 'not_sent'
        AND (SELECT 1 FROM partners p WHERE p.id = i.partner AND p.data_key IS NOT NULL) = 1
        AND (SELECT 1 FROM notifications n WHERE n.partner = i.partner AND n.id = i.id) = 1),
    ended AS (
        DELETE FROM queue q USING late i
        WHERE q.partner = ANY (ARRAY[i.partner]) AND q.id = i.id AND i.result = 'SENT' AND q.cycle = i.cycle
        RETURNING i.*, q.event, q.accepted_at),
    settling AS (
        INSERT INTO attempts (partner, id, cycle, number, life, started_at, duration_us, class, http_status, detail, result)
        SELECT partner, id, cycle, number, of_life, started_at, duration_us, class, http_status, detail, result FROM ended
        ON CONFLICT (partner, id, cycle, number, life) DO UPDATE
        SET started_at = excluded.started_at, duration_us = excluded.duration_us, class = excluded.class,
            http_status = excluded.http_status, detail = excluded.detail, next_due = NULL, result = excluded.result,
            reason = NULL),
    facts AS (
        INSERT INTO attempts (partner, id, cycle, number, life, started_at, duration_us, class, http_status, detail)
        SELECT partner, id, cycle, number, of_life, started_at, duration_us, class, http_status, detail FROM late
        WHERE place NOT IN (SELECT place FROM ended)
        ON CONFLICT (partner, id, cycle, number, life) DO NOTHING)
    INSERT INTO deltas (epoch, each)
    SELECT epoch_taken, array_agg(d) FROM (
        SELECT ROW (partner, accepted_at / 3600000, event, -count(*), count(*), 0, 0)::delta AS d
        FROM ended GROUP BY partner, accepted_at / 3600000, event) AS sums
    HAVING count(*) > 0;
    RETURN applied;
END $$;

-- The rows that a claim may take: from partner to partner of the index of unowned rows, those after `last` first, and within
-- a partner from the longest due. Ends with the first row that is one too many, or too heavy.
CREATE FUNCTION look_1(
    until bigint, last uuid, own_partners uuid[], own_rooms bigint[], room bigint, total bigint, overhead bigint, bytes bigint
) RETURNS TABLE (partner uuid, id uuid, cycle integer, number integer, due bigint, sealed bytea) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    nobody  CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    here    uuid := coalesce(last, nobody);
    wrapped boolean := last IS NULL;
    own     bigint;
    rows    bigint := 0;
    weight  bigint := 0;
BEGIN
    LOOP
        here := (SELECT q.partner FROM queue q WHERE q.owner IS NULL AND NOT q.blocked AND q.partner > here
                 ORDER BY q.partner LIMIT 1);
        IF here IS NULL THEN
            EXIT WHEN wrapped;
            here := nobody;
            wrapped := true;
            CONTINUE;
        END IF;
        -- Once around: back where the look began.
        EXIT WHEN wrapped AND here > last;
        own := coalesce(own_rooms[array_position(own_partners, here)], room);
        FOR partner, id, cycle, number, due, sealed IN
            SELECT q.partner, q.id, q.cycle, q.number, q.due, n.sealed FROM (
                SELECT w.partner, w.id, w.cycle, w.number, w.due FROM queue w
                WHERE w.partner = here AND w.owner IS NULL AND NOT w.blocked AND w.due <= until
                ORDER BY w.due, w.id LIMIT least(own, total - rows + 1)) AS q
            LEFT JOIN LATERAL (
                SELECT m.sealed FROM notifications m WHERE m.partner = q.partner AND m.id = q.id OFFSET 0) AS n ON true
            ORDER BY q.due, q.id
        LOOP
            rows := rows + 1;
            weight := weight + coalesce(octet_length(sealed), 0) + overhead;
            RETURN NEXT;
            IF rows > total OR (rows > 1 AND weight > bytes) THEN
                RETURN;
            END IF;
        END LOOP;
    END LOOP;
END $$;

-- Frees rows whose owner is not alive, so many at most of each owner that is found in the gaps between the living; how many
-- it freed. The rows of the living are not walked.
CREATE FUNCTION sweep_1(slice bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    after uuid := NULL;
    upto  uuid;
    dead  uuid;
    freed bigint;
    total bigint := 0;
BEGIN
    LOOP
        upto := (SELECT life FROM nodes WHERE ended_at IS NULL AND (after IS NULL OR life > after) ORDER BY life LIMIT 1);
        LOOP
            -- Asked once more whether it is alive, in the same look: it may have begun since.
            -- Two statements, so that each has bounds that the index knows.
            IF upto IS NULL THEN
                SELECT owner INTO dead FROM queue
                WHERE owner IS NOT NULL AND owner > coalesce(after, '00000000-0000-0000-0000-000000000000'::uuid)
                AND NOT EXISTS (SELECT FROM nodes WHERE life = owner AND ended_at IS NULL)
                ORDER BY owner LIMIT 1;
            ELSE
                SELECT owner INTO dead FROM queue
                WHERE owner > coalesce(after, '00000000-0000-0000-0000-000000000000'::uuid) AND owner < upto
                AND NOT EXISTS (SELECT FROM nodes WHERE life = owner AND ended_at IS NULL)
                ORDER BY owner LIMIT 1;
            END IF;
            EXIT WHEN NOT FOUND;
            WITH held AS (SELECT partner, id FROM queue WHERE owner = dead LIMIT slice FOR UPDATE SKIP LOCKED)
            UPDATE queue q SET owner = NULL FROM held
            WHERE q.partner = ANY (ARRAY[held.partner]) AND q.id = held.id AND q.owner IS NOT DISTINCT FROM dead;
            GET DIAGNOSTICS freed = ROW_COUNT;
            total := total + freed;
            after := dead;
        END LOOP;
        EXIT WHEN upto IS NULL;
        after := upto;
    END LOOP;
    RETURN total;
END $$;

-- A sign of life, the sweep, and all that a node wants to know every few seconds.
CREATE FUNCTION heartbeat_1(
    of_life uuid, OUT alive boolean, OUT others uuid[], OUT counters bigint[], OUT clock bigint, OUT changes bigint,
    OUT freed bigint
) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE nodes SET counter = counter + 1 WHERE life = of_life AND ended_at IS NULL;
    alive := FOUND;
    freed := sweep_1(500);
    SELECT coalesce(array_agg(life), '{}'), coalesce(array_agg(counter), '{}') INTO others, counters
    FROM nodes WHERE ended_at IS NULL AND life <> of_life;
    clock := floor(extract(epoch FROM clock_timestamp()) * 1000);
    SELECT number INTO changes FROM change_number;
END $$;
