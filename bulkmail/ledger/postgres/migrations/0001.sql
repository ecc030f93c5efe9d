-- The tables of a ledger in PostgreSQL, in the schema `bulkmail`. They mean what those in the file of
-- SQLite mean (../../migrations), where each column is told; here stands what is different. Times
-- are seconds since the epoch, as a worker's clock has them; leases count on the database's.

CREATE TABLE version (number integer NOT NULL);

CREATE TABLE campaign (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name                text NOT NULL UNIQUE,
    seed                bytea NOT NULL,
    created_at          double precision NOT NULL,
    content_digest      text NOT NULL DEFAULT '',
    reading             integer NOT NULL DEFAULT 0,
    meant_again_digest  text NOT NULL DEFAULT '',
    meant_again_reading integer NOT NULL DEFAULT 0,
    proven_digest       text NOT NULL DEFAULT '',
    proven_reading      integer NOT NULL DEFAULT 0,
    cancelled_at        double precision,
    is_open             boolean NOT NULL DEFAULT false, -- its shards may be taken
    content_id          bigint,                         -- what they give, and …
    edition             text NOT NULL DEFAULT '',       -- … all that a worker needs for it, as JSON
    plan                integer NOT NULL DEFAULT 0,     -- how often it was planned
    stopped_for         text NOT NULL DEFAULT ''        -- why a worker stopped it for all
);

CREATE TABLE content (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id  bigint NOT NULL REFERENCES campaign ON DELETE CASCADE,
    digest       text NOT NULL,
    UNIQUE (campaign_id, digest)
);

-- Files that messages share, by what they hold: an edition names them by their SHA-256.
CREATE TABLE shared_file (
    digest   text PRIMARY KEY,
    content  bytea NOT NULL
);

-- No index holds what changes while a campaign is sent, so that a change rewrites the row alone, on
-- its own page (HOT), for which some room is left there.
CREATE TABLE recipient (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id      bigint NOT NULL REFERENCES campaign ON DELETE CASCADE,
    address          text NOT NULL,
    address_key      text COLLATE "C" NOT NULL,
    is_person        boolean NOT NULL,            -- false: a row that was filtered
    domain           text COLLATE "C" NOT NULL,
    fields           text NOT NULL,
    source           text NOT NULL,
    reading          integer NOT NULL,
    added_reading    integer NOT NULL,
    changed_reading  integer NOT NULL,
    files_digest     text NOT NULL DEFAULT '',
    state            text NOT NULL,
    reason           text NOT NULL DEFAULT '',
    attempts         integer NOT NULL DEFAULT 0,
    content_id       bigint,
    in_doubt_events  integer NOT NULL DEFAULT 0,
    consented        integer NOT NULL DEFAULT 0,
    first_attempt_at double precision,
    last_attempt_at  double precision,
    again_at         double precision NOT NULL DEFAULT 0,
    due_at           double precision NOT NULL DEFAULT 0,
    phase            text NOT NULL DEFAULT '',
    reply            text NOT NULL DEFAULT '',
    message_id       text NOT NULL DEFAULT ''
) WITH (fillfactor = 70);

CREATE UNIQUE INDEX recipient_person ON recipient (campaign_id, address_key) WHERE is_person;
CREATE INDEX recipient_campaign ON recipient (campaign_id, id);

CREATE TABLE event (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recipient_id  bigint NOT NULL REFERENCES recipient ON DELETE CASCADE,
    at            double precision NOT NULL,
    what          text NOT NULL,                  -- also `late`: heard after the lease was lost
    attempt       integer NOT NULL DEFAULT 0,
    begun_at      double precision,
    phase         text NOT NULL DEFAULT '',
    reply         text NOT NULL DEFAULT '',
    reason        text NOT NULL DEFAULT '',
    content_id    bigint
);

CREATE INDEX event_recipient ON event (recipient_id, id);

CREATE TABLE run (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id  bigint NOT NULL REFERENCES campaign ON DELETE CASCADE,
    started_at   double precision NOT NULL,
    ended_at     double precision
);

-- A process that sends. It may, as long as it renews its lease; after that others take its shards.
CREATE TABLE worker (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL,                   -- host and process, for a person
    started_at   double precision NOT NULL,
    has_files    boolean NOT NULL DEFAULT false,  -- can send attachments for one person each
    left_for     text NOT NULL DEFAULT '',        -- campaigns that it leaves to others, and why
    lease_until  timestamptz NOT NULL
);

-- A range of a campaign's recipients, as they were when it was planned. Whoever takes it raises its
-- epoch; whatever was to be recorded with an earlier one is refused.
CREATE TABLE shard (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id  bigint NOT NULL REFERENCES campaign ON DELETE CASCADE,
    first_id     bigint NOT NULL,
    last_id      bigint NOT NULL,
    people       integer NOT NULL,                -- who are left there
    epoch        integer NOT NULL DEFAULT 0,
    worker_id    bigint                           -- who has it, or had it
) WITH (fillfactor = 70);

CREATE INDEX shard_campaign ON shard (campaign_id);

CREATE TABLE suppression (
    address_key  text COLLATE "C" PRIMARY KEY,
    address      text NOT NULL,
    reason       text NOT NULL,
    at           double precision NOT NULL
);

-- One row for each worker, so that none waits for another's.
CREATE TABLE granted (
    account    text NOT NULL,
    domain     text NOT NULL,
    second     bigint NOT NULL,
    worker_id  bigint NOT NULL,
    at         double precision NOT NULL,
    number     integer NOT NULL,
    PRIMARY KEY (account, domain, second, worker_id)
);

CREATE INDEX granted_second ON granted USING brin (second);  -- to clear away old ones

-- One outcome of a message that this process sent, in the words of bulkmail.model.Settlement.
CREATE FUNCTION settle(
    p_id bigint, p_state text, p_due_at double precision, p_phase text, p_reply text,
    p_reason text, p_of_released boolean, p_at double precision
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    changed integer;
BEGIN
    UPDATE recipient
    SET state = CASE WHEN p_state = 'pending' AND due_at > 0 THEN 'deferred' ELSE p_state END,
        due_at = CASE WHEN p_state = 'pending' THEN due_at ELSE p_due_at END,
        attempts = attempts + CASE WHEN p_state = 'pending' THEN 0 ELSE 1 END,
        first_attempt_at = CASE
            WHEN attempts = 0 AND p_state = 'pending' THEN NULL
            ELSE coalesce(first_attempt_at, last_attempt_at) END,
        in_doubt_events = in_doubt_events + CASE WHEN p_state = 'in_doubt' THEN 1 ELSE 0 END,
        content_id = CASE WHEN p_state IN ('accepted', 'in_doubt') THEN content_id ELSE (
            SELECT event.content_id FROM event
            WHERE recipient_id = recipient.id AND what = 'in_doubt'
            ORDER BY event.id DESC LIMIT 1) END,
        consented = CASE WHEN p_state IN ('accepted', 'in_doubt') THEN 0 ELSE consented END,
        phase = CASE WHEN p_state = 'pending' AND due_at > 0 THEN phase ELSE p_phase END,
        reply = CASE WHEN p_state = 'pending' AND due_at > 0 THEN reply ELSE p_reply END,
        reason = CASE WHEN p_state = 'pending' AND due_at > 0 THEN reason ELSE p_reason END
    WHERE id = p_id AND CASE WHEN p_of_released
        THEN state IN ('pending', 'deferred') ELSE state = 'in_flight' END;
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed = 1 AND p_state IN ('deferred', 'failed', 'expired', 'in_doubt') THEN
        PERFORM remember(p_id, p_at);
    END IF;
    RETURN changed;
END $$;

-- An event that says what now stands with a recipient.
CREATE FUNCTION remember(p_id bigint, p_at double precision) RETURNS void LANGUAGE sql AS $$
    INSERT INTO event (recipient_id, at, what, attempt, begun_at, phase, reply, reason, content_id)
    SELECT id, p_at, state, attempts, last_attempt_at, phase, reply, reason, content_id
    FROM recipient WHERE id = p_id
$$;

-- Records outcomes first, then intents with their grants, all or none: if a shard is not held with
-- that epoch any more (BM001), or a recipient is not in the state that a change begins from (BM002).
-- So many of each shard have p_ended with them.
CREATE FUNCTION record(
    p_worker bigint, p_shards bigint[], p_epochs integer[], p_ended integer[],
    a_ids bigint[], a_replies text[],
    s_ids bigint[], s_states text[], s_due_at double precision[], s_phases text[],
    s_replies text[], s_reasons text[], s_of_released boolean[], s_at double precision[],
    i_ids bigint[], i_message_ids text[], i_at double precision[], p_content bigint,
    p_account text, g_domains text[], g_seconds bigint[], g_at double precision[],
    g_numbers integer[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found_shards integer;
    changed integer;
    strayed integer := 0;
BEGIN
    -- Share: whoever takes a shard over must wait for this commit, or this waits for theirs.
    SELECT count(*) INTO found_shards FROM (
        SELECT shard.id FROM shard JOIN unnest(p_shards, p_epochs) AS held (id, epoch)
            ON shard.id = held.id AND shard.epoch = held.epoch
        ORDER BY shard.id FOR SHARE OF shard
    ) AS still_held;
    IF found_shards < cardinality(p_shards) THEN
        RAISE EXCEPTION 'the lease was lost' USING ERRCODE = 'BM001';
    END IF;

    UPDATE recipient
    SET state = 'accepted', due_at = 0, attempts = attempts + 1, consented = 0, phase = 'dot',
        reply = taken.reply, reason = ''
    FROM unnest(a_ids, a_replies) AS taken (id, reply)
    WHERE recipient.id = taken.id AND state = 'in_flight';
    GET DIAGNOSTICS changed = ROW_COUNT;
    strayed := strayed + cardinality(a_ids) - changed;

    FOR i IN 1 .. cardinality(s_ids) LOOP
        strayed := strayed + 1 - settle(s_ids[i], s_states[i], s_due_at[i], s_phases[i],
            s_replies[i], s_reasons[i], s_of_released[i], s_at[i]);
    END LOOP;

    UPDATE recipient
    SET state = 'in_flight', content_id = p_content, message_id = meant.message_id,
        last_attempt_at = meant.at, first_attempt_at = coalesce(first_attempt_at, meant.at)
    FROM unnest(i_ids, i_message_ids, i_at) AS meant (id, message_id, at)
    WHERE recipient.id = meant.id AND state IN ('pending', 'deferred');
    GET DIAGNOSTICS changed = ROW_COUNT;
    strayed := strayed + cardinality(i_ids) - changed;
    IF strayed > 0 THEN
        RAISE EXCEPTION '%', strayed USING ERRCODE = 'BM002';
    END IF;

    UPDATE shard SET people = people - ended.number
    FROM unnest(p_shards, p_ended) AS ended (id, number) WHERE shard.id = ended.id AND number > 0;

    INSERT INTO granted AS known (account, domain, second, worker_id, at, number)
    SELECT p_account, domain, second, p_worker, at, number
    FROM unnest(g_domains, g_seconds, g_at, g_numbers) AS given (domain, second, at, number)
    ORDER BY domain, second  -- as all do, or two would wait for each other
    ON CONFLICT (account, domain, second, worker_id) DO UPDATE
    SET at = greatest(known.at, excluded.at), number = known.number + excluded.number;
END $$;

-- Those in a range who were in flight with a worker that is gone: in doubt, as nobody knows.
CREATE FUNCTION recover(
    p_campaign bigint, p_first bigint, p_last bigint, p_at double precision
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    found bigint;
    number integer := 0;
BEGIN
    FOR found IN
        UPDATE recipient
        SET state = 'in_doubt', attempts = attempts + 1, in_doubt_events = in_doubt_events + 1,
            consented = 0, phase = 'dot', reply = '',
            reason = 'the run ended before it knew what became of this message'
        WHERE campaign_id = p_campaign AND id BETWEEN p_first AND p_last AND state = 'in_flight'
        RETURNING id
    LOOP
        PERFORM remember(found, p_at);
        number := number + 1;
    END LOOP;
    RETURN number;
END $$;

-- What was heard of an attempt after the connection or the lease was lost. If nobody else has
-- decided about that attempt, it counts; else it is kept beside what they decided. It may stand there
-- already: a connection can be lost after the commit. That nothing was sent is kept only where
-- somebody doubted it. Who would be sent to again stays in doubt, with what was heard as the reason,
-- if their shard is done: nobody would send to them before the next plan.
CREATE FUNCTION settle_late(
    p_id bigint, p_begun_at double precision, p_state text, p_due_at double precision,
    p_phase text, p_reply text, p_reason text, p_at double precision
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    now_in text;
    of_campaign bigint;
    counts boolean;
BEGIN
    SELECT state, campaign_id INTO now_in, of_campaign FROM recipient
    WHERE id = p_id AND last_attempt_at = p_begun_at FOR UPDATE;
    IF now_in = 'in_flight' THEN
        RETURN settle(p_id, p_state, p_due_at, p_phase, p_reply, p_reason, false, p_at) = 1;
    END IF;
    IF now_in = 'in_doubt' AND p_state = 'in_doubt' THEN
        UPDATE recipient SET phase = p_phase, reply = p_reply, reason = p_reason WHERE id = p_id;
    END IF;
    IF now_in = p_state OR p_state = 'pending' AND now_in IS DISTINCT FROM 'in_doubt' THEN
        RETURN now_in IS NOT NULL;
    END IF;
    counts := now_in = 'in_doubt' AND p_state <> 'in_doubt'
        OR now_in IN ('pending', 'deferred') AND p_state = 'accepted';
    IF counts AND p_state IN ('pending', 'deferred') THEN
        -- Until this commit nobody finishes the shard; see `Lease.finish`.
        PERFORM 1 FROM shard
        WHERE campaign_id = of_campaign AND p_id BETWEEN first_id AND last_id FOR KEY SHARE;
        counts := FOUND;
    END IF;
    IF counts THEN
        -- Its attempt was counted, and its doubt is an event that stays.
        UPDATE recipient
        SET state = p_state, due_at = p_due_at, phase = p_phase, reply = p_reply, reason = p_reason,
            in_doubt_events = in_doubt_events - 1, consented = 0,
            attempts = attempts - CASE WHEN p_state = 'pending' THEN 1 ELSE 0 END,
            content_id = CASE WHEN p_state = 'accepted' THEN content_id END
        WHERE id = p_id;
    ELSIF now_in = 'in_doubt' THEN
        UPDATE recipient SET reason = 'heard after the others were done: ' || p_reason
        WHERE id = p_id;
    END IF;
    IF EXISTS (
        SELECT 1 FROM event WHERE recipient_id = p_id AND what = 'late' AND begun_at = p_begun_at
    ) THEN
        RETURN true;  -- said already
    END IF;
    INSERT INTO event (recipient_id, at, what, begun_at, phase, reply, reason)
    VALUES (p_id, p_at, 'late', p_begun_at, p_phase, p_reply, p_reason);
    RETURN now_in IS NOT NULL;
END $$;

-- == Rates over all workers: see ../rates.py ==

-- Nanoseconds since the epoch, now, not when the transaction began.
CREATE FUNCTION nanoseconds() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint
$$;

-- When the next slot of a spaced rate is free. One that lies back says nothing, and may go.
CREATE TABLE slot (
    account  text NOT NULL,
    domain   text NOT NULL,                       -- empty: of all together
    period   double precision NOT NULL,           -- seconds
    next_at  bigint NOT NULL,                     -- nanoseconds
    PRIMARY KEY (account, domain, period)
) WITH (fillfactor = 50);

-- What was reserved of quotas. Until its worker has told how many of them it used, all count as used.
CREATE TABLE reserved (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account    text NOT NULL,
    domain     text NOT NULL,
    worker_id  bigint NOT NULL,
    at         bigint NOT NULL,                   -- nanoseconds
    worker_at  double precision NOT NULL,         -- not after `at`, on the worker's clock
    number     integer NOT NULL,
    is_told    boolean NOT NULL DEFAULT false
);

CREATE INDEX reserved_at ON reserved (account, domain, at);
CREATE INDEX reserved_untold ON reserved (account, domain, at) WHERE NOT is_told;

-- Reserves slots for each of these domains and periods: as many as p_steps, nanoseconds, have room
-- for, that follow each other, if the first one is free within p_within nanoseconds: at first_at,
-- which lies back by p_late at most, or is now. Else first_at is when one is free. Each row is locked
-- first, then the clock is read; all lock in one order, or two would wait for each other.
CREATE FUNCTION reserve_slots(
    p_account text, p_domains text[], p_periods double precision[], p_steps bigint[],
    p_within bigint[], p_late bigint[]
) RETURNS TABLE (place bigint, is_reserved boolean, first_at bigint, read_at bigint)
LANGUAGE plpgsql AS $$
DECLARE
    asked record;
BEGIN
    FOR asked IN
        SELECT * FROM unnest(p_domains, p_periods, p_steps, p_within, p_late) WITH ORDINALITY
            AS one (domain, period, step, within, late, place)
        ORDER BY domain DESC, period  -- that of all together last: most wait for it
    LOOP
        INSERT INTO slot AS known VALUES
            (p_account, asked.domain, asked.period, nanoseconds() + asked.step)
        ON CONFLICT (account, domain, period) DO UPDATE
        SET next_at = asked.step + greatest(known.next_at,
            CASE WHEN known.next_at < nanoseconds() - asked.late THEN nanoseconds() END)
        WHERE known.next_at <= nanoseconds() + asked.within
        RETURNING next_at - asked.step INTO first_at;
        is_reserved := FOUND;
        IF NOT FOUND THEN
            SELECT next_at INTO first_at FROM slot
            WHERE account = p_account AND domain = asked.domain AND period = asked.period;
        END IF;
        place := asked.place;
        read_at := nanoseconds();
        RETURN NEXT;
    END LOOP;
END $$;

-- Reserves up to so many of the quotas (p_periods in nanoseconds, p_limits), to be used within
-- p_valid nanoseconds, and takes down that of the reservation p_told p_used were used. Of one that
-- nobody told about for p_grace longer, those count that its worker recorded. If none is free,
-- free_at is when one may be.
CREATE FUNCTION reserve_units(
    p_account text, p_domain text, p_worker bigint, p_worker_at double precision,
    p_periods bigint[], p_limits bigint[], p_number integer, p_valid bigint, p_grace bigint,
    p_told bigint, p_used integer,
    OUT reserved_id bigint, OUT units integer, OUT read_at bigint, OUT free_at bigint
) LANGUAGE plpgsql AS $$
DECLARE
    period bigint;
    quota bigint;
    counted bigint;
    full_until bigint;
    untold_at bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(p_account || chr(10) || p_domain, 0));
    read_at := nanoseconds();
    DELETE FROM reserved WHERE account = p_account AND domain = p_domain
        AND at < read_at - 2 * 86400 * 1000000000::bigint;  -- no period is longer than a day
    UPDATE reserved SET number = p_used, is_told = true WHERE id = p_told;
    UPDATE reserved SET is_told = true, number = least(number, (
        SELECT coalesce(sum(granted.number), 0) FROM granted
        WHERE granted.account = p_account AND granted.domain = p_domain
            AND granted.worker_id = reserved.worker_id AND granted.at >= reserved.worker_at))
    WHERE account = p_account AND domain = p_domain AND NOT is_told
        AND at < read_at - p_valid - p_grace;

    units := p_number;
    FOR period, quota IN SELECT * FROM unnest(p_periods, p_limits) LOOP
        SELECT coalesce(sum(number), 0) INTO counted FROM reserved
        WHERE account = p_account AND domain = p_domain AND at > read_at - period - p_valid;
        units := least(units, greatest(0, quota - counted));
        IF counted >= quota THEN
            -- The last of those that must be out of the window before one more may be in it.
            SELECT max(at) INTO full_until FROM (
                SELECT at, sum(number) OVER (ORDER BY at DESC, id DESC) AS since FROM reserved
                WHERE account = p_account AND domain = p_domain
                    AND at > read_at - period - p_valid AND number > 0
            ) AS counting WHERE since >= quota;
            free_at := greatest(free_at, full_until + period + p_valid);
        END IF;
    END LOOP;
    IF units > 0 THEN
        INSERT INTO reserved (account, domain, worker_id, at, worker_at, number)
        VALUES (p_account, p_domain, p_worker, read_at, p_worker_at, units)
        RETURNING id INTO reserved_id;
    ELSE
        -- Some of those that are not told about may come back.
        SELECT min(at) + p_valid + p_grace INTO untold_at FROM reserved
        WHERE account = p_account AND domain = p_domain AND NOT is_told;
        free_at := least(free_at, untold_at);
    END IF;
END $$;

-- The same for each of these domains, which have equal quotas; all lock in one order, as above.
CREATE FUNCTION reserve_units_of_each(
    p_account text, p_domains text[], p_numbers integer[], p_told bigint[], p_used integer[],
    p_worker bigint, p_worker_at double precision, p_periods bigint[], p_limits bigint[],
    p_valid bigint, p_grace bigint
) RETURNS TABLE (place bigint, reserved_id bigint, units integer, free_at bigint, read_at bigint)
LANGUAGE plpgsql AS $$
DECLARE
    asked record;
BEGIN
    FOR asked IN
        SELECT * FROM unnest(p_domains, p_numbers, p_told, p_used) WITH ORDINALITY
            AS one (domain, number, told, used, place)
        ORDER BY hashtextextended(p_account || chr(10) || domain, 0)
    LOOP
        place := asked.place;
        SELECT got.reserved_id, got.units, got.free_at, got.read_at
        INTO reserved_id, units, free_at, read_at
        FROM reserve_units(p_account, asked.domain, p_worker, p_worker_at, p_periods, p_limits,
            asked.number, p_valid, p_grace, asked.told, asked.used) AS got;
        RETURN NEXT;
    END LOOP;
END $$;
