-- The table of FTN18's warehouse, as the original makes it. One that is there
-- already is adopted as it stands.
CREATE TABLE IF NOT EXISTS evt_history (
    id BIGINT NOT NULL PRIMARY KEY,
    type VARCHAR(16) NOT NULL,
    data JSON NOT NULL,
    ts TIMESTAMP NOT NULL
);

-- What is known to be complete: every id from first_id to last_id that ever
-- became an event of the stream is in the history. Ranges do not overlap.
-- Rows are keyed by the name of the history table.
CREATE TABLE IF NOT EXISTS evt_archived (
    history TEXT NOT NULL,
    first_id BIGINT NOT NULL,
    last_id BIGINT NOT NULL,
    events BIGINT NOT NULL,
    -- Sum of the events' digests modulo 2^128, in hexadecimal.
    checksum TEXT NOT NULL,
    -- Highest ts of its events, Unix time in ms: finds a time without an index
    -- over the whole history.
    newest BIGINT,
    archived TIMESTAMP NOT NULL,
    PRIMARY KEY (history, first_id)
);
