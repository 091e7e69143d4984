-- The table of FTN18's warehouse, as the original makes it. One that is there
-- already is adopted as it stands.
--
-- Wider than the original's, as the queue's: `data` holds 4 GiB instead of
-- 64 KiB, every character has its four bytes, and times have milliseconds.
CREATE TABLE IF NOT EXISTS evt_history (
    id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    type VARCHAR(16) NOT NULL,
    data LONGTEXT NOT NULL,
    ts DATETIME(3) NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What is known to be complete: every id from first_id to last_id that ever
-- became an event of the stream is in the history. Ranges do not overlap.
-- Rows are keyed by the name of the history table.
CREATE TABLE IF NOT EXISTS evt_archived (
    history VARCHAR(64) NOT NULL,
    first_id BIGINT NOT NULL,
    last_id BIGINT NOT NULL,
    events BIGINT NOT NULL,
    -- Sum of the events' digests modulo 2^128, in hexadecimal.
    checksum VARCHAR(32) NOT NULL,
    -- Highest ts of its events, Unix time in ms: finds a time without an index
    -- over the whole history.
    newest BIGINT,
    archived DATETIME NOT NULL,
    PRIMARY KEY (history, first_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
