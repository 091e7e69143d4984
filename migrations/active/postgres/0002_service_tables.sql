-- What the service itself must remember. Rows are keyed by the stream, which
-- is the name of its queue table, so that two streams can share a database.

-- Fencing number of the consumer's latest session, seek or registration.
ALTER TABLE evt_consumers ADD COLUMN IF NOT EXISTS epoch BIGINT NOT NULL DEFAULT 0;

CREATE TABLE IF NOT EXISTS evt_stream (
    stream TEXT NOT NULL PRIMARY KEY,
    -- Highest id proven settled; the service continues from here.
    frontier BIGINT NOT NULL,
    -- Every id at or below it may have been discarded.
    discarded_to BIGINT NOT NULL,
    -- The one counter of fencing numbers, never reset.
    epoch BIGINT NOT NULL
);

-- Nothing is proven and nothing is known to be discarded. Not "below the lowest
-- id": a lower one may still be inside an open transaction. The first proof
-- jumps over what is settled without reading it.
INSERT INTO evt_stream (stream, frontier, discarded_to, epoch)
VALUES ('evt_queue', 0, 0, 0) ON CONFLICT DO NOTHING;

-- Service processes that hold push sessions; beat is Unix time in ms by the
-- database's clock.
CREATE TABLE IF NOT EXISTS evt_replicas (
    stream TEXT NOT NULL,
    replica TEXT NOT NULL,
    beat BIGINT NOT NULL,
    PRIMARY KEY (stream, replica)
);

-- Open push sessions; one lapses when its replica stops beating.
CREATE TABLE IF NOT EXISTS evt_sessions (
    stream TEXT NOT NULL,
    ident TEXT NOT NULL,
    session TEXT NOT NULL,
    replica TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    -- Acknowledged through replicas that do not hold the session.
    acked BIGINT NOT NULL DEFAULT 0,
    label TEXT NOT NULL,
    PRIMARY KEY (stream, ident)
);

-- Results of requests with a request_id, kept for a window.
CREATE TABLE IF NOT EXISTS evt_requests (
    stream TEXT NOT NULL,
    owner TEXT NOT NULL,
    request TEXT NOT NULL,
    hash BYTEA NOT NULL,
    ids TEXT NOT NULL,
    expires BIGINT NOT NULL,
    PRIMARY KEY (stream, owner, request)
);

CREATE INDEX IF NOT EXISTS evt_requests_expires ON evt_requests (stream, expires);

-- Consumers that must not go on until an operator seeks them.
CREATE TABLE IF NOT EXISTS evt_stopped (
    stream TEXT NOT NULL,
    ident TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (stream, ident)
);
