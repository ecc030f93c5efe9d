-- The tables of a ledger. Times are seconds since the epoch; states are those of
-- bulkmail.model.State. PRAGMA user_version holds the number of the last of these files.

CREATE TABLE campaign (
    id              INTEGER PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    seed            BLOB NOT NULL,            -- secret: Message-IDs and boundaries come from it
    created_at      REAL NOT NULL,
    content_digest  TEXT NOT NULL DEFAULT '', -- of the content that its author said yes to last
    reading         INTEGER NOT NULL DEFAULT 0, -- how often the sources were read
    meant_again_digest TEXT NOT NULL DEFAULT '', -- this content is meant for those who have it, too,
    meant_again_reading INTEGER NOT NULL DEFAULT 0, -- if they were known by this reading
    proven_digest   TEXT NOT NULL DEFAULT '', -- with this content everyone was composed once …
    proven_reading  INTEGER NOT NULL DEFAULT 0, -- … who was known by that reading
    stop_asked_at   REAL NOT NULL DEFAULT 0,  -- when another process told its run to end
    cancelled_at    REAL                      -- its author gave it up, and has not taken that back
);

-- Contents that recipients of a campaign were given.
CREATE TABLE content (
    id           INTEGER PRIMARY KEY,
    campaign_id  INTEGER NOT NULL REFERENCES campaign ON DELETE CASCADE,
    digest       TEXT NOT NULL,
    UNIQUE (campaign_id, digest)
);

CREATE TABLE recipient (
    id               INTEGER PRIMARY KEY,
    campaign_id      INTEGER NOT NULL REFERENCES campaign ON DELETE CASCADE,
    address          TEXT NOT NULL,           -- as written
    address_key      TEXT NOT NULL,           -- equal for the same person
    domain           TEXT NOT NULL,           -- that of the key
    fields           TEXT NOT NULL,           -- JSON object: the columns of the row
    source           TEXT NOT NULL,           -- file:line
    reading          INTEGER NOT NULL,        -- the last reading that found this person
    added_reading    INTEGER NOT NULL,        -- the one that added this person, or put back
    changed_reading  INTEGER NOT NULL,        -- the last one that found other data
    files_digest     TEXT NOT NULL DEFAULT '', -- of the attachments of this person alone
    state            TEXT NOT NULL,
    reason           TEXT NOT NULL DEFAULT '', -- why it is in this state, for a person
    attempts         INTEGER NOT NULL DEFAULT 0,
    content_id       INTEGER REFERENCES content ON DELETE CASCADE, -- of the last message that was or may be taken
    in_doubt_events  INTEGER NOT NULL DEFAULT 0,
    consented        INTEGER NOT NULL DEFAULT 0, -- 1: a person said to send again, despite doubt
    first_attempt_at REAL,                    -- of those that count; also the Date of its message
    last_attempt_at  REAL,
    again_at         REAL NOT NULL DEFAULT 0, -- when it was decided to try again: patience begins anew
    due_at           REAL NOT NULL DEFAULT 0, -- when a deferred recipient may be tried again
    phase            TEXT NOT NULL DEFAULT '', -- of the last outcome
    reply            TEXT NOT NULL DEFAULT '',
    message_id       TEXT NOT NULL DEFAULT ''
);

-- One row per person and campaign; rows that were filtered stay beside it, to be reported.
CREATE UNIQUE INDEX recipient_person ON recipient (campaign_id, address_key)
    WHERE state NOT IN ('invalid', 'duplicate');

-- Tallies, and claims in order, which pass over domains that must wait without reading their rows.
CREATE INDEX recipient_state ON recipient (campaign_id, state, due_at, id, domain);

-- Claims of one domain.
CREATE INDEX recipient_domain ON recipient (campaign_id, state, domain, due_at, id)
    WHERE state IN ('pending', 'deferred');

-- What happened to a recipient, but for the attempt that was accepted: every refusal, every attempt
-- of which nothing was heard, and what a person decided.
CREATE TABLE event (
    id            INTEGER PRIMARY KEY,
    recipient_id  INTEGER NOT NULL REFERENCES recipient ON DELETE CASCADE,
    at            REAL NOT NULL,
    what          TEXT NOT NULL,              -- the state it led to, or retry, settle, resend
    attempt       INTEGER NOT NULL DEFAULT 0, -- its number, of those that count; 0: it was none
    begun_at      REAL,                       -- of an attempt
    phase         TEXT NOT NULL DEFAULT '',
    reply         TEXT NOT NULL DEFAULT '',
    reason        TEXT NOT NULL DEFAULT '',
    content_id    INTEGER REFERENCES content ON DELETE CASCADE -- of an attempt that is in doubt
);

CREATE INDEX event_recipient ON event (recipient_id, id);

-- Runs that send. The last one of a campaign is under way while it has no end and the lock is held.
CREATE TABLE run (
    id                 INTEGER PRIMARY KEY,
    campaign_id        INTEGER NOT NULL REFERENCES campaign ON DELETE CASCADE,
    started_at         REAL NOT NULL,
    ended_at           REAL
);

-- Addresses that no campaign of the project sends to.
CREATE TABLE suppression (
    address_key  TEXT PRIMARY KEY,
    address      TEXT NOT NULL,               -- as written
    reason       TEXT NOT NULL,
    at           REAL NOT NULL
) WITHOUT ROWID;

-- What the rates remember, by account: in this second `number` messages were granted, the last one
-- at `at`. `domain` is empty for all of them; those to a domain with rates are counted there too.
CREATE TABLE granted (
    account  TEXT NOT NULL,
    domain   TEXT NOT NULL,
    second   INTEGER NOT NULL,
    at       REAL NOT NULL,
    number   INTEGER NOT NULL,
    PRIMARY KEY (account, domain, second)
) WITHOUT ROWID;
