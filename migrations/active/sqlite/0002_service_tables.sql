-- What the service itself must remember. Rows are keyed by the stream, which
-- is the name of its queue table, so that two streams can share a database.

-- Fencing number of the consumer's latest session, seek or registration.
ALTER TABLE evt_consumers ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;

CREATE TABLE IF NOT EXISTS evt_stream (
    stream TEXT NOT NULL PRIMARY KEY,
    -- Highest id proven settled; the service continues from here.
    frontier INTEGER NOT NULL,
    -- Every id at or below it may have been discarded.
    discarded_to INTEGER NOT NULL,
    -- The one counter of fencing numbers, never reset.
    epoch INTEGER NOT NULL
) WITHOUT ROWID;

-- Nothing is proven and nothing is discarded yet: both start below the lowest
-- id kept (all of an emptied queue's ids are behind it).
INSERT INTO evt_stream (stream, frontier, discarded_to, epoch)
SELECT 'evt_queue', low, low, 0
FROM (SELECT coalesce((SELECT min(id) - 1 FROM evt_queue),
                      (SELECT seq FROM sqlite_sequence WHERE name = 'evt_queue'),
                      0) AS low);

-- Service processes that hold push sessions; beat is Unix time in ms by the
-- database's clock.
CREATE TABLE IF NOT EXISTS evt_replicas (
    stream TEXT NOT NULL,
    replica TEXT NOT NULL,
    beat INTEGER NOT NULL,
    PRIMARY KEY (stream, replica)
) WITHOUT ROWID;

-- Open push sessions; one lapses when its replica stops beating.
CREATE TABLE IF NOT EXISTS evt_sessions (
    stream TEXT NOT NULL,
    ident TEXT NOT NULL,
    session TEXT NOT NULL,
    replica TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    -- Acknowledged through replicas that do not hold the session.
    acked INTEGER NOT NULL DEFAULT 0,
    label TEXT NOT NULL,
    PRIMARY KEY (stream, ident)
) WITHOUT ROWID;

-- Results of requests with a request_id, kept for a window.
CREATE TABLE IF NOT EXISTS evt_requests (
    stream TEXT NOT NULL,
    owner TEXT NOT NULL,
    request TEXT NOT NULL,
    hash BLOB NOT NULL,
    ids TEXT NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (stream, owner, request)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS evt_requests_expires ON evt_requests (stream, expires);

-- Consumers that must not go on until an operator seeks them.
CREATE TABLE IF NOT EXISTS evt_stopped (
    stream TEXT NOT NULL,
    ident TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (stream, ident)
) WITHOUT ROWID;
