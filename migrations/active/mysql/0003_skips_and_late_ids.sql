-- What an operator decided about the frontier, and what appeared below it.

-- Decisions to let the frontier pass ids that may still appear; every replica
-- obeys them.
CREATE TABLE IF NOT EXISTS evt_skips (
    stream VARCHAR(64) NOT NULL,
    -- Where the frontier shall be at least.
    skip_to BIGINT NOT NULL,
    -- Where it stood.
    skip_from BIGINT NOT NULL,
    who VARCHAR(64) NOT NULL,
    made DATETIME NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (stream, skip_to)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Ids that appeared below the frontier and for which consumers were moved back.
CREATE TABLE IF NOT EXISTS evt_late (
    stream VARCHAR(64) NOT NULL,
    id BIGINT NOT NULL,
    seen DATETIME NOT NULL,
    PRIMARY KEY (stream, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Epoch of the last seek, or of the last time that consumers were moved back:
-- a replica that sees a new one no longer trusts what it holds in memory.
CREATE TABLE IF NOT EXISTS evt_rewinds (
    stream VARCHAR(64) NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
