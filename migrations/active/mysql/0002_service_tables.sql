-- What the service itself must remember. Rows are keyed by the stream, which
-- is the name of its queue table, so that two streams can share a database.
--
-- Every statement commits by itself here, so each is one that may be repeated:
-- a column that is there already is no fault.

-- Fencing number of the consumer's latest session, seek or registration.
ALTER TABLE evt_consumers ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;

CREATE TABLE IF NOT EXISTS evt_stream (
    stream VARCHAR(64) NOT NULL PRIMARY KEY,
    -- Highest id proven settled; the service continues from here.
    frontier BIGINT NOT NULL,
    -- Every id at or below it may have been discarded.
    discarded_to BIGINT NOT NULL,
    -- The one counter of fencing numbers, never reset.
    epoch BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Nothing is proven and nothing is known to be discarded. Not "below the lowest
-- id": a lower one may still be inside an open transaction. The first proof
-- jumps over what is settled without reading it.
INSERT INTO evt_stream (stream, frontier, discarded_to, epoch)
VALUES ('evt_queue', 0, 0, 0) ON DUPLICATE KEY UPDATE stream = 'evt_queue';

-- Service processes that hold push sessions; beat is Unix time in ms by the
-- database's clock.
CREATE TABLE IF NOT EXISTS evt_replicas (
    stream VARCHAR(64) NOT NULL,
    replica VARCHAR(36) NOT NULL,
    beat BIGINT NOT NULL,
    PRIMARY KEY (stream, replica)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Open push sessions; one lapses when its replica stops beating.
CREATE TABLE IF NOT EXISTS evt_sessions (
    stream VARCHAR(64) NOT NULL,
    ident VARCHAR(64) NOT NULL,
    session VARCHAR(36) NOT NULL,
    replica VARCHAR(36) NOT NULL,
    epoch BIGINT NOT NULL,
    -- Acknowledged through replicas that do not hold the session.
    acked BIGINT NOT NULL DEFAULT 0,
    label VARCHAR(128) NOT NULL,
    PRIMARY KEY (stream, ident)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Results of requests with a request_id, kept for a window.
CREATE TABLE IF NOT EXISTS evt_requests (
    stream VARCHAR(64) NOT NULL,
    owner VARCHAR(64) NOT NULL,
    request VARCHAR(36) NOT NULL,
    hash VARBINARY(32) NOT NULL,
    ids LONGTEXT NOT NULL,
    expires BIGINT NOT NULL,
    PRIMARY KEY (stream, owner, request),
    INDEX evt_requests_expires (stream, expires)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Consumers that must not go on until an operator seeks them.
CREATE TABLE IF NOT EXISTS evt_stopped (
    stream VARCHAR(64) NOT NULL,
    ident VARCHAR(64) NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (stream, ident)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
