-- Upkeep: which replica does a task, and where sessions are.

-- One row per task. The fence grows with each holder and never goes back; what
-- a holder writes carries it. Times are Unix time in ms by the database's clock.
CREATE TABLE IF NOT EXISTS evt_leases (
    stream TEXT NOT NULL,
    task TEXT NOT NULL,
    holder TEXT NOT NULL,
    -- What the holder calls itself, for operators.
    place TEXT NOT NULL,
    fence BIGINT NOT NULL,
    renewed BIGINT NOT NULL,
    -- How long the lease is good after it was renewed.
    lapse BIGINT NOT NULL,
    PRIMARY KEY (stream, task)
);

-- What the replica of a consumer's latest session calls itself.
CREATE TABLE IF NOT EXISTS evt_places (
    stream TEXT NOT NULL,
    ident TEXT NOT NULL,
    place TEXT NOT NULL,
    PRIMARY KEY (stream, ident)
);
