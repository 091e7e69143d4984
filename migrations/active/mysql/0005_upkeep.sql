-- Upkeep: which replica does a task, and where sessions are.

-- One row per task. The fence grows with each holder and never goes back; what
-- a holder writes carries it. Times are Unix time in ms by the database's clock.
CREATE TABLE IF NOT EXISTS evt_leases (
    stream VARCHAR(64) NOT NULL,
    task VARCHAR(16) NOT NULL,
    holder VARCHAR(36) NOT NULL,
    -- What the holder calls itself, for operators.
    place VARCHAR(255) NOT NULL,
    fence BIGINT NOT NULL,
    renewed BIGINT NOT NULL,
    -- How long the lease is good after it was renewed.
    lapse BIGINT NOT NULL,
    PRIMARY KEY (stream, task)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What the replica of a consumer's latest session calls itself.
CREATE TABLE IF NOT EXISTS evt_places (
    stream VARCHAR(64) NOT NULL,
    ident VARCHAR(64) NOT NULL,
    place VARCHAR(255) NOT NULL,
    PRIMARY KEY (stream, ident)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
